"""Who is calling, as the views see it."""

from typing import Protocol, cast

from rest_framework.request import Request


class Caller(Protocol):
    """The principal that authentication found: no row was read for it."""

    @property
    def pk(self) -> int: ...

    @property
    def sid(self) -> str: ...

    def has_perm(self, name: str) -> bool: ...

    def has_class(self, needed: str) -> bool: ...


def caller(request: Request) -> Caller:
    """The caller of an authenticated view; REST framework's types know Django's users only."""
    return cast("Caller", request.user)
