"""The chassis is tested on a database that has its tables: that of `orders`."""

import pytest


@pytest.fixture
def service() -> str:
    return "orders"
