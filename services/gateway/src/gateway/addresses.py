"""Where a request comes from, proxies on the way considered."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Networks = Sequence[IPv4Network | IPv6Network]
_SITE_PREFIX = 64


def address_of(peer: str, forwarded_for: str, trusted: Networks) -> str:
    """The address nearest to us in `X-Forwarded-For` that no trusted proxy has.

    Everything left of it was written by whoever sent the request. The header counts only if the
    peer itself is a trusted proxy.
    """
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    nearest = peer
    while hops and _is_trusted(nearest, tuple(trusted)):
        nearest = hops.pop()
    return _site(nearest)


@lru_cache(maxsize=10_000)
def _is_trusted(address: str, trusted: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in trusted)


@lru_cache(maxsize=10_000)
def _site(address: str) -> str:
    """One customer is given a whole IPv6 /64, so that is what counts as one address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, _SITE_PREFIX), strict=False))
