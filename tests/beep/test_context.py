"""The Contextualization Engine: conversations, and what holds for any text.

What people say, at length, is in tests/beep/dialogues; here is one of each rule.
"""

import json
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aevon.intents import enumerated, which_one
from beep.context import resolve, response_for
from beep.grammar import FAR_EDGE, FULL_SCREEN, UNDO_MANY, canonical
from beep.phrases import (
    A_PLAY_STANDS,
    A_PLAY_STANDS_SAY_IT,
    INSTEAD_WHAT,
    NO_OTHER_WAY,
    NOT_UNDERSTOOD,
    NOTHING_TO_REPEAT,
    NOTHING_TO_TAKE_BACK,
    ONE_AT_A_TIME,
    not_done,
)
from beep.questions import CANNOT
from beep.resolution import Canvas, Intent, Reference, Turn
from tests.beep.canvases import Line, canvas, said, talk

DESK = canvas("Notes", "Ledger", "Clock")
# While the earlier lines are said; what is closed by then has been closed by hand.
EARLIER = canvas("Notes", "Ledger", "Clock", "Diary")
LISTING = "Open: 1. Notes, 2. Ledger."
THREE = "Open: 1. Notes, 2. Ledger, 3. Clock."
GAMES = "You can play 1. Sisyphus's Ascent (1 to 1,000 Ξ), 2. Oracle of Delphi, 3. SpinForge."
WHICH = "? Which one do you mean: 1. Clock, 2. Ledger, 3. Notes?"

