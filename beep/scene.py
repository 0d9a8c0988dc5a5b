"""What a phrase may point to: the canvas as it is now, and what the last turns spoke of. Pure.

A thing is *fit* for a command if the command can be done to it now; nothing else is ever found.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aevon.intents import Window
from beep.grammar import INSTRUMENTS, OPEN, PLAY, SESSIONS
from beep.phrases import QUOTED, unquoted
from beep.references import Kind, Pointer, description, point
from beep.resolution import Canvas, Why
from beep.story import Told, bare_name, parts

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Names that a phrase points to, why, and the turn that says so; or none, and the candidates.

    `why` None: it was called by its name. `missing`: the name of what is not there. `is_new`: what
    would be opened has never been there.
    """

    names: Names = ()
    why: Why | None = None
    seq: int | None = None
    candidates: Names = ()
    missing: str = ""
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Mention:
    """The names that a turn spoke of, as far as they are fit."""

    names: Names
    seq: int


# By side: what to compare, and whether the highest is meant.
_MEASURES: Final[Mapping[str, tuple[Callable[[Window], float], bool]]] = {
    "left": (lambda w: w.x, False),
    "right": (lambda w: w.x, True),
    "top": (lambda w: w.y, False),
    "bottom": (lambda w: w.y, True),
    "biggest": (lambda w: w.width * w.height, True),
    "smallest": (lambda w: w.width * w.height, False),
    "widest": (lambda w: w.width, True),
    "narrowest": (lambda w: w.width, False),
    "tallest": (lambda w: w.height, True),
    "shortest": (lambda w: w.height, False),
    "front": (lambda w: w.z_index, True),
    "back": (lambda w: w.z_index, False),
}


