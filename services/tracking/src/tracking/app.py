"""Composition root of `tracking`."""

from chassis.app import create_app

from tracking.api import shipments, tracking
from tracking.subscriptions import subscriptions

app = create_app("tracking", routers=[shipments, tracking], subscriptions=subscriptions)