CONVERSATIONS = [
    # No reference at all.
    ([], "open Notes", 'open "Notes"'),
    ([], "Please OPEN the Ledger app!", 'open "Ledger"'),
    ([], "open “The Hive”", 'open "The Hive"'),
    ([], "open Lord of the Rings", 'open "Lord of the Rings"'),
    ([], "open the stock list and the diary", 'open "stock list", "diary"'),
    ([], "open notes and move it left", f"? {ONE_AT_A_TIME}"),
    ([], 'close "Notes" and "Ledger"', 'close "Notes", "Ledger"'),
    ([], "move Notes left", 'move "Notes" by -100, 0'),
    ([], "drag Notes to the right by 5", 'move "Notes" by 5, 0'),
    ([], "nudge the clock up a bit", 'move "Clock" by 0, -40'),
    ([], "move Notes down and to the left", 'move "Notes" by -100, 100'),
    ([], "move Notes to 40,-20", 'move "Notes" to 40, -20'),
    ([], "put the clock in the top left corner", 'move "Clock" to 16, 16'),
    ([], "move the clock to the top", 'move "Clock" to y 16'),
    ([], "move the clock to the bottom right", f"? {CANNOT[FAR_EDGE]}"),
    ([], "maximize the clock", f"? {CANNOT[FULL_SCREEN]}"),
    ([], "move notes left and the clock right", f"? {ONE_AT_A_TIME}"),
    ([], "close notes, then the clock", 'close "Notes", "Clock"'),
    ([], "move it next to the clock", f"? {NOT_UNDERSTOOD}"),
    ([], "thanks!", "never mind"),
    ([], "Enough of that. Close Notes, please.", 'close "Notes"'),
    ([], "please do not, under any circumstances, close notes", f"? {NOT_UNDERSTOOD}"),
    ([], "if it rains, close notes", f"? {NOT_UNDERSTOOD}"),
    ([], "tomorrow: close notes", f"? {NOT_UNDERSTOOD}"),
    ([], "never spend my money. play SpinForge with 200", f"? {NOT_UNDERSTOOD}"),
    ([], "close the window called notes", 'close "Notes"'),
    ([], "make notes 50% bigger", 'resize "Notes" to 150, 150 percent'),
    ([], "move notes to the back", 'send "Notes" to back'),
    ([], "open something", f"? {NOT_UNDERSTOOD}"),
    ([], "open notes at 100 100", f"? {NOT_UNDERSTOOD}"),
    ([], "300 300", f"? {NOT_UNDERSTOOD}"),
    ([], "open notes, not clock", f"? {NOT_UNDERSTOOD}"),
    ([], "open psyche and don't open sessions", f"? {NOT_UNDERSTOOD}"),
    ([], "open only psyche", f"? {NOT_UNDERSTOOD}"),
    ([], "let me see if notes is open", f"? {NOT_UNDERSTOOD}"),
    ([], "open psyche; close clock", f"? {NOT_UNDERSTOOD}"),
    ([], "open psyche and also the clock", 'open "Psyche", "Clock"'),
    ([], "open 'psyche'", 'open "Psyche"'),
    ([], "close „Notes“", 'close "Notes"'),
    ([], "move notes left and right", '? Where should I move "Notes"?'),
    ([], "resize notes by 10%", 'resize "Notes" to 110, 110 percent'),
    ([], "oh, by the way: close the clock then", 'close "Clock"'),
    ([], "move the window on the right down", 'move "Clock" by 0, 100'),
    ([], "move the one on the right", '? Where should I move "Clock"?'),
    ([], "make Notes much bigger", 'resize "Notes" to 150, 150 percent'),
    ([], "make Notes a bit narrower", 'resize "Notes" to 90, 100 percent'),
    ([], "make Notes half as tall", 'resize "Notes" to 100, 50 percent'),
    ([], "shrink Notes", 'resize "Notes" to 80, 80 percent'),
    ([], "resize Notes to 400 by 300", 'resize "Notes" to 400 by 300'),
    ([], "make Notes 300 wide", 'resize "Notes" to width 300'),
    ([], "bring Notes to the front", 'bring "Notes" to front'),
    ([], "send Notes to the back", 'send "Notes" to back'),
    ([], "tile the windows", "tile windows"),
    ([], "tidy up", "tidy windows"),
    ([], "What's open?", "list windows"),
    ([], "is everything saved?", "unsaved changes"),
    ([], "where am I signed in", "list sessions"),
    ([], "how am I", "status"),
    ([], "list the instruments", "list instruments"),
    ([], "help", "help"),
    ([], "play SpinForge with stake 25", 'play "SpinForge" with stake 25'),
    ([], "play oracle of delphi for 5 credits", 'play "Oracle of Delphi" with stake 5'),
    ([], "play the oracle 5", 'play "Oracle of Delphi" with stake 5'),
    ([], "bet 7 on spinforge", 'play "SpinForge" with stake 7'),
    # It.
    (["open Notes"], "close it", 'close "Notes"'),
    (["open Notes"], "move that one up by 7", 'move "Notes" by 0, -7'),
    (["open Notes", "how am I"], "bring this to front", 'bring "Notes" to front'),
    (["open Notes", "open Ledger"], "close it", 'close "Ledger"'),
    (["open Notes", "play SpinForge"], "close it", 'close "Notes"'),
    (["open Notes", "play SpinForge", "open Clock"], "play it", 'play "SpinForge"'),
    (["open Diary", "close it"], "open it again", 'open "Diary"'),
    (["open Notes", ("open Ledger", LISTING)], "close that", 'close "Ledger"'),
    ([], "close it", WHICH),
    ([], "close this window", 'close "Clock"'),
    (["open Diary"], "close it", WHICH),  # closed by hand since
    ([("what is open", LISTING)], "close it", "? Which one do you mean: 1. Notes, 2. Ledger?"),
    ([("list instruments", GAMES)], "close it", WHICH),
    ([("my sessions", "You have 2 sessions: 1. Notes, 2. Clock.")], "close the second one", WHICH),
    # Ordinals.
    ([("what is open", LISTING)], "close the second one", 'close "Ledger"'),
    ([("what is open", LISTING), "open Clock"], "close the 1st", 'close "Notes"'),
    ([("what is open", THREE)], "bring the last one to front", 'bring "Clock" to front'),
    ([("what is open", LISTING)], "close number 2", 'close "Ledger"'),
    ([("what is open", LISTING)], "close the third",
     "? Which one do you mean: 1. Notes, 2. Ledger?"),
    ([("what is open", "Open: 1. Diary, 2. Notes.")], "close the first",
     "? Do you mean Notes?"),
    (["open Notes"], "close the second", WHICH),
    (["move Ledger and Notes left"], "close the second one", 'close "Notes"'),
    ([("list instruments", GAMES)], "play the first one", 'play "Sisyphus\'s Ascent"'),
    ([("list instruments", GAMES)], "play the last game with stake 3",
     'play "SpinForge" with stake 3'),
    ([("list instruments", GAMES), ("what is open", LISTING)], "play the second",
     'play "Oracle of Delphi"'),
    ([("what is open", LISTING)], "the second one", '? What should I do with "Ledger"?'),
    ([("what is open", LISTING), "the second one"], "close it", 'close "Ledger"'),
    ([("what is open", LISTING), "the second one"], "close", 'close "Ledger"'),
    # Attributes.
    ([], "close the left one", 'close "Notes"'),
    ([], "close the middle one", 'close "Ledger"'),
    ([], "close the biggest", 'close "Clock"'),
    ([], "close the one in front", 'close "Clock"'),
    ([], "close the one behind", 'close "Notes"'),
    ([], "close the top one", "? Which one do you mean: 1. Notes, 2. Ledger, 3. Clock?"),
    (["move Ledger up", "how am I"], "close the one I just moved", 'close "Ledger"'),
    (["open Diary", "move Ledger up"], "close the one I opened", WHICH),
    (["open Diary", "open Notes", "close Diary"], "open the one I closed", 'open "Diary"'),
    ([], "close the safe", WHICH.replace("? ", "? There is no safe. ", 1)),
    # The other one, them.
    ([("what is open", LISTING), "move the first one up"], "close the other one", 'close "Ledger"'),
    (["open Notes", "open Ledger"], "close the other", 'close "Notes"'),
    ([("what is open", THREE), "open Clock"], "close the other one",
     "? Which one do you mean: 1. Notes, 2. Ledger?"),
    ([("what is open", THREE)], "close them", 'close "Notes", "Ledger", "Clock"'),
    (["open Notes", "open Ledger"], "move both of them right", 'move "Notes", "Ledger" by 100, 0'),
    ([], "close everything", 'close "Clock", "Ledger", "Notes"'),
    ([], "close all but the clock", 'close "Ledger", "Notes"'),
    (["open Notes"], "close the others", 'close "Clock", "Ledger"'),
    ([("list instruments", GAMES)], "play them",
     "? Which one do you mean: 1. Sisyphus's Ascent, 2. Oracle of Delphi, 3. SpinForge?"),
    # Ellipsis.
    (["move Notes left"], "and the ledger one?", 'move "Ledger" by -100, 0'),
    (["move Notes left"], "great, and the clock", 'move "Clock" by -100, 0'),
    (["move Notes left"], "the clock too", 'move "Clock" by -100, 0'),
    (["open Notes", "how am I"], "bigger", 'resize "Notes" to 125, 125 percent'),
    (["open Notes"], "a bit more left", 'move "Notes" by -40, 0'),
    (["move Notes left"], "a bit more", 'move "Notes" by -40, 0'),
    (["make Notes wider"], "a bit more", 'resize "Notes" to 110, 100 percent'),
    (["make Notes much bigger"], "the other way", 'resize "Notes" to 65, 65 percent'),
    (["open Notes"], "the other way", f"? {NO_OTHER_WAY}"),
    (["play SpinForge"], "with 10", 'play "SpinForge" with stake 10'),
    ([], "bigger", WHICH),
    # Again.
    (["open Notes", "move it right by 9"], "again", 'move "Notes" by 9, 0'),
    (["play SpinForge with stake 4", "help", "how am I"], "do it again",
     'play "SpinForge" with stake 4'),
    (["play SpinForge", "open Notes"], "play again", 'play "SpinForge"'),
    (["play SpinForge"], "again with 5", 'play "SpinForge" with stake 5'),
    (["open Notes", "move it up", "open Ledger"], "move it again", 'move "Notes" by 0, -100'),
    (["how am I"], "the same", "status"),
    (["play SpinForge with 50"], "thanks a lot", "never mind"),
    (["play SpinForge with 50"], "thank you so much", "never mind"),
    (["play SpinForge with 50"], "no more", "never mind"),
    (["play SpinForge with 50"], "no thanks a lot", "never mind"),
    (["play SpinForge with 50"], "a bit more", f"? {NOT_UNDERSTOOD}"),
    (["play SpinForge with 50"], "so far", f"? {NOT_UNDERSTOOD}"),
    (["play SpinForge with 50"], "wait a bit", f"? {NOT_UNDERSTOOD}"),
    (["move clock left", "play SpinForge"], "no, not that far", f"? {NOT_UNDERSTOOD}"),
    (["play SpinForge with 10"], "play it again", 'play "SpinForge" with stake 10'),
    (["play SpinForge", *["again"] * 7], "once more", 'play "SpinForge"'),
    (["open Notes", *["move it left"] * 6], "close it", 'close "Notes"'),
    (["close Safe"], "again", f"? {NOTHING_TO_REPEAT}"),  # it was refused
    ([], "again", f"? {NOTHING_TO_REPEAT}"),
    (["help"], "again", f"? {NOTHING_TO_REPEAT}"),
    (["close it"], "again", f"? {NOTHING_TO_REPEAT}"),
    # Taking back.
    (["open Notes", "move it left", "how am I"], "undo that", "undo turn 2"),
    (["open Notes", "move it left", "undo"], "undo", "undo turn 1"),
    (["open Notes", "move it left", "undo"], "again", "undo turn 1"),
    (["open Notes", "move it left", "undo"], "close it", 'close "Notes"'),
    (["move Ledger up", "move Notes left"], "undo the ledger one", "undo turn 1"),
    ([], "undo the one before", f"? {NOTHING_TO_TAKE_BACK}"),
    (["open Notes", "move it left", "undo"], "undo the one before", "undo turn 1"),
    (["open Notes", "move it left"], "undo the one before", "undo turn 1"),
    (["open Notes", "move it left"], "undo both", f"? {CANNOT[UNDO_MANY]}"),
    (["open Notes", "undo"], "redo", "undo turn 2"),
    (["open Notes", "undo", "redo"], "undo", "undo turn 1"),
    (["move Ledger up", "move Notes left", "no, the clock", "undo"], "undo", "undo turn 1"),
    (["move Notes left", "no, the clock", "undo"], "the other way", f"? {NOTHING_TO_REPEAT}"),
    (["move Ledger up", "move Notes left", ("undo", not_done("It has gone."))], "undo",
     "undo turn 1"),
    (["move Notes left", "undo", "move Ledger up"], "again", 'move "Ledger" by 0, -100'),
    (["move Notes left", "undo"], "move it again", f"? {NOTHING_TO_REPEAT}"),
    (["move Notes left", "move the clock left"], "undo moving notes", "undo turn 1"),
    (["move Notes left", "move the clock left"], "undo the last move of notes", "undo turn 1"),
    (["move Notes left", "make notes bigger"], "move it back", "undo turn 1"),
    (["move Notes left", "close Diary"], "undo closing notes", f"? {NOTHING_TO_TAKE_BACK}"),
    (["move Notes left", "move it up"], "undo the last 2", f"? {CANNOT[UNDO_MANY]}"),
    (["close Diary", "move Notes left"], "undo the one I closed", f"? {NOTHING_TO_TAKE_BACK}"),
    (["open Notes", "undo", "redo"], "again", f"? {NOTHING_TO_REPEAT}"),
    (["move Ledger up", "move Notes left"], "undo the first one", f"? {NOTHING_TO_TAKE_BACK}"),
    (["move Notes left", "make me a sandwich"], "undo", "undo turn 1"),
    (["move Notes left", "open notes at 100 100"], "undo", "undo turn 1"),
    (["open Notes", "undo", "move Notes up"], "redo", f"? {NOTHING_TO_REPEAT}"),
    (["open Notes", "undo"], "undo", f"? {NOTHING_TO_TAKE_BACK}"),
    ([("open Notes", not_done("No."))], "undo", f"? {NOTHING_TO_TAKE_BACK}"),
    (["open Notes", "play SpinForge"], "undo", f"? {A_PLAY_STANDS}"),
    # Corrections.
    (["move Notes left"], "no, the clock", '4 move "Clock" by -100, 0'),
    (["close Diary"], "no, make it bigger", '4 resize "Diary" to 125, 125 percent'),
    (["move Notes up"], "no, the left one", '4 move "Ledger" by 0, -100'),
    (["move Notes left"], "no, right", '4 move "Notes" by 100, 0'),
    (["move Notes left"], "no, move it up", '4 move "Notes" by 0, -100'),
    (["move Notes left"], "not Notes but the clock", '4 move "Clock" by -100, 0'),
    (["move Notes left"], "the clock instead", '4 move "Clock" by -100, 0'),
    (["move Notes left", "move Ledger left"], "no, the other one", '4 move "Notes" by -100, 0'),
    (["move Notes left"], "no", f"? {INSTEAD_WHAT}"),
    (["move Notes left", "no"], "the clock", '4 move "Clock" by -100, 0'),
    (["move Notes left", "no, the clock"], "undo", "undo turn 2"),
    (["play SpinForge with 3"], "no, the oracle", f"? {A_PLAY_STANDS_SAY_IT}"),
    (["raise the ledger", "raise Notes"], "no, the other one", '4 bring "Ledger" to front'),
    (["close it"], "tidy up instead", "tidy windows"),
    (["move Notes left"], "wait a bit", f"? {NOT_UNDERSTOOD}"),
    (["move Notes left"], "no, a bit", '4 move "Notes" by -40, 0'),
    (["move Notes left"], "no, the other way", '4 move "Notes" by 100, 0'),
    (["make Notes bigger"], "no, the other way", '4 resize "Notes" to 80, 80 percent'),
    (["move Notes left"], "no, 100 200", '4 move "Notes" to 100, 200'),
    (["make Notes bigger"], "no, 300 200", '4 resize "Notes" to 300 by 200'),
    (["raise Notes"], "no, 300 200", f"? {NOT_UNDERSTOOD}"),
    (["move Notes left"], "no, maximize it", f"? {CANNOT[FULL_SCREEN]}"),
    (["move Notes left"], "no, to the bottom", f"? {CANNOT[FAR_EDGE]}"),
    (["move Notes left"], "no, what is open?", "list windows"),
    (["move Notes left", "no, move"], "up", '4 move "Notes" by 0, -100'),
    (["move Notes left", "move Ledger left", "undo"], "no, the other one", f"? {NOT_UNDERSTOOD}"),
    (["raise Notes"], "and back", WHICH.replace("? ", "? There is no back. ", 1)),
    (["move Ledger left"], "close Notes, not the clock", 'close "Notes"'),
    (["move Ledger left"], "he said no. close the clock", f"? {NOT_UNDERSTOOD}"),
    (["move Notes left"], "actually, close it", 'close "Notes"'),
    ([], "no, the clock", f"? {NOT_UNDERSTOOD}"),
    # Answers to a question.
    ([("what is open", LISTING), "close it"], "the second one", 'close "Ledger"'),
    ([("what is open", LISTING), "close it"], "ledger", 'close "Ledger"'),
    ([("what is open", LISTING), "close it"], "2", 'close "Ledger"'),
    ([("what is open", LISTING), "close it"], "both", 'close "Notes", "Ledger"'),
    ([("what is open", LISTING), "close it"], "the right one", 'close "Ledger"'),
    ([("what is open", LISTING), "move it up by 8", "that one"], "Notes",
     'move "Notes" by 0, -8'),
    (["close"], "Notes", 'close "Notes"'),
    (["move Notes"], "300, 200", 'move "Notes" to 300, 200'),
    (["resize Notes"], "300 200", 'resize "Notes" to 300 by 200'),
    (["move Notes left", "move Ledger"], "a bit", f"? {NOT_UNDERSTOOD}"),
    (["close Ledger and zzz"], "the clock", 'close "Ledger", "Clock"'),
    ([("what is open", THREE), "close it"], "both",
     "? Which one do you mean: 1. Notes, 2. Ledger, 3. Clock?"),
    (["play"], "the oracle with 5", 'play "Oracle of Delphi" with stake 5'),
    (["move Notes"], "left", 'move "Notes" by -100, 0'),
    (["move Notes"], "to 3 4", 'move "Notes" to 3, 4'),
    (["resize Notes"], "bigger", 'resize "Notes" to 125, 125 percent'),
    ([("what is open", LISTING), "close it"], "Clock", 'close "Clock"'),
    ([("what is open", LISTING), "close it"], "Diary", f"? {NOT_UNDERSTOOD}"),
    ([("what is open", LISTING), "close it"], "open Clock", 'open "Clock"'),
    ([("what is open", LISTING), "close it"], "never mind", "never mind"),
    ([("open Foo", 'There is no "Foo". ' + which_one(["Notes", "Ledger"]))], "the first",
     'open "Notes"'),
    ([("open Foo", which_one(["Notes", "Ledger"]))], "close it",
     "? Which one do you mean: 1. Notes, 2. Ledger?"),
    ([("open Foo", which_one(["Notes"]))], "again", f"? {NOTHING_TO_REPEAT}"),
    ([("open Foo", which_one(["Notes"]))], "yes", 'open "Notes"'),
    # Nothing to make of it.
    ([], "", f"? {NOT_UNDERSTOOD}"),
    (["open Notes"], "make me a sandwich", f"? {NOT_UNDERSTOOD}"),
    ([], 'open ""', "? Which one do you mean? Please say its name."),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "text", "expected"), CONVERSATIONS)
