"""What each kind of process does, one atomic step after another.

Each step is what the production code does between two moments at which another process may come
in: one round trip to the cache, or one transaction of PostgreSQL.

    R  reader: get (a hit ends it), lease, read PostgreSQL, fill
    W  locks the row and fences, commits an update or rolls back, reads the row, installs
    S  a save in autocommit: as W, without the lock
    D, I  as W, with a delete or an insert
    G  guarded: loads and fences in one script, UPDATE … WHERE version = seen, installs; reads the
       row where the entry has no state or another version, or leaves
    P  somebody outside, such as psql: commits, and knows of no cache
    O  the outbox's drain, as the listener's: reads what waits, tells the entry, deletes
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from aevon.cache import PSYCHE, entries, fences, leases, outbox, resources
from aevon.cache.entries import Found
from aevon.cache.leases import Lease
from aevon.cache.projection import Gone
from aevon.cache.write_through import Guard
from tests.consistency.stage import PROJECTION, Stage
from tests.consistency.worlds import ENDED

WRITERS: Final = "WSDIG"
# Transactions of PostgreSQL, and what they do.
_COMMITS: Final = {
    "W": "UPDATE klepsydra_psychestate SET loss_streak = loss_streak + 1 WHERE user_id = %s"
    " RETURNING version",
    "D": "DELETE FROM klepsydra_psychestate WHERE user_id = %s RETURNING version + 1",
    # The streak is that of a state which went on counting: so it shows a lost update here as well.
    "I": "INSERT INTO klepsydra_psychestate (user_id, loss_streak, sre_wave, frustration_level,"
    " frustration_at, is_throttled, phase, amplitude, period_seconds)"
    " SELECT f.user_id, f.version + 1, 0, 0, '2026-01-01T00:00:00Z', false, 0.5, 1, 60"
    " FROM cache_version_floor f WHERE f.user_id = %s AND f.keyspace = 'psyche'"
    " ON CONFLICT DO NOTHING RETURNING version",
}
_COMMITS["S"] = _COMMITS["P"] = _COMMITS["W"]
_GUARDED: Final = (
    f"UPDATE klepsydra_psychestate SET loss_streak = %s WHERE user_id = %s AND version = %s"
    f" RETURNING {', '.join(PROJECTION.document.__struct_fields__)}"
)


class Did(NamedTuple):
    """What came of a step."""

    step: str
    memory: tuple[Any, ...] = ()
    label: str = ""
    served: int | None = None  # the version that a reader returns
    committed: int = 0
    told: int = 0  # a version that everybody is told of


Step = Callable[[Stage, tuple[Any, ...]], Did]


def _version(held: Any) -> int:
    if held is None:
        return 0
    return int(held.version)


def _served(held: Any, how: str) -> Did:
    return Did(ENDED, label=f"{how} {_version(held)}", served=_version(held))


# --- readers -----------------------------------------------------------------------------------


def _get(stage: Stage, memory: tuple[Any, ...]) -> Did:
    held: Any = entries.get(PROJECTION, stage.user_id)
    if not isinstance(held, Found):
        return _served(held, "hits")
    if held.kind in ("fence", "lease"):  # nobody waits: whoever does begins again
        return Did("read alone", label=f"meets a {held.kind}")
    return Did("lease", (held,), label="misses")


def _lease(stage: Stage, memory: tuple[Any, ...]) -> Did:
    held = leases.lease(PROJECTION, {stage.user_id: memory[0]}).get(stage.user_id)
    if isinstance(held, Lease):
        return Did("read", (held,), label="leases")
    if isinstance(held, Found) or held is None:
        return Did("read alone", label="leases nothing")
    return _served(held, "hits, late,")


def _read(stage: Stage, memory: tuple[Any, ...]) -> Did:
    row = stage.rows().get(stage.user_id)
    return Did("fill", (*memory, row), label=f"reads the row, {_version(row)}")


def _fill(stage: Stage, memory: tuple[Any, ...]) -> Did:
    lease, row = memory
    rows = {} if row is None else {stage.user_id: row}
    leases.fill(PROJECTION, {stage.user_id: lease}, rows)
    return _served(row, "fills and returns")


def _read_alone(stage: Stage, memory: tuple[Any, ...]) -> Did:
    return _served(stage.rows().get(stage.user_id), "reads alone and returns")


# --- writers -----------------------------------------------------------------------------------


def _fence(stage: Stage, memory: tuple[Any, ...]) -> Did:
    mark = fences.fence(PROJECTION, [stage.user_id]).get(stage.user_id)
    return Did("commit", (mark,), label="fences")


def _commit(kind: str) -> Step:
    def commit(stage: Stage, memory: tuple[Any, ...]) -> Did:
        version = _version_of(stage.sql(_COMMITS[kind], stage.user_id))
        label = f"commits {version}" if version else "finds nothing to do"
        return Did("read", memory, label=label, committed=version)

    return commit


def _version_of(row: tuple[Any, ...] | None) -> int:
    return int(row[0]) if row else 0


def _roll_back(stage: Stage, memory: tuple[Any, ...]) -> Did:
    return Did(ENDED, label="rolls back")


def _read_back(stage: Stage, memory: tuple[Any, ...]) -> Did:
    row = stage.rows().get(stage.user_id)
    return Did("install", (*memory, row), label=f"reads the row, {_version(row)}")


def _install(stage: Stage, memory: tuple[Any, ...]) -> Did:
    mark, row = memory
    marks = {stage.user_id: mark} if mark else {}
    result = fences.install(PROJECTION, {stage.user_id: row}, marks)[stage.user_id]
    return Did(ENDED, label=f"installs ({result})")


def _load_and_fence(stage: Stage, memory: tuple[Any, ...]) -> Did:
    held, mark = fences.fence_and_get(PROJECTION, stage.user_id)
    if held is None or isinstance(held, Gone):
        return Did("read", (mark, None), label="fences")
    return Did("update", (mark, held, held), label=f"fences and loads {held.version}")


def _read_to_write(stage: Stage, memory: tuple[Any, ...]) -> Did:
    row = stage.rows().get(stage.user_id)
    if row is None or isinstance(row, Gone):
        return Did("leave", memory, label="finds no row")
    return Did("update", (*memory, row), label=f"reads the row, {row.version}")


def _update(stage: Stage, memory: tuple[Any, ...]) -> Did:
    mark, state, seen = memory
    row = stage.sql(_GUARDED, seen.loss_streak + 1, stage.user_id, seen.version)
    if row is None:
        return Did("read", (mark, state), label="is too late")
    document = stage.document(row)
    version = document.version
    return Did("install", (mark, document), label=f"commits {version}", committed=version)


def _decide_not_to(stage: Stage, memory: tuple[Any, ...]) -> Did:
    return Did("leave", memory[:2], label="decides not to write")


def _leave(stage: Stage, memory: tuple[Any, ...]) -> Did:
    mark, state = memory
    Guard(PROJECTION, stage.user_id, state, mark).abandon()
    return Did(ENDED, label="leaves")


# --- the outbox --------------------------------------------------------------------------------


def _waiting(stage: Stage, version: int) -> list[Any]:
    """The outbox's row, as one that was read when it had this version."""
    rows = outbox._waiting(PSYCHE.name, 0, 2**62, 10, None)
    return [
        row if row.version == version else row._replace(written="3", version=version)
        for row in rows
    ]


