"""The questions that are asked where a command does not settle what it means, and what is said of
what cannot be done."""

from typing import Final

from aevon.intents import which_one, written
from beep import phrases
from beep.abilities import OPEN, PLAY
from beep.antecedents import VAGUE, Found
from beep.grammar import FAR_EDGE, FULL_SCREEN, MINIMISE, SWAP, UNDO_MANY
from beep.phrases import NOT_UNDERSTOOD, NOTHING_OPEN
from beep.resolution import ResolvedCommand
from beep.scene import Scene, has_words
from beep.story import Names

CANNOT: Final = {
    FAR_EDGE: phrases.NO_FAR_EDGE,
    FULL_SCREEN: phrases.NO_FULL_SCREEN,
    MINIMISE: phrases.NO_MINIMISING,
    UNDO_MANY: phrases.NO_UNDOING_MANY,
    SWAP: phrases.NO_SWAPPING,
}
# More than these are not read out: the user says the name.
CANDIDATES_MAX: Final = 9
NAME_WORDS_MAX: Final = 4
_NO_NAMES: Final = (
    *VAGUE, "it", "them", "this", "that", "these", "those", "both", "need", "but", "window", "the",
    "a", "that's", "it's", "keep", "half",
)  # fmt: skip


def not_understood() -> ResolvedCommand:
    """The answer to what is no command."""
    return asked(NOT_UNDERSTOOD)


def asked(question: str, candidates: Names = ()) -> ResolvedCommand:
    """This question, in place of an intent."""
    return ResolvedCommand(None, question=question, candidates=candidates)


def ask(scene: Scene, found: Found) -> ResolvedCommand:
    """The question which one is meant, after what is missing."""
    if not _is_name(found.missing, scene):
        return not_understood()
    candidates = found.candidates if len(found.candidates) <= CANDIDATES_MAX else ()
    missing = f"There is no {written(found.missing)}. " if found.missing else ""
    if not found.candidates and not scene.everything and scene.verb not in (OPEN, PLAY):
        return asked(f"{missing}{NOTHING_OPEN}")
    return asked(f"{missing}{which_one(candidates, scene.remarks)}", candidates)


def _is_name(words: str, scene: Scene) -> bool:
    """Whether a thing may be called so; a phrase that was misread is not to be repeated."""
    first, *others = words.casefold().split() or [""]
    is_phrase = (
        first in _NO_NAMES or "n't" in words or len(others) >= NAME_WORDS_MAX or '"' in words
    )
    return not is_phrase and not any(has_words(words, name) for name in scene.open_windows)