def test_conversation(lines: list[Line], text: str, expected: str) -> None:
    """After these lines the text comes to this command, or to this question."""
    resolved = resolve(text, talk(*lines, on=EARLIER), DESK)
    corrected = expected.removeprefix("4 ")
    assert said(resolved) == corrected
    assert (resolved.takes_back is not None) == (corrected != expected)


def test_a_title_wins_over_words_and_the_words_over_nothing() -> None:
    """ "The notes": the window of that title, else the only one with the word, else a question."""
    of_that_title = canvas("Notes", "Work notes")
    assert said(resolve("close the notes", (), of_that_title)) == 'close "Notes"'
    assert said(resolve("close the work one", (), of_that_title)) == 'close "Work notes"'
    two = canvas("Home notes", "Work notes")
    assert resolve("close the notes", (), two).candidates == ("Home notes", "Work notes")
    spoken = talk("move the work notes up", on=two)
    assert said(resolve("close the notes", spoken, two)) == 'close "Work notes"'


def test_of_two_windows_the_other_is_the_one_that_was_not_spoken_of() -> None:
    """Nothing has been listed, and one alone was named."""
    two = canvas("Notes", "Clock")
    assert said(resolve("close the other one", talk("raise Notes", on=two), two)) == 'close "Clock"'


def test_titles_of_other_letters_are_not_all_alike() -> None:
    """ "The other one" among them is not the first that comes."""
    on = canvas("Заметки", "Часы", "Ledger")
    resolved = resolve("no, the other one", talk("move Заметки left", on=on), on)
    assert resolved.candidates == ("Ledger", "Часы")


