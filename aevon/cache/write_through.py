"""Write-through (protocol 2): PostgreSQL first, then, after its commit, Dragonfly.

Before the commit nothing of a write may be seen in the cache: a rollback would have to be taken
back from readers who have it already. But the entry is fenced before the commit, so that nobody
goes on serving, or fills, what the commit makes old.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from django.db import connection, models
from django.db.models.signals import (
    class_prepared,
    post_delete,
    post_save,
    pre_delete,
    pre_save,
)

from aevon.cache import fences
from aevon.cache.failsafe import after_commit, commits_at_once, never_asked
from aevon.cache.fences import Mark
from aevon.cache.keyspace import canonical_user_id
from aevon.cache.metrics import CONFLICTS
from aevon.cache.projection import Gone, Projection

D = TypeVar("D", bound=Any)

# What is written of more users than these at once is removed from the cache, not loaded into it.
FEW_USERS: Final = 100
# To fence more than these at once would keep their transaction waiting: they lose their entries
# after the commit, and the outbox rows speak for them if nobody comes to that.
MANY_USERS: Final = 2_000
# Of so many the cache is told in one round trip.
PAGE_USERS: Final = 500

__all__ = ["Guard", "follow", "guarded", "publish_on_commit"]


def publish_on_commit(projection: Projection[D], user_ids: Iterable[int]) -> None:
    """Fence these users' entries now, and make them follow their rows after the commit.

    Call it inside the transaction that changes the rows, before or after the change. Outside one
    the rows have changed already, and the entries follow at once. After a rollback the fence runs
    out by itself (`FENCE_SECONDS`); until then readers read PostgreSQL. A user without rows loses
    the entry. Cache away: the outbox makes it follow. Costs one round trip now, and one query and
    one more after the commit, however many users; more than a hundred lose their entries instead.
    """
    wanted = sorted(map(canonical_user_id, set(user_ids)))
    if not wanted:
        return
    if commits_at_once():
        _install_rows(projection, _fenced(projection, wanted))
        return
    publishing = _publishing(projection)
    new = [user_id for user_id in wanted if user_id not in publishing.marks]
    publishing.marks.update(_fenced(projection, new))


def _fenced(projection: Projection[D], user_ids: Sequence[int]) -> dict[int, Mark | None]:
    """A mark for each user; None where the cache takes none, or they are too many."""
    few = user_ids if len(user_ids) <= MANY_USERS else ()
    return dict.fromkeys(user_ids) | fences.fence(projection, few)


@dataclass(frozen=True, slots=True)
class _Publishing:
    """What a transaction does for a projection at its end. It is dropped with the savepoint in
    which it was asked for first; the marks then run out."""

    projection: Projection[Any]
    marks: dict[int, Mark | None] = field(default_factory=dict)

    def run(self) -> None:
        """After the commit."""
        _install_rows(self.projection, self.marks)


def _publishing(projection: Projection[D]) -> _Publishing:
    # One of an outer block, or of a savepoint that has been released, goes with nothing that this
    # block does not go with, too.
    for entry in connection.run_on_commit:
        known = getattr(entry[1], "__self__", None)
        if isinstance(known, _Publishing) and known.projection is projection:
            return known
    publishing = _Publishing(projection)
    after_commit(publishing.run)
    return publishing


def _install_rows(projection: Projection[D], marks: Mapping[int, Mark | None]) -> None:
    """Install what PostgreSQL has by now. Where it cannot be read the entries go."""
    rows: Mapping[int, D | Gone] = {}
    held = {user_id: mark for user_id, mark in marks.items() if mark is not None}
    try:
        if len(marks) <= FEW_USERS:
            rows = projection.read(list(marks))
    finally:
        users = list(marks)
        for start in range(0, len(users), PAGE_USERS):
            page = users[start : start + PAGE_USERS]
            fences.install(projection, {user_id: rows.get(user_id) for user_id in page}, held)


@dataclass(slots=True)
class Guard(Generic[D]):
    """One fenced write of one user, computed from `state`: what the cache held, if anything.

    Guard the write by the row's version and by every column that it is computed from: a state that
    is wrong for any reason must not get into the ledger (guarantee G2).
    """

    projection: Projection[D]
    user_id: int
    state: D | None
    _mark: Mark | None

    def publish(self, document: D) -> None:
        """Put in what has been committed."""
        mark, self._mark = self._mark, None
        marks = {self.user_id: mark} if mark else {}
        fences.install(self.projection, {self.user_id: document}, marks)

    def conflicted(self) -> None:
        """Count that PostgreSQL did not hold `state`: the write is computed again, from the row."""
        CONFLICTS.labels(self.projection.keyspace.name, "guard").inc()

    def leave(self) -> None:
        """Count the fence, if it is still there: it runs out by itself."""
        if self._mark:
            fences.left(self.projection)

    def abandon(self) -> None:
        """Nothing was written: the state goes back, unless somebody has written since."""
        if self._mark and self.state is not None:
            self.publish(self.state)
        elif self._mark:
            fences.abandon(self.projection, self.user_id, self._mark)
            self._mark = None


@contextlib.contextmanager
def guarded(projection: Projection[D], user_id: int) -> Iterator[Guard[D]]:
    """Read the entry and fence it in one round trip, for a write that is computed from it.

    `with guarded(PSYCHES, 2) as write:` compute from `write.state` (None: read the row), commit
    with `UPDATE … WHERE version = …` and whatever else it is computed from, then
    `write.publish(document)`: the second and last round trip. Leaving the block without publishing
    says that nothing was written; an exception does not, because it may have come after the commit:
    then the fence runs out, unless `write.abandon()` was called, or PostgreSQL was never reached.
    Not inside a transaction: raises `RuntimeError` (use `publish_on_commit`).
    """
    if not commits_at_once():
        raise RuntimeError("A guarded write commits before it is published: not in a transaction.")
    user_id = canonical_user_id(user_id)
    held, mark = fences.fence_and_get(projection, user_id)
    guard: Guard[D] = Guard(projection, user_id, None if isinstance(held, Gone) else held, mark)
    try:
        yield guard
    except BaseException as error:
        # While PostgreSQL is away, what was cached is read on, however often a write is tried.
        if never_asked(error):
            guard.abandon()
        guard.leave()
        raise
    guard.abandon()


# A save outside a transaction has been committed when `post_save` is sent: its fence waits here.
_MARKS: Final = "_aevon_marks"


_followed: Final[dict[type[models.Model], list[tuple[Projection[Any], str]]]] = {}


def follow(projection: Projection[D], model: type[models.Model], owner: str = "user_id") -> None:
    """Make the entry follow every `save()` and `delete()` of `model`, in the admin too, and of its
    proxies and subclasses; `owner` is the attribute with the user's id.

    `QuerySet.update()` and bulk writes send no signal: give the model a `CachedManager`, or call
    `publish_on_commit` beside them. SQL from elsewhere is followed through the outbox.
    """
    followed = _followed.setdefault(model, [])
    if (projection, owner) not in followed:
        followed.append((projection, owner))
    uid = f"{projection.keyspace.name}:{model._meta.label}:{owner}"  # noqa: SLF001  by convention

    def changing(instance: models.Model, **_: Any) -> None:
        user_id = getattr(instance, owner)
        if user_id is None:  # not there yet, so it cannot be cached
            return
        if not commits_at_once():
            publish_on_commit(projection, [user_id])
        else:
            vars(instance).setdefault(_MARKS, {})[uid] = _fenced(projection, [user_id])

    def changed(instance: models.Model, **_: Any) -> None:
        marks = vars(instance).get(_MARKS, {}).pop(uid, None)
        user_id = getattr(instance, owner)
        if marks and commits_at_once():
            _install_rows(projection, marks)
        elif user_id is not None:
            publish_on_commit(projection, [user_id])

    def listen(sender: type[models.Model], **_: Any) -> None:
        if not issubclass(sender, model):
            return
        for signal, receiver in (
            (pre_save, changing),
            (post_save, changed),
            (pre_delete, changing),
            (post_delete, changed),
        ):
            signal.connect(receiver, sender=sender, weak=False, dispatch_uid=uid)

    # Django sends a proxy's signals under the proxy's own name. More of them may be declared later.
    for known in _family(model):
        listen(known)
    class_prepared.connect(listen, weak=False)


def _family(model: type[models.Model]) -> Iterator[type[models.Model]]:
    yield model
    for child in model.__subclasses__():
        yield from _family(child)


def followed(model: type[models.Model]) -> list[tuple[Projection[Any], str]]:
    """The projections that follow `model`, each with the attribute that holds the user's id."""
    return [each for ancestor in model.__mro__ for each in _followed.get(ancestor, [])]
