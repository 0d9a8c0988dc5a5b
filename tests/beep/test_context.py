"""The Contextualization Engine: conversations, and what holds for any text."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aevon.intents import enumerated, which_one
from beep.context import (
    NOT_UNDERSTOOD,
    NOTHING_TO_REPEAT,
    WINDOW,
    Resolution,
    Turn,
    resolve,
    response_for,
)
from beep.grammar import canonical

LISTING = "Open now: 1. Notes, 2. Ledger."
THREE = "Open now: 1. Notes, 2. Ledger, 3. Clock."
GAMES = "You can play 1. Sisyphus's Ascent (1 to 1,000 Ξ), 2. Oracle of Delphi, 3. SpinForge."


def talk(*lines: str | tuple[str, str]) -> tuple[Turn, ...]:
    """The turns of a conversation, newest first; a bare command is answered as BEEP does."""
    turns: tuple[Turn, ...] = ()
    for line in lines:
        command, answer = line if isinstance(line, tuple) else (line, "Done.")
        response = response_for(resolve(command, turns), answer)
        turns = (Turn(len(turns) + 1, command, response), *turns)[:WINDOW]
    return turns


def said(resolution: Resolution) -> str:
    """A resolution in one line: the command it came to, or the question."""
    return canonical(resolution.intent) if resolution.intent else f"? {resolution.question}"


CONVERSATIONS = [
    # No reference at all.
    ([], "open Notes", 'open "Notes"'),
    ([], "Please OPEN the Ledger app!", 'open "Ledger"'),
    ([], "open “The Hive”", 'open "The Hive"'),
    ([], "open Lord of the Rings", 'open "Lord of the Rings"'),
    ([], 'close "A, b" and "C"', 'close "A, b", "C"'),
    ([], "move Notes left", 'move "Notes" by -100, 0'),
    ([], "move left panel down by 30px", 'move "left" by 0, 30'),
    ([], "drag Notes to the right by 5", 'move "Notes" by 5, 0'),
    ([], "move Notes to 40,-20", 'move "Notes" to 40, -20'),
    ([], "bring Notes to the front", 'bring "Notes" to front'),
    ([], "What's open?", "list windows"),
    ([], "how am I", "status"),
    ([], "list the instruments", "list instruments"),
    ([], "help", "help"),
    ([], "play SpinForge with stake 25", 'play "SpinForge" with stake 25'),
    ([], "play oracle-of-delphi for 5 credits", 'play "oracle-of-delphi" with stake 5'),
    # It.
    (["open Notes"], "close it", 'close "Notes"'),
    (["open Notes"], "move that one up by 7", 'move "Notes" by 0, -7'),
    (["open Notes", "how am I"], "bring this to front", 'bring "Notes" to front'),
    (["open Notes", "open Ledger"], "close it", 'close "Ledger"'),
    (["open Notes", "play SpinForge"], "close it", 'close "Notes"'),
    (["open Notes", "play SpinForge", "open Clock"], "play it", 'play "SpinForge"'),
    (["open Notes", "close it"], "open it again", 'open "Notes"'),
    (["open Notes", ("open Ledger", LISTING)], "close that", 'close "Ledger"'),
    ([], "close it", "? Which one do you mean? Please say its name."),
    ([("what is open", LISTING)], "close it", "? Which one do you mean: 1. Notes, 2. Ledger?"),
    (["play SpinForge"], "close it", "? Which one do you mean? Please say its name."),
    # Ordinals.
    ([("what is open", LISTING)], "close the second one", 'close "Ledger"'),
    ([("what is open", LISTING), "open Clock"], "close the 1st", 'close "Notes"'),
    ([("what is open", THREE)], "bring the last one to front", 'bring "Clock" to front'),
    ([("what is open", LISTING)], "close number 2", 'close "Ledger"'),
    ([("what is open", LISTING)], "close the third",
     "? Which one do you mean: 1. Notes, 2. Ledger?"),
    (["open Notes"], "close the second", "? Which one do you mean: 1. Notes?"),
    ([("list instruments", GAMES)], "play the first one", 'play "Sisyphus\'s Ascent"'),
    ([("list instruments", GAMES)], "play the last game with stake 3",
     'play "SpinForge" with stake 3'),
    ([("list instruments", GAMES), ("what is open", LISTING)], "play the second",
     'play "Oracle of Delphi"'),
    ([("what is open", LISTING)], "the second one", '? What should I do with "Ledger"?'),
    ([("what is open", LISTING), "the second one"], "close it", 'close "Ledger"'),
    # The other one, them.
    ([("what is open", LISTING), "move the first one up"], "close the other one", 'close "Ledger"'),
    (["open Notes", "open Ledger"], "close the other", 'close "Notes"'),
    ([("what is open", THREE), "open Clock"], "close the other one",
     "? Which one do you mean: 1. Notes, 2. Ledger?"),
    ([("what is open", THREE)], "close them", 'close "Notes", "Ledger", "Clock"'),
    (["open Notes", "open Ledger"], "move both of them right", 'move "Notes", "Ledger" by 100, 0'),
    ([("list instruments", GAMES)], "play them",
     "? Which one do you mean: 1. Sisyphus's Ascent, 2. Oracle of Delphi, 3. SpinForge?"),
    # Again.
    (["open Notes", "move it right by 9"], "again", 'move "Notes" by 9, 0'),
    (["play SpinForge with stake 4", "help", "how am I"], "do it again",
     'play "SpinForge" with stake 4'),
    (["play SpinForge", "open Notes"], "play again", 'play "SpinForge"'),
    (["open Notes", "move it up", "open Ledger"], "move it again", 'move "Notes" by 0, -100'),
    (["how am I"], "the same", "status"),
    (["play SpinForge", *["again"] * 7], "once more", 'play "SpinForge"'),
    (["open Notes", *["move it left"] * 6], "close it", 'close "Notes"'),
    ([], "again", f"? {NOTHING_TO_REPEAT}"),
    (["help"], "again", f"? {NOTHING_TO_REPEAT}"),
    (["close it"], "again", f"? {NOTHING_TO_REPEAT}"),
    # Answers to a question.
    ([("what is open", LISTING), "close it"], "the second one", 'close "Ledger"'),
    ([("what is open", LISTING), "close it"], "ledger", 'close "Ledger"'),
    ([("what is open", LISTING), "close it"], "2", 'close "Ledger"'),
    ([("what is open", LISTING), "move it up by 8", "that one"], "Notes",
     'move "Notes" by 0, -8'),
    (["close"], "Notes", 'close "Notes"'),
    ([("open Foo", 'There is no "Foo". ' + which_one(["Notes", "Ledger"]))], "the first",
     'open "Notes"'),
    ([("open Foo", which_one(["Notes", "Ledger"]))], "close it",
     "? Which one do you mean: 1. Notes, 2. Ledger?"),
    ([("open Foo", which_one(["Notes"]))], "again", f"? {NOTHING_TO_REPEAT}"),
    ([("what is open", LISTING), "close it"], "Clock", f"? {NOT_UNDERSTOOD}"),
    ([("what is open", LISTING), "close it"], "open Clock", 'open "Clock"'),
    # Nothing to make of it.
    ([], "", f"? {NOT_UNDERSTOOD}"),
    (["open Notes"], "make me a sandwich", f"? {NOT_UNDERSTOOD}"),
    ([], 'open ""', "? Which one do you mean? Please say its name."),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "text", "expected"), CONVERSATIONS)
def test_conversation(lines: list[str | tuple[str, str]], text: str, expected: str) -> None:
    """After these lines the text comes to this command, or to this question."""
    assert said(resolve(text, talk(*lines))) == expected


def test_resolved_says_what_a_reference_came_to_and_where_from() -> None:
    """The API's `resolved` member names intent, arguments, and each reference with its turn."""
    resolved = resolve("move it right by 100", talk("help", "open Notes", "how am I"))
    assert json.loads(json.dumps(resolved.as_dict())) == {
        "intent": "canvas.move",
        "arguments": {"microApps": ["Notes"], "dx": 100, "dy": 0},
        "references": [{"phrase": "it", "value": "Notes", "seq": 2}],
        "question": None,
    }


