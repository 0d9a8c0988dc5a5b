"""What the cache holds beside what PostgreSQL holds, member by member, aligned by path."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from aevon.cache.shown import visible

# own: a note of the cache layer's, which PostgreSQL has none of.
Kind = Literal["same", "changed", "cache only", "postgresql only", "own"]

TEXT_MAX: Final = 400
MEMBERS_MAX: Final = 600
# What a list's elements are told apart by; where they have none, their place.
IDENTITY: Final = "seq"
DIFFERENT: Final = ("changed", "cache only", "postgresql only")


class _Nothing:
    """No such member: not the same as one that is null."""


NOTHING: Final = _Nothing()


@dataclass(frozen=True, slots=True)
class Member:
    """One member on both sides, as text; None where it is not there."""

    path: str
    kind: Kind
    cached: str | None
    ledger: str | None

    @property
    def differs(self) -> bool:
        """Whether the two sides disagree on it."""
        return self.kind in DIFFERENT


def compare(cached: Any, ledger: Any) -> list[Member]:
    """Every member of either side, once; None is a side that has nothing at all."""
    return list(_walk("", _side(cached), _side(ledger)))


def _side(value: Any) -> Any:
    return NOTHING if value is None else value


def _walk(path: str, cached: Any, ledger: Any) -> Iterator[Member]:
    if cached is NOTHING and ledger is NOTHING:
        return
    ours, theirs = _members(cached), _members(ledger)
    if ours is None or theirs is None or not (ours or theirs):
        yield _leaf(path, cached, ledger)
        return
    for name in dict.fromkeys([*ours, *theirs]):
        inner = f"{path}{name}" if not path or name.startswith("[") else f"{path}.{name}"
        yield from _walk(inner, ours.get(name, NOTHING), theirs.get(name, NOTHING))


def _members(value: Any) -> dict[str, Any] | None:
    """A container's members by name, none where there is nothing; None for a single value."""
    if value is NOTHING:
        return {}
    if isinstance(value, Mapping):
        return {_name(str(name)): each for name, each in value.items()}
    if isinstance(value, list):
        return dict(zip(_places(value), value, strict=True))
    return None


def _name(name: str) -> str:
    """A name as it is, quoted where it could be taken for a path."""
    return name if name.replace("_", "").replace("-", "").isalnum() else _text(name)


def _places(elements: list[Any]) -> list[str]:
    names = [each.get(IDENTITY) if isinstance(each, Mapping) else None for each in elements]
    told_apart = all(type(name) is int for name in names) and len({*names}) == len(names)
    if told_apart:
        return [f"[{IDENTITY} {name}]" for name in names]
    return [f"[{place}]" for place in range(len(elements))]


def _leaf(path: str, cached: Any, ledger: Any) -> Member:
    ours, theirs = _shown(cached), _shown(ledger)
    shown = cut(visible(path)) or "(the value)"
    return Member(shown, _kind(path, cached, ledger), ours, theirs)


# Of a document, or of an element of a list.
_OWN: Final = re.compile(r"(\[[^]]*\]\.)?_")


def _kind(path: str, cached: Any, ledger: Any) -> Kind:
    if cached is not NOTHING and ledger is not NOTHING and _text(cached) == _text(ledger):
        return "same"
    if _OWN.match(path):
        return "own"
    if ledger is NOTHING:
        return "cache only"
    return "postgresql only" if cached is NOTHING else "changed"


def _shown(value: Any) -> str | None:
    return None if value is NOTHING else cut(visible(_text(value)))


def _text(value: Any) -> str:
    """As JSON, in which 1, 1.0, true and "1" are four things; members in one order."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def cut(text: str) -> str:
    """A text that fits a cell, with what was left out."""
    if len(text) <= TEXT_MAX:
        return text
    return f"{text[:TEXT_MAX]}… ({len(text):,} characters in all)"


def shortened(members: Iterable[Member]) -> tuple[list[Member], int]:
    """As many members as fit a page, those that differ before all others, and how many were left
    out."""
    found = sorted(members, key=lambda each: not each.differs)
    return found[:MEMBERS_MAX], max(0, len(found) - MEMBERS_MAX)
