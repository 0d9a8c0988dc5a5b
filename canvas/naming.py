"""What windows are called: the name that BEEP has for each, and which one a name means. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from aevon import intents
from aevon.intents import IntentRefused, Window, written
from canvas.layout import MicroApp

Apps = Mapping[str, MicroApp]

_NAMED_AT_MOST: Final = 5


class Names:
    """Names and windows of one layout. A name is an id or else a title, blind to case and width of
    white space."""

    def __init__(self, apps: Apps) -> None:
        self._apps = apps
        self._ids = _grouped((app_id, app_id) for app_id in apps)
        self._titles = _grouped((app["title"], app_id) for app_id, app in apps.items())

    def meant_by(self, name: str) -> Sequence[str]:
        """The ids of the windows that a name means."""
        if name in self._apps:
            return [name]
        wanted = _folded(name)
        return self._ids.get(wanted) or self._titles.get(wanted) or []

    def of(self, app_id: str) -> str:
        """What means this window alone: its title, or its id where the title does not tell."""
        title = self._apps[app_id]["title"]
        return title if self.meant_by(title) == [app_id] else app_id


def _grouped(pairs: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    groups = defaultdict(list)
    for name, app_id in pairs:
        if folded := _folded(name):
            groups[folded].append(app_id)
    return groups


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()


def front_first(apps: Apps) -> list[str]:
    """The ids from the uppermost to the lowest, equal levels as the page stacks them."""
    return sorted(apps, key=lambda app_id: (apps[app_id]["zIndex"], app_id), reverse=True)


def labels(apps: Apps) -> list[str]:
    """The windows' names, the front one first."""
    names = Names(apps)
    return [names.of(app_id) for app_id in front_first(apps)]


def windows(apps: Apps) -> tuple[Window, ...]:
    """The windows as BEEP looks at them, the front one first."""
    names = Names(apps)
    return tuple(_window(names.of(app_id), app_id, apps[app_id]) for app_id in front_first(apps))


def _window(name: str, app_id: str, app: MicroApp) -> Window:
    return Window(
        name=name,
        id=app_id,
        title=app["title"],
        type=app["type"],
        x=app["position"]["x"],
        y=app["position"]["y"],
        width=app["size"]["width"],
        height=app["size"]["height"],
        z_index=app["zIndex"],
    )


def found(apps: Apps, names: Sequence[str]) -> list[str]:
    """The ids of the windows named, each once. Raises `IntentRefused`, also where none is."""
    if not names:
        raise IntentRefused(intents.which_one(labels(apps)) if apps else "Nothing is open.")
    index = Names(apps)
    return list(dict.fromkeys(one_of(index.meant_by(name), name, apps) for name in names))


def one_of(meant: Sequence[str], name: str, apps: Apps) -> str:
    """The only one; raises `IntentRefused` with the question which one is meant."""
    if len(meant) == 1:
        return meant[0]
    if meant:  # titles do not tell them apart, ids do
        raise IntentRefused(intents.which_one(sorted(meant)))
    if not apps:
        raise IntentRefused(f"There is no {written(name)}. Nothing is open.")
    question = intents.which_one(labels(apps))
    raise IntentRefused(f"There is no {written(name)}. {question}")


def told(apps: Apps, app_ids: Iterable[str], *, with_kind: bool = False) -> str:
    """The windows' names in a sentence: `Notes, Clock and Ledger`; of many only their number.

    `with_kind`: `Paris (clock)`, where the name does not say it; what has gone cannot be asked.
    """
    index = Names(apps)
    kinds = {app_id: kind_beside(index.of(app_id), apps[app_id]) for app_id in app_ids}
    names = [
        written(index.of(app_id)) + (f" ({kind})" if with_kind and kind else "")
        for app_id, kind in kinds.items()
    ]
    if len(names) > _NAMED_AT_MOST:
        return f"{len(names)} windows"
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def kind_beside(name: str, app: MicroApp) -> str:
    """The title, beside an id; else the type, where no word of the title is it."""
    if name != app["title"] and app["title"]:
        return re.sub(r"[()]", "", app["title"])
    words = {word.rstrip("s") for word in re.split(r"[^a-z0-9]+", name.casefold())}
    kind = app["type"].casefold()
    parts = {part.rstrip("s") for part in re.split(r"[^a-z0-9]+", kind)}
    return "" if parts <= words else re.sub(r"[()]", "", app["type"])
