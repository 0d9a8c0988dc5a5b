"""What windows are called, and what is opened by a name."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aevon import intents
from auth_sessions.models import User
from beep.phrases import read_enumeration
from canvas import services
from canvas.catalogue import APPS, INSTRUMENT, slug
from canvas.documents import empty
from canvas.intents import windows_of
from canvas.layout import ID
from canvas.naming import Names, front_first, labels
from tests.canvas.helpers import done, live, patch, window
from tests.servers import ROOT

PAGE = ROOT / "aevon/page/static/page/apps"
app_ids = st.sampled_from(["notes", "Notes", "NOTES", "b", "a-b", "my.notes"])
titles = st.sampled_from(["", " ", "Notes", "notes", "B", "a-b", "My  notes", "my notes", "straße"])


@given(titles=st.dictionaries(app_ids, titles), levels=st.lists(st.integers(0, 2), min_size=6))
def test_a_name_means_its_window_alone(titles: dict[str, str], levels: list[int]) -> None:
    """Whatever the ids and titles of the others are; and a name is a title or an id."""
    apps: Any = {
        app_id: window(title=title, zIndex=levels[number])
        for number, (app_id, title) in enumerate(titles.items())
    }
    names = Names(apps)
    assert [names.meant_by(name) for name in labels(apps)] == [[i] for i in front_first(apps)]
    assert all(names.of(i) in (i, apps[i]["title"]) for i in apps)


@pytest.mark.django_db
def test_a_title_that_is_the_id_of_another_is_not_its_name(user: User) -> None:
    """The list names both so that each can be closed by what it says."""
    patch(user.pk, notes=window(title="X", zIndex=2), b=window(title="Notes"))
    assert done(user.pk, "list").answer == "Open: 1. X, 2. b."
    assert done(user.pk, "close", "b").answer == "Closed b (Notes)."
    assert live(user.pk) == {"notes"}


@pytest.mark.django_db
def test_ids_that_differ_in_case_are_told_apart(user: User) -> None:
    """As they are written; otherwise BEEP asks."""
    patch(user.pk, a=window(title=""), A=window(title=""))
    with pytest.raises(intents.IntentRefused) as refusal:
        done(user.pk, "close", "Notes")
    assert read_enumeration(str(refusal.value)) == ("a", "A")
    done(user.pk, "close", "A")
    assert live(user.pk) == {"a"}


def test_white_space_is_as_wide_as_it_likes() -> None:
    """BEEP reads commands with single spaces."""
    assert Names({"a": window(title="My \t notes ")}).meant_by("my notes") == ["a"]  # type: ignore[dict-item]


@pytest.mark.django_db
def test_windows_are_told_as_beep_looks_at_them(user: User) -> None:
    """The front one first; of one level the one that the page draws above, as its ids go."""
    size = {"width": 1.5, "height": 2}
    document = patch(user.pk, a=window(), b=window(title="B", size=size), c=window(zIndex=-1))
    found = windows_of(document)
    assert [each.name for each in found] == ["B", "a", "c"]
    assert found[0] == intents.Window(
        name="B", id="b", title="B", type="note", x=10, y=20, width=1.5, height=2, z_index=1
    )
    assert windows_of(empty(user.pk)) == ()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "title", "type_", "size"),
    [
        ("notes", "Notes", "notes", (360, 280)),
        ("SESSIONS", "Sessions", "sessions", (400, 264)),
        ("spinforge", "SpinForge", "spinforge", (360, 464)),
        ("sisyphus's ascent", "Sisyphus's Ascent", "sisyphus-s-ascent", (360, 464)),
        ("shopping List", "Shopping List", "shopping-list", (360, 240)),
        ("ßa", "ßa", "a", (360, 240)),
    ],
)
def test_what_is_known_opens_as_on_the_page(
    user: User, name: str, title: str, type_: str, size: tuple[int, int]
) -> None:
    """Titled as people write it and in its own size; another name gets a capital."""
    done(user.pk, "open", name)
    (app,) = services.live(user.pk).layout["microApps"].values()
    assert (app["title"], app["type"]) == (title, type_)
    assert (app["size"]["width"], app["size"]["height"]) == size


def test_the_page_s_apps_can_be_opened_by_name() -> None:
    """With its titles, types and sizes, all that it has: they are what a command may name."""
    found = {}
    for script in sorted(PAGE.glob("*.js")):
        told = re.search(
            r'type: "(.+)",\n(?:.+\n)?  title: "(.+)",\n.+\n  size: \{ width: (\d+), height: (\d+)',
            script.read_text(),
        )
        if told:
            assert told[1] == slug(told[2])
            found[told[2]] = {"width": int(told[3]), "height": int(told[4])}
    assert found == APPS
    assert set(intents.offered("microApps")) == set(found)


def test_the_page_s_instruments_are_those_that_can_be_played() -> None:
    """By the same titles, and as large."""
    script = (PAGE / "instrument.js").read_text()
    size = f"size: {{ width: {INSTRUMENT['width']}, height: {INSTRUMENT['height']} }}"
    titles = re.findall(r'^  instrument\("[a-z-]+", "(.+)"\),$', script, re.MULTILINE)
    assert set(titles) == set(intents.offered("instruments"))
    assert size in script
    assert all(ID.fullmatch(slug(title)) for title in titles)
