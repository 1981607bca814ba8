"""Composition root of `dashboard`."""

from chassis.app import create_app
from chassis.database import database
from chassis.worker import Worker

from dashboard.api import assets, router
from dashboard.broadcast import broadcast
from dashboard.dead_letters import router as dead_letters
from dashboard.store import trim_feed
from dashboard.subscriptions import subscriptions
from dashboard.tables import FeedLine, OrderSummary, SkuSummary


async def _trim() -> int:
    async with database.transaction() as session:
        return await trim_feed(session)


app = create_app(
    "dashboard",
    routers=[router, dead_letters],
    subscriptions=subscriptions,
    read_models=[OrderSummary, FeedLine, SkuSummary],
    workers=[
        broadcast.listener,
        broadcast.publisher,
        Worker("feed-trimmer", _trim, poll_seconds=30),
    ],
)
app.mount("/static", assets, name="static")
