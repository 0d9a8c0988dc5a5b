"""The measure itself: what is wrong is scored wrong, what is malformed is refused."""

from typing import Any

import pytest
import yaml

from tests.beep import evaluation
from tests.beep.evaluation import Expect, Heard, WrongFormat, check_shares, judge, read, score

WINDOWS = {"notes": "Notes", "shop": "List", "office": "List", "clock": "Clock", "c": "Shop"}
ASK: dict[str, Any] = {"intent": None, "arguments": {}, "question": "Which one do you mean?"}


def did(intent: str, **arguments: Any) -> dict[str, Any]:
    """`resolved`, where something was done."""
    return {"intent": intent, "arguments": arguments, "question": None, "candidates": []}


def heard(resolved: dict[str, Any], *before: Heard, text: str = "close it", **more: Any) -> Heard:
    """A command that came to this; the n-th one is given seq 10 + n."""
    return Heard(text, 11 + len(before), "Done.", resolved, WINDOWS, before, **more)


def say(*turns: Any, **members: Any) -> str:
    """A file of one dialogue."""
    return yaml.safe_dump([{"id": "set-001", "canvas": ["Notes"], "turns": [*turns], **members}])


NOTES = Expect("canvas.close", {"microApps": ("Notes",)})
MOVE = Expect("canvas.move", {"microApps": ("notes",), "dx": 100, "dy": 0})
PLAY = Expect("klepsydra.play", {"instrument": "Oracle of Delphi"})
LISTS = Expect(ask=("shop", "office"))
TWICE = Expect("canvas.close", {"microApps": ("Notes",)}, takes_back=1)
FIRST = heard(did("canvas.open", microApps=["Notes"]))


@pytest.mark.parametrize(
    ("expect", "resolved", "verdict"),
    [
        (NOTES, did("canvas.close", microApps=["NOTES"]), "right"),
        (NOTES, did("canvas.close", microApps=["Clock"]), "wrong target"),
        (NOTES, did("canvas.close", microApps=["Notes", "Clock"]), "wrong target"),
        (NOTES, did("canvas.close"), "wrong target"),
        (NOTES, did("canvas.front", microApps=["Notes"]), "wrong intent"),
        (NOTES, ASK | {"candidates": ["Notes", "Clock"]}, "asked instead"),
        (NOTES, ASK, "asked instead"),
        (NOTES, ASK | {"question": "I did not understand that?"}, "not understood"),
        (NOTES, {"intent": None}, "not understood"),
        (MOVE, did("canvas.move", microApps=["Notes"], dx=100.0, dy=0), "right"),
        (MOVE, did("canvas.move", microApps=["Notes"], dx=-100, dy=0), "wrong arguments"),
        (MOVE, did("canvas.move", microApps=["Notes"], x=16), "wrong arguments"),
        (PLAY, did("klepsydra.play", instrument="oracle-of-delphi", stake=5), "right"),
        (PLAY, did("klepsydra.play", instrument="SpinForge"), "wrong target"),
        (PLAY, did("klepsydra.play"), "wrong target"),
        (LISTS, ASK | {"candidates": ["office", "shop"]}, "right"),
        (LISTS, ASK | {"candidates": ["office"]}, "other candidates"),
        (LISTS, ASK, "other candidates"),
        (LISTS, did("canvas.close", microApps=["shop"]), "did instead of asking"),
        (Expect(ask=()), ASK, "right"),
        (Expect(ask=()), ASK | {"candidates": ["Notes"]}, "other candidates"),
        (Expect(ask="any"), ASK | {"candidates": ["Notes"]}, "right"),
        (Expect(ask="any"), did("canvas.list"), "did instead of asking"),
        (Expect("canvas.list"), did("canvas.list"), "right"),
        (Expect("canvas.close", {"microApps": ("shop",)}), did("canvas.close", microApps=["List"]),
         "wrong target"),
        (Expect("canvas.close", {"microApps": ("shop",)}), did("canvas.close", microApps=["c"]),
         "wrong target"),
    ],
)  # fmt: skip
def test_an_answer_is_judged(expect: Expect, resolved: dict[str, Any], verdict: str) -> None:
    """Each cell of the confusion table."""
    assert judge(expect, heard(resolved)) == verdict


