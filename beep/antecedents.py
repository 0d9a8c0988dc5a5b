"""What a phrase of a command points to: its antecedent among the turns, or a window. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aevon.intents import Window
from beep.abilities import OPEN, PLAY
from beep.phrases import QUOTED, unquoted
from beep.references import Kind, Pointer, description, point
from beep.resolution import Why
from beep.scene import Mention, Scene, folded, has_words, once, same
from beep.story import Names, bare_name, parts


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


_CALLED: Final = re.compile(
    r"\A(?:the )?(?:one|window|app|panel) (?:that is |that's )?(?:called|named|titled) ",
    re.IGNORECASE,
)
# No name begins with these.
VAGUE: Final = (
    "something", "anything", "nothing", "everything", "new", "another", "some", "any", "over",
    "help", "more", "less", "one", "two", "three", "no", "none", "all", "every", "each", "not",
    "don't", "never", "or", "nor", "if", "only", "just", "either", "neither", "maybe", "later",
    "wait", "what", "how", "why", "when", "where", "who", "again", "closed", "playing",
)  # fmt: skip
_NEVER_NAMES: Final = ("it", "this", "them", "other")
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


def find(scene: Scene, phrase: str) -> Found:
    """What a phrase means on the scene: what it points to, else what has that name."""
    pointer = point(phrase)
    if pointer is None or (pointer.kind == "place" and _is_title(scene, phrase)):
        return _named(scene, phrase)
    found = _pointed(scene, pointer)
    if found.names or pointer.kind in _NEVER_NAMES:
        return found
    # Nothing has been listed that "2" could count: then it is a title, if there is one.
    named = _exactly(scene, phrase)
    return Found(named) if len(named) == 1 else found


def _is_title(scene: Scene, phrase: str) -> bool:
    """Whether words that may be a place are a title, or too few to be a place: "left" by itself is
    one only in an answer."""
    words = re.sub(r"\A(?:the|my) ", "", phrase, flags=re.IGNORECASE)
    is_bare = words == phrase and " " not in phrase and scene.among is None
    return is_bare or scene.is_open(words)


def _pointed(scene: Scene, pointer: Pointer) -> Found:
    finders: Mapping[Kind, Callable[[], Found]] = {
        "it": lambda: _it(scene, focus=False),
        "this": lambda: _it(scene, focus=True),
        "them": lambda: _them(scene, pointer),
        "all": lambda: _all(scene, pointer),
        "other": lambda: _other(scene, pointer.words),
        "ordinal": lambda: _nth(scene, pointer),
        "place": lambda: _by_place(scene, pointer),
        "done": lambda: _done_to(scene, pointer),
    }
    return finders[pointer.kind]()


def _it(scene: Scene, *, focus: bool) -> Found:
    mentions = scene.mentions
    if scene.among is not None:  # an answer: what was spoken of before the question
        mentions = [m for m in mentions[1:] if set(m.names) <= set(scene.among)]
    if mentions:
        return _settled(mentions[0].names, "pronoun", mentions[0].seq)
    if scene.among is not None:
        return _settled(scene.among, "pronoun", None)
    if scene.verb in (OPEN, PLAY):
        return Found(candidates=scene.known)
    windows = scene.open_windows
    if windows and (focus or (len(windows) == 1 and not scene.something_has_gone)):
        return Found(windows[:1], "focus")
    return Found(candidates=windows)


def _them(scene: Scene, pointer: Pointer) -> Found:
    if scene.among is not None:
        is_more = pointer.both and len(scene.among) != 2
        names = () if is_more else scene.among
        return Found(names, "set", scene.story[0].seq, candidates=scene.among)
    newest = next(iter(scene.mentions), None)
    if newest and len(newest.names) > 1 and not (pointer.both and len(newest.names) > 2):
        return Found(newest.names, "set", newest.seq)
    known = scene.known[::-1]  # in the order in which they were named
    if len(known) == 2 and newest:
        return Found(known, "set", newest.seq)
    return Found(candidates=known or scene.everything)


def _all(scene: Scene, pointer: Pointer) -> Found:
    if pointer.words:
        return _all_of_a_kind(scene, pointer)
    left_out: Names = ()
    if pointer.without:
        excepted = [_one_left_out(scene, part) for part in parts(pointer.without)]
        if not all(found.names for found in excepted):
            return next(found for found in excepted if not found.names)
        left_out = tuple(name for found in excepted for name in found.names)
    elif pointer.others:
        newest = next(iter(scene.mentions), None)
        if newest is None:
            return Found(candidates=scene.everything)
        left_out = newest.names
    return Found(tuple(n for n in scene.everything if n not in left_out), "set")


def _all_of_a_kind(scene: Scene, pointer: Pointer) -> Found:
    """ "Both notes", "all notes": however many there are, or just two."""
    kind = scene.described(pointer.words)
    if not kind:
        return _missing(scene, pointer.words)
    return Found(candidates=kind) if pointer.both and len(kind) != 2 else Found(kind, "set")


def _one_left_out(scene: Scene, phrase: str) -> Found:
    pointer = point(phrase)  # all but all but all but …
    return _missing(scene, phrase) if pointer and pointer.kind == "all" else find(scene, phrase)


def _nth(scene: Scene, pointer: Pointer) -> Found:
    newest = scene.story[0] if scene.story else None
    # In an answer the places are those that were read out, whatever has gone since.
    asked = Mention(newest.listed, newest.seq) if newest and scene.among is not None else None
    shown = asked or scene.shown
    if shown is None:
        return Found(candidates=scene.everything)
    names = shown.names
    if pointer.words:
        names = tuple(name for name in names if has_words(name, pointer.words))
    position = len(names) if pointer.position == -1 else pointer.position
    if not 1 <= position <= len(names):
        return Found(candidates=scene.fit_of(shown.names))
    fit = scene.fit(names[position - 1])
    if len(fit) == 1:
        return Found(fit, "ordinal", shown.seq)
    return Found(candidates=fit or scene.fit_of(shown.names))


def _by_place(scene: Scene, pointer: Pointer) -> Found:
    pool = [w for w in scene.canvas.windows if w.name not in scene.wrong]
    if scene.among is not None:
        pool = [w for w in pool if w.name in scene.among]
    if pointer.words:
        described = {*scene.described(pointer.words)}
        pool = [w for w in pool if w.name in described]
    if not pool or scene.verb == PLAY:
        return Found(candidates=scene.everything)
    if pointer.side == "middle":
        in_a_row = sorted(pool, key=lambda w: w.x)
        middle = in_a_row[len(pool) // 2 : len(pool) // 2 + len(pool) % 2]
        return _settled(tuple(w.name for w in middle or pool), "attribute", None)
    measure, highest = _MEASURES[pointer.side]
    best = (max if highest else min)(map(measure, pool))
    return _settled(tuple(w.name for w in pool if measure(w) == best), "attribute", None)


def _done_to(scene: Scene, pointer: Pointer) -> Found:
    """What the newest turn of this kind did it to, if that is fit."""
    for told in scene.story:
        if told.subject and not told.taken_back and pointer.verb in ("", told.kind):
            fit = scene.fit_of(told.subject)
            if not fit:
                return Found(candidates=scene.everything)
            return _settled(fit, "attribute", told.seq)
    return Found(candidates=scene.everything)


def _other(scene: Scene, words: str) -> Found:
    """The one that is left beside the newest that was spoken of, or beside `scene.wrong`."""
    spoken = next((told for told in scene.story if told.subject), None)
    beside = scene.wrong or (spoken.subject if spoken else ())
    taken = {folded(name) for name in beside}
    for pool in _pools(scene, words) if beside else ():
        if rest := tuple(name for name in pool if folded(name) not in taken):
            return _settled(rest, "other", spoken.seq if spoken else None)
    return Found(candidates=tuple(n for n in scene.everything if folded(n) not in taken))


def _pools(scene: Scene, words: str) -> Iterable[Names]:
    if scene.among is not None:
        yield scene.among
        return
    if words:
        yield scene.described(words)
        return
    lists = (scene.fitting(t.listed, t) for t in scene.story if t.listed)
    yield next(filter(None, lists), ())
    if scene.wrong:
        yield once(like for name in scene.wrong for like in scene.alike(name))
    yield scene.known
    if len(scene.everything) <= 2:
        yield scene.everything


def _named(scene: Scene, phrase: str) -> Found:
    if '"' in phrase:
        return _quoted(scene, phrase)
    phrase = _CALLED.sub("", phrase)
    bare = bare_name(phrase)
    for name in filter(None, (phrase, bare)):
        if found := _exactly(scene, name):
            return _chosen(scene, found)
    words, described = description(phrase)
    if scene.verb == OPEN and scene.among is None:
        return _to_open(scene, bare, words, described=described)
    return _by_words(scene, words, bare or phrase)


def _quoted(scene: Scene, phrase: str) -> Found:
    if not re.fullmatch(QUOTED, phrase):
        return _missing(scene, phrase)
    name = unquoted(phrase)
    return _known_as(scene, name) if name else Found(candidates=scene.everything)


def _by_words(scene: Scene, words: str, name: str) -> Found:
    described = scene.described(words)
    found = tuple(each for each in described if each not in scene.wrong)
    if scene.among is not None:
        found = tuple(n for n in scene.among if n in found or has_words(n, words))
    if found:
        return _chosen(scene, found, why="attribute")
    if described and scene.among is None:  # that is what it was done to
        return Found(candidates=tuple(n for n in scene.everything if n not in scene.wrong))
    return _missing(scene, name)


def _known_as(scene: Scene, name: str) -> Found:
    fit = _exactly(scene, name) or (scene.fit(name) if scene.among is None else ())
    return _chosen(scene, fit) if fit else _missing(scene, name)


def _exactly(scene: Scene, name: str) -> Names:
    """What has this very name."""
    if scene.among is not None and (offered := same(name, scene.among)):
        return offered
    if scene.verb == OPEN and not scene.is_open(name):
        return same(name, scene.openable)
    return tuple(each for each in scene.fit(name) if each not in scene.wrong)


def _to_open(scene: Scene, name: str, words: str, *, described: bool) -> Found:
    """What can be opened, is open or was closed, by its words; else a name that is new, where it is
    one."""
    openable = tuple(n for n in scene.openable if has_words(n, words))
    if len(openable) == 1:
        return Found(openable, "attribute")
    if described:
        spoken = tuple(n for n in scene.known if has_words(n, words))
        found = once((*scene.described(words), *spoken))
        if found or openable:
            return _chosen(scene, found or openable, why="attribute")
    return Found((name,), is_new=True) if _may_be_new(scene, name) else Found(missing=name)


def _may_be_new(scene: Scene, name: str) -> bool:
    """Whether this names something that was never there: no vague word, nor a name with more to it
    ("Notes at 100 100")."""
    words = folded(name).split()
    if re.search(r";|[.!?] |n't\b", name):
        return False
    known = (*scene.open_windows, *scene.openable)
    begins = (folded(each).split() for each in known)
    return (
        bool(words)
        and words[0] not in VAGUE
        and not any(words[: len(each)] == each for each in begins if each)
    )


def _chosen(scene: Scene, names: Names, why: Why | None = None) -> Found:
    """The one of several that the newest turn spoke of; a question if it spoke of more."""
    if len(names) == 1:
        return Found(names, why)
    for mention in scene.mentions:
        spoken = tuple(name for name in names if name in mention.names)
        if len(spoken) == 1:
            return Found(spoken, "attribute", mention.seq)
        if spoken:
            break
    return Found(candidates=names)


def _missing(scene: Scene, name: str) -> Found:
    return Found(candidates=scene.everything, missing=name)


def _settled(names: Names, why: Why, seq: int | None) -> Found:
    return Found(names, why, seq) if len(names) == 1 else Found(candidates=names)