def test_what_was_closed_leaves_its_kind_behind() -> None:
    """ "The other one" is the other of that kind, though the closed one cannot be asked."""
    desk = canvas("Paris", "Tokyo", "Ledger")
    kinds = zip(desk.windows, ("clock", "clock", "ledger"), strict=True)
    clocks = replace(desk, windows=tuple(replace(each, type=kind) for each, kind in kinds))
    turns = talk("move the ledger up", ("close Paris", "Closed Paris (clock)."), on=clocks)
    left = replace(clocks, windows=clocks.windows[1:])
    assert said(resolve("no, the other one", turns, left)) == 'close "Tokyo"'


def test_a_deed_to_very_many_can_be_taken_back() -> None:
    """Its response says how many, since all their names would be cut."""
    many = canvas(*("x" * 100 + str(number) for number in range(90)))
    resolved = resolve("close everything", (), many)
    response = response_for("close everything", resolved, "Closed 90 windows.")
    assert response == "Understood: close 90 windows.\nClosed 90 windows."
    turn = Turn(7, "close everything", response)
    assert said(resolve("undo", (turn,), canvas())) == "undo turn 7"
    assert resolve("again", (turn,), canvas()).intent is None


def test_a_number_is_the_place_that_was_read_out() -> None:
    """Whatever has been closed by hand since."""
    turns = talk("close it", on=DESK)
    left = replace(DESK, windows=DESK.windows[:2])
    assert resolve("1", turns, left).candidates == ("Ledger", "Notes")
    assert said(resolve("3", turns, left)) == 'close "Notes"'
    alone = replace(DESK, windows=DESK.windows[:1])
    assert resolve("yes", turns, alone).intent is None


