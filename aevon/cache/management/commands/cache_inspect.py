"""`manage.py cache_inspect USER`."""

import json
from typing import Any

from django.core.management.base import CommandParser

from aevon.cache import inspection
from aevon.cache.inspection import Inspected, lifetime
from aevon.cache.management.base import MaintenanceCommand, Report


class Command(MaintenanceCommand):
    help = (
        "Show everything that the cache holds on one user, with types and lifetimes, beside "
        "what PostgreSQL holds, and whether the two agree."
    )
    examples = """\
  manage.py cache_inspect 7
  manage.py cache_inspect 7 --json
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("user", metavar="USER", help="the user's id, a whole number")

    def run(self, **options: Any) -> Report:
        found = inspection.inspect(options["user"])
        return Report(
            data={"userId": int(options["user"]), "entries": [_data(each) for each in found]},
            lines=[line for each in found for line in _lines(each)],
        )


def _data(each: Inspected) -> dict[str, Any]:
    return {
        "key": each.held.key,
        "type": each.held.type,
        "ttlSeconds": each.held.ttl_seconds,
        "verdict": each.verdict,
        "waitingInOutbox": each.waiting,
        "cached": each.held.value,
        "postgresql": each.ledger,
    }


def _lines(each: Inspected) -> list[str]:
    waiting = "; the outbox says that it is to be repaired" if each.waiting else ""
    return [
        f"{each.held.key}  ({each.verdict}{waiting})",
        f"  type        {each.held.type}",
        f"  lifetime    {lifetime(each.held)}",
        f"  cached      {_pretty(each.held.value)}",
        f"  PostgreSQL  {_pretty(each.ledger)}",
        "",
    ]


def _pretty(value: Any) -> str:
    if value is None:
        return "nothing"
    return json.dumps(value, ensure_ascii=False, indent=2).replace("\n", "\n" + " " * 14)
