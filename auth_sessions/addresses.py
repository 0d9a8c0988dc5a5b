"""Where a request comes from."""

import re
from ipaddress import IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request

HOP_WITH_PORT = re.compile(r"\[([^]]+)\](?::\d*)?|([^:]+):\d*")


def client_address(request: HttpRequest | Request) -> str:
    """The caller's address as the trusted proxies saw it.

    `X-Forwarded-For` counts only as far as `AEVON_TRUSTED_PROXIES` proxies have written it:
    what stands before is the client's own invention.
    """
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    trusted = settings.AEVON_TRUSTED_PROXIES
    if trusted and len(hops) >= trusted and hops[-trusted].strip():
        return _without_port(hops[-trusted].strip())
    return str(request.META.get("REMOTE_ADDR", ""))


def _without_port(hop: str) -> str:
    """`192.0.2.1:4711` and `[2001:db8::1]:4711`, as some proxies write them, without the port."""
    match = HOP_WITH_PORT.fullmatch(hop)
    return (match[1] or match[2]) if match else hop


def network(address: str, *, ipv4: int, ipv6: int) -> str:
    """The network that the address is in, of so many bits; "" for what is no address.

    An IPv4 address in IPv6's clothes (RFC 4291, 2.5.5.2) counts as one of IPv4.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return ""
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or ip
    bits = ipv4 if ip.version == 4 else ipv6
    return str(ip_network((ip.packed, bits), strict=False))
