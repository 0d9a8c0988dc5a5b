"""Demo users in bulk."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from django.contrib.auth.hashers import make_password
from django.db import transaction

from aevon.signals import users_created
from auth_sessions.models import User

BATCH: Final = 1_000
COUNT_MAX: Final = 1_000_000
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)


class Refused(ValueError):
    """Demo users cannot be made like this; nothing was."""


def create_demo_users(
    count: int, *, password: str, prefix: str = "demo", progress: Callable[[int], None]
) -> int:
    """Make the users `prefix1` … `prefixN` and what belongs to them; how many are new.

    Those that exist keep everything, their password too. All new ones share one salted hash,
    because hashing takes longer than everything else. A batch is one transaction. Raises
    `Refused`.
    """
    _check(count, password, prefix)
    digest = make_password(password)
    created = 0
    for names in _batches(count, prefix):
        created += _create_batch(names, digest)
        progress(len(names))
    return created


def would_create(
    count: int, *, password: str, prefix: str = "demo", progress: Callable[[int], None]
) -> int:
    """How many users `create_demo_users` would make; nothing is changed. Raises `Refused`."""
    _check(count, password, prefix)
    missing = 0
    for names in _batches(count, prefix):
        missing += len(names) - User.objects.filter(username__in=names).count()
        progress(len(names))
    return missing


def _batches(count: int, prefix: str) -> Iterator[list[str]]:
    for start in range(1, count + 1, BATCH):
        yield [f"{prefix}{n}" for n in range(start, min(start + BATCH, count + 1))]


def _check(count: int, password: str, prefix: str) -> None:
    if not 1 <= count <= COUNT_MAX:
        raise Refused(f"The count must be from 1 to {COUNT_MAX:,}.")
    if not password:
        raise Refused("The password must not be empty.")
    if not _PREFIX.fullmatch(prefix):
        raise Refused("The prefix must be 1 to 100 of the characters A-Z a-z 0-9 _ . -")


@transaction.atomic
def _create_batch(names: list[str], digest: str) -> int:
    named = User.objects.filter(username__in=names)
    before = named.count()
    users = [User(username=n, email=f"{n}@example.org", password=digest) for n in names]
    User.objects.bulk_create(users, ignore_conflicts=True)
    # With ignore_conflicts the database does not tell the new ids.
    user_ids = list(named.order_by("pk").values_list("pk", flat=True))
    users_created.send(sender=User, user_ids=user_ids)
    return len(user_ids) - before