def test_a_title_wins_over_a_place_and_over_a_number() -> None:
    """Words for a thing are its title first."""
    sides = canvas("Right clock", "Left clock", "Right")
    assert said(resolve("close the left clock", (), sides)) == 'close "Left clock"'
    assert said(resolve("close right", (), sides)) == 'close "Right"'
    numbered = canvas("Notes", "Notes 2")
    assert said(resolve("move notes 2 left", (), numbered)) == 'move "Notes 2" by -100, 0'
    music = canvas("Rock and Roll", "Rock", "Roll")
    assert said(resolve("close roll and rock", (), music)) == 'close "Roll", "Rock"'
    assert said(resolve("close rock and roll", (), music)) == 'close "Rock and Roll"'


def test_of_many_windows_none_is_read_out() -> None:
    """More than nine candidates are no short question."""
    many = canvas(*(f"W{number}" for number in range(10)))
    resolved = resolve("close it", (), many)
    assert resolved.question == "Which one do you mean? Please say its name."
    assert said(resolve("W7", talk("close it", on=many), many)) == 'close "W7"'


def test_an_empty_canvas_says_so() -> None:
    """There is nothing to ask back."""
    assert said(resolve("close everything", (), canvas())) == "? Nothing is open."
    assert said(resolve("close Notes", (), canvas())) == "? There is no Notes. Nothing is open."


