"""What each of BEEP's intents changes in a layout, and what it says then. Pure.

Windows are named by title or id, blind to case, and spoken of by the name that means them alone.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from aevon.intents import IntentRefused, enumerated, offered, written
from canvas import arranging, catalogue
from canvas.layout import (
    MICRO_APPS_MAX,
    SIDE_MAX,
    TITLE_MAX,
    Z_INDEX_MAX,
    MicroApp,
    merge_patch,
)
from canvas.naming import Apps, Names, found, one_of, told

CASCADE_START: Final = 40
CASCADE_STEP: Final = 30
CASCADE_LENGTH: Final = 10

Arguments = Mapping[str, Any]
Patch = dict[str, Any]
# What to change in the micro-apps, and what to answer then.
Planner = Callable[[Apps, Arguments], tuple[Patch, str]]


def plan_open(apps: Apps, arguments: Arguments) -> tuple[Patch, str]:
    """`microApps`: names to open; what is open already comes to the front."""
    if not arguments["microApps"]:
        raise IntentRefused(f"What should I open: {enumerated(offered('microApps'))}?")
    patch: Patch = {}
    said = []
    for name in arguments["microApps"]:
        now = merge_patch(apps, patch)
        names = Names(now)
        if meant := names.meant_by(name):
            app_id = one_of(meant, name, now)
            patch[app_id] = {**patch.get(app_id, {}), "zIndex": _top(now)}
            said.append(f"{written(names.of(app_id))} is open already and in front now.")
        else:
            title = catalogue.title_of(name)
            patch[_new_id(title, now)] = _window(title, now)
            said.append(f"Opened {written(title)}.")
    return patch, " ".join(said)


def plan_close(apps: Apps, arguments: Arguments) -> tuple[Patch, str]:
    """`microApps`: names to close."""
    ids = found(apps, arguments["microApps"])
    return dict.fromkeys(ids), f"Closed {told(apps, ids, with_kind=True)}."


def plan_move(apps: Apps, arguments: Arguments) -> tuple[Patch, str]:
    """`microApps`: names; by `dx` and `dy`, or to `x` and `y`, in pixels; also one of the two."""
    ids = found(apps, arguments["microApps"])
    patch = {app_id: {"position": _moved(apps[app_id], arguments)} for app_id in ids}
    places = {f"{each['x']:g}, {each['y']:g}" for each in _after(apps, patch, "position")}
    return patch, f"Moved {told(apps, ids)}{_alike(' to ', places)}."


def plan_resize(apps: Apps, arguments: Arguments) -> tuple[Patch, str]:
    """`microApps`: names; to `width` and `height` in pixels, or to `widthPercent` and
    `heightPercent` of what they are; also one of the two."""
    ids = found(apps, arguments["microApps"])
    patch = {app_id: {"size": _resized(apps[app_id], arguments)} for app_id in ids}
    if merge_patch(apps, patch) == apps and _are_least(patch):
        raise IntentRefused(f"{told(apps, ids)} cannot be any smaller.")
    sizes = {f"{each['width']:g} by {each['height']:g}" for each in _after(apps, patch, "size")}
    least = " No window is smaller than that." if _are_least(patch) else ""
    return patch, f"Resized {told(apps, ids)}{_alike(' to ', sizes)}.{least}"


def plan_front(apps: Apps, arguments: Arguments) -> tuple[Patch, str]:
    """`microApps`: names to put on top, the last one uppermost."""
    patch: Patch = {}
    for app_id in found(apps, arguments["microApps"]):
        patch[app_id] = {"zIndex": _top(merge_patch(apps, patch))}
    return patch, f"Brought {told(apps, patch)} to the front."


def plan_back(apps: Apps, arguments: Arguments) -> tuple[Patch, str]:
    """`microApps`: names to put below all others, the last one lowest."""
    patch: Patch = {}
    for app_id in found(apps, arguments["microApps"]):
        patch[app_id] = {"zIndex": _bottom(merge_patch(apps, patch))}
    return patch, f"Sent {told(apps, patch)} to the back."


def plan_tile(apps: Apps, _: Arguments) -> tuple[Patch, str]:
    """All windows beside each other, over the whole canvas."""
    return _arranged(apps, arranging.tiled, "Tiled")


def plan_tidy(apps: Apps, _: Arguments) -> tuple[Patch, str]:
    """All windows beside each other, each as large as it is."""
    return _arranged(apps, arranging.tidied, "Tidied")


def _arranged(apps: Apps, arrange: Callable[[Apps], Patch | None], did: str) -> tuple[Patch, str]:
    if not apps:
        raise IntentRefused("Nothing is open.")
    patch = arrange(apps)
    if patch is None:
        raise IntentRefused("The windows are too large to lie beside each other.")
    if not patch:
        raise IntentRefused("Everything is in its place already.")
    return patch, f"{did} {_counted(len(apps))}."


def plan_restore(apps: Apps, arguments: Arguments) -> tuple[Patch, str]:
    """`microApps`: the inverse of an earlier patch. What was opened or closed since stays so."""
    wanted = arguments["microApps"]
    hindered = [why for i, part in wanted.items() if (why := _hindrance(apps, i, part))]
    patch = {i: part for i, part in wanted.items() if not _hindrance(apps, i, part)}
    if not patch:
        raise IntentRefused(f"That cannot be taken back any more: {hindered[0]}.")
    after = merge_patch(apps, patch)
    if len(after) > MICRO_APPS_MAX:
        raise _full()
    said = [*_restored(apps, after, patch)]
    return patch, " ".join([*said, *_with_rest(hindered)])


def _hindrance(apps: Apps, app_id: str, part: Patch | None) -> str | None:
    """Why this part of an inverse patch has nothing to do any more; None where it has."""
    if part is None:
        return None if app_id in apps else "what was opened is closed already"
    if part.keys() >= MicroApp.__annotations__.keys():
        return "what was closed is open again" if app_id in apps else None
    if app_id not in apps:
        return "what was changed is closed by now"
    is_done = merge_patch(apps[app_id], part) == apps[app_id]
    return "everything is as it was" if is_done else None


def _restored(apps: Apps, after: Apps, patch: Patch) -> Iterable[str]:
    back = [i for i in patch if i not in apps]
    if back:
        yield f"{told(after, back)} {'is' if len(back) == 1 else 'are'} back."
    if put := [i for i in patch if i in apps and i in after]:
        yield f"Put {told(after, put)} back."
    if closed := [i for i in patch if i not in after]:
        yield f"Closed {told(apps, closed)} again."


def _with_rest(hindered: list[str]) -> list[str]:
    return [f"The rest cannot be taken back any more: {hindered[0]}."] if hindered else []


def _moved(app: MicroApp, arguments: Arguments) -> Patch:
    to = {axis: arguments[axis] for axis in ("x", "y") if axis in arguments}
    position = app["position"]
    by = {"x": arguments.get("dx"), "y": arguments.get("dy")}
    return to or {axis: position[axis] + step for axis, step in by.items() if step is not None}  # type: ignore[literal-required]


def _resized(app: MicroApp, arguments: Arguments) -> Patch:
    wanted = {side: _side(app, arguments, side) for side in ("width", "height")}
    size = {side: round(length) for side, length in wanted.items() if length is not None}
    if any(length > SIDE_MAX for length in size.values()):
        raise IntentRefused(f"A window is at most {SIDE_MAX:,} pixels wide and high.")
    return {side: max(length, catalogue.LEAST[side]) for side, length in size.items()}  # type: ignore[literal-required]


def _side(app: MicroApp, arguments: Arguments, side: str) -> float | None:
    """How long a side is to be, None where nothing is said of it."""
    if side in arguments:
        return float(arguments[side])
    percent = arguments.get(f"{side}Percent")
    # The page shows a smaller one at the least size: that is what grows.
    shown = max(app["size"][side], catalogue.LEAST[side])  # type: ignore[literal-required]
    return None if percent is None else shown * percent / 100


def _are_least(patch: Patch) -> bool:
    sizes = [part["size"] for part in patch.values()]
    return all(size[side] == catalogue.LEAST[side] for size in sizes for side in size)  # type: ignore[literal-required]


def _after(apps: Apps, patch: Patch, member: str) -> list[Any]:
    """What becomes of this member of the windows that a patch names."""
    after = merge_patch(apps, patch)
    return [after[app_id][member] for app_id in patch]


def _alike(word: str, values: set[str]) -> str:
    """The one value of all; several would be a list of numbers."""
    return f"{word}{values.pop()}" if len(values) == 1 else ""


def _window(title: str, apps: Apps) -> MicroApp:
    """A new window on top, a step further down the cascade for each that is open."""
    if len(apps) >= MICRO_APPS_MAX:
        raise _full()
    if len(title) > TITLE_MAX:
        raise IntentRefused(f"A name has at most {TITLE_MAX} characters.")
    place = CASCADE_START + CASCADE_STEP * (len(apps) % CASCADE_LENGTH)
    return {
        "type": catalogue.slug(title),
        "title": title,
        "position": {"x": place, "y": place},
        "size": catalogue.size_of(title),
        "zIndex": _top(apps),
    }


def _full() -> IntentRefused:
    return IntentRefused(f"{MICRO_APPS_MAX} windows are open. Close one first.")


def _new_id(title: str, apps: Apps) -> str:
    slug = catalogue.slug(title)
    numbered = (f"{slug}-{number}" for number in range(2, MICRO_APPS_MAX + 2))
    return slug if slug not in apps else next(each for each in numbered if each not in apps)


def _top(apps: Apps) -> int:
    """Above all others; at the very end of the range, beside the uppermost."""
    highest = max((app["zIndex"] for app in apps.values()), default=0)
    return min(highest + 1, Z_INDEX_MAX)


def _bottom(apps: Apps) -> int:
    """Below all others; at the very end of the range, beside the lowest."""
    return max(min(app["zIndex"] for app in apps.values()) - 1, -Z_INDEX_MAX)


def _counted(number: int) -> str:
    return "1 window" if number == 1 else f"{number} windows"