@pytest.mark.parametrize(
    ("changed", "verdict"), [(False, "right"), (True, "did instead of asking")]
)
def test_what_the_canvas_refused_is_nothing_done(changed: bool, verdict: str) -> None:
    """But only where nothing is what was expected."""
    closed = heard(did("canvas.close", microApps=["Ghost"]), changed=changed)
    assert judge(Expect(ask="any"), closed) == verdict
    assert judge(Expect(ask=()), closed) == "did instead of asking"


def test_turns_are_counted_as_the_database_numbers_them() -> None:
    """`takesBack: 1` is the seq of the dialogue's first command."""
    right = did("canvas.close", microApps=["Notes"]) | {"takesBack": FIRST.seq}
    assert judge(TWICE, heard(right, FIRST)) == "right"
    assert judge(TWICE, heard(right | {"takesBack": None}, FIRST)) == "wrong arguments"
    undo = Expect("beep.undo", {"turn": 1})
    assert judge(undo, heard(did("beep.undo", turn=FIRST.seq), FIRST)) == "right"
    assert judge(undo, heard(did("beep.undo", turn=FIRST.seq + 1), FIRST)) == "wrong target"


def test_a_place_is_read_from_the_question_before() -> None:
    """ "#2" is whatever was listed second."""
    second = Expect("canvas.close", {"microApps": ("#2",)})
    question = heard(ASK | {"candidates": ["office", "shop"]})
    assert judge(second, heard(did("canvas.close", microApps=["shop"]), question)) == "right"
    assert judge(second, heard(did("canvas.close", microApps=["office"]), question)) != "right"
    assert judge(second, heard(did("canvas.close", microApps=["shop"]), FIRST)) != "right"


def test_what_is_off_the_canvas_or_too_far_back_is_found() -> None:
    """Of names, references, what is taken back and what is undone."""
    turns: list[Heard] = []
    for text in ("open Ghost", "a", "b", "c", "d", "e"):
        turns.append(heard(did("beep.help"), *turns, text=text))

    def trespasses(resolved: dict[str, Any], text: str = "close it", count: int = 6) -> int:
        return len(evaluation.trespasses(heard(resolved, *turns[:count], text=text)))

    ghost = did("canvas.close", microApps=["Ghost"])
    assert trespasses(ghost) == 1
    assert trespasses(ghost, count=5) == trespasses(ghost, text="close ghost") == 0
    assert trespasses(did("canvas.close", microApps=["clock", "List"])) == 0
    assert trespasses(did("klepsydra.play", instrument="Oracle of Delphi"), "spin the oracle") == 0
    assert trespasses(did("klepsydra.play", instrument="Oracle of Delphi"), "play") == 1
    for seq, wrong in ((11, 1), (12, 0), (16, 0), (17, 1), (None, 0)):
        assert trespasses(ASK | {"references": [{"seq": seq}]}) == wrong
        assert (
            trespasses(ASK | {"takesBack": seq}) == trespasses(did("beep.undo", turn=seq)) == wrong
        )


def test_a_dialogue_is_right_only_as_a_whole() -> None:
    """One slip spoils it, and the report names it; so does one trespass."""
    close = {"intent": "canvas.close", "microApps": ["Notes"]}
    turn = {"say": "close it", "expect": close}
    (dialogue,) = read(say(turn, turn), "set")
    right, wrong = (
        did("canvas.close", microApps=["Notes"]),
        did("canvas.close", microApps=["Ghost"]),
    )
    first = heard(right)
    good, bad = (score(dialogue, [first, heard(each, first)]) for each in (right, wrong))
    assert (good.right, bad.right) == (True, False)
    assert evaluation.accuracy([good, bad]) == 0.5
    assert "Ghost" in evaluation.report([good, bad])
    short = "\n".join(evaluation.shortfalls([good, bad]))
    assert "overall: 50.0%, not 95%" in short
    assert "set: 50.0%, not 90%" in short
    assert "neither open nor spoken of" in short
    assert not [each for each in evaluation.shortfalls([good]) if "set" in each]


LIST = {"say": "what is open", "expect": {"intent": "canvas.list"}}
SAY = {"say": "close it"}


