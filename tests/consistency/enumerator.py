"""Everything that can happen to some processes, a key and a row, on the real servers.

From each world every step of every process is taken, and every fault. A step calls the production
code on servers that were made to hold what the world says; what they hold afterwards is the next
world. A step depends on nothing but the key, the ledger, the server's life and what the process
remembers, so one that was taken in the same circumstances before is not taken again:
`test_enumerator.py` proves that by schedules that are played through without a pause.

A violation is (1) a reader that returns a version older than one acknowledged, or told by the
outbox, before it began; (2) a quiet system whose cache serves something else than PostgreSQL.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from aevon.cache import fences
from tests.consistency.stage import PROJECTION, Stage
from tests.consistency.steps import LOCKING, STEPS, WAITING, WRITERS, Did, Step, at_rest
from tests.consistency.worlds import (
    ENDED,
    NOTHING,
    TO_COME,
    Faults,
    Key,
    Ledger,
    Memory,
    Process,
    World,
    marks,
    token,
    without_time,
)


class Move(NamedTuple):
    """What may happen, and what then is."""

    label: str
    world: World
    wrong: str | None = None
    step: tuple[int, Memory, Step] | None = None  # on the servers, by whom


class Result(NamedTuple):
    """What an enumeration found."""

    worlds: int
    schedules: int
    violation: str | None = None
    schedule: tuple[str, ...] = ()


class Effect(NamedTuple):
    """What a step did to the servers and to its process."""

    key: Key
    ledger: Ledger
    did: Did
    memory: Memory


class Enumerator:
    """Worlds of one stage; what has been seen on the servers is kept for the next mix."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._effects: dict[tuple[object, ...], Effect] = {}
        self._verdicts: dict[tuple[object, ...], str] = {}
        self._memories: dict[tuple[object, ...], Memory] = {(): NOTHING}

    @property
    def steps_taken(self) -> int:
        """On the servers."""
        return len(self._effects)

    def explore(self, mix: str, faults: Faults, *, exists: bool = True) -> Result:
        """All that can happen to the processes of `mix`, breadth first, so that the first violation
        has a shortest schedule; it ends there."""
        with _no_collection():
            return self._explore(beginning(mix, faults, exists=exists))

    def _explore(self, first: World) -> Result:
        worlds = [first]
        index, came, edges = {worlds[0]: 0}, [(0, "")], list[list[int]]()
        for number, world in enumerate(worlds):
            edges.append([])
            if wrong := self.difference(world):
                return Result(len(worlds), 0, wrong, _path(came, number))
            for label, following, wrong, _ in self.moves(world):
                if wrong:
                    return Result(len(worlds), 0, wrong, (*_path(came, number), label))
                if following not in index:
                    index[following] = len(worlds)
                    worlds.append(following)
                    came.append((number, label))
                edges[-1].append(index[following])
        return Result(len(worlds), _schedules(edges))

    def moves(self, world: World) -> Iterator[Move]:
        """All that can happen next."""
        for i, me in enumerate(world.processes):
            if me.step == ENDED:
                continue
            free = world.lock is None or world.lock == i
            if free or (me.kind, me.step) not in WAITING:
                for step in STEPS[me.kind][me.step]:
                    yield self._stepped(world, i, me, step)
            if world.left.crashes and me.kind in WRITERS and me.step != "start":
                yield Move(f"{me.kind}{i} dies", _crashed(world, i, me))
        yield from self._losses(world)
        yield from _restarts(world)
        if world.left.drain and not world.drained and world.ledger.outbox and _quiet(world):
            yield self._drained(world)

    def difference(self, world: World) -> str | None:
        """What is wrong with a world in which all has ended."""
        undrained = world.left.drain and world.ledger.outbox and not world.drained
        if undrained or not _quiet(world):
            return None
        circumstances = (world.key, world.ledger, world.life)
        if circumstances not in self._verdicts:
            self.stage.set(*circumstances[:2], life=world.life)
            self._verdicts[circumstances] = self.stage.verdict()
        if self._verdicts[circumstances] in ("stale", "corrupt"):
            return f"quiet, the cache holds {world.key!r}, PostgreSQL {world.ledger}"
        return None

    def _effect(self, world: World, actor: int, memory: Memory, step: Step) -> Effect:
        circumstances = (world.key, world.ledger, world.life, actor, memory, step)
        effect = self._effects.get(circumstances)
        if effect is None:
            self.stage.set(world.key, world.ledger, life=world.life)
            effect = self._effects[circumstances] = self.take(actor, memory, step)
        return effect

    def take(self, actor: int, memory: Memory, step: Step) -> Effect:
        """Take a step on the servers as they are."""
        self.stage.actor = actor
        did = step(self.stage, memory.of)
        kept = self._memories.setdefault(did.memory, Memory(did.memory))
        return Effect(*self.stage.look(), did, kept)

    def _stepped(self, world: World, i: int, me: Process, step: Step) -> Move:
        move = stepped(world, i, me, self._effect(world, i, me.memory, step))
        return move._replace(step=(i, me.memory, step))

    def _losses(self, world: World) -> Iterator[Move]:
        """Of the key's content."""
        if world.key is None:
            return
        fence = marks(world.key)
        if world.left.evictions and not (world.left.sticky and fence is not None):
            yield Move("eviction", world._replace(key=None, left=_spent(world, "evictions")))
        if world.left.flushes:
            key = self._effect(world, 0, NOTHING, _flush).key
            flushed = world._replace(key=key, left=_spent(world, "flushes"))
            yield Move("flush", flushed, step=(0, NOTHING, _flush))
        if world.left.lease_expiries and world.key.startswith(b'{"_lease"'):
            left = _spent(world, "lease_expiries")
            yield Move("lease runs out", world._replace(key=None, left=left))
        for i, me in enumerate(world.processes):
            if me.step == ENDED and fence and fence.get(token(i)) == TO_COME:
                following = world._replace(key=without_time(world.key, i))
                yield Move(f"{me.kind}{i}'s mark runs out", following)

    def _drained(self, world: World) -> Move:
        effect = self._effect(world, 0, NOTHING, _drain)
        told = max(world.acknowledged, world.ledger.outbox)
        after = world._replace(
            key=effect.key, ledger=effect.ledger, acknowledged=told, drained=True
        )
        return Move(effect.did.label, after, step=(0, NOTHING, _drain))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Worlds hold no cycles, and there are too many to look through again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def beginning(mix: str, faults: Faults, *, exists: bool = True) -> World:
    """Nothing cached, and with `drain` somebody who drains the outbox at any time."""
    kinds = mix + "O" * faults.drain
    return World(tuple(map(Process, kinds)), faults, ledger=Ledger(exists=exists))