@dataclass(frozen=True)
class Scene:
    """Canvas and story together, as one command (its intent's name is `verb`) sees them.

    `back` are names that taking back the newest deed will bring back.
    """

    verb: str
    story: Sequence[Told]
    canvas: Canvas
    back: Names = ()
    _windows: Mapping[str, list[Window]] = field(init=False)

    def __post_init__(self) -> None:
        named: dict[str, list[Window]] = {}
        for window in self.canvas.windows:
            for name in {_folded(n) for n in (window.name, window.title, window.id) if n}:
                named.setdefault(name, []).append(window)
        object.__setattr__(self, "_windows", named)

    # --- what is fit ---

    def fit(self, name: str) -> Names:
        """What a name means for this command: none, one, or several of the same name."""
        if self.verb == PLAY:
            return _same(name, self.canvas.instruments)
        if name in self.back:
            return (name,)
        exact = [w.name for w in self.canvas.windows if w.name == name]
        found = exact or [w.name for w in self._windows.get(_folded(name), [])]
        if not found and self.verb == OPEN:
            return (self.proper(name),)
        return tuple(found)

    def proper(self, name: str) -> str:
        """The name as the Micro-App itself writes it."""
        return next(iter(_same(name, self._openable)), name)

    @property
    def _openable(self) -> Names:
        return (*self.canvas.micro_apps, *self.canvas.instruments)

    @property
    def open_windows(self) -> Names:
        """The names of all open windows, the front one first."""
        front_first = sorted(self.canvas.windows, key=lambda w: -w.z_index)
        return tuple(window.name for window in front_first)

    @property
    def everything(self) -> Names:
        """All that this command could be done to; of what can be opened there is no end."""
        if self.verb == OPEN:
            return ()
        return self.canvas.instruments if self.verb == PLAY else self.open_windows

    @property
    def mentions(self) -> list[Mention]:
        """What the turns spoke of that is fit, newest first."""
        spoken = [(self._fitting(told.focus, told), told.seq) for told in self.story]
        return [Mention(names, seq) for names, seq in spoken if names]

    def _fitting(self, names: Names, told: Told) -> Names:
        if not told.subject and not self._may_list(told):
            return ()
        return _once(fit for name in names for fit in self.fit(name))

    def _may_list(self, told: Told) -> bool:
        """A list of instruments names no windows, and one of sessions nothing at all."""
        kind = told.kind or (told.command.name if told.command else "")
        if self.verb == PLAY:
            return kind in (INSTRUMENTS, PLAY)
        return kind != SESSIONS and (self.verb == OPEN or kind not in (INSTRUMENTS, PLAY))

    @property
    def known(self) -> Names:
        """All that the turns spoke of and is fit, newest first."""
        subjects = [self._fitting(told.subject + told.listed, told) for told in self.story]
        return _once(name for names in subjects for name in names)

    @property
    def shown(self) -> Mention | None:
        """The newest list that was shown, else what the newest turn that spoke of several did."""
        lists = [Mention(t.listed, t.seq) for t in self.story if t.listed and self._may_list(t)]
        several = [Mention(t.subject, t.seq) for t in self.story if len(t.subject) > 1]
        return next(iter(lists or several), None)

    # --- what a phrase points to ---

    def look_up(self, phrase: str, *, among: Names | None = None, not_: Names = ()) -> Found:
        """What a phrase means. `among`: only these count; `not_`: these are known to be wrong."""
        pointer = point(phrase)
        found = self._pointed(pointer, among, not_) if pointer else None
        if found is not None and found.names:
            return found
        named = self._named(phrase, among, not_)
        if named.names or found is None:
            return named
        return found

    def _pointed(self, pointer: Pointer, among: Names | None, not_: Names) -> Found:
        finders: Mapping[Kind, Callable[[], Found]] = {
            "it": lambda: self._it(among, focus=False),
            "this": lambda: self._it(among, focus=True),
            "them": lambda: self._them(pointer, among),
            "all": lambda: self._all(pointer, among),
            "other": lambda: self.other(pointer.words, among, not_),
            "ordinal": lambda: self._nth(pointer, among),
            "place": lambda: self._by_place(pointer, among, not_),
            "done": lambda: self._done_to(pointer),
        }
        return finders[pointer.kind]()

    def _it(self, among: Names | None, *, focus: bool) -> Found:
        mentions = self.mentions
        if among is not None:  # an answer: what was spoken of before the question
            mentions = [m for m in mentions[1:] if set(m.names) <= set(among)]
        if mentions:
            return _settled(mentions[0].names, "pronoun", mentions[0].seq)
        if among is not None:
            return _settled(among, "pronoun", None)
        if self.verb in (OPEN, PLAY):
            return Found(candidates=self.known)
        windows = self.open_windows
        if windows and (focus or (len(windows) == 1 and not self._something_has_gone)):
            return Found(windows[:1], "focus")
        return Found(candidates=windows)

    @property
    def _something_has_gone(self) -> bool:
        spoken = (name for told in self.story if told.kind != PLAY for name in told.subject)
        return any(not self.fit(name) for name in spoken)

    def _them(self, pointer: Pointer, among: Names | None) -> Found:
        if among is not None:
            return Found(among, "set", self.story[0].seq)
        newest = next(iter(self.mentions), None)
        if newest and len(newest.names) > 1 and not (pointer.both and len(newest.names) > 2):
            return Found(newest.names, "set", newest.seq)
        known = self.known[::-1]  # in the order in which they were named
        if len(known) == 2 and newest:
            return Found(known, "set", newest.seq)
        return Found(candidates=known or self.everything)

    def _all(self, pointer: Pointer, among: Names | None) -> Found:
        everything = self.everything if among is None else among
        left_out: Names = ()
        if pointer.without:
            excepted = [self.look_up(part) for part in parts(pointer.without)]
            if not all(found.names for found in excepted):
                return next(found for found in excepted if not found.names)
            left_out = tuple(name for found in excepted for name in found.names)
        elif pointer.others:
            newest = next(iter(self.mentions), None)
            if newest is None:
                return Found(candidates=everything)
            left_out = newest.names
        return Found(tuple(n for n in everything if n not in left_out), "set")

    def _nth(self, pointer: Pointer, among: Names | None) -> Found:
        shown = Mention(among, self.story[0].seq) if among is not None else self.shown
        if shown is None:
            return Found(candidates=self.everything)
        names = shown.names
        if pointer.words:
            names = tuple(name for name in names if has_words(name, pointer.words))
        position = pointer.position - 1 if pointer.position > 0 else pointer.position
        if not (-1 <= position < len(names)) or not names:
            return Found(candidates=self.fit_of(shown.names))
        fit = self.fit(names[position])
        if len(fit) == 1:
            return Found(fit, "ordinal", shown.seq)
        return Found(candidates=fit or self.fit_of(shown.names))

    def fit_of(self, names: Names) -> Names:
        """What these names mean for this command, each once."""
        return _once(fit for name in names for fit in self.fit(name))

    def _by_place(self, pointer: Pointer, among: Names | None, not_: Names) -> Found:
        pool = [w for w in self.canvas.windows if w.name not in not_]
        if among is not None:
            pool = [w for w in pool if w.name in among]
        if pointer.words:
            described = {*self._described(pointer.words)}
            pool = [w for w in pool if w.name in described]
        if not pool or self.verb == PLAY:
            return Found(candidates=among or self.everything)
        if pointer.side == "middle":
            in_a_row = sorted(pool, key=lambda w: w.x)
            middle = in_a_row[len(pool) // 2 : len(pool) // 2 + len(pool) % 2]
            return _settled(tuple(w.name for w in middle or pool), "attribute", None)
        measure, highest = _MEASURES[pointer.side]
        best = (max if highest else min)(map(measure, pool))
        return _settled(tuple(w.name for w in pool if measure(w) == best), "attribute", None)

    def _done_to(self, pointer: Pointer) -> Found:
        """What the newest turn of this kind did it to, if that is fit."""
        for told in self.story:
            if told.subject and not told.taken_back and pointer.verb in ("", told.kind):
                fit = self.fit_of(told.subject)
                if not fit:
                    return Found(candidates=self.everything)
                return _settled(fit, "attribute", told.seq)
        return Found(candidates=self.everything)

    def other(self, words: str, among: Names | None, not_: Names) -> Found:
        """The one that is left beside the newest that was spoken of, or beside `not_`."""
        spoken = next((told for told in self.story if told.subject), None)
        beside = not_ or (spoken.subject if spoken else ())
        folded = {_folded(name) for name in beside}
        for pool in self._pools(words, among, not_) if beside else ():
            if rest := tuple(name for name in pool if _folded(name) not in folded):
                return _settled(rest, "other", spoken.seq if spoken else None)
        return Found(candidates=among or self.known or self.everything)

    def _pools(self, words: str, among: Names | None, not_: Names) -> Iterable[Names]:
        if among is not None:
            yield among
            return
        if words:
            yield self._described(words)
            return
        lists = (self._fitting(t.listed, t) for t in self.story if t.listed)
        yield next(filter(None, lists), ())
        if not_:
            yield _once(like for name in not_ for like in self._alike(name))
        yield self.known
        if len(self.everything) <= 2:
            yield self.everything

    def _alike(self, name: str) -> Names:
        """Windows of the same title or kind as a name, which may not be open any more."""
        kind = re.sub(r"-\d+\Z", "", _slug(name))
        return tuple(
            w.name
            for w in self.canvas.windows
            if kind in (_slug(w.title), w.type, re.sub(r"-\d+\Z", "", w.id))
        )

    # --- names and descriptions ---

    def _named(self, phrase: str, among: Names | None, not_: Names) -> Found:
        if re.fullmatch(QUOTED, phrase):
            name = unquoted(phrase)
            return self._known_as(name, among) if name else Found(candidates=self.everything)
        bare = bare_name(phrase)
        for name in filter(None, (phrase, bare)):
            if found := self._exactly(name, among, not_):
                return self._chosen(found)
        words, described = description(phrase)
        if self.verb == OPEN and among is None:
            return self._to_open(bare or phrase, words, described=described)
        found = tuple(n for n in self._described(words) if n not in not_)
        if among is not None:
            found = tuple(n for n in among if n in found or has_words(n, words))
        if found:
            return self._chosen(found, why="attribute")
        return self._missing(bare or phrase)

    def _known_as(self, name: str, among: Names | None) -> Found:
        fit = self._exactly(name, among, ()) or (self.fit(name) if among is None else ())
        return self._chosen(fit) if fit else self._missing(name)

    def _exactly(self, name: str, among: Names | None, not_: Names) -> Names:
        """What has this very name."""
        if among is not None and (same := _same(name, among)):
            return same
        if self.verb == OPEN and _folded(name) not in self._windows:
            return _same(name, self._openable)
        return tuple(each for each in self.fit(name) if each not in not_)

    def _to_open(self, name: str, words: str, *, described: bool) -> Found:
        """What is open, can be opened or was closed, by its words; else a name that is new."""
        openable = tuple(n for n in self._openable if has_words(n, words))
        if len(openable) == 1:
            return Found(openable, "attribute")
        if described:
            spoken = tuple(n for n in self.known if has_words(n, words))
            found = _once((*self._described(words), *spoken))
            if found or openable:
                return self._chosen(found or openable, why="attribute")
        if point(name):
            return Found(candidates=self.everything)
        return Found((name,), is_new=True)

    def _described(self, words: str) -> Names:
        """What has these words: of the same title, id or kind, else in its title."""
        if self.verb == PLAY:
            return tuple(n for n in self.canvas.instruments if has_words(n, words))
        folded = _folded(words)
        windows = self.canvas.windows
        same = [w for w in windows if folded in map(_folded, (w.title, w.id, w.name))]
        same = same or [w for w in windows if _slug(words) == w.type and words]
        found = same or [w for w in windows if has_words(f"{w.title} {w.type}", words)]
        brought_back = [name for name in self.back if has_words(name, words)]
        return _once((*(w.name for w in found), *brought_back))

    def _chosen(self, names: Names, why: Why | None = None) -> Found:
        """The one of several that the newest turn spoke of; a question if it spoke of more."""
        if len(names) == 1:
            return Found(names, why)
        for mention in self.mentions:
            spoken = tuple(name for name in names if name in mention.names)
            if len(spoken) == 1:
                return Found(spoken, "attribute", mention.seq)
            if spoken:
                break
        return Found(candidates=names)

    def _missing(self, name: str) -> Found:
        return Found(candidates=self.everything, missing=name)


def _settled(names: Names, why: Why, seq: int | None) -> Found:
    return Found(names, why, seq) if len(names) == 1 else Found(candidates=names)


def _same(name: str, names: Names) -> Names:
    return tuple(each for each in names if _folded(each) == _folded(name))


def _once(names: Iterable[str]) -> Names:
    return tuple(dict.fromkeys(names))


def _folded(name: str) -> str:
    return name.casefold().strip()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _stem(word: str) -> str:
    word = re.sub(r"'s?\Z", "", word.casefold())
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def has_words(title: str, words: str) -> bool:
    """Whether all these words are in a title, singular or plural."""
    wanted = {_stem(word) for word in re.findall(r"[\w']+", words)} - {"of", "the", "a", "for"}
    return bool(wanted) and wanted <= {_stem(word) for word in re.findall(r"[\w']+", title)}
