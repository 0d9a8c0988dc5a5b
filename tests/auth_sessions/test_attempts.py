"""Attempts to log in: under what they are counted, and what a refusal costs."""

from typing import Any

import pytest
from django.test import RequestFactory

from auth_sessions import attempts
from auth_sessions.views import client_address


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8:0:0:ffff::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("2001:DB8::1", "2001:db8::1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("::1", "::ffff:1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("junk", "junk", True),
        ("junk", "other junk", False),
        ("", "unix:", False),
        ("\ud800", "\ud800", True),
    ],
)
def test_addresses_that_are_counted_together(one: str, other: str, same: bool) -> None:
    """IPv6 by what one customer holds; IPv4 however it is written; what is none by itself."""
    assert (attempts.address_part(one) == attempts.address_part(other)) is same


@pytest.mark.parametrize(
    ("hop", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("unknown", "unknown"),
        ("a:b:c", "a:b:c"),
    ],
)
def test_port_that_a_proxy_writes(settings: Any, hop: str, address: str) -> None:
    """It differs with each connection, and is no part of the address."""
    settings.AEVON_TRUSTED_PROXIES = 1
    request = RequestFactory().get("/", headers={"X-Forwarded-For": f"6.6.6.6, {hop}"})
    assert client_address(request) == address
