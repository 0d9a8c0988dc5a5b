"""The evaluation set, played on the real servers: `make beep-eval`."""

from collections.abc import Callable
from typing import Any

import pytest

from auth_sessions.models import User
from beep import services as beep
from canvas import services as canvas
from tests.beep import evaluation
from tests.beep.evaluation import ByHand, Dialogue, Heard, Opened, Say

pytestmark = pytest.mark.django_db(transaction=True)

Apps = dict[str, Any]


def test_the_dialogues_are_understood(make_user: Callable[..., User]) -> None:
    """95 % of all, 90 % of each phenomenon; nothing resolves to what is off the canvas or further
    back than five turns. What has been understood once is not unlearned."""
    dialogues = evaluation.load()
    evaluation.check_shares(dialogues)
    results = [evaluation.score(each, play(make_user().pk, each)) for each in dialogues]
    print(evaluation.report(results))
    assert evaluation.shortfalls(results) == []
    assert [each.dialogue.id for each in results if not each.right] == []


def play(user_id: int, dialogue: Dialogue) -> list[Heard]:
    """The whole dialogue, with what happened at each command."""
    layout = {"microApps": {each.id: window(each, n) for n, each in enumerate(dialogue.canvas)}}
    canvas.change(user_id, {"replace": layout})
    heard: list[Heard] = []
    for turn in dialogue.turns:
        if isinstance(turn, Say):
            heard.append(say(user_id, turn.text, tuple(heard)))
        else:
            do_by_hand(user_id, turn)
    return heard


def apps_of(user_id: int) -> Apps:
    """What is open now."""
    return dict(canvas.live(user_id).layout["microApps"])


def say(user_id: int, text: str, before: tuple[Heard, ...]) -> Heard:
    """One command."""
    apps = apps_of(user_id)
    answer = beep.command(user_id, text)
    titles = {app_id: app["title"] for app_id, app in apps.items()}
    changed = apps_of(user_id) != apps
    return Heard(text, answer.seq, answer.response, answer.resolved, titles, before, changed)


def window(opened: Opened, number: int) -> dict[str, Any]:
    """The window as the canvas has it, the number-th from the back."""
    x, y = opened.at or (40 + 30 * number, 40 + 30 * number)
    width, height = opened.size or (360, 240)
    return {
        "type": opened.type,
        "title": opened.title,
        "position": {"x": x, "y": y},
        "size": {"width": width, "height": height},
        "zIndex": number + 1,
    }


def do_by_hand(user_id: int, deed: ByHand) -> None:
    """What the page does when the user closes, drags or opens a window."""
    apps = apps_of(user_id)
    patch = {"close": closed, "move": moved, "open": opened}[deed.deed](apps, deed)
    canvas.change(user_id, {"patch": {"microApps": patch}})


def closed(apps: Apps, deed: ByHand) -> dict[str, Any]:
    return dict.fromkeys(found(apps, deed.name))


def moved(apps: Apps, deed: ByHand) -> dict[str, Any]:
    x, y = deed.to or (0, 0)
    top = max((app["zIndex"] for app in apps.values()), default=0) + 1
    place = {"position": {"x": x, "y": y}, "zIndex": top}
    return dict.fromkeys(found(apps, deed.name), place)


def opened(apps: Apps, deed: ByHand) -> dict[str, Any]:
    slug = evaluation.slug_of(deed.name)
    top = max((app["zIndex"] for app in apps.values()), default=0)
    return {evaluation.unused(slug, apps): window(Opened(deed.name, slug, slug), top)}


def found(apps: Apps, name: str) -> list[str]:
    """The window with this id or title; none where BEEP has misunderstood and it is gone."""
    wanted = name.casefold()
    by_id = [each for each in apps if each.casefold() == wanted]
    return by_id or [each for each, app in apps.items() if app["title"].casefold() == wanted]