def _look_at_outbox(stage: Stage, memory: tuple[Any, ...]) -> Did:
    rows = outbox._waiting(PSYCHE.name, 0, 2**62, 10, None)
    if not rows:
        return Did(ENDED, label="finds the outbox empty")
    return Did("tell", (rows[0].version,), label=f"finds {rows[0].version} in the outbox")


def _tell(stage: Stage, memory: tuple[Any, ...]) -> Did:
    (version,) = memory
    resources.resource(PSYCHE.name).observe({stage.user_id: version})
    return Did("clear", memory, label=f"tells {version}", told=version)


def _clear(stage: Stage, memory: tuple[Any, ...]) -> Did:
    deleted = outbox._delete(_waiting(stage, memory[0]))
    return Did(ENDED, label="clears the outbox" if deleted else "leaves the outbox: written again")


_LAST: Final[dict[str, tuple[Step, ...]]] = {"read": (_read_back,), "install": (_install,)}


def _writer(kind: str) -> dict[str, tuple[Step, ...]]:
    return {"start": (_fence,), "commit": (_commit(kind), _roll_back), **_LAST}


STEPS: Final[dict[str, dict[str, tuple[Step, ...]]]] = {
    "R": {
        "start": (_get,),
        "lease": (_lease,),
        "read": (_read,),
        "fill": (_fill,),
        "read alone": (_read_alone,),
    },
    **{kind: _writer(kind) for kind in "WSDI"},
    "G": {
        "start": (_load_and_fence,),
        "read": (_read_to_write,),
        "update": (_update, _decide_not_to),
        "leave": (_leave,),
        "install": (_install,),
    },
    "P": {"start": (lambda stage, memory: _commit("P")(stage, memory)._replace(step=ENDED),)},
    "O": {"start": (_look_at_outbox,), "tell": (_tell,), "clear": (_clear,)},
}
# These hold the row's lock from their first step to their transaction's end.
LOCKING: Final = "WDI"
# Here a transaction waits for whoever holds the lock.
WAITING: Final = {(kind, "start") for kind in LOCKING} | {
    ("S", "commit"),
    ("G", "update"),
    ("P", "start"),
}


def at_rest(stage: Stage) -> str:
    """Drain the outbox, if anything waits, as the listener does; how many entries."""
    return f"the outbox is drained of {resources.repair_waiting()}"
