"""Delivers events to the merchant: signed, at least once, until they are accepted."""

import asyncio
import hashlib
import hmac
import logging
import time
from http import HTTPStatus

import aiohttp

from waybill.provider.settings import Settings
from waybill.provider.store import Store, Webhook

log = logging.getLogger(__name__)

ATTEMPT_TIMEOUT = 10.0
GIVE_UP_AFTER = 3 * 24 * 3600.0
"""Seconds; Stripe too stops after three days."""
IDLE_POLL = 60.0
ROUND = 0.01
"""Seconds between two looks at the queue, so that a burst is one round of work and not many."""


def signature(payload: str, secret: str, timestamp: int) -> str:
    """The `Stripe-Signature` header: HMAC-SHA256 of `<timestamp>.<payload>`."""
    signed = f"{timestamp}.{payload}".encode()
    return f"t={timestamp},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


class Dispatcher:
    """Posts what is due; the queue itself is the store's, so it outlives the process."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._secret = settings.webhook_secret.get_secret_value()
        self._wanted = asyncio.Event()
        self._under_way: set[str] = set()

    def wake(self) -> None:
        """There may be something to deliver."""
        self._wanted.set()

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=ATTEMPT_TIMEOUT)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            asyncio.TaskGroup() as deliveries,
        ):
            while True:
                # One `now` for both, or what falls due between them would be seen by neither.
                now = time.time()
                for webhook in self._claim(now):
                    deliveries.create_task(self._deliver(session, webhook))
                await self._rest(now)
                await asyncio.sleep(ROUND)

    def _claim(self, now: float) -> list[Webhook]:
        """What is due and not under way, as far as the concurrency allows."""
        limit = self._settings.webhook_concurrency
        due = self._store.due_webhooks(now, limit + len(self._under_way))
        waiting = [webhook for webhook in due if webhook.id not in self._under_way]
        claimed = waiting[: limit - len(self._under_way)]
        self._under_way.update(webhook.id for webhook in claimed)
        return claimed

    async def _rest(self, now: float) -> None:
        """Until something is queued, a delivery has ended or the next retry is due."""
        due = self._store.next_webhook_after(now)
        try:
            async with asyncio.timeout(IDLE_POLL if due is None else min(due - now, IDLE_POLL)):
                await self._wanted.wait()
        except TimeoutError:
            return
        self._wanted.clear()

    async def _deliver(self, session: aiohttp.ClientSession, webhook: Webhook) -> None:
        try:
            refusal = await self._post(session, webhook.payload)
            self._settle(webhook, refusal, time.time())
        finally:
            self._under_way.discard(webhook.id)
            self.wake()

    async def _post(self, session: aiohttp.ClientSession, payload: str) -> str | None:
        """Why it was not accepted; None when it was."""
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature(payload, self._secret, int(time.time())),
        }
        try:
            async with session.post(
                self._settings.webhook_url,
                data=payload.encode(),
                headers=headers,
                allow_redirects=False,
            ) as response:
                accepted = HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES
                return None if accepted else f"HTTP {response.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"

    def _settle(self, webhook: Webhook, refusal: str | None, now: float) -> None:
        if refusal is None:
            self._store.remove_webhook(webhook.id)
        elif now - webhook.created > GIVE_UP_AFTER:
            log.error("webhook %s given up: %s", webhook.id, refusal)
            self._store.remove_webhook(webhook.id)
        else:
            pause = self._backoff(webhook.attempts)
            if webhook.attempts == 0:  # once an event, lest an outage fill the log
                log.info("webhook %s not accepted: %s; will try again", webhook.id, refusal)
            self._store.postpone_webhook(webhook.id, now + pause)

    def _backoff(self, attempts: int) -> float:
        doubled = self._settings.webhook_backoff * 2 ** min(attempts, 30)
        return min(doubled, self._settings.webhook_backoff_max)
