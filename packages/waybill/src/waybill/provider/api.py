"""The provider's HTTP API: Stripe's routes for payment intents, refunds and charges."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from waybill.provider import errors
from waybill.provider.authentication import SecretKeyRequired
from waybill.provider.cashier import Answer, Cashier
from waybill.provider.idempotency import IdempotencyKeys, fingerprint
from waybill.provider.objects import (
    Json,
    charge_object,
    encode,
    list_object,
    refund_object,
    search_result_object,
)
from waybill.provider.parameters import (
    CancelIntent,
    ConfirmIntent,
    CreateIntent,
    CreateRefund,
    ListByIntent,
    ListObjects,
    SearchIntents,
    Tree,
    decode,
    form_of,
    read,
)
from waybill.provider.settings import Settings
from waybill.provider.store import Page, Store, StoredAnswer

T = TypeVar("T")


class Api:
    """`on_change` is called after every POST that may have queued a webhook."""

    def __init__(
        self, settings: Settings, store: Store, cashier: Cashier, on_change: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._store = store
        self._cashier = cashier
        self._keys = IdempotencyKeys(store)
        self._on_change = on_change

    def routes(self) -> Mount:
        return Mount(
            "/v1",
            routes=[
                Route("/payment_intents", self.create_intent, methods=["POST"]),
                Route("/payment_intents", self.list_intents),
                Route("/payment_intents/search", self.search_intents),
                Route("/payment_intents/{id}", self.get_intent),
                Route("/payment_intents/{id}/confirm", self.confirm_intent, methods=["POST"]),
                Route("/payment_intents/{id}/cancel", self.cancel_intent, methods=["POST"]),
                Route("/refunds", self.create_refund, methods=["POST"]),
                Route("/refunds", self.list_refunds),
                Route("/refunds/{id}", self.get_refund),
                Route("/charges", self.list_charges),
            ],
            middleware=[
                Middleware(SecretKeyRequired, secret_key=self._settings.api_key.get_secret_value())
            ],
        )

    async def create_intent(self, request: Request) -> Response:
        return await self._perform(
            request, lambda form: self._cashier.create_intent(read(CreateIntent, form))
        )

    async def confirm_intent(self, request: Request) -> Response:
        intent_id = request.path_params["id"]
        return await self._perform(
            request, lambda form: self._cashier.confirm_intent(intent_id, read(ConfirmIntent, form))
        )

    async def cancel_intent(self, request: Request) -> Response:
        intent_id = request.path_params["id"]
        return await self._perform(
            request, lambda form: self._cashier.cancel_intent(intent_id, read(CancelIntent, form))
        )

    async def create_refund(self, request: Request) -> Response:
        return await self._perform(
            request, lambda form: self._cashier.refund(read(CreateRefund, form))
        )

    async def get_intent(self, request: Request) -> Response:
        return JSONResponse(
            self._cashier.show(self._cashier.find_intent(request.path_params["id"]))
        )

    async def get_refund(self, request: Request) -> Response:
        refund_id = request.path_params["id"]
        refund = self._store.refund(refund_id)
        if refund is None:
            raise errors.no_such("refund", refund_id, param="id", status=404)
        return JSONResponse(refund_object(refund))

    async def list_intents(self, request: Request) -> Response:
        wanted = read(ListObjects, decode(request.url.query))
        page = self._store.intents(limit=wanted.limit, after=wanted.starting_after)
        return _listed(request, page, self._cashier.show)

    async def list_refunds(self, request: Request) -> Response:
        wanted = read(ListByIntent, decode(request.url.query))
        page = self._store.refunds(
            intent_id=wanted.payment_intent, limit=wanted.limit, after=wanted.starting_after
        )
        return _listed(request, page, refund_object)

    async def list_charges(self, request: Request) -> Response:
        wanted = read(ListByIntent, decode(request.url.query))
        page = self._store.charges(
            intent_id=wanted.payment_intent, limit=wanted.limit, after=wanted.starting_after
        )
        return _listed(request, page, charge_object)

    async def search_intents(self, request: Request) -> Response:
        wanted = read(SearchIntents, decode(request.url.query))
        metadata, status = wanted.conditions()
        page = self._store.search_intents(
            metadata, status=status, limit=wanted.limit, after=wanted.page
        )
        items = [self._cashier.show(intent) for intent in page.items]
        return JSONResponse(search_result_object(request.url.path, items, has_more=page.has_more))

    async def _perform(self, request: Request, operation: Callable[[Tree], Answer]) -> Response:
        form = await form_of(request)
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return await self._execute(lambda: operation(form))
        asked = fingerprint(request.url.path, form)
        with self._keys.use(key):
            known = self._keys.recall(key, asked)
            if known is not None:
                return _replayed(known)
            return await self._execute(lambda: self._remembered(key, asked, operation(form)))

    def _remembered(self, key: str, asked: str, answer: Answer) -> Answer:
        self._keys.remember(key, StoredAnswer(asked, answer.status, encode(answer.body)))
        return answer

    async def _execute(self, operation: Callable[[], Answer]) -> Response:
        """Do it in one transaction, with the delays and failures that the settings ask for."""
        await asyncio.sleep(self._settings.latency_ms / 1000)
        if random.random() < self._settings.failure_rate:  # noqa: S311  # chance, not a secret
            raise errors.ApiError("An unknown error occurred.", status=500, error_type="api_error")
        with self._store.transaction():
            answer = operation()
        self._on_change()
        if answer.withheld:
            await asyncio.sleep(self._settings.hang)
        return Response(encode(answer.body), answer.status, media_type="application/json")


def _listed(request: Request, page: Page[T], render: Callable[[T], Json]) -> Response:
    items: Sequence[Json] = [render(item) for item in page.items]
    return JSONResponse(list_object(request.url.path, items, has_more=page.has_more))


def _replayed(answer: StoredAnswer) -> Response:
    return Response(
        answer.body,
        answer.status,
        headers={"Idempotent-Replayed": "true"},
        media_type="application/json",
    )