def test_resolved_says_so_when_nothing_was_resolved() -> None:
    """An unresolved reference has no intent and no reference, but a question."""
    assert resolve("close it").as_dict() == {
        "intent": None,
        "arguments": {},
        "references": [],
        "question": "Which one do you mean? Please say its name.",
    }


def test_a_repetition_says_which_command_it_repeats() -> None:
    """ "again" is a reference too: to a command, in a turn."""
    (reference,) = resolve("again", talk("play SpinForge with stake 4")).references
    assert (reference.phrase, reference.seq) == ("again", 1)
    assert reference.value == 'play "SpinForge" with stake 4'


def test_a_response_tells_the_user_what_was_understood() -> None:
    """A response to a resolved reference begins with the command it came to."""
    response = response_for(resolve("close it", talk("open Notes")), "Closed.")
    assert response == 'Understood: close "Notes".\nClosed.'


def test_a_response_without_reference_is_the_answer_itself() -> None:
    """Nothing is echoed where nothing had to be resolved."""
    assert response_for(resolve("open Notes"), "Opened.") == "Opened."


def test_turns_without_echo_are_resolved_from_the_turns_before_them() -> None:
    """A history written by another program, with responses of its own, can still be followed."""
    turns = [Turn(3, "move it left", "ok"), Turn(2, "again", "ok"), Turn(1, "open Notes", "ok")]
    assert said(resolve("close it", turns)) == 'close "Notes"'


