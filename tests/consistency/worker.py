"""The crowd of a history run: `python -m tests.consistency.worker FOLDER`.

One process that sets Django up and forks everybody else, so that a writer that was killed is back
within milliseconds: writers, readers, and one who evicts. Each logs what it did into a file of its
own in the folder. HISTORY_WITHOUT names a protection that is switched off in all of them.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import sharedctypes
from pathlib import Path
from typing import Any, Final

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aevon.settings")
django.setup()

import psycopg  # noqa: E402
import redis  # noqa: E402
from django.conf import settings  # noqa: E402
from django.db import Error as DatabaseError  # noqa: E402
from django.db import connection, transaction  # noqa: E402

from aevon.cache import (  # noqa: E402
    PSYCHE,
    SESSION,
    cache_aside,
    fences,
    leases,
    write_through,
)
from aevon.cache.metrics import LOADS, PUBLISHES  # noqa: E402
from auth_sessions.models import SovereigntyClass, User  # noqa: E402
from auth_sessions.projection import SESSIONS  # noqa: E402
from klepsydra import services  # noqa: E402
from klepsydra.models import PsycheState  # noqa: E402
from tests.consistency import plan as plans  # noqa: E402
from tests.consistency.plan import Plan  # noqa: E402
from tests.consistency.switches import without  # noqa: E402

CLASSES: Final = list(SovereigntyClass.values)
OUTSIDE: Final = """
WITH signed AS (SELECT set_config('history.operation', %(operation)s::text, false))
UPDATE klepsydra_psychestate SET loss_streak = %(operation)s FROM signed
WHERE user_id = %(user)s AND set_config IS NOT NULL
"""
PATIENCE_SECONDS: Final = 10.0
ENDING: Final = 0  # in what the workers share; the rest is by their numbers


class _RolledBack(Exception):
    """Ends a transaction that must not be."""


class Worker:
    """What every child has: its number, its log, and what it shares with the parent."""

    def __init__(self, plan: Plan, role: str, number: int, shared: Any) -> None:
        self.plan, self.number, self.shared = plan, number, shared
        self.parent = os.getppid()
        self.chance = random.Random(number)
        self.log = Path(plan.folder) / f"{role}-{number}.log"

    def goes_on(self) -> bool:
        """Until the parent says so, or is no more."""
        return not self.shared[ENDING] and os.getppid() == self.parent


class Reader(Worker):
    """Reads as fast as it can: mostly many keys at once."""

    def run(self) -> None:
        with self.log.open("w", buffering=2**20) as log:
            while self.goes_on():
                log.write(self._read())
            hits, missed = (
                sum(int(LOADS.labels(space.name, result)._value.get()) for result in results
                    for space in (PSYCHE, SESSION))
                for results in (["hit"], ["miss", "corrupt", "away"])
            )  # fmt: skip
            log.write(f"# {hits} {missed}\n")

    def _read(self) -> str:
        users, sessions = self.plan.users, self.plan.sessions
        lot = self.chance.random()
        start = time.monotonic_ns()
        if lot < 0.1 and sessions:
            user = self.chance.choice(sessions)
            session = cache_aside.load(SESSIONS, user)
            end = time.monotonic_ns()
            self.shared[self.number] += 1
            content = CLASSES.index(session.sovereignty_class) if session else 0
            return f"{start} {end} s:{user} {session.version if session else 0} {content}\n"
        if lot < 0.2:
            asked = [self.chance.choice(users)]
            one = PsycheState.cached.get(asked[0])
            found = {asked[0]: one} if one else {}
        else:
            asked = list(users)
            found = PsycheState.cached.get_many(users)
        end = time.monotonic_ns()
        states = [(user, found.get(user)) for user in asked]
        self.shared[self.number] += len(states)
        seen = " ".join(
            f"p:{user} {state.version} {state.loss_streak}" if state else f"p:{user} 0 0"
            for user, state in states
        )
        return f"{start} {end} {seen}\n"


class Writer(Worker):
    """Writes in every way that there is, and says what it is about to do before it does it."""

    def __init__(self, plan: Plan, role: str, number: int, shared: Any) -> None:
        super().__init__(plan, role, number, shared)
        assert number < plans.WORKERS_MAX
        self._operation = number << plans.OPERATIONS_BITS
        self._file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._outsider: psycopg.Connection[Any] | None = None

    def run(self) -> None:
        ways = dict(self.plan.ways)
        while self.goes_on():
            (way,) = self.chance.choices(list(ways), list(ways.values()))
            few = self.chance.random() < 0.5  # so that writers meet
            self._do(way, self.chance.choice(self.plan.users[: 4 if few else None]), "p")

    def _do(self, way: str, user: int, kind: str) -> None:
        self._operation += 1
        act: Callable[[int], None] = getattr(self, "_" + way.replace(" ", "_"))
        keyspace = PSYCHE.name if kind == "p" else SESSION.name
        try:
            self._sign(self._operation)
            before = _untold(keyspace)
            self._say(f"B {self._operation} {kind}:{user} {time.monotonic_ns()} {way}")
            act(user)
            end = time.monotonic_ns()
            told = "away" if _untold(keyspace) > before else "cache"
            told = "outside" if way == "outside" else told
            self._say(f"{'R' if way == 'roll back' else 'E'} {self._operation} {end} {told}")
        except (DatabaseError, psycopg.Error) as error:
            self._say(f"X {self._operation} {time.monotonic_ns()} {type(error).__name__}")
            connection.close()

    def _say(self, line: str) -> None:
        os.write(self._file, f"{line}\n".encode())

    def _sign(self, operation: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('history.operation', %s, false)", [str(operation)])

    def _play(self, user: int) -> None:
        services.play(user, "sisyphus-ascent", 1)

    def _update(self, user: int) -> None:
        assert PsycheState.objects.filter(pk=user).update(loss_streak=self._operation)

    def _save(self, user: int) -> None:
        state = PsycheState.objects.get(pk=user)
        state.loss_streak = self._operation
        state.save()

    def _save_fields(self, user: int) -> None:
        PsycheState(user_id=user, loss_streak=self._operation, phase=0).save(
            update_fields=["loss_streak"]
        )

    def _savepoint(self, user: int) -> None:
        with transaction.atomic():
            with contextlib.suppress(_RolledBack), transaction.atomic():
                PsycheState.objects.filter(pk=user).update(loss_streak=0)
                raise _RolledBack
            self._update(user)

    def _roll_back(self, user: int) -> None:
        with contextlib.suppress(_RolledBack), transaction.atomic():
            self._update(user)
            raise _RolledBack

    def _outside(self, user: int) -> None:
        """As by a service that knows of no cache."""
        if self._outsider is None:
            self._outsider = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
        self._outsider.execute(OUTSIDE, {"user": user, "operation": self._operation})


class ClassWriter(Writer):
    """Changes what users' sessions show."""

    def run(self) -> None:
        while self.goes_on():
            way = self.chance.choice(["promote", "promote", "promote quietly"])
            self._do(way, self.chance.choice(self.plan.sessions), "s")
            time.sleep(0.005)

    def _promote(self, user: int) -> None:
        state = User.objects.get(pk=user)
        state.sovereignty_class = self._other(state.sovereignty_class)
        state.save(update_fields=["sovereignty_class"])

    def _promote_quietly(self, user: int) -> None:
        with transaction.atomic():
            state = User.objects.select_for_update().get(pk=user)
            write_through.publish_on_commit(SESSIONS, [user])
            wanted = self._other(state.sovereignty_class)
            User.objects.filter(pk=user).update(sovereignty_class=wanted)

    def _other(self, present: str) -> str:
        return self.chance.choice([each for each in CLASSES if each != present])