def stepped(world: World, i: int, me: Process, effect: Effect) -> Move:
    """The world after process `i` has taken a step."""
    did, acknowledged, wrong = effect.did, world.acknowledged, None
    promised = acknowledged if me.step == "start" else me.promised
    if did.served is not None and did.served < promised:
        wrong = f"{me.kind}{i} returned {did.served} when {promised} had been acknowledged"
    committed = did.committed or me.committed
    if did.step == ENDED:
        after = Process(me.kind, ENDED)  # what it remembered makes no difference any more
        # A writer is acknowledged with its last step: later would only promise less.
        acknowledged = max(acknowledged, committed if me.kind != "P" else 0)
    else:
        begun = promised if me.kind == "R" else 0
        after = Process(me.kind, did.step, effect.memory, committed, begun)
    following = World(
        _replaced(world, i, after),
        world.left,
        effect.key,
        effect.ledger,
        world.life,
        _lock_after(world, i, me, did),
        max(acknowledged, did.told),
        world.snapshot,
    )
    return Move(f"{me.kind}{i} {did.label}", following, wrong)


def _lock_after(world: World, i: int, me: Process, did: Did) -> int | None:
    if me.kind in LOCKING and me.step == "start":
        return i
    return None if world.lock == i and did.step != "commit" else world.lock


def _replaced(world: World, i: int, process: Process) -> tuple[Process, ...]:
    return (*world.processes[:i], process, *world.processes[i + 1 :])


def _spent(world: World, fault: str) -> Faults:
    return world.left._replace(**{fault: getattr(world.left, fault) - 1})


def _crashed(world: World, i: int, me: Process) -> World:
    processes = _replaced(world, i, Process(me.kind, ENDED))
    lock = None if world.lock == i else world.lock
    return world._replace(processes=processes, lock=lock, left=_spent(world, "crashes"))


def _restarts(world: World) -> Iterator[Move]:
    if not world.left.restarts:
        return
    if world.key is not None and world.snapshot is None:
        yield Move("snapshot", world._replace(snapshot=world.key))
    left = _spent(world, "restarts")
    yield Move(
        "restart from the snapshot",
        world._replace(key=world.snapshot, snapshot=None, life=world.life + 1, left=left),
    )


def _quiet(world: World) -> bool:
    return all(each.step == ENDED for each in world.processes)


def _flush(stage: Stage, memory: tuple[object, ...]) -> Did:
    fences.drop(PROJECTION, [stage.user_id])
    return Did("")


def _drain(stage: Stage, memory: tuple[object, ...]) -> Did:
    return Did("", label=at_rest(stage))


def _path(came: list[tuple[int, str]], number: int) -> tuple[str, ...]:
    labels = []
    while number:
        number, label = came[number]
        labels.append(label)
    return tuple(reversed(labels))


def _schedules(edges: list[list[int]]) -> int:
    """The number of ways through this graph without cycles, from the first world to an end."""
    waiting = [0] * len(edges)
    for targets in edges:
        for target in targets:
            waiting[target] += 1
    ways, ready, total, done = [1] + [0] * (len(edges) - 1), [0], 0, 0
    while ready:
        number = ready.pop()
        done += 1
        total += 0 if edges[number] else ways[number]
        for target in edges[number]:
            ways[target] += ways[number]
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    assert done == len(edges), "a cycle: these schedules have no number"
    return total
