"""A dry run changes nothing, and counts what the real run right after it does."""

import contextlib
import io
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from aevon.cache import codec, flush, outbox, resources, write_behind
from aevon.cache.connection import store
from aevon.cache.keyspace import CONVO_HISTORY
from auth_sessions.models import User
from canvas import services
from canvas.models import Canvas
from klepsydra.models import PsycheState
from tests.cache import entry_states, ledgers
from tests.cache.ledgers import POISON, SHEETS, add_lines, add_notes, query
from tests.canvas.helpers import patch, poison, window

pytestmark = pytest.mark.django_db

# What tells a dry run from the other, and what no two runs have in common.
APART = ("dryRun", "seconds", "error")


@pytest.fixture
def rows(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own rows stand behind the keys."""
    registry = {resource.keyspace.name: resource for resource in ledgers.ALL}
    monkeypatch.setattr(resources, "_registry", registry)


def report(*arguments: str) -> dict[str, Any]:
    """What the command says, whether it succeeds or not."""
    out = io.StringIO()
    with contextlib.suppress(CommandError):
        call_command(*arguments, "--json", stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue().splitlines()[0])
    return found


def everything() -> dict[str, bytes]:
    """All that the cache holds, but for what belongs to the flush's record."""
    keys = [key for key in store().scan("*") if not key.startswith("canvas:flush:")]
    return {key: store().command("DUMP", key) for key in keys}


def foretold(*arguments: str, unchanged: Callable[[], Any]) -> dict[str, Any]:
    """The counts of a dry run, which are those of the real one and changed nothing."""
    before = (everything(), unchanged())
    would = report(*arguments, "--dry-run")
    assert (everything(), unchanged()) == before
    did = report(*arguments)
    assert (would.get("dryRun"), did.get("dryRun")) == (True, False)
    counts, others = ({k: v for k, v in each.items() if k not in APART} for each in (would, did))
    assert counts == others
    return counts


def sheet(user_id: int, text: str = "unsaved") -> None:
    """An unsaved document."""
    write_behind.update(
        SHEETS, user_id, lambda s: ledgers.Sheet(user_id=user_id, text=text, revision=s.revision)
    )


def sheets_in_rows() -> list[Any]:
    """PostgreSQL's side of the documents."""
    return query("SELECT * FROM test_sheet ORDER BY 1")


def test_of_a_warm_up(rows: None, settings: Any) -> None:
    """States, leases, corrupt and foreign entries among what is missing."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "LEASE_SECONDS": 600}
    add_notes(*range(1, 8))
    add_lines(1, 2)
    add_lines(2, 2)
    sheet(1)
    entry_states.put("psyche:1", {"userId": 1, "text": "newer", "version": 9})
    entry_states.put("psyche:2", {"_lease": "somebody"}, "PX", 300_000)
    entry_states.put("psyche:3", b"{")
    store().command("SADD", "psyche:4", "a")
    counts = foretold("cache_warmup", "--batch=3", unchanged=sheets_in_rows)
    first = counts["services"][0]
    assert (first["loaded"], first["busy"], first["cached"]) == (5, 1, 6)
    assert report("cache_warmup", "--dry-run")["loaded"] == 0


def test_of_a_flush(rows: None) -> None:
    """Also of what PostgreSQL refuses, once it is known to."""
    add_notes(1, 2, 3)
    add_lines(2, 1)
    call_command("cache_warmup", stdout=io.StringIO())
    sheet(4)
    sheet(5, POISON)
    flush.flush(SHEETS)
    sheet(6)
    counts = foretold("cache_flush", unchanged=sheets_in_rows)
    assert (counts["removed"], counts["kept"]) == (6, 1)
    counts = foretold("cache_flush", "--discard-unsaved", unchanged=sheets_in_rows)
    assert (counts["removed"], counts["kept"]) == (1, 0)


def test_of_a_repair(rows: None) -> None:
    """What cannot be mended is not promised."""
    add_notes(1, 2, 3, 4)
    entry_states.put("psyche:1", {"userId": 1, "text": "by hand", "version": 1})
    entry_states.put("psyche:2", b"{")
    entry_states.put("psyche:9", {"userId": 9, "text": "no row", "version": 1})
    query("INSERT INTO test_sheet VALUES (1, 'saved', 4)")
    entry_states.put("canvas:1", {"userId": 1, "text": "old", "revision": 2, "_dirtySince": 1.0})
    counts = foretold("cache_audit", "--repair", unchanged=sheets_in_rows)
    assert (counts["repaired"], counts["left"]) == (3, 1)
    assert counts["services"][1]["examples"] == ["canvas:1"]
    with pytest.raises(CommandError, match=r"such as canvas:1[.] --repair would mend 0"):
        call_command("cache_audit", "--repair", "--dry-run", stdout=io.StringIO())


def test_of_what_the_listener_would_correct(rows: None) -> None:
    """Rows of a keyspace that nobody repairs are left."""
    add_notes(1, 2)
    outbox.add(CONVO_HISTORY, [1])
    query("INSERT INTO cache_outbox (keyspace, user_id, added_at) VALUES ('other', 1, now())")
    counts = foretold("cache_listen", "--once", unchanged=outbox.depth)
    assert counts == {"repaired": 3, "left": 1}
    with pytest.raises(CommandError, match="--once --dry-run"):
        call_command("cache_listen", "--dry-run")


def test_of_demo_users() -> None:
    """Those who exist are counted apart."""
    named = ("create_demo_users", "--count=5", "--password=p", "--prefix=crowd")
    call_command("create_demo_users", "--count=2", "--password=p", "--prefix=crowd")
    PsycheState.objects.all().delete()
    counts = foretold(*named, unchanged=User.objects.count)
    assert (counts["created"], counts["existing"]) == (3, 2)
    assert (report(*named, "--dry-run")["created"], User.objects.count()) == (0, 5)


def test_of_a_persisting_flush(make_user: Callable[..., User]) -> None:
    """Saved, equal, lost, refused, of an earlier life, behind its row, of nobody."""
    saved, lost, bad, fell_behind, outlived, equal = (make_user().pk for _ in range(6))
    for user_id in (saved, lost, bad, fell_behind, outlived, equal):
        patch(user_id, a=window())
    store().command("UNLINK", f"canvas:{lost}")
    poison(bad)
    services.persist_now([bad])
    Canvas.objects.filter(pk=fell_behind).delete()
    Canvas(user_id=fell_behind, revision=7, layout={"microApps": {}}).save(force_insert=True)
    raw = store().command("GET", f"canvas:{outlived}")
    life = entry_states.life().incarnation.encode()
    store().command("SET", f"canvas:{outlived}", raw.replace(life, b"0" * len(life)))
    services.persist_now([equal])
    services.CANVAS_BUFFER.index.mark_unsaved([_unsaved(equal)])
    store().command("ZADD", "canvas:dirty:1", 3, 999_999_993)
    counts = foretold("canvas_persist", unchanged=_canvases)
    assert {name: count for name, count in counts.items() if count} == {
        "persisted": 3, "lost": 1, "refused": 1, "unchanged": 2,
    }  # fmt: skip


def _canvases() -> list[Any]:
    return list(Canvas.objects.order_by("pk").values())


def _unsaved(user_id: int) -> Any:
    raw = store().command("GET", f"canvas:{user_id}")
    document = codec.decode(raw, services.CANVAS_BUFFER.projection.document)
    return document.__class__(
        **{name: getattr(document, name) for name in document.__struct_fields__}
        | {"dirty_since": time.time()}
    )