def test_the_only_window_is_it_unless_what_was_spoken_of_has_gone() -> None:
    """Who says "it" of a window that was closed by hand does not mean another."""
    alone = canvas("Clock")
    assert said(resolve("close it", (), alone)) == 'close "Clock"'
    spoken = talk("open Notes", on=alone)
    assert resolve("close it", spoken, alone).candidates == ("Clock",)


def test_resolved_says_what_a_reference_came_to_and_where_from() -> None:
    """The API's `resolved` member names intent, arguments, and each reference with its turn."""
    turns = talk("help", "open Notes", "how am I", on=DESK)
    resolved = resolve("move it right by 100", turns, DESK)
    assert json.loads(json.dumps(resolved.as_dict())) == {
        "intent": "canvas.move",
        "arguments": {"microApps": ["Notes"], "dx": 100, "dy": 0},
        "references": [{"phrase": "it", "value": "Notes", "why": "pronoun", "seq": 2}],
        "question": None,
        "candidates": [],
        "takesBack": None,
    }


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("close it", Reference("it", "Ledger", "pronoun", 2)),
        ("close this window", Reference("this window", "Ledger", "pronoun", 2)),
        ("close the left one", Reference("the left one", "Notes", "attribute")),
        ("close the other one", Reference("the other one", "Notes", "other", 2)),
        ("close both", Reference("both", "Notes, Ledger", "set", 2)),
        ("and the clock?", Reference("the clock", "Clock", "ellipsis")),
        ("bigger", Reference("bigger", "Ledger", "ellipsis", 2)),
        ("again", Reference("again", 'move "Ledger" by 0, -100', "repetition", 2)),
        ("undo", Reference("undo", 'move "Ledger" by 0, -100', "undo", 2)),
        ("no, the clock", Reference("the clock", "Clock", "repair")),
    ],
)
def test_each_reference_says_why(text: str, reference: Reference) -> None:
    """The phrase, what it came to, the rule, and the turn that says so, if one does."""
    turns = talk("open Notes", "move Ledger up", on=DESK)
    assert reference in resolve(text, turns, DESK).references