MALFORMED = [
    ("a: b", "must be a list"),
    ("- [", "no YAML"),
    ("- id: set-001", "lacks turns"),
    (say(SAY, LIST, id="pronoun-001"), "pronoun-001 must be"),
    (say(SAY, LIST, sort="x"), "unknown: sort"),
    (say(SAY, LIST, adversarial="yes"), "true or false"),
    (say(LIST), "1 commands"),
    (say(*[LIST] * 8), "8 commands"),
    (say(SAY, SAY), "expects nothing"),
    (say(LIST, SAY), "ends with no expectation"),
    (say({"say": 2}, LIST), "say must be text"),
    (say({"say": False}, LIST), "say must be text"),
    (say({"says": "x"}, LIST), "lacks say"),
    (say(SAY, LIST, canvas="Notes"), "list of windows"),
    (say(SAY, LIST, canvas=[2]), "must be a mapping"),
    (say(SAY, LIST, canvas=[{"title": "A", "at": [1, "2"]}]), "two whole numbers"),
    (say(SAY, LIST, canvas=[{"title": "A", "id": "a"}, {"title": "B", "id": "a"}]), "the id a"),
    (say({"by_hand": {"close": "Notes", "open": "A"}}, SAY, LIST), "one thing"),
    (say({"by_hand": {"close": "Notes", "to": [1, 2]}}, SAY, LIST), "has a to"),
    (say({"by_hand": {"move": "Notes"}}, SAY, LIST), "has a to"),
    (say({"by_hand": {"close": "Ghost"}}, SAY, LIST), "no Ghost at hand"),
    (say({"by_hand": {"close": "A"}}, SAY, LIST, canvas=["A", "A"]), "which A"),
    (say(SAY, {"say": "x", "expect": {"intent": "canvas.burn"}}), "no such intent"),
    (say(SAY, {"say": "x", "expect": {"intent": "canvas.close"}}), "lacks microApps"),
    (say(SAY, {"say": "x", "expect": {"intent": "beep.undo"}}), "lacks turn"),
    (say(SAY, {"say": "x", "expect": {"intent": "beep.undo", "turn": 2}}), "no turn before"),
    (say(SAY, {"say": "x", "expect": {"intent": "canvas.list", "of": 1}}), "unknown: of"),
    (say(SAY, {"say": "x", "expect": {"intent": "canvas.list", "dx": "1"}}), "whole number"),
    (say(SAY, {"say": "x", "expect": {"ask": "Notes"}}), "list of names"),
    (say(SAY, {"say": "x", "expect": {"ask": ["Ghost"]}}), "nothing is called Ghost"),
    (say(SAY, {"say": "x", "expect": {"ask": [], "intent": "canvas.list"}}), "unknown: intent"),
    (say(SAY, {"say": "play", "expect": {"intent": "klepsydra.play", "instrument": "Dice"}}),
     "no such instrument"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "complaint"), MALFORMED, ids=[what for _, what in MALFORMED])
def test_a_malformed_dialogue_is_refused(text: str, complaint: str) -> None:
    """With the dialogue named, and what is wrong with it."""
    with pytest.raises(WrongFormat, match=complaint) as refused:
        read(text, "set")
    assert str(refused.value).startswith(("set.yaml", "set-001", "pronoun-001"))


def test_too_few_are_refused() -> None:
    """Overall, of a phenomenon, and of what is hard."""
    whole = evaluation.load()
    check_shares(whole)
    without = [each for each in whole if each.phenomenon != "undo"]
    easy = [each for each in whole if not each.adversarial] * 3
    for some, complaint in (
        (whole[:149], "149 dialogues, not 150"),
        (without, "undo: 0 dialogues, not 12"),
        (easy, "less than a third"),
    ):
        with pytest.raises(WrongFormat, match=complaint):
            check_shares(some)


def test_a_folder_is_read_as_a_whole(tmp_path: Any) -> None:
    """No stray file, and no id twice."""
    (tmp_path / "set.yaml").write_text(say(SAY, LIST) * 2)
    with pytest.raises(WrongFormat, match="given twice: set-001"):
        evaluation.load(tmp_path)
    (tmp_path / "jokes.yaml").write_text(say(SAY, LIST))
    with pytest.raises(WrongFormat, match="no such phenomenon: jokes"):
        evaluation.load(tmp_path)
