"""Passwords, checked under limits per name and per address."""

import hashlib
from typing import Final

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


def check_credentials(*, username: str, password: str, address: str) -> User:
    """The active user of this name and password. Raises `TooManyLogins`, `WrongCredentials`.

    Failed attempts are counted per name and per address in a window of a minute; those that
    succeed are not. One over the limit is refused before anybody looks whether the user exists.
    """
    _reserve_attempt(username, address)
    user = authenticate(username=username, password=password)
    if not isinstance(user, User):
        raise WrongCredentials
    _give_back_attempt(username, address)
    return user


def _reserve_attempt(username: str, address: str) -> None:
    name, limit = name_part(username), settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME
    if wait := _reserve(LOGIN_ATTEMPTS_BY_NAME, name, limit):
        raise TooManyLogins(wait)
    limit = settings.AUTH_LOGIN_ATTEMPTS_PER_ADDRESS
    if wait := _reserve(LOGIN_ATTEMPTS_BY_ADDRESS, address_part(address), limit):
        rate_limit.give_back(LOGIN_ATTEMPTS_BY_NAME, name)
        raise TooManyLogins(wait)


def _reserve(keyspace: InternalKeyspace, part: str, limit: int) -> int:
    return rate_limit.reserve(keyspace, part, limit=limit, window_seconds=WINDOW_SECONDS)


def _give_back_attempt(username: str, address: str) -> None:
    rate_limit.give_back(LOGIN_ATTEMPTS_BY_NAME, name_part(username))
    rate_limit.give_back(LOGIN_ATTEMPTS_BY_ADDRESS, address_part(address))


def name_part(username: str) -> str:
    """What attempts on this name, in any spelling, are counted under."""
    return _digest(username.casefold())


def address_part(address: str) -> str:
    """What attempts from this address are counted under: IPv6 by its /64; junk as it is."""
    return _digest(network(address, ipv4=32, ipv6=IPV6_PREFIX) or address)


def _digest(text: str) -> str:
    """Any text fits a key, and the cache learns no names."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
