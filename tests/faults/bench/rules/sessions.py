"""Nobody is let in by a session whose end was acknowledged, and no live one is refused."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from tests.faults.bench.api import Operation

from .common import Circumstances, Span, Verdict, is_refused, may_come

# What ends all sessions of a user.
_ALL: Final = ("logout_everywhere", "disable")
_REFUSAL: Final = (401, 403)
# What a client who asks soundly may be answered, beside what only a fault explains.
_EXPECTED: Final = {0, 200, 204, 304, 412, *_REFUSAL}


def check(verdict: Verdict, noted: Sequence[Operation], circumstances: Circumstances) -> None:
    """Of every operation, whatever it asked for."""
    sessions = _Sessions(noted, circumstances)
    for each in noted:
        if each.status < 500 and each.status not in _EXPECTED:
            verdict.refused.append(f"{each}: status {each.status}")
        elif each.kind == "login":
            _check_login(verdict, each, sessions)
        elif sid := _sid(each):
            _check_use(verdict, each, sid, sessions)


def _sid(operation: Operation) -> str:
    return operation.sid or (operation.asked if operation.kind in ("validate", "logout") else "")


class _Sessions:
    """When each began and ended, as far as anybody was told."""

    def __init__(self, noted: Sequence[Operation], circumstances: Circumstances) -> None:
        self._circumstances = circumstances
        self._begun = {e.told: e for e in noted if e.kind == "login" and e.told is not None}
        self._ends: dict[str | int, list[Operation]] = defaultdict(list)
        self._disabled: dict[int, list[tuple[Operation, Operation | None]]] = defaultdict(list)
        for each in noted:
            if each.kind == "logout" and not is_refused(each):
                self._ends[each.asked].append(each)
            elif each.kind in _ALL and not is_refused(each):
                self._ends[each.user].append(each)
        self._note_disabled(noted)
        self._over: dict[str, Operation | None] = {}

    def _note_disabled(self, noted: Sequence[Operation]) -> None:
        enabled = [each for each in noted if each.kind == "enable"]
        for each in noted:
            if each.kind == "disable":
                later = [e for e in enabled if e.user == each.user and e.start >= each.end]
                self._disabled[each.user].append((each, min(later, default=None)))

    def _of(self, sid: str, user: int) -> list[Operation]:
        return [*self._ends.get(sid, ()), *self._ends.get(user, ())]

    def birth(self, sid: str) -> Span:
        """When it was opened; long ago, if nobody saw it."""
        login = self._begun.get(sid)
        return (login.start, login.end) if login else (0, 0)

    def known_from(self, sid: str) -> int:
        """When every process must let it in."""
        login = self._begun.get(sid)
        return self.seen_from(login) if login else 0

    def may_be_over(self, sid: str, user: int, until: int) -> bool:
        """Whether something that may have ended it had begun by then."""
        born = self.birth(sid)[0]
        return any(end.start <= until and may_come(end, born) for end in self._of(sid, user))

    def over(self, sid: str, user: int) -> Operation | None:
        """What ended it first, for certain."""
        if sid not in self._over:
            born = self.birth(sid)[1]
            certain = [
                each for each in self._of(sid, user) if each.is_acknowledged and each.start >= born
            ]
            self._over[sid] = min(certain, key=lambda each: each.end, default=None)
        return self._over[sid]

    def seen_from(self, change: Operation) -> int:
        """When every process must know of it."""
        return self._circumstances.seen_from(change)

    def disabled(self, login: Operation, *, surely: bool) -> bool:
        """Whether the user was disabled at that time, or may have been."""
        for off, on in self._disabled[login.user]:
            if surely and off.end < login.start and (on is None or login.end < on.start):
                return True
            if not surely and off.start <= login.end and (on is None or login.start <= on.end):
                return True
        return False


def _check_use(verdict: Verdict, each: Operation, sid: str, sessions: _Sessions) -> None:
    if each.status in _REFUSAL:
        if sessions.may_be_over(sid, each.user, each.end):
            return
        # A refresh is decided by the row.
        if each.status != 401 or each.kind == "refresh" or each.start > sessions.known_from(sid):
            verdict.refused.append(f"{each}: the session is live")
        else:
            verdict.late["login"] += 1
        return
    end = sessions.over(sid, each.user) if 200 <= each.status < 300 else None
    if end is None or end is each or each.start <= end.end:
        return
    if each.start > sessions.seen_from(end):
        verdict.let_in.append(f"{each} after {end}")
    else:
        verdict.late["session"] += 1


def _check_login(verdict: Verdict, each: Operation, sessions: _Sessions) -> None:
    if each.told is not None and sessions.disabled(each, surely=True):
        verdict.let_in.append(f"{each}: the user is disabled")
    if each.status in _REFUSAL and not sessions.disabled(each, surely=False):
        verdict.refused.append(f"{each}: name and password are right")
