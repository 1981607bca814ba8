"""Composition root of `catalog`."""

from chassis.app import create_app

from catalog.api import internal, router

app = create_app("catalog", routers=[router, internal])
