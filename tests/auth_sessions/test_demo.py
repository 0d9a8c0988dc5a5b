"""Demo users in bulk."""

import io
import json
from itertools import chain
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command

from aevon.signals import users_created
from auth_sessions import demo
from auth_sessions.models import SessionAnchor, User
from klepsydra.models import PsycheState

pytestmark = pytest.mark.django_db


def create(*arguments: str) -> dict[str, Any]:
    """Run the command; its report."""
    out = io.StringIO()
    call_command("create_demo_users", *arguments, "--json", stdout=out)
    report: dict[str, Any] = json.loads(out.getvalue())
    return report


def test_users_can_log_in_with_the_password_given() -> None:
    """`demo1` … `demoN`, each with an anchor and a PsycheState."""
    report = create("--count", "3", "--password", "open sesame")
    assert (report["created"], report["existing"]) == (3, 0)
    assert authenticate(username="demo3", password="open sesame") is not None
    assert SessionAnchor.objects.count() == PsycheState.objects.count() == 3


def test_running_it_again_changes_nobody() -> None:
    """Passwords and classes stay; missing users come."""
    create("--count", "2", "--password", "first")
    User.objects.filter(username="demo1").update(sovereignty_class="ARCHITECT")
    before = list(User.objects.order_by("pk").values())
    report = create("--count", "3", "--password", "second")
    assert (report["created"], report["existing"]) == (1, 2)
    assert list(User.objects.order_by("pk").values())[:2] == before


def test_the_password_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing takes longer than all the rest."""
    create("--count", "3", "--password", "p")
    assert len(set(User.objects.values_list("password", flat=True))) == 1


def test_batches_are_announced_with_their_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who keep something per user hear of all, old ones included."""
    monkeypatch.setattr(demo, "BATCH", 2)
    heard: list[list[int]] = []

    def listen(user_ids: list[int], **_: Any) -> None:
        heard.append(user_ids)

    users_created.connect(listen)
    try:
        create("--count", "5", "--password", "p", "--prefix", "crowd_")
    finally:
        users_created.disconnect(listen)
    assert [len(ids) for ids in heard] == [2, 2, 1]
    named = User.objects.filter(username__regex=r"^crowd_[1-5]$").order_by("pk")
    assert list(chain.from_iterable(heard)) == list(named.values_list("pk", flat=True))


def test_a_batch_whose_listener_fails_leaves_no_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users and what belongs to them come together or not at all."""

    def fail(**_: Any) -> None:
        raise RuntimeError("not today")

    users_created.connect(fail)
    try:
        with pytest.raises(RuntimeError):
            create("--count", "2", "--password", "p")
    finally:
        users_created.disconnect(fail)
    assert not User.objects.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--count", "0", "--password", "p"),
        ("--count", "1000001", "--password", "p"),
        ("--count", "x", "--password", "p"),
        ("--count", "1", "--password", ""),
        ("--count", "1", "--password", "p", "--prefix", ""),
        ("--count", "1", "--password", "p", "--prefix", "a b"),
        ("--count", "1", "--password", "p", "--prefix", "a\n"),
        ("--count", "1", "--password", "p", "--prefix", "é"),
        ("--count", "1", "--password", "p", "--prefix", "a" * 101),
        ("--count", "1"),
    ],
)
def test_wrong_options_are_refused_and_nobody_is_made(arguments: tuple[str, ...]) -> None:
    """With a sentence."""
    with pytest.raises(CommandError):
        call_command("create_demo_users", *arguments)
    assert not User.objects.exists()


def test_the_count_is_checked_without_the_command_line() -> None:
    """The function stands on its own."""
    with pytest.raises(demo.Refused, match="from 1 to 1,000,000"):
        demo.create_demo_users(0, password="p", progress=lambda _: None)