def test_an_unsettled_command_says_so() -> None:
    """It has no intent and no reference, but a question and its candidates."""
    assert resolve("close it", (), DESK).as_dict() == {
        "intent": None,
        "arguments": {},
        "references": [],
        "question": WHICH.removeprefix("? "),
        "candidates": ["Clock", "Ledger", "Notes"],
        "takesBack": None,
    }


def test_a_response_tells_the_user_what_was_understood() -> None:
    """A response to a reference begins with the command it came to, and what that corrects."""
    turns = talk("open Notes", on=DESK)
    response = response_for("close it", resolve("close it", turns, DESK), "Closed.")
    assert response == 'Understood: close "Notes".\nClosed.'
    response = response_for("no, the clock", resolve("no, the clock", turns, DESK), "Opened.")
    assert response == 'Understood: instead of turn 1, open "Clock".\nOpened.'


@pytest.mark.parametrize("text", ["open Notes", "close the clock", "move ledger left 7", "tidy up"])
def test_a_response_without_reference_is_the_answer_itself(text: str) -> None:
    """Nothing is echoed where the command says all by itself, blind to case and article."""
    assert response_for(text, resolve(text, (), DESK), "Done.") == "Done."


def test_turns_beyond_the_window_are_not_read() -> None:
    """What the cached list would no longer hold does not count, even when it is passed in."""
    old = Turn(1, "open Notes", "Done.")
    newer = tuple(Turn(seq, "help", "Done.") for seq in range(6, 1, -1))
    assert resolve("close it", (*newer, old), DESK).intent is None
    assert resolve("close it", (*newer[1:], old), DESK).intent is not None


histories = st.lists(
    st.builds(
        Turn,
        seq=st.integers(1, 9),
        command=st.one_of(
            st.text(),
            st.sampled_from(
                ["open A", "close it", "again", "the 2nd", "no, B", "undo", "undo turn 3", "bigger"]
            ),
        ),
        response=st.one_of(
            st.text(),
            st.sampled_from(
                [
                    LISTING,
                    which_one(["A", "B"]),
                    'Understood: move "A" by 1, 2.\nDone.',
                    "Understood: undo turn 2.\nDone.",
                    'Understood: instead of turn 1, close "A".\nDone.',
                    'Where should I move "A"?',
                ]
            ),
        ),
    ),
    max_size=6,
)
words = st.sampled_from(
    ["open", "move", "it", "the", "second", "one", "again", "left", "by", "7", '"', " ", "other",
     "play", "with", "stake", "please", ",", "to", "-3", "\\", "“", "them", "and", "\n", "Ξ", "no",
     "undo", "bigger", "a bit", "more", "not", "instead", "of", "all", "but", "A", "close", "x",
     "redo", "maximize", "hide", "300 200", "the other way", "both", "raise", "tile", "resize",
     "back", "yes", "what is open", "the one before", "50% wider", "first", "never mind", "thanks",
     "?", "B", "Notes"]
)  # fmt: skip
any_text = st.one_of(st.text(max_size=4000), st.lists(words).map(" ".join))
canvases = st.lists(st.sampled_from(["A", "B", "Notes", "it", "2", ""]), unique=True).map(
    lambda titles: canvas(*titles)
)


