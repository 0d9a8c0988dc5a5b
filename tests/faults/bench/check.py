"""Whether what visitors were told may be: per user, psyche, session, canvas and turns.

Each rule is of the form "what begins after something was acknowledged shows it". A visitor's own
numbers only rise, and so do versions, revisions and `seq`; so one pass over time is enough.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aevon.cache import outbox, resources
from beep import services as beep
from canvas import services as canvas
from canvas.models import AwayEdit, Canvas
from klepsydra.models import Interaction, PsycheState
from tests.faults.drawings import persist_everything
from tests.waiting import eventually

from .api import Operation, numbers
from .rules import canvas as canvas_rule
from .rules import psyche as psyche_rule
from .rules import sessions as sessions_rule
from .rules import turns as turns_rule
from .rules.canvas import Shown
from .rules.common import Circumstances, Span, Verdict
from .rules.turns import Turn
from .visitors import Person

__all__ = ["AtRest", "Circumstances", "Verdict", "check", "judge"]

REST_SECONDS: Final = 30.0


@dataclass(frozen=True)
class AtRest:
    """What there is in the end: in PostgreSQL, and in the cache when it has been told all."""

    versions: Mapping[str, int]  # of plays, by their keys
    last: Mapping[int, int]  # version of each user
    live: Mapping[int, Shown]
    rows: Mapping[int, Shown]
    turns: Mapping[int, Sequence[Turn]]
    differs: Sequence[str] = ()  # entries that are not what PostgreSQL has


def check(
    operations: Iterable[Operation],
    people: Sequence[Person],
    *,
    outages: Sequence[Span] = (),
    lost_memory: Sequence[Span] = (),
    flushes: Sequence[Span] = (),
) -> Verdict:
    """Against each other, and against PostgreSQL and the cache once all are at rest: see
    `Circumstances`."""
    noted = sorted(operations, key=lambda each: each.start)
    return judge(noted, at_rest(people), Circumstances(outages, lost_memory, flushes))


def judge(noted: Sequence[Operation], end: AtRest, circumstances: Circumstances) -> Verdict:
    """Operations in the order of their beginnings."""
    verdict = Verdict(operations=len(noted))
    verdict.foreign = [f"{each}" for each in noted if each.foreign]
    verdict.stale = [*end.differs]
    psyche_rule.check(verdict, noted, circumstances, versions=end.versions, last=end.last)
    sessions_rule.check(verdict, noted, circumstances)
    canvas_rule.check(verdict, noted, circumstances, live=end.live, rows=end.rows)
    turns_rule.check(verdict, noted, circumstances, last=end.turns)
    return verdict


def at_rest(people: Sequence[Person]) -> AtRest:
    """Once nothing waits to be told to the cache, and all canvases have been flushed."""
    _rest()
    users = [person.user_id for person in people]
    live = {user: canvas.live(user) for user in users}
    persist_everything()
    rows = {row.pk: row for row in Canvas.objects.filter(pk__in=users)}
    plays = Interaction.objects.filter(user_id__in=users, idempotency_key__isnull=False)
    states = PsycheState.objects.filter(pk__in=users)
    turns = {user: beep.history(user) for user in users}
    return AtRest(
        versions=dict(plays.values_list("idempotency_key", "psyche_version")),
        last=dict(states.values_list("pk", "version")),
        live={user: Shown(each.revision, numbers(each.layout)) for user, each in live.items()},
        rows={
            user: Shown(rows[user].revision, numbers(rows[user].layout)) if user in rows else EMPTY
            for user in users
        },
        turns={
            user: [(turn.seq, turn.command) for turn in of_user] for user, of_user in turns.items()
        },
        differs=_differs(users),
    )


EMPTY: Final = Shown(0, {})


def _rest() -> None:
    """Until nothing waits to be told to the cache."""
    resources.repair_waiting()
    assert eventually(lambda: outbox.depth() == 0, REST_SECONDS), "the outbox is not drained"
    assert eventually(lambda: not AwayEdit.objects.exists(), REST_SECONDS), "a journal is left"


def _differs(users: Sequence[int]) -> list[str]:
    return [
        f"{name}:{user} is {found}"
        for name in ("psyche", "session", "convo_history")
        for user, found in resources.resource(name).verdicts(users).items()
        if found in ("stale", "corrupt")
    ]
