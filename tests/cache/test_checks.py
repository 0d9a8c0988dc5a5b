"""What `manage.py check` finds in the declarations behind the cache."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.checks import Tags, run_checks
from django.core.management import CommandError, call_command
from django.db import models
from django.test.utils import isolate_apps

from aevon.cache import (
    CONVO_HISTORY,
    PSYCHE,
    SESSION,
    Cached,
    CachedManager,
    Document,
    Keyspace,
    checks,
)
from klepsydra.models import PsycheState
from tests.cache.ledgers import query


class Sound(Document):
    """A document of which every member is a column."""

    user_id: int
    loss_streak: int
    version: int


Declare = Callable[..., None]


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """`declare(model, keyspace, document)`: one declaration more, and none of the services'."""
    known: dict[type[models.Model], Cached[Any]] = {}
    monkeypatch.setattr(checks, "declared", known)

    def one_more(
        model: type[models.Model],
        keyspace: Keyspace = PSYCHE,
        document: type[Document] = Sound,
    ) -> None:
        cached = Cached(keyspace, document)
        cached.model = model
        known[model] = cached

    return one_more


def found() -> dict[str, list[str]]:
    """What the check of the models says, by its number."""
    errors: dict[str, list[str]] = {}
    for error in run_checks(tags=[Tags.models]):
        if (error.id or "").startswith("aevon_cache"):
            errors.setdefault(str(error.id)[-4:], []).append(error.msg)
    return errors


def test_declarations_of_the_services() -> None:
    """Nothing to say."""
    assert set(checks.declared) >= {PsycheState}
    assert found() == {}


def test_sound_declaration(declare: Declare) -> None:
    """Nothing to say: the other tests are of one fault each."""
    declare(PsycheState)
    assert found() == {}


def test_document_without_what_every_entry_needs(declare: Declare) -> None:
    """E002, for each member."""

    class Bare(Document):
        loss_streak: int

    declare(PsycheState, document=Bare)
    assert found() == {
        "E002": ["Bare has no member `user_id`.", "Bare has no member `version`."],
    }


def test_document_with_a_member_that_is_no_column(declare: Declare) -> None:
    """E002 names it; a relation's own name is no column."""

    class Fanciful(Sound):
        user: int
        luck: float

    declare(PsycheState, document=Fanciful)
    assert found() == {
        "E002": [
            "Fanciful.user is no column of the model.",
            "Fanciful.luck is no column of the model.",
        ]
    }


def test_model_without_a_version(declare: Declare) -> None:
    """E003; and what the document makes of it."""

    class Named(Document):
        user_id: int
        version: int

    declare(Group, document=Named)
    assert set(found()) == {"E002", "E003", "E005"}


@isolate_apps("tests")
def test_model_with_a_small_version(declare: Declare) -> None:
    """E003: 2 ** 31 changes are not enough."""

    class Small(models.Model):  # noqa: DJ008  nobody sees one
        user_id = models.BigIntegerField(primary_key=True)
        loss_streak = models.IntegerField()
        version = models.IntegerField(db_default=1)

        objects = CachedManager()

        class Meta:
            app_label = "tests"

    declare(Small)
    assert list(found()) == ["E003"]


@isolate_apps("tests")
def test_keyspace_of_two_models(declare: Declare) -> None:
    """E004, for both: each would write over the other's entries."""

    class Twin(models.Model):  # noqa: DJ008  nobody sees one
        user_id = models.BigIntegerField(primary_key=True)
        loss_streak = models.IntegerField()
        version = models.BigIntegerField(db_default=1)

        objects = CachedManager()

        class Meta:
            app_label = "tests"

    declare(Twin)
    declare(PsycheState)
    assert found() == {"E004": ["Another model has the keyspace `psyche` too."] * 2}


@pytest.mark.parametrize("keyspace", [CONVO_HISTORY, SESSION])
def test_keyspace_that_is_no_string_with_a_lifetime(declare: Declare, keyspace: Keyspace) -> None:
    """E004: a row is one text, and does not say when it ends."""
    declare(PsycheState, keyspace=keyspace)
    assert list(found()) == ["E004"]


def test_manager_that_tells_the_cache_nothing(declare: Declare) -> None:
    """E005."""

    class Plain(models.Manager[PsycheState]):
        name = "plain"

    declare(PsycheState)
    meta = PsycheState._meta
    before = meta.__dict__.get("default_manager")
    plain = Plain()
    plain.model = PsycheState
    meta.__dict__["default_manager"] = plain
    try:
        assert list(found()) == ["E005"]
    finally:
        meta.__dict__["default_manager"] = before


# --- the database ------------------------------------------------------------------------------


def missing() -> list[str]:
    """The triggers that the check of the database misses."""
    errors = run_checks(tags=[Tags.database], databases=["default"])
    return [str(error.msg).split()[5].rstrip(":") for error in errors if error.id == W006]


W006 = "aevon_cache.W006"


@pytest.mark.django_db
def test_triggers_that_are_there() -> None:
    """Nothing to say."""
    assert missing() == []


@pytest.mark.django_db
@pytest.mark.parametrize("trigger", checks.TRIGGERS)
def test_trigger_that_is_gone(trigger: str) -> None:
    """W006 names it; one that is disabled is as good as gone. A warning: `migrate` checks before
    it makes the triggers."""
    query(f"ALTER TABLE klepsydra_psychestate DISABLE TRIGGER {trigger}")
    assert missing() == [trigger]
    query(f"DROP TRIGGER {trigger} ON klepsydra_psychestate")
    assert missing() == [trigger]
    with pytest.raises(CommandError, match=f"no trigger {trigger}"):
        call_command("check", databases=["default"], fail_level="WARNING")


@pytest.mark.django_db
def test_table_that_is_not_there_yet() -> None:
    """Nothing to say: the first migration has yet to be run."""
    query("ALTER TABLE klepsydra_psychestate RENAME TO elsewhere")
    assert missing() == []


@pytest.mark.django_db
def test_check_without_a_database(django_assert_num_queries: Any) -> None:
    """It asks none, and says nothing of it."""
    query("DROP TRIGGER cache_is_told ON klepsydra_psychestate")
    with django_assert_num_queries(0):
        call_command("check")
