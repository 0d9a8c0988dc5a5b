"""What BEEP can do with the canvas: open, close, move, raise and list windows.

Windows are named by title or id, blind to case. Lists are written as BEEP reads them back
("1. Notes, 2. Ledger"), so that "the second one" means something afterwards.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from aevon import intents
from aevon.intents import IntentRefused, enumerated, written
from canvas import services
from canvas.documents import CanvasDocument
from canvas.layout import MICRO_APPS_MAX, TITLE_MAX, Z_INDEX_MAX, Change, MicroApp, merge_patch

WIDTH: Final = 360
HEIGHT: Final = 240
CASCADE_START: Final = 40
CASCADE_STEP: Final = 30
CASCADE_LENGTH: Final = 10
_SLUG_MAX: Final = 60  # leaves room for a number in an id of 64 characters

Apps = Mapping[str, MicroApp]
Arguments = Mapping[str, Any]
Patch = dict[str, Any]
# What to change in the micro-apps, and what to answer then.
Planner = Callable[[Apps, Arguments], tuple[Patch, str]]


def connect() -> None:
    """Register the handlers."""
    intents.register("canvas.list", list_windows)
    intents.register("canvas.open", _handler(plan_open))
    intents.register("canvas.close", _handler(plan_close))
    intents.register("canvas.move", _handler(plan_move))
    intents.register("canvas.front", _handler(plan_front))


def _handler(planner: Planner) -> intents.Handler:
    """Carries out what the planner makes of the newest layout; raises `IntentRefused`."""

    def handle(user_id: int, arguments: Arguments) -> str:
        answer = ""

        def plan(document: CanvasDocument) -> Change:
            nonlocal answer
            patch, answer = planner(document.layout["microApps"], arguments)
            return {"patch": {"microApps": patch}}

        try:
            services.change_by(user_id, plan)
        except services.InvalidLayout:
            raise IntentRefused("That does not fit on the canvas.") from None
        except services.Contended:
            raise IntentRefused("Your canvas is changing too fast. Please try again.") from None
        return answer

    return handle


def list_windows(user_id: int, _: Arguments) -> str:
    """What is open, the front one first."""
    apps = services.live(user_id).layout["microApps"]
    return f"Open: {enumerated(_labels(apps))}." if apps else "Nothing is open."


def plan_open(apps: Apps, arguments: Arguments) -> tuple[Patch, str]:
    """`microApps`: names to open; what is open already comes to the front."""
    patch: Patch = {}
    said = []
    for name in arguments["microApps"]:
        now = merge_patch(apps, patch)
        if found := _matching(name, now):
            app_id = _one_of(found, name, now)
            patch[app_id] = {**patch.get(app_id, {}), "zIndex": _top(now)}
            said.append(f"{written(name)} is open already and in front now.")
        else:
            patch[_new_id(name, now)] = _window(name, now)
            said.append(f"Opened {written(name)}.")
    return patch, " ".join(said)


def plan_close(apps: Apps, arguments: Arguments) -> tuple[Patch, str]:
    """`microApps`: names to close."""
    return dict.fromkeys(_found(apps, arguments)), f"Closed {_joined(arguments['microApps'])}."


def plan_move(apps: Apps, arguments: Arguments) -> tuple[Patch, str]:
    """`microApps`: names; by `dx` and `dy`, or to `x` and `y`, in pixels."""
    patch = {app_id: _moved(apps[app_id], arguments) for app_id in _found(apps, arguments)}
    places = {f"{each['position']['x']:g}, {each['position']['y']:g}" for each in patch.values()}
    # Several windows in several places: telling all of them would be a list of numbers.
    where = f" to {places.pop()}" if len(places) == 1 else ""
    return patch, f"Moved {_joined(arguments['microApps'])}{where}."


def plan_front(apps: Apps, arguments: Arguments) -> tuple[Patch, str]:
    """`microApps`: names to put on top, the last one uppermost."""
    patch: Patch = {}
    for app_id in _found(apps, arguments):
        patch[app_id] = {"zIndex": _top({**apps, **patch})}
    return patch, f"Brought {_joined(arguments['microApps'])} to the front."


def _moved(app: MicroApp, arguments: Arguments) -> Patch:
    if "x" in arguments:
        return {"position": {"x": arguments["x"], "y": arguments["y"]}}
    x, y = app["position"]["x"], app["position"]["y"]
    return {"position": {"x": x + arguments["dx"], "y": y + arguments["dy"]}}


def _window(name: str, apps: Apps) -> MicroApp:
    """A new window on top, a step further down the cascade for each that is open."""
    if len(apps) >= MICRO_APPS_MAX:
        raise IntentRefused(f"{MICRO_APPS_MAX} windows are open. Close one first.")
    if len(name) > TITLE_MAX:
        raise IntentRefused(f"A name has at most {TITLE_MAX} characters.")
    place = CASCADE_START + CASCADE_STEP * (len(apps) % CASCADE_LENGTH)
    return {
        "type": _slug(name),
        "title": name,
        "position": {"x": place, "y": place},
        "size": {"width": WIDTH, "height": HEIGHT},
        "zIndex": _top(apps),
    }


def _top(apps: Apps) -> int:
    """Above all others; at the very end of the range, beside the uppermost."""
    highest = max((app["zIndex"] for app in apps.values()), default=0)
    return min(highest + 1, Z_INDEX_MAX)


def _slug(name: str) -> str:
    """The name in the letters that an id may have."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:_SLUG_MAX].strip("-") or "app"


def _new_id(name: str, apps: Apps) -> str:
    slug = _slug(name)
    numbered = (f"{slug}-{number}" for number in range(2, MICRO_APPS_MAX + 2))
    return slug if slug not in apps else next(each for each in numbered if each not in apps)


def _found(apps: Apps, arguments: Arguments) -> list[str]:
    """The ids of the windows named, each once."""
    names = arguments["microApps"]
    return list(dict.fromkeys(_one_of(_matching(name, apps), name, apps) for name in names))


def _matching(name: str, apps: Apps) -> list[str]:
    """The windows with this id, or else with this title."""
    wanted = name.casefold()
    by_id = [app_id for app_id in apps if app_id.casefold() == wanted]
    return by_id or [i for i, app in apps.items() if app["title"].casefold() == wanted]


def _one_of(found: list[str], name: str, apps: Apps) -> str:
    """The only one; raises `IntentRefused` with the question which one is meant."""
    if len(found) == 1:
        return found[0]
    if found:  # titles do not tell them apart, ids do
        raise IntentRefused(intents.which_one(sorted(found)))
    if not apps:
        raise IntentRefused(f"There is no {written(name)}. Nothing is open.")
    question = intents.which_one(_labels(apps))
    raise IntentRefused(f"There is no {written(name)}. {question}")


def _labels(apps: Apps) -> list[str]:
    """What to call the windows, the front one first: the title, or the id where titles do not
    tell them apart."""
    titles = [app["title"].casefold() for app in apps.values()]
    order = sorted(apps, key=lambda app_id: (-apps[app_id]["zIndex"], app_id))
    return [
        title if (title := apps[each]["title"]) and titles.count(title.casefold()) == 1 else each
        for each in order
    ]


def _joined(names: list[str]) -> str:
    *others, last = [written(name) for name in names]
    return f"{', '.join(others)} and {last}" if others else last
