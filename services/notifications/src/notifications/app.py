"""Composition root of `notifications`."""

from chassis.app import create_app

from notifications.api import router
from notifications.sending import sender
from notifications.subscriptions import subscriptions

app = create_app("notifications", routers=[router], subscriptions=subscriptions, workers=[sender])
