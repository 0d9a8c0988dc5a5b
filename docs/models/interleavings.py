"""A search through every interleaving, breadth first: what the models of this folder stand on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

W = TypeVar("W", bound=Hashable)


class Result(NamedTuple):
    worlds: int
    schedules: int
    violation: str | None = None
    schedule: tuple[str, ...] = ()


def search(
    first: W,
    moves: Callable[[W], Iterator[tuple[str, W, str | None]]],
    wrong: Callable[[W], str | None],
) -> Result:
    """All that can come of the world `first`.

    A move is what happens, what then is, and what is wrong with that; `wrong` judges a world
    alone. Ends at the first violation, which then has a shortest schedule.
    """
    worlds = [first]
    index, came, edges = {first: 0}, [(0, "")], list[list[int]]()
    for number, world in enumerate(worlds):
        violation = wrong(world)
        if violation:
            return Result(len(worlds), 0, violation, path(came, number))
        edges.append([])
        for label, following, violation in moves(world):
            if violation:
                return Result(len(worlds), 0, violation, (*path(came, number), label))
            place = index.setdefault(following, len(worlds))
            if place == len(worlds):
                worlds.append(following)
                came.append((number, label))
            edges[-1].append(place)
    return Result(len(worlds), schedules(edges))


def path(came: list[tuple[int, str]], number: int) -> tuple[str, ...]:
    labels = []
    while number:
        number, label = came[number]
        labels.append(label)
    return tuple(reversed(labels))


def schedules(edges: list[list[int]]) -> int:
    """The number of ways through this graph, from the first world to an end.

    Raises `ValueError` where something may go on for ever: then there is no number.
    """
    waiting = [0] * len(edges)
    for targets in edges:
        for target in targets:
            waiting[target] += 1
    ways, ready, total = [1] + [0] * (len(edges) - 1), [0], 0
    while ready:
        number = ready.pop()
        total += 0 if edges[number] else ways[number]
        for target in edges[number]:
            ways[target] += ways[number]
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    if any(waiting):
        raise ValueError("The graph has a cycle.")
    return total


def run(
    mixes: Mapping[str, str],
    explore: Callable[[str, str], Result],
    rules: Iterable[str],
    without: Callable[[str], tuple[str, Result]],
) -> int:
    """Print what comes of each scope's mixes, and then of leaving out each rule; 1 if a mix does
    not hold, or without a rule all do.

    `without` gives the mix that shows what the rule is for, and what was found there.
    """
    gc.disable()  # nothing here is cyclic, and it would walk all the worlds again and again
    failed = 0
    for title, each in mixes.items():
        for mix in each.split():
            found = explore(mix, title)
            size = f"{found.worlds:8,} worlds {found.schedules:10.1e} schedules"
            print(f"{title:17} {mix:5} {size}  {found.violation or 'holds'}")
            _print_schedule(found)
            failed += found.violation is not None
    for rule in rules:
        mix, found = without(rule)
        print(f"without {rule}: {mix}: {found.violation or 'is it needless?'}")
        _print_schedule(found)
        failed += found.violation is None
    return min(failed, 1)


def _print_schedule(found: Result) -> None:
    print("".join(f"    {label}\n" for label in found.schedule), end="", flush=True)
