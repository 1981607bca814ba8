"""Composition root of `payments`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from chassis.app import create_app
from chassis.sidecar import sidecar

from payments import api, settlement, webhooks
from payments.metrics import count_payments
from payments.subscriptions import subscriptions

SECRET_STORE = "payments-secrets"  # noqa: S105  # the name of the store, not a secret of it
WEBHOOK_SECRET = "webhook-secret"  # noqa: S105  # as above


@asynccontextmanager
async def lifespan() -> AsyncGenerator[None]:
    webhooks.signature_verifier.trust(await sidecar.secret(SECRET_STORE, WEBHOOK_SECRET))
    yield
    await settlement.finish()


count_payments()
app = create_app(
    "payments",
    routers=[webhooks.router, api.router],
    subscriptions=subscriptions,
    workers=[settlement.charges, settlement.refunds],
    jobs=[webhooks.forgetting],
    lifespan=lifespan,
)
