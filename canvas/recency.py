"""When each member of a live layout was changed last: what decides where a change was made past the
cache at the same time, and is repeated on the live document later. Pure.

Times are microseconds of Unix time. They have the form of the layout: under a micro-app's id either
one time for all of it, also once it is closed, or times of its members in turn. "" stands for the
whole of what it is in.
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from canvas.layout import ID, MICRO_APPS_MAX, Change, Layout

Times = dict[str, Any]
# As a document holds them: nothing else is taken for times.
Noted = dict[str, int | dict[str, int | dict[str, int]]]

WHOLE: Final = ""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """Of Unix time, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def noted(times: Times, change: Change, layout: Layout, at: int) -> Times:
    """The times with those of a change made at `at`; `layout` is what came of it."""
    if "replace" in change:
        return {WHOLE: at}
    apps = layout["microApps"]
    named = change["patch"].get("microApps", {}).items()
    new = {i: _noted(times.get(i), part, apps.get(i), at) for i, part in named if ID.fullmatch(i)}
    return _bounded({**times, **new}, apps.keys())


def _noted(times: Any, patch: Any, value: Any, at: int) -> Any:
    if not isinstance(patch, dict) or patch == value:
        return at
    known = times if isinstance(times, dict) else {} if times is None else {WHOLE: times}
    named = [name for name in patch if name in value]
    return {**known, **{n: _noted(known.get(n), patch[n], value[n], at) for n in named}}


def _bounded(times: Times, there: Collection[str]) -> Times:
    """Without those that were closed first, where more have been closed than a canvas holds."""
    if len(times) <= MICRO_APPS_MAX:
        return times
    closed = [i for i in times if i != WHOLE and i not in there]
    if len(closed) <= MICRO_APPS_MAX:
        return times
    gone = set(sorted(closed, key=lambda i: _latest(times[i]))[:-MICRO_APPS_MAX])
    return {i: at for i, at in times.items() if i not in gone}


def _latest(times: Any) -> int:
    return max(map(_latest, times.values()), default=0) if isinstance(times, dict) else int(times)


def newer_kept(layout: Layout, live: Layout, times: Times, since: int) -> Layout:
    """`layout` with what has been changed in `live` after `since`; `times` are those of `live`."""
    if times.get(WHOLE, 0) > since:
        return live
    apps: dict[str, Any] = dict(layout["microApps"])
    for app_id in times.keys() - {WHOLE}:
        kept = _kept(apps.get(app_id), live["microApps"].get(app_id), times[app_id], since)
        if kept is not None:
            apps[app_id] = kept
        else:
            apps.pop(app_id, None)
    return {"microApps": apps}


def _kept(value: Any, live: Any, times: Any, since: int) -> Any:
    if _latest(times) <= since:
        return value
    parts = isinstance(times, dict) and isinstance(value, dict) and isinstance(live, dict)
    if not parts or times.get(WHOLE, 0) > since:
        return live
    names = times.keys() - {WHOLE}
    return {**value, **{n: _kept(value.get(n), live.get(n), times[n], since) for n in names}}