class Evictor(Worker):
    """Deletes a key every few milliseconds, whatever it holds."""

    def run(self) -> None:
        keys = [PSYCHE.key(user) for user in self.plan.users]
        keys += [SESSION.key(user) for user in self.plan.sessions]
        evicted = 0
        client = redis.Redis.from_url(settings.AEVON_CACHE["URL"], protocol=2, socket_timeout=0.3)
        while self.goes_on():
            try:
                evicted += int(client.delete(self.chance.choice(keys)))
                time.sleep(self.plan.evict_every)
            except redis.RedisError:
                time.sleep(0.05)
        self.log.write_text(str(evicted))


def _untold(keyspace: str) -> int:
    """How many publishes of this process the cache has not been told of."""
    return int(PUBLISHES.labels(keyspace, "away")._value.get())


def _with_faults(plan: Plan) -> None:
    """Have writers die where it hurts, and some take their time there."""
    install, fill = fences.install, leases.fill

    def faulty_install(projection: Any, rows: Any, marks: Any) -> Any:
        if random.random() < plan.dying:
            os.kill(os.getpid(), signal.SIGKILL)
        _perhaps_sleep(plan.slow_installs)
        return install(projection, rows, marks)

    def slow_fill(*args: Any, **options: Any) -> None:
        _perhaps_sleep(plan.slow_fills)
        fill(*args, **options)

    fences.install = faulty_install
    leases.fill = slow_fill