def test_turns_beyond_the_window_are_not_read() -> None:
    """What the cached list would no longer hold does not count, even when it is passed in."""
    old = Turn(1, "open Notes", "Done.")
    newer = tuple(Turn(seq, "help", "Done.") for seq in range(6, 1, -1))
    assert resolve("close it", (*newer, old)).intent is None
    assert resolve("close it", (*newer[1:], old)).intent is not None


histories = st.lists(
    st.builds(
        Turn,
        seq=st.integers(1, 9),
        command=st.one_of(st.text(), st.sampled_from(["open A", "close it", "again", "the 2nd"])),
        response=st.one_of(st.text(), st.sampled_from([LISTING, which_one(["A", "B"])])),
    ),
    max_size=6,
)
words = st.sampled_from(
    ["open", "move", "it", "the", "second", "one", "again", "left", "by", "7", '"', " ", "other",
     "play", "with", "stake", "please", ",", "to", "-3", "\\", "“", "them", "and", "\n", "Ξ"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=4000), st.lists(words).map(" ".join)), histories)
def test_any_text_comes_to_an_intent_or_a_question(text: str, turns: list[Turn]) -> None:
    """No text raises; each comes to exactly one of both, and to plain data."""
    resolution = resolve(text, turns)
    assert (resolution.intent is None) != (resolution.question is None)
    json.dumps(resolution.as_dict())


@settings(deadline=None)
@given(st.lists(words, min_size=1, max_size=3), st.sampled_from(["", " "]))
def test_four_thousand_characters_take_no_time(parts: list[str], glue: str) -> None:
    """The longest command, however repetitive, is read in well under the budget of a command."""
    text = (glue.join(parts) + glue) * 4000

    def seconds() -> float:
        started = time.thread_time()
        resolve(text[:4000], talk(("what is open", LISTING)))
        return time.thread_time() - started

    # What takes long by itself does so each time.
    assert any(seconds() < 0.1 for _ in range(3))


@given(st.lists(words, max_size=6).map(" ".join), histories)
def test_an_intent_written_out_parses_to_itself(text: str, turns: list[Turn]) -> None:
    """The echo in a response can be read back without any context, to the same intent."""
    intent = resolve(text, turns).intent
    if intent is not None:
        assert resolve(canonical(intent)).intent == intent


@given(st.lists(st.text(min_size=1), min_size=2, max_size=8, unique=True), st.data())
def test_any_listed_name_can_be_pointed_at(names: list[str], data: st.DataObject) -> None:
    """Whatever the windows are called, "the n-th one" of the list is that very name."""
    number = data.draw(st.integers(1, len(names)))
    turns = talk(("what is open", f"Open now: {enumerated(names)}."))
    intent = resolve(f"close the {number}th one", turns).intent
    assert intent is not None
    assert intent.names == (names[number - 1],)


@given(st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True))
def test_an_ambiguous_reference_lists_every_candidate(names: list[str]) -> None:
    """With several windows in sight "it" is never one of them, but a question naming them all."""
    resolution = resolve("close it", talk(("what is open", enumerated(names))))
    assert resolution.intent is None
    assert resolution.question == f"Which one do you mean: {enumerated(names)}?"
