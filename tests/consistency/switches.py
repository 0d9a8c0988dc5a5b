"""The protocol with one of its protections switched off, in this process, for tests alone.

What the harnesses prove is worth something only if they notice that a protection is missing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from aevon.cache import codec, entries, fences, leases, outbox
from aevon.cache.connection import Script, store


class _Changed(Script):
    """A script of which a piece has been left out."""

    def __init__(self, script: Script, *changes: tuple[str, str]) -> None:
        super().__init__(script.name, script.uses)
        source = script.source
        for old, new in changes:
            assert source.count(old) == 1, f"{script.name}.lua has changed: {old!r}"
            source = source.replace(old, new)
        self.__dict__["source"] = source


def _changed(name: str, *changes: tuple[str, str]) -> Any:
    module = leases if hasattr(leases, name) else fences
    return patch.object(module, name, _Changed(getattr(module, name), *changes))


_FILL_IF_NOT_OLDER: Final = """
if type(held) == 'string' then
  local entry, new = cjson.decode(held), cjson.decode(ARGV[2])
  local version, read = entry['version'] or entry['_gone'], new['version'] or new['_gone']
  if entry['_fence'] or (version and version >= read) then return 0 end
end
"""


def _lease() -> Iterator[Any]:
    """Whoever read a row puts it in, where nothing newer is."""
    check = "if held ~= ARGV[1] then return fenced and -2 or 0 end"
    yield _changed("FILL", (check, _FILL_IF_NOT_OLDER))


def _fence() -> Iterator[Any]:
    """Writers put no mark."""

    def fence_and_get(projection: Any, user_id: int) -> tuple[Any, None]:
        held = entries.get(projection, user_id)
        return None if isinstance(held, entries.Found) else held, None

    yield patch.object(fences, "fence", lambda projection, user_ids: {})
    yield patch.object(fences, "fence_and_get", fence_and_get)


def _compare() -> Iterator[Any]:
    """An install overwrites whatever is there."""
    yield _changed(
        "INSTALL", ("if not text then return 'empty' end", "if version then return put() end")
    )


def _outbox() -> Iterator[Any]:
    """Nobody drains it."""
    yield patch.object(outbox, "drain", lambda repairs, **_: 0)
    yield patch.object(outbox, "_waiting", lambda *_: [])


def _incarnation() -> Iterator[Any]:
    """The stamp of a state is not looked at."""
    yield patch.object(codec, "is_stamped", lambda document, incarnation: True)


def _floor() -> Iterator[Any]:
    """A fence does not remember versions."""
    yield _changed("INSTALL", (" or version < floor then", " then"))


def _joint() -> Iterator[Any]:
    """A fence has the mark of the last writer alone."""
    yield _changed("FENCE", ("marks[ARGV[1]] =", "marks = {} marks[ARGV[1]] ="))


def _kill_lease() -> Iterator[Any]:
    """An install lets a lease live."""
    yield _changed(
        "INSTALL",
        (
            "if version or not (entry and entry['_lease']) then",
            "if not (entry and entry['_lease']) then",
        ),
    )


def _taint() -> Iterator[Any]:
    """A mark that has run out is forgotten."""
    for name in ("FENCE", "INSTALL", "DROP"):
        yield _changed(name, ("    else\n      floor, expired = UNKNOWN, expired + 1\n", ""))


def _carried_stamp() -> Iterator[Any]:
    """A state is stamped with the life in which it is put in."""
    real = entries.content

    def content(projection: Any, row: Any, life: Any) -> Any:
        return real(projection, row, store().exchange([("PING",)]).life)

    yield patch.object(entries, "content", content)


def _recheck() -> Iterator[Any]:
    """The outbox is cleared also of what was written after it was read."""

    def delete(rows: Any) -> int:
        with outbox.connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM cache_outbox WHERE id = ANY(%s)", [[row.id for row in rows]]
            )
            return int(cursor.rowcount)

    yield patch.object(outbox, "_delete", delete)


SWITCHES: Final[dict[str, Callable[[], Iterator[Any]]]] = {
    "lease": _lease,
    "fence": _fence,
    "compare": _compare,
    "outbox": _outbox,
    "incarnation": _incarnation,
    "floor": _floor,
    "joint marks": _joint,
    "killing leases": _kill_lease,
    "taint": _taint,
    "carried stamp": _carried_stamp,
    "recheck": _recheck,
}


@contextmanager
def without(name: str) -> Iterator[None]:
    """This process's cache layer without that protection."""
    patches = list(SWITCHES[name]())
    try:
        for each in patches:
            each.start()
        yield
    finally:
        for each in reversed(patches):
            each.stop()
