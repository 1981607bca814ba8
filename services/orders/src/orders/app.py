"""Composition root of `orders`."""

from chassis.app import create_app

from orders.api import router
from orders.backlog import counter
from orders.deadlines import jobs
from orders.subscriptions import subscriptions

app = create_app(
    "orders", routers=[router], subscriptions=subscriptions, workers=[counter], jobs=jobs
)
