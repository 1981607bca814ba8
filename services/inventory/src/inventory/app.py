"""Composition root of `inventory`."""

from chassis.app import create_app

from inventory.api import router
from inventory.subscriptions import subscriptions

app = create_app("inventory", routers=[router], subscriptions=subscriptions)
