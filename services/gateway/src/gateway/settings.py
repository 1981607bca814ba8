"""What the edge is told by its environment."""

from functools import cache
from ipaddress import IPv4Network, IPv6Network

from pydantic import Field
from pydantic_settings import BaseSettings


class GatewaySettings(BaseSettings):
    """Lists are JSON: `CORS_ALLOW_ORIGINS=["https://shop.example"]`.

    `WAYBILL_RATE_LIMITS` is `off`, or some limits that take the place of the defaults:
    `orders=1000/minute, login=10/minute`. `TRUSTED_PROXIES` are the networks whose
    `X-Forwarded-For` is believed.
    """

    waybill_rate_limits: str = ""
    rate_limited_callers: int = Field(default=100_000, ge=1)
    cors_allow_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()


@cache
def gateway_settings() -> GatewaySettings:
    return GatewaySettings()
