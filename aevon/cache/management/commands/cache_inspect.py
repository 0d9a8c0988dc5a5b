"""`manage.py cache_inspect USER`."""

import json
import time
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError, CommandParser

from aevon.cache import inspection
from aevon.cache.inspection import Inspected, NoSuchUser, UnsavedMark, lifetime
from aevon.cache.management.base import MaintenanceCommand, Report
from aevon.cache.standing import Standing


class Command(MaintenanceCommand):
    help = (
        "Show everything that the cache holds on one user, with types and lifetimes, beside "
        "what PostgreSQL holds, and whether the two agree: is there a state under the key, or a "
        "reader's lease, or a writer's fence; is it unsaved; does the outbox wait for it. The "
        "tokens of leases and fences are not shown."
    )
    examples = """\
  manage.py cache_inspect 7
  manage.py cache_inspect demo7
  manage.py cache_inspect 7 --json
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "user",
            metavar="USER",
            help="the user's id, or the name; a number is always an id",
        )

    def run(self, **options: Any) -> Report:
        try:
            user_id = inspection.user_of(options["user"])
        except NoSuchUser as error:
            raise CommandError(str(error)) from error
        found, name = inspection.inspect(user_id), inspection.who(user_id)
        user = f"user {user_id}  {'does not exist' if name is None else name}"
        return Report(
            data={"userId": user_id, "username": name, "entries": [_data(each) for each in found]},
            lines=[user, "", *(line for each in found for line in _lines(each))],
        )


def _data(each: Inspected) -> dict[str, Any]:
    return {
        "key": each.held.key,
        "type": each.held.type,
        "ttlSeconds": each.held.ttl_seconds,
        "verdict": each.verdict,
        "holds": _standing(each.standing),
        "unsaved": each.mark and _mark(each.mark),
        "outbox": each.noted and {"version": each.noted.version, "seconds": each.noted.seconds},
        "waitingInOutbox": each.waiting,
        "cached": each.held.value,
        "postgresql": each.ledger,
    }


def _standing(found: Standing) -> dict[str, Any]:
    left = None if found.until is None else max(0.0, found.until - time.time())
    return {"kind": found.kind, "writers": found.writers, "secondsLeft": left}


def _mark(mark: UnsavedMark) -> dict[str, Any]:
    return {"revision": mark.revision, "seconds": mark.seconds, "refused": mark.refused}


def _lines(each: Inspected) -> Iterator[str]:
    waiting = "; the outbox says that it is to be repaired" if each.waiting else ""
    yield f"{each.held.key}  ({each.verdict}{waiting})"
    yield f"  type        {each.held.type}"
    yield f"  holds       {each.standing}"
    yield f"  lifetime    {lifetime(each.held)}"
    if each.mark is not None:
        yield f"  unsaved     {each.mark}"
    if each.noted is not None:
        yield f"  outbox      {each.noted}"
    yield f"  cached      {_pretty(each.held.value)}"
    same = each.ledger is not None and _plain(each.held.value) == _plain(each.ledger)
    yield f"  PostgreSQL  {'the same' if same else _pretty(each.ledger)}"
    yield ""


def _plain(value: Any) -> Any:
    """The value without what the cache layer notes in it."""
    if not isinstance(value, dict):
        return value
    return {name: each for name, each in value.items() if not name.startswith("_")}


def _pretty(value: Any) -> str:
    if value is None:
        return "nothing"
    return json.dumps(value, ensure_ascii=False, indent=2).replace("\n", "\n" + " " * 14)
