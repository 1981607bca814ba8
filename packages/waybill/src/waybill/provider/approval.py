"""The page on which a customer approves a payment, as a bank's would be."""

from collections.abc import Callable
from html import escape
from importlib.resources import files
from string import Template
from typing import Literal
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from waybill.provider import errors
from waybill.provider.cashier import Cashier
from waybill.provider.model import IntentStatus, PaymentIntent
from waybill.provider.parameters import Parameters, decode, form_of, read
from waybill.provider.store import Store

PAGE = Template(files("waybill.provider").joinpath("approval.html").read_text())
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",  # the page's own address holds the client secret
    "Cache-Control": "no-store",
}
# Stripe's list: their smallest unit is the unit itself.
ZERO_DECIMAL = {
    *("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga"),
    *("pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"),
}
OUTCOMES = {
    IntentStatus.SUCCEEDED: "The payment is approved. You may close this page.",
    IntentStatus.REQUIRES_PAYMENT_METHOD: "The payment was not made. You may close this page.",
}
NOTHING_TO_DO = "Nothing is waiting for your approval."
BUTTONS = """
<form method="post">
  <input type="hidden" name="client_secret" value="$client_secret">
  <button name="decision" value="approve" class="primary">Approve</button>
  <button name="decision" value="reject">Decline</button>
</form>
"""


class Presented(Parameters):
    client_secret: str


class Decided(Presented):
    decision: Literal["approve", "reject"]


class ApprovalPage:
    """Open to whoever knows the intent's client secret; `on_change` as in `Api`."""

    def __init__(self, store: Store, cashier: Cashier, on_change: Callable[[], None]) -> None:
        self._store = store
        self._cashier = cashier
        self._on_change = on_change

    def routes(self) -> list[Route]:
        return [
            Route("/approve/{id}", self.show),
            Route("/approve/{id}", self.decide, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        presented = read(Presented, decode(request.url.query))
        intent = self._cashier.find_intent(request.path_params["id"])
        if not intent.matches(presented.client_secret):
            raise errors.no_such("payment_intent", intent.id, param="client_secret", status=404)
        if intent.status is IntentStatus.REQUIRES_ACTION:
            form = Template(BUTTONS).substitute(client_secret=escape(intent.client_secret))
            return _page(intent, form)
        return _page(intent, NOTHING_TO_DO)

    async def decide(self, request: Request) -> Response:
        decided = read(Decided, await form_of(request))
        act = self._cashier.approve if decided.decision == "approve" else self._cashier.reject
        try:
            with self._store.transaction():
                intent = act(request.path_params["id"], decided.client_secret)
        except errors.UnexpectedStateError:  # a second click
            return _page(self._cashier.find_intent(request.path_params["id"]), NOTHING_TO_DO)
        self._on_change()
        if intent.return_url is not None:
            return RedirectResponse(_return_address(intent, intent.return_url), status_code=303)
        return _page(intent, OUTCOMES[intent.status])


def _return_address(intent: PaymentIntent, return_url: str) -> str:
    succeeded = intent.status is IntentStatus.SUCCEEDED
    query = urlencode(
        {
            "payment_intent": intent.id,
            "payment_intent_client_secret": intent.client_secret,
            "redirect_status": "succeeded" if succeeded else "failed",
        }
    )
    return f"{return_url}{'&' if '?' in return_url else '?'}{query}"


def _page(intent: PaymentIntent, content: str) -> Response:
    html = PAGE.substitute(
        amount=escape(_amount(intent)),
        description=escape(intent.description or intent.id),
        content=content,
    )
    return HTMLResponse(html, headers=HEADERS)


def _amount(intent: PaymentIntent) -> str:
    decimals = 0 if intent.currency in ZERO_DECIMAL else 2
    return f"{intent.amount / 10**decimals:,.{decimals}f} {intent.currency.upper()}"