@given(any_text, histories, canvases)
def test_any_text_comes_to_an_intent_or_a_question(
    text: str, turns: list[Turn], on: Canvas
) -> None:
    """No text raises; each comes to exactly one of both, and to plain data."""
    resolved = resolve(text, turns, on)
    assert (resolved.intent is None) != (resolved.question is None)
    json.dumps(resolved.as_dict())


@given(st.lists(words, max_size=6).map(" ".join), histories, canvases)
def test_nothing_resolves_to_what_is_not_there(text: str, turns: list[Turn], on: Canvas) -> None:
    """What an intent acts on is open now, or comes back with what is taken back; what it opens or
    plays has been named. No turn is spoken of that is not one of the last five."""
    resolved = resolve(text, turns, on)
    recent = turns[:5]
    texts = [text, *(words for each in recent for words in (each.command, each.response))]
    told = " ".join(" ".join(texts).split()).casefold()
    escaped = "\\" in told  # a quoted name may be written in JSON's escapes
    there = {name for w in on.windows for name in (w.name, w.id)}
    intent = resolved.intent or Intent("")
    for name in intent.names:
        is_told = " ".join(name.split()).casefold() in told or escaped
        comes_back = resolved.takes_back is not None and is_told
        opens = intent.name == "canvas.open" and is_told
        playable = intent.name == "klepsydra.play" and name in on.instruments
        assert name in there or comes_back or opens or playable or name in on.micro_apps
    seqs = {each.seq for each in recent}
    assert seqs >= {each.seq for each in resolved.references if each.seq is not None}
    assert resolved.takes_back is None or resolved.takes_back in seqs


@settings(deadline=None)
@given(st.lists(words, min_size=1, max_size=3), st.sampled_from(["", " "]))
def test_four_thousand_characters_take_no_time(parts: list[str], glue: str) -> None:
    """The longest command, however repetitive, is read in well under the budget of a command."""
    text = (glue.join(parts) + glue) * 4000

    def seconds() -> float:
        started = time.thread_time()
        resolve(text[:4000], talk(("what is open", LISTING), on=DESK), DESK)
        return time.thread_time() - started

    # What takes long by itself does so each time.
    assert any(seconds() < 0.1 for _ in range(3))


@given(st.lists(words, max_size=6).map(" ".join), histories, canvases)
def test_an_intent_written_out_parses_to_itself(text: str, turns: list[Turn], on: Canvas) -> None:
    """The echo in a response says the same without any turn."""
    intent = resolve(text, turns, on).intent
    if intent is not None and intent.name != "beep.undo":
        there = Canvas(on.windows, on.micro_apps, on.instruments)
        again = resolve(canonical(intent), (), there).intent
        assert again == intent or (again is None and not set(intent.names) <= _names(on))


def _names(on: Canvas) -> set[str]:
    return {window.name for window in on.windows}


@given(st.lists(st.text(min_size=1), min_size=2, max_size=8, unique_by=str.casefold), st.data())
def test_any_listed_name_can_be_pointed_at(names: list[str], data: st.DataObject) -> None:
    """Whatever the windows are called, "the n-th one" of the list is that very name."""
    number = data.draw(st.integers(1, len(names)))
    on = canvas(*names)
    turns = talk(("what is open", f"Open: {enumerated(names)}."), on=on)
    intent = resolve(f"close the {number}th one", turns, on).intent
    assert intent is not None
    assert intent.names == (names[number - 1],)


@given(st.lists(st.text(min_size=1), min_size=2, max_size=5, unique_by=str.casefold))
def test_an_ambiguous_reference_lists_every_candidate(names: list[str]) -> None:
    """With several windows in sight "it" is never one of them, but a question naming them all."""
    on = canvas(*names)
    resolved = resolve("close it", talk(("what is open", enumerated(names)), on=on), on)
    assert resolved.intent is None
    assert resolved.question == f"Which one do you mean: {enumerated(names)}?"
