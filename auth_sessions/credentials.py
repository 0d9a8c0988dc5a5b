"""Passwords, checked under limits per name and per address."""

import hashlib
from typing import Final, NamedTuple

from django.conf import settings
from django.contrib.auth import authenticate

from aevon.cache import (
    LOGIN_ATTEMPTS_BY_ADDRESS,
    LOGIN_ATTEMPTS_BY_NAME,
    InternalKeyspace,
    rate_limit,
)
from auth_sessions.addresses import network
from auth_sessions.models import User

WINDOW_SECONDS: Final = 60
# What one customer of a provider is given: an address alone is no limit to who has 2^64 of them.
IPV6_PREFIX: Final = 64


class WrongCredentials(Exception):
    """No active user has this name and password."""


class TooManyLogins(Exception):
    """A login was refused unseen; try again after `retry_after_seconds`."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"Try again in {retry_after_seconds} s.")
        self.retry_after_seconds = retry_after_seconds


def check_credentials(
    *, username: str, password: str, address: str, staff_only: bool = False
) -> User:
    """The active user of this name and password. Raises `TooManyLogins`, `WrongCredentials`, and
    what PostgreSQL raises.

    Failed attempts are counted per name and per address in a window of a minute; those that
    succeed, or that nobody could answer, are not. One over the limit is refused before anybody
    looks whether the user exists.
    """
    _reserve_attempt(username, address)
    try:
        user = authenticate(username=username, password=password)
    except Exception:
        _give_back_attempt(username, address)
        raise
    if not isinstance(user, User) or (staff_only and not user.is_staff):
        raise WrongCredentials
    _give_back_attempt(username, address)
    return user


def _reserve_attempt(username: str, address: str) -> None:
    by_name, by_address = _counters(username, address)
    if wait := by_name.reserve():
        raise TooManyLogins(wait)
    if wait := by_address.reserve():
        by_name.give_back()
        raise TooManyLogins(wait)


def _give_back_attempt(username: str, address: str) -> None:
    for counter in _counters(username, address):
        counter.give_back()


def _counters(username: str, address: str) -> tuple["_Counter", "_Counter"]:
    return (
        _Counter(
            LOGIN_ATTEMPTS_BY_NAME, name_part(username), settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME
        ),
        _Counter(
            LOGIN_ATTEMPTS_BY_ADDRESS,
            address_part(address),
            settings.AUTH_LOGIN_ATTEMPTS_PER_ADDRESS,
        ),
    )


class _Counter(NamedTuple):
    """What counts the attempts on one name, or from one address."""

    keyspace: InternalKeyspace
    part: str
    limit: int

    def reserve(self) -> int:
        """As `rate_limit.reserve`."""
        return rate_limit.reserve(
            self.keyspace, self.part, limit=self.limit, window_seconds=WINDOW_SECONDS
        )

    def give_back(self) -> None:
        """As `rate_limit.give_back`."""
        rate_limit.give_back(
            self.keyspace, self.part, limit=self.limit, window_seconds=WINDOW_SECONDS
        )


def name_part(username: str) -> str:
    """What attempts on this name, in any spelling, are counted under."""
    return _digest(username.casefold())


def address_part(address: str) -> str:
    """What attempts from this address are counted under: IPv6 by its /64; junk as it is."""
    return _digest(network(address, ipv4=32, ipv6=IPV6_PREFIX) or address)


def _digest(text: str) -> str:
    """Any text fits a key, and the cache learns no names."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
