"""Composition root of `dashboard`."""

from chassis.app import create_app
from chassis.database import database
from chassis.tables import first_id_at
from chassis.worker import Worker

from dashboard.api import assets, router
from dashboard.broadcast import broadcast
from dashboard.dead_letters import router as dead_letters
from dashboard.store import trim_feed
from dashboard.subscriptions import subscriptions
from dashboard.tables import FeedLine, OrderSummary


async def _trim() -> int:
    async with database.transaction() as session:
        return await trim_feed(session)


app = create_app(
    "dashboard",
    routers=[router, dead_letters],
    subscriptions=subscriptions,
    # SKUs stay: a replay overwrites what is told again, and many were last told of long ago.
    read_models={
        OrderSummary: lambda time: OrderSummary.order_id >= first_id_at(time),
        FeedLine: lambda time: FeedLine.occurred_at >= time,
    },
    workers=[
        broadcast.listener,
        broadcast.publisher,
        Worker("feed-trimmer", _trim, poll_seconds=30),
    ],
)
app.mount("/static", assets, name="static")
