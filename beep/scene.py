"""The canvas as it is now, and what the last turns spoke of, as one command sees them. Pure.

A thing is *fit* for a command if the command can be done to it now; nothing else is ever found.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aevon.intents import Window
from beep.abilities import INSTRUMENTS, OPEN, PLAY, SESSIONS
from beep.resolution import Canvas
from beep.story import Names, Told


@dataclass(frozen=True, slots=True)
class Mention:
    """The names that a turn spoke of, as far as they are fit."""

    names: Names
    seq: int


@dataclass(frozen=True)
class Scene:
    """Canvas and story together, as one command (its intent's name is `verb`) sees them.

    `back` are names that taking back the newest deed will bring back, `wrong` are known not to be
    meant, and where there is `among`, nothing else is: an answer is one of what was offered.
    """

    verb: str
    story: Sequence[Told]
    canvas: Canvas
    back: Names = ()
    wrong: Names = ()
    among: Names | None = None
    _windows: Mapping[str, list[Window]] = field(init=False)

    def __post_init__(self) -> None:
        named: dict[str, list[Window]] = {}
        for window in self.canvas.windows:
            for name in {folded(n) for n in (window.name, window.title, window.id) if n}:
                named.setdefault(name, []).append(window)
        object.__setattr__(self, "_windows", named)

    def fit(self, name: str) -> Names:
        """What a name means for this command: none, one, or several of the same name."""
        if self.verb == PLAY:
            return same(name, self.canvas.instruments)
        if name in self.back:
            return (name,)
        exact = [w.name for w in self.canvas.windows if w.name == name]
        found = exact or [w.name for w in self._windows.get(folded(name), [])]
        if not found and self.verb == OPEN:
            return (self.proper(name),)
        return tuple(found)

    def fit_of(self, names: Names) -> Names:
        """What these names mean for this command, each once."""
        return once(fit for name in names for fit in self.fit(name))

    def proper(self, name: str) -> str:
        """The name as the Micro-App itself writes it."""
        return next(iter(same(name, self.openable)), name)

    def is_open(self, name: str) -> bool:
        """Whether a window has this name, title or id."""
        return folded(name) in self._windows

    @property
    def openable(self) -> Names:
        """What can be opened."""
        return (*self.canvas.micro_apps, *self.canvas.instruments)

    @property
    def open_windows(self) -> Names:
        """The names of all open windows, the front one first."""
        front_first = sorted(self.canvas.windows, key=lambda w: -w.z_index)
        return tuple(window.name for window in front_first)

    @property
    def everything(self) -> Names:
        """All that this command could be done to; of what can be opened there is no end."""
        if self.among is not None or self.verb == OPEN:
            return self.among or ()
        return self.canvas.instruments if self.verb == PLAY else self.open_windows

    @property
    def mentions(self) -> list[Mention]:
        """What the turns spoke of that is fit, newest first."""
        spoken = [(self.fitting(told.focus, told), told.seq) for told in self.story]
        return [Mention(names, seq) for names, seq in spoken if names]

    def fitting(self, names: Names, told: Told) -> Names:
        """What is fit of names that a turn spoke of or listed."""
        if not told.subject and not self._may_list(told):
            return ()
        return once(fit for name in names for fit in self.fit(name))

    def _may_list(self, told: Told) -> bool:
        """A list of instruments names no windows, and one of sessions nothing at all."""
        kind = told.kind or (told.command.name if told.command else "")
        if self.verb == PLAY:
            return kind in (INSTRUMENTS, PLAY)
        return kind != SESSIONS and (self.verb == OPEN or kind not in (INSTRUMENTS, PLAY))

    @property
    def known(self) -> Names:
        """All that the turns spoke of and is fit, newest first."""
        subjects = [self.fitting(told.subject + told.listed, told) for told in self.story]
        return once(name for names in subjects for name in names)

    @property
    def shown(self) -> Mention | None:
        """The newest list that was shown, else what the newest turn that spoke of several did."""
        lists = [Mention(t.listed, t.seq) for t in self.story if t.listed and self._may_list(t)]
        several = [Mention(t.subject, t.seq) for t in self.story if len(t.subject) > 1]
        return next(iter(lists or several), None)

    @property
    def something_has_gone(self) -> bool:
        """Whether the turns spoke of a window that is not there any more."""
        spoken = (name for told in self.story if told.kind != PLAY for name in told.subject)
        return any(not self.fit(name) for name in spoken)

    def described(self, words: str) -> Names:
        """What has these words: of the same title, id or kind, else in its title."""
        if self.verb == PLAY:
            return tuple(n for n in self.canvas.instruments if has_words(n, words))
        windows = self.canvas.windows
        found = (
            self._windows.get(folded(words))
            or [w for w in windows if words and slug(words) == w.type]
            or [w for w in windows if has_words(f"{w.title} {w.type}", words)]
        )
        brought_back = [name for name in self.back if has_words(name, words)]
        return once((*(w.name for w in found), *brought_back))

    @property
    def remarks(self) -> Mapping[str, str]:
        """What to say beside a window's id, where its title does not tell it from others."""
        unnamed = (w for w in self.canvas.windows if w.name != w.title and w.title)
        return {w.name: f"{w.title} at {w.x:g}, {w.y:g}" for w in unnamed}

    def alike(self, name: str) -> Names:
        """Windows of the same title or kind as a name, which may not be open any more."""
        own = self._windows.get(folded(name), [])
        told = (slug(kind) for told in self.story if name in told.subject for kind in told.kinds)
        kinds = {_base(name), *told, *(kind for window in own for kind in _kinds(window))}
        kin = (w for w in self.canvas.windows if not kinds.isdisjoint(_kinds(w)))
        return tuple(window.name for window in kin)


def _kinds(window: Window) -> set[str]:
    return {slug(window.title) or folded(window.title), window.type, _base(window.id)} - {""}


def _base(name: str) -> str:
    """An id without the number that tells it from others."""
    return re.sub(r"-\d+\Z", "", slug(name)) or folded(name)


def same(name: str, names: Names) -> Names:
    """Those of the names that are this one, blind to case."""
    return tuple(each for each in names if folded(each) == folded(name))


def once(names: Iterable[str]) -> Names:
    """Each name once, in order."""
    return tuple(dict.fromkeys(names))


def folded(name: str) -> str:
    """A name, blind to case."""
    return name.casefold().strip()


def slug(name: str) -> str:
    """A name in the letters of an id."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _stem(word: str) -> str:
    word = re.sub(r"'s?\Z", "", word.casefold())
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def has_words(title: str, words: str) -> bool:
    """Whether all these words are in a title, singular or plural."""
    wanted = {_stem(word) for word in re.findall(r"[\w']+", words)} - {"of", "the", "a", "for"}
    return bool(wanted) and wanted <= {_stem(word) for word in re.findall(r"[\w']+", title)}
