"""Every canvas intent says how to take it back; taking back touches nothing that came after."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aevon.intents import IntentRefused
from auth_sessions.models import User
from canvas import services
from canvas.intents import _handler
from canvas.layout import empty_layout, inverse, merge_patch
from canvas.plans import plan_front
from tests.canvas.helpers import done, patch, put, take_back, window

pytestmark = pytest.mark.django_db

leaves = st.integers(-3, 3) | st.text("ab", max_size=2)
names = st.sampled_from(["a", "b", "c"])
objects = st.recursive(leaves, lambda inner: st.dictionaries(names, inner), max_leaves=8)
patches = st.recursive(
    leaves | st.none(), lambda inner: st.dictionaries(names, inner), max_leaves=8
)
numbers = st.integers(-2000, 5000) | st.floats(-2000, 5000, width=16)
sides = st.integers(1, 5000) | st.floats(1, 5000, width=16)
ids = st.sampled_from(["notes", "clock", "x", "y", "z"])
windows = st.fixed_dictionaries(
    {
        "type": st.just("note"),
        "title": st.sampled_from(["Notes", "Clock", "", "X"]),
        "position": st.fixed_dictionaries({"x": numbers, "y": numbers}),
        "size": st.fixed_dictionaries({"width": sides, "height": sides}),
        "zIndex": st.sampled_from([-(2**31), -1, 0, 1, 2, 2**31]),
    }
)
layouts = st.dictionaries(ids, windows, max_size=5)
steps = st.integers(-200, 200)
arguments: Any = st.one_of(
    *(st.tuples(st.just(each), st.just({})) for each in ("open", "close", "front", "back")),
    st.tuples(st.just("open"), st.just({})),
    st.tuples(st.just("move"), st.fixed_dictionaries({"dx": steps, "dy": steps})),
    st.tuples(st.just("move"), st.fixed_dictionaries({"y": steps})),
    st.tuples(st.just("resize"), st.fixed_dictionaries({"widthPercent": st.integers(1, 300)})),
    st.tuples(st.just("resize"), st.fixed_dictionaries({"width": sides, "height": sides})),
    st.tuples(st.sampled_from(["tile", "tidy"]), st.just({})),
)


@given(target=st.dictionaries(names, objects), change=st.dictionaries(names, patches))
def test_an_inverse_patch_takes_the_patch_back(target: Any, change: Any) -> None:
    """Whatever is added, changed or removed, at any depth."""
    assert merge_patch(merge_patch(target, change), inverse(target, change)) == target


@given(
    layout=layouts,
    asked=arguments,
    named=st.lists(ids | st.just("new"), min_size=1, max_size=3, unique=True),
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_taking_an_intent_back_gives_the_layout_back(
    user: User, layout: Any, asked: Any, named: list[str]
) -> None:
    """To the last member; and taking that back gives what the intent did."""
    intent, more = asked
    put(user.pk, **layout)
    if intent != "open":
        named = [each for each in named if each in layout] or list(layout)
    try:
        did = done(user.pk, intent, *named, **more)
    except IntentRefused:
        assert services.live(user.pk).layout["microApps"] == layout
        return
    after = services.live(user.pk).layout
    if after["microApps"] == layout:  # such as a move to where it was
        with pytest.raises(IntentRefused, match="everything is as it was"):
            take_back(user.pk, did)
        return
    undone = take_back(user.pk, did)
    assert services.live(user.pk).layout["microApps"] == layout
    take_back(user.pk, undone)
    assert services.live(user.pk).layout == after


def test_what_was_taken_back_is_told(user: User) -> None:
    """In words that say what happened to which window."""
    patch(user.pk, notes=window(zIndex=2), clock=window(title="Clock"))
    closed = done(user.pk, "close", "Clock")
    back = take_back(user.pk, closed)
    assert back.answer == "Clock is back."
    assert take_back(user.pk, back).answer == "Closed Clock again."
    moved = done(user.pk, "move", "Notes", x=5)
    assert take_back(user.pk, moved).answer == "Put Notes back."
    opened = done(user.pk, "open", "Notes", "Ledger", "Psyche")
    assert take_back(user.pk, opened).answer == "Put Notes back. Closed Ledger and Psyche again."
    done(user.pk, "open", "Clock")
    both = done(user.pk, "close", "Notes", "Clock")
    assert take_back(user.pk, both).answer == "Notes and Clock are back."


def test_of_many_windows_the_number_is_told(user: User) -> None:
    """Nobody reads twelve names."""
    put(user.pk, **{f"w{number}": window(title=f"W{number}") for number in range(12)})
    assert take_back(user.pk, done(user.pk, "tile")).answer == "Put 12 windows back."


def test_what_came_since_is_not_touched(user: User) -> None:
    """Each kind of undoing that nothing is left of says why, and changes nothing."""
    patch(user.pk, notes=window(), clock=window(title="Clock"))
    opened = done(user.pk, "open", "Ledger")
    moved = done(user.pk, "move", "Notes", dx=5)
    closed = done(user.pk, "close", "Clock")
    nothing = done(user.pk, "move", "Notes", x=15)
    newer = window(title="Clock", zIndex=9)
    patch(user.pk, ledger=None, clock=newer)
    _refused(user, nothing, "everything is as it was")
    _refused(user, opened, "what was opened is closed already")
    _refused(user, closed, "what was closed is open again")
    patch(user.pk, notes=None)
    _refused(user, moved, "what was changed is closed by now")
    assert services.live(user.pk).layout["microApps"] == {"clock": newer}


def _refused(user: User, what: Any, why: str) -> None:
    revision = services.live(user.pk).revision
    with pytest.raises(IntentRefused) as refusal:
        take_back(user.pk, what)
    assert str(refusal.value) == f"That cannot be taken back any more: {why}."
    assert services.live(user.pk).revision == revision


def test_what_is_left_of_an_undoing_is_done(user: User) -> None:
    """The rest is told; only what the intent had changed goes back."""
    patch(user.pk, notes=window(), clock=window(title="Clock"))
    moved = done(user.pk, "move", "Notes", "Clock", dx=5)
    patch(user.pk, clock=None, notes={"position": {"y": 99}, "title": "Mine"})
    assert take_back(user.pk, moved).answer == (
        "Put Mine back. The rest cannot be taken back any more: what was changed is closed by now."
    )
    assert services.live(user.pk).layout["microApps"] == {
        "notes": window(title="Mine", position={"x": 10, "y": 99})
    }


def test_a_full_canvas_takes_nothing_back_in(user: User) -> None:
    """It says what to do, as for an opening."""
    put(user.pk, **{f"a{number}": window(title=f"A{number}") for number in range(500)})
    closed = done(user.pk, "close", "A7")
    patch(user.pk, one_more=window())
    with pytest.raises(IntentRefused, match=r"500 windows are open\. Close one first\."):
        take_back(user.pk, closed)


def test_the_undoing_is_of_the_layout_that_was_changed(user: User) -> None:
    """Somebody raises the window while the command is on its way: it goes back to there."""
    patch(user.pk, notes=window())
    asked: list[Any] = []

    def beaten(apps: Any, given: Any) -> Any:
        asked.append(apps["notes"]["zIndex"])
        if len(asked) == 1:
            patch(user.pk, notes={"zIndex": 7})
        return plan_front(apps, given)

    did = _handler(beaten)(user.pk, {"microApps": ["Notes"]})
    assert asked == [1, 7]
    assert did.undo is not None
    assert did.undo.arguments == {"microApps": {"notes": {"zIndex": 7}}}


def test_undoing_works_with_the_cache_away(user: User, cache_away: Any) -> None:
    """The row takes it."""
    with cache_away():
        take_back(user.pk, done(user.pk, "open", "Notes"))
        assert services.live(user.pk).layout == empty_layout()