def _perhaps_sleep(at_most: float) -> None:
    if at_most and random.random() < 0.5:
        time.sleep(random.uniform(0, at_most))


class Crowd:
    """The children, and who ends or replaces them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        # Whether to end, and how much each reader has read.
        self.shared = sharedctypes.RawArray("q", plans.WORKERS_MAX)
        self.children: dict[int, tuple[type[Any], str]] = {}
        self.killed: set[int] = set()
        self.died = 0
        self._number = 1

    def run(self) -> None:
        """Until the end of the plan."""
        wanted: list[tuple[type[Any], str]] = [(Reader, "reader")] * self.plan.readers
        wanted += [(Writer, "writer")] * self.plan.writers
        wanted += [(ClassWriter, "writer")] * bool(self.plan.sessions)
        wanted += [(Evictor, "evictor")] * bool(self.plan.evict_every)
        for each in wanted:
            self._fork(*each)
        (Path(self.plan.folder) / plans.STARTED_FILE).touch()
        begun = time.monotonic()
        next_kill = begun + self.plan.kill_every
        while self._goes_on((now := time.monotonic()) - begun):
            if self.plan.kill_every and now > next_kill:
                self._kill()
                next_kill = now + self.plan.kill_every * random.uniform(0.5, 1.5)
            self._replace_dead()
            time.sleep(0.005)
        self.shared[ENDING] = 1
        self._wait()
        counts = {"killed": len(self.killed), "died": self.died}
        (Path(self.plan.folder) / plans.CROWD_FILE).write_text(json.dumps(counts))

    def _goes_on(self, seconds: float) -> bool:
        if seconds < self.plan.seconds:
            return True
        enough = sum(self.shared) >= self.plan.reads
        return not enough and seconds < 3 * self.plan.seconds

    def _fork(self, worker: type[Any], role: str) -> None:
        number, self._number = self._number, self._number + 1
        pid = os.fork()
        if pid:
            self.children[pid] = (worker, role)
            return
        code = 1
        try:
            random.seed(number)
            worker(self.plan, role, number, self.shared).run()
            code = 0
        finally:
            # Nothing of the parent's is to be flushed or closed a second time.
            if code:
                sys.excepthook(*sys.exc_info())
            os._exit(code)

    def _kill(self) -> None:
        writers = [pid for pid, (_, role) in self.children.items() if role == "writer"]
        if writers:
            victim = random.choice(writers)
            os.kill(victim, signal.SIGKILL)
            self.killed.add(victim)

    def _replace_dead(self) -> None:
        for pid, status in _ended():
            worker, role = self.children.pop(pid)
            if os.WIFSIGNALED(status) and role == "writer":
                self.died += pid not in self.killed
                self._fork(worker, role)
            else:
                raise SystemExit(f"A {role} ended by itself.")

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.children and time.monotonic() < deadline:
            for pid, _ in _ended():
                del self.children[pid]
            time.sleep(0.01)
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)
        if self.children:
            raise SystemExit(f"{len(self.children)} workers did not end.")


def _ended() -> Iterator[tuple[int, int]]:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended


def main(folder: str) -> None:
    """Run the plan in that folder."""
    plan = plans.load(folder)
    with contextlib.ExitStack() as stack:
        if missing := os.environ.get("HISTORY_WITHOUT"):
            stack.enter_context(without(missing))
        _with_faults(plan)
        Crowd(plan).run()


if __name__ == "__main__":
    main(sys.argv[1])
