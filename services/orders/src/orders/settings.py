"""How long orders are waited for and how many may be under way, told by the environment."""

from datetime import timedelta
from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings


class OrdersSettings(BaseSettings):
    max_orders_under_way: int = Field(default=100, ge=1)
    """On their way from checkout to the parcel service."""

    payment_deadline_seconds: int = Field(default=900, ge=1)
    stall_seconds: int = Field(default=60, ge=1)

    @property
    def payment_deadline(self) -> timedelta:
        """From its placing, the time an order has to be paid, its customer's approval included."""
        return timedelta(seconds=self.payment_deadline_seconds)

    @property
    def stall(self) -> timedelta:
        """The time a step may take before the services are asked for it again."""
        return timedelta(seconds=self.stall_seconds)


@cache
def orders_settings() -> OrdersSettings:
    return OrdersSettings()
