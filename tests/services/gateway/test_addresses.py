"""Who counts as one address."""

from ipaddress import ip_network

import pytest
from gateway.addresses import address_of

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "nonsense", "unknown"),
        ("10.0.0.1", "1.1.1.1, nonsense", "unknown"),
        ("fd00::1", "198.51.100.1", "198.51.100.1"),
        ("2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "", "203.0.113.9"),
        ("", "", "unknown"),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str, forwarded_for: str, address: str) -> None:
    assert address_of(peer, forwarded_for, PROXIES) == address


def test_nobody_is_believed_by_default() -> None:
    assert address_of("127.0.0.1", "198.51.100.1", ()) == "127.0.0.1"


def test_the_addresses_of_one_ipv6_customer_count_as_one() -> None:
    assert address_of("2001:db8::1", "", ()) == address_of("2001:db8::2", "", ())
