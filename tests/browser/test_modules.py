"""The page's pure modules, run where they live: in the browser."""

import json
import random

import pytest

# RFC 7396, appendix A: original, patch, result.
RFC = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.fixture
def call(visitor, person):
    """Calls an exported function of a module."""
    page = visitor(person).open().page

    def run(module, name, *arguments):
        path = f"/static/page/{module}.js"
        script = "async ([path, name, all]) => (await import(path))[name](...all)"
        return page.evaluate(script, [path, name, list(arguments)])

    return run


def test_patch_does_what_the_rfc_says(call):
    """All examples of RFC 7396, appendix A."""
    assert [call("patch", "apply", original, patch) for original, patch, _ in RFC] == [
        result for _, _, result in RFC
    ]


def test_composed_patch_is_both_patches_one_after_the_other(call):
    """For whole windows and parts of them, opened, changed and closed in any order."""
    rng = random.Random(7396)
    for _ in range(60):
        target, first, second = layout(rng), patch(rng), patch(rng)
        composed = call("patch", "compose", first, second)
        step = call("patch", "apply", call("patch", "apply", target, first), second)
        assert call("patch", "apply", target, composed) == step, json.dumps([first, second])


def layout(rng):
    return {each: whole(rng) for each in rng.sample("abc", 2)}


def patch(rng):
    """Some windows closed, some replaced whole, some changed where they exist for sure."""
    made = {}
    for each in rng.sample("abcd", rng.randint(0, 3)):
        made[each] = rng.choice([None, whole(rng)])
    return made


def whole(rng):
    return {
        "position": {"x": rng.randint(0, 9), "y": rng.randint(0, 9)},
        "zIndex": rng.randint(1, 5),
    }


@pytest.mark.parametrize(
    ("facts", "tone"),
    [
        ({}, "live"),
        ({"unsaved": 3, "unsavedMs": 290_000}, "live"),
        ({"unsaved": 3, "unsavedMs": 400_000}, "waits"),
        ({"unsaved": 67}, "waits"),
        ({"kept": 1}, "waits"),
        ({"cacheAway": True}, "waits"),
        ({"reach": "troubled", "kept": 1}, "failed"),
        ({"reach": "offline", "unsaved": 67}, "failed"),
    ],
)
def test_dot_is_verdigris_only_while_nothing_waits_too_long(call, facts, tone):
    """A few changes may wait for the next flush; what it left out, and a heap of them, do not."""
    nothing = {"reach": "live", "cacheAway": False, "kept": 0, "unsaved": 0, "unsavedMs": 0}
    assert call("status", "reading", {**nothing, "now": 0, **facts})["tone"] == tone


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3, "just now"), (34, "30 s ago"), (130, "2 min ago"), (7300, "2 h ago")],
)
def test_times_are_said_as_a_person_would(call, seconds, said):
    """Rounded down, in one unit."""
    assert call("words", "ago", 0, seconds * 1000) == said


def test_every_place_in_reach_is_shown_as_stored(call):
    """Only what could not be reached is drawn in."""
    area = {"width": 1440, "height": 844}
    inside = {"x": 13, "y": 700, "width": 320, "height": 240}
    assert call("geometry", "reachable", inside, area) == inside
    huge = {"x": -10, "y": -10, "width": 9000, "height": 9000}
    assert call("geometry", "reachable", huge, area) == {"x": -10, "y": 0, **area}


def test_only_what_a_browser_lets_outlive_its_page_is_sent_that_way(call):
    """Counted in bytes on the wire: a page of emoji has twice as many as JavaScript's letters."""
    assert call("api", "canOutlive", {"text": "a" * 50_000}) is True
    assert call("api", "canOutlive", {"text": "\N{AMPHORA}" * 16_000}) is False


def test_a_response_is_read_as_beep_wrote_it(call):
    """The echo apart from the answer, the names of a question; what only looks so is text."""
    assert call("turns", "parted", 'Understood: move "A. b" by 100, 0.\nMoved it.\nThere.') == {
        "understood": 'move "A. b" by 100, 0',
        "answer": "Moved it.\nThere.",
    }
    corrected = 'Understood: instead of turn 12, close "Notes".\nClosed Notes.'
    assert call("turns", "parted", corrected)["understood"] == 'instead, close "Notes"'
    plain = "Opened Notes.\nUnderstood: nothing."
    assert call("turns", "parted", plain) == {"understood": "", "answer": plain}
    names = ["Notes", "A, b (c)", 'say "1. x"', "Caesar's"]
    listed = '1. Notes (in front), 2. "A, b (c)", 3. "say \\u00221. x\\u0022", 4. Caesar\'s'
    assert call("turns", "offered", f"Which one do you mean: {listed}?") == names
    assert call("turns", "offered", "There is no Nots. Do you mean Notes?") == ["Notes"]
    assert call("turns", "offered", 'Do you mean "A, b (c)"?') == ["A, b (c)"]
    assert call("turns", "offered", f"Open: {listed}.") == []
    assert [json.loads(call("turns", "named", name)) for name in names] == names
    assert all(call("turns", "named", name).count('"') == 2 for name in names)
