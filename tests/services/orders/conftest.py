"""Fixtures for the tests of `orders`."""

import pytest
from chassis.testing import StandInSidecar
from fastapi import FastAPI
from orders.app import app as orders_app
from orders.backlog import Backlog
from orders.prices import forget_everything


@pytest.fixture
def service() -> str:
    return "orders"


@pytest.fixture(autouse=True)
def backlog(monkeypatch: pytest.MonkeyPatch) -> Backlog:
    """Nobody counts here, and all tests together place many orders."""
    backlog = Backlog(most=1000)
    monkeypatch.setattr("orders.backlog.backlog", backlog)
    return backlog


@pytest.fixture
def app(db: object, stand_in: StandInSidecar) -> FastAPI:
    forget_everything()
    lamp = {"sku": "LAMP", "name": "Desk lamp", "price": 4_900, "currency": "EUR"}
    mug = {"sku": "MUG", "name": "Mug", "price": 1_250, "currency": "EUR"}
    stand_in.answer("catalog", "internal/prices", {"products": [lamp, mug]})
    return orders_app
