"""`manage.py canvas_persist`."""

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from aevon.cache import CANVAS
from aevon.cache.connection import store
from aevon.cache.tasks import drain_outbox
from auth_sessions.models import User
from canvas import services
from canvas.models import Canvas
from tests.canvas.helpers import elsewhere, in_row, make_unsaved, patch, poison, window

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("canvas_persist", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_runs_a_flush_and_sums_up(user: User) -> None:
    """In words and numbers."""
    patch(user.pk, a=window())
    lines = run().splitlines()
    assert lines[0].split() == ["persisted", "1"]
    assert [line.split()[0] for line in lines] == [
        "persisted", "unchanged", "lost", "refused", "left", "Took",
    ]  # fmt: skip
    assert in_row(user.pk) == {"a"}


def test_the_command_speaks_json(user: User) -> None:
    """One object and nothing else."""
    patch(user.pk, a=window())
    report = json.loads(run("--json"))
    assert {name: report[name] for name in ("persisted", "unchanged", "lost", "refused")} == {
        "persisted": 1, "unchanged": 0, "lost": 0, "refused": 0,
    }  # fmt: skip


def test_lost_canvases_end_in_an_error(user: User) -> None:
    """Somebody should look."""
    patch(user.pk, a=window())
    store().command("UNLINK", CANVAS.key(user.pk))
    with pytest.raises(CommandError, match="1 unsaved canvases are gone"):
        run()


def test_refused_canvases_end_in_an_error(user: User) -> None:
    """Each time, until somebody heals them."""
    patch(user.pk, a=window())
    poison(user.pk)
    for _ in range(2):
        with pytest.raises(CommandError, match="1 canvases are refused"):
            run()


@pytest.mark.django_db(transaction=True)
def test_canvases_that_are_left_end_in_an_error(user: User) -> None:
    """Their rows are held; whoever is about to stop the cache has to know."""
    patch(user.pk, a=window())
    services.persist_now()
    patch(user.pk, b=window())
    with elsewhere("SELECT FROM canvas_canvas WHERE user_id = %s FOR UPDATE", user.pk):
        with pytest.raises(CommandError, match="1 canvases stay unsaved: somebody holds"):
            run()
        assert json.loads(run("--json", "--dry-run"))["left"] == 1  # which says no more than that
    assert run().split()[:2] == ["persisted", "1"]


def test_canvases_that_wait_for_changes_past_the_cache_end_in_an_error(
    user: User, cache_away: Any
) -> None:
    """PostgreSQL has not what is in them."""
    patch(user.pk, a=window())
    with cache_away():
        patch(user.pk, b=window())
    assert json.loads(run("--json", "--dry-run"))["left"] == 1
    with pytest.raises(CommandError, match=r"1 canvases stay unsaved.*past the cache come first"):
        run()
    drain_outbox()
    assert json.loads(run("--json"))["left"] == 0
    assert in_row(user.pk) == {"a", "b"}


def test_a_cache_out_of_reach_is_told_plainly(cache_away: Any) -> None:
    """One sentence and what to do, no traceback."""
    with cache_away(), pytest.raises(CommandError, match="The cache cannot be reached"):
        run()


def test_postgresql_out_of_reach_is_told_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence and what to do, no traceback."""

    def fails(**_: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(services, "persist_now", fails)
    with pytest.raises(CommandError, match="PostgreSQL cannot be reached"):
        run()


def test_ten_thousand_canvases_in_one_command() -> None:
    """PostgreSQL has each of them then."""
    ten_thousand = 10_000
    User.objects.bulk_create(User(username=f"crowd{n}") for n in range(ten_thousand))
    users = list(User.objects.filter(username__startswith="crowd").values_list("pk", flat=True))
    make_unsaved(users)
    report = json.loads(run("--json"))
    assert (report["persisted"], services.unsaved().unsaved) == (ten_thousand, 0)
    assert Canvas.objects.filter(revision=1).count() == ten_thousand
