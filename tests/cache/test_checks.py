"""What `manage.py check` finds in the declarations behind the cache."""

import re
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Protocol
from uuid import UUID

import msgspec
import pytest
from django.core.checks import Tags, run_checks
from django.core.management import CommandError, call_command
from django.db import models

from aevon.cache import (
    CANVAS,
    CANVAS_INDEX,
    CONVO_HISTORY,
    PSYCHE,
    SESSION,
    Cached,
    CachedManager,
    Document,
    Keyspace,
    UnknownKeyspace,
    Version,
    resources,
    triggers,
)
from aevon.cache.cached import declared
from aevon.cache.checks import TRIGGERS
from aevon.cache.keyspace import REGISTRY
from auth_sessions.models import User
from canvas.documents import CanvasDocument
from klepsydra.models import PsycheState
from tests.cache.ledgers import query

Model = type[models.Model]


class Sound(Document):
    """A document of which every member is a column."""

    user_id: int
    balance: int
    version: Version


class Declare(Protocol):
    """`declare(document, **fields)`: a model behind the cache, sound but for what is given."""

    def __call__(
        self, document: Any = Sound, /, *, keyspace: Any = PSYCHE, **members: Any
    ) -> Model: ...


@pytest.fixture
def declare(declarations: None) -> Declare:
    """Models with declarations of their own, and none of the services'."""

    def make(document: Any = Sound, /, *, keyspace: Any = PSYCHE, **members: Any) -> Model:
        options = {"app_label": "tests", **members.pop("options", {})}
        attributes: dict[str, Any] = {
            "__module__": __name__,
            "Meta": type("Meta", (), options),
            "user_id": models.BigIntegerField(primary_key=True),
            "balance": models.IntegerField(),
            "version": models.BigIntegerField(db_default=1),
            "objects": CachedManager(),
            "cached": Cached(keyspace, document),
            **members,
        }
        return type(f"Ledger{len(declared)}", (models.Model,), attributes)

    return make


def found() -> dict[str, list[str]]:
    """What the check of the models says, by its number."""
    errors: dict[str, list[str]] = {}
    for error in run_checks(tags=[Tags.models]):
        if (error.id or "").startswith("aevon_cache"):
            errors.setdefault(str(error.id)[-4:], []).append(error.msg)
    return errors


def test_declarations_of_the_services() -> None:
    """Nothing to say."""
    assert [cached.model for cached in declared] == [PsycheState]
    assert found() == {}


def test_sound_declaration(declare: Declare) -> None:
    """Nothing to say: the other tests are of one fault each."""
    declare()
    assert found() == {}


# --- the model ---------------------------------------------------------------------------------


def test_abstract_model(declare: Declare) -> None:
    """E007: it has no rows, and its keyspace could be of one model only. Nothing is registered."""
    declare(options={"abstract": True})
    assert found() == {
        "E007": ["It is abstract: declare `Cached` on the model that has the table."]
    }
    registered: Any = resources.resource("psyche")
    assert registered.projection is PsycheState.cached.projection


def test_model_of_an_abstract_one(declare: Declare) -> None:
    """Nothing to say: fields and manager may come from there."""
    plain = declare(options={"abstract": True})
    declared.clear()
    members = {"__module__": __name__, "cached": Cached(PSYCHE, Sound)}
    type("Ledger", (plain,), {**members, "Meta": type("Meta", (), {"app_label": "tests"})})
    assert found() == {}


def test_proxy(declare: Declare) -> None:
    """E007; one without a declaration of its own has its model's."""
    ledger = declare()
    meta = type("Meta", (), {"app_label": "tests", "proxy": True})
    proxy: Any = type("Proxy", (ledger,), {"__module__": __name__, "Meta": meta})
    assert proxy.cached.model is ledger
    assert found() == {}
    members = {"__module__": __name__, "Meta": meta, "cached": Cached(CANVAS, Sound)}
    type("Other", (ledger,), members)
    assert found() == {"E007": ["It is a proxy: declare `Cached` on the model that has the table."]}
    registered: Any = resources.resource("canvas")
    assert registered.projection.document is CanvasDocument


def test_two_declarations_of_one_model(declare: Declare) -> None:
    """E007, for both."""
    declare(again=Cached(CANVAS, Sound))
    assert found() == {
        "E007": ["It has more than one `Cached`: its triggers tell of one keyspace."] * 2
    }


def test_owner_of_several_rows(declare: Declare) -> None:
    """E008: which of them would it be?"""
    declare(user_id=None, user=models.ForeignKey(User, models.CASCADE))
    assert list(found()) == ["E008"]


def test_owner_that_may_be_absent(declare: Declare) -> None:
    """E008: the triggers take no such row."""
    document = msgspec.defstruct("Loose", [("user_id", int | None)], bases=(Sound,))
    declare(document, user_id=None, user=models.OneToOneField(User, models.CASCADE, null=True))
    assert list(found()) == ["E008"]


def test_owner_that_is_no_number(declare: Declare) -> None:
    """E008."""

    class Named(Sound):
        user_id: UUID

    declare(Named, user_id=models.UUIDField(primary_key=True))
    assert list(found()) == ["E008"]


@pytest.mark.parametrize("unique", ["field", "constraint"])
def test_owner_that_is_not_the_primary_key(declare: Declare, unique: str) -> None:
    """Nothing to say, as long as it is unique."""
    constraint = models.UniqueConstraint(fields=["user"], name="one_per_user")
    declare(
        user_id=None,
        user=models.ForeignKey(User, models.CASCADE, unique=unique == "field"),
        options={"constraints": [constraint] if unique == "constraint" else []},
    )
    assert found() == {}


def test_owner_that_is_unique_among_some(declare: Declare) -> None:
    """E008."""
    some = models.UniqueConstraint(
        fields=["user"], name="one_per_user", condition=models.Q(balance=1)
    )
    declare(
        user_id=None, user=models.ForeignKey(User, models.CASCADE), options={"constraints": [some]}
    )
    assert list(found()) == ["E008"]


def test_model_without_an_owner(declare: Declare) -> None:
    """E002: the document's member is no column."""
    declare(user_id=None)
    assert found() == {"E002": ["Sound.user_id is no column of the model."]}


def test_owner_that_is_nobody(declare: Declare) -> None:
    """E002 and E008, beside what Django says of the relation; never a traceback."""
    declare(user_id=None, user=models.OneToOneField("nowhere.Nobody", models.CASCADE))
    assert list(found()) == ["E002", "E008"]


# --- the document ------------------------------------------------------------------------------


class Plain(msgspec.Struct):
    """As `Sound`, but with names that nobody else would look for."""

    user_id: int
    balance: int
    version: int


@pytest.mark.parametrize("document", [Plain, dict, "Sound"])
def test_document_that_is_none(declare: Declare, document: Any) -> None:
    """E002: its members would not be camelCase."""
    declare(document)
    assert found() == {"E002": [f"{document!r} is no subclass of `aevon.cache.Document`."]}


@pytest.mark.parametrize("option", ["array_like", "forbid_unknown_fields"])
def test_document_without_room(declare: Declare, option: str) -> None:
    """E002: it could never be read again."""
    options: dict[str, Any] = {option: True}
    declare(msgspec.defstruct("Narrow", [], bases=(Sound,), **options))
    assert found() == {"E002": ["Narrow has no room for the members that the cache layer adds."]}


def test_document_whose_version_has_another_name(declare: Declare) -> None:
    """E002: the scripts would not find it, and keep nothing."""
    members = [("user_id", int), ("version", int)]
    declare(msgspec.defstruct("Loud", members, bases=(Document,), rename="pascal"))
    assert found() == {"E002": ["Loud.version cannot be `Version` in JSON."]}


def test_document_of_unknown_types(declare: Declare) -> None:
    """E002, and no traceback."""
    declare(msgspec.defstruct("Vague", [("balance", "Nothing")], bases=(Sound,)))
    assert found() == {
        "E002": ["The members of Vague cannot be read: name 'Nothing' is not defined."]
    }


def test_document_without_what_every_entry_needs(declare: Declare) -> None:
    """E002, for each member."""

    class Bare(Document):
        balance: int

    declare(Bare)
    assert found() == {
        "E002": ["Bare has no member `user_id`.", "Bare has no member `version`."],
    }


def test_document_with_a_member_that_is_no_column(declare: Declare) -> None:
    """E002 names it; a relation's own name is no column. Its columns are told all the same: they
    are asked for before the check is."""

    class Fanciful(Sound):
        user: int
        luck: float

    ledger: Any = declare(Fanciful, user_id=None, user=models.OneToOneField(User, models.CASCADE))
    assert found() == {
        "E002": [
            "Fanciful.user is no column of the model.",
            "Fanciful.luck is no column of the model.",
        ]
    }
    assert ledger.cached.columns == '"user_id", "balance", "version", "user", "luck"'


def test_document_with_a_column_of_the_parents_table(declare: Declare) -> None:
    """E002: it is not in the row."""
    parent = declare(user_id=None, cached=None)
    members = {
        "__module__": __name__,
        "Meta": type("Meta", (), {"app_label": "tests"}),
        "user_id": models.BigIntegerField(unique=True),
        "cached": Cached(PSYCHE, Sound),
    }
    type("Child", (parent,), members)
    assert found() == {
        "E002": [
            "Sound.balance is no column of the model.",
            "Sound.version is no column of the model.",
        ],
        "E003": ["It needs `version = models.BigIntegerField(db_default=1)`."],
    }


UserId = NewType("UserId", int)
FITTING: list[tuple[Any, Any]] = [
    (models.BooleanField(), bool),
    (models.PositiveSmallIntegerField(), int),
    (models.OneToOneField(PsycheState, models.CASCADE), UserId),
    (models.FloatField(), Annotated[float, msgspec.Meta(ge=0, description="A share")]),
    (models.DecimalField(max_digits=9, decimal_places=2), Decimal),
    (models.EmailField(), str),
    (models.CharField(max_length=9), Literal["low", "high"]),
    (models.TextField(null=True), Annotated[str, msgspec.Meta(max_length=9)] | None),
    (models.DateField(), date),
    (models.DateTimeField(), str),
    (models.UUIDField(), UUID),
]


@pytest.mark.parametrize(("field", "member"), FITTING)
def test_member_that_fits(declare: Declare, field: Any, member: Any) -> None:
    """Nothing to say."""
    name = "more_id" if field.is_relation else "more"
    declare(msgspec.defstruct("More", [(name, member)], bases=(Sound,)), more=field)
    assert found() == {}


@pytest.mark.parametrize(
    ("field", "member", "fault"),
    [
        (models.IntegerField(), str, "must be `int`, as its column is"),
        (models.IntegerField(), float, "must be `int`, as its column is"),
        (models.IntegerField(null=True), int, "must be `int | None`, as its column is"),
        (models.IntegerField(), int | None, "must be `int`, as its column is"),
        (models.FloatField(), int, "must be `float`, as its column is"),
        (models.BooleanField(), int, "must be `bool`, as its column is"),
        (models.CharField(), Literal["one", 2], "must be `str`, as its column is"),
        (models.DateTimeField(), date, "must be `str`, as its column is"),
        (models.DateField(), str, "must be `date`, as its column is"),
        (models.DecimalField(), float, "must be `Decimal`, as its column is"),
        (models.JSONField(), dict[str, int], "is a JSONField, which no document can hold"),
        (models.DurationField(), str, "is a DurationField, which no document can hold"),
    ],
)
def test_member_that_does_not_fit(declare: Declare, field: Any, member: Any, fault: str) -> None:
    """E002: an entry would never be read again, or never be as its row."""
    declare(msgspec.defstruct("More", [("more", member)], bases=(Sound,)), more=field)
    assert found() == {"E002": [f"More.more {fault}."]}


@pytest.mark.parametrize("member", [str, int | None])
def test_document_whose_version_is_no_number(declare: Declare, member: Any) -> None:
    """E002."""
    declare(msgspec.defstruct("Odd", [("version", member)], bases=(Sound,)))
    assert found() == {"E002": ["Odd.version must be `int`, as its column is."]}


def test_arguments_in_the_wrong_order(declare: Declare) -> None:
    """E002, and nothing that follows from it."""
    declare(PSYCHE, keyspace=Sound)
    assert found() == {"E002": ["It is `Cached(keyspace, document)`, in this order."]}


# --- version, keyspace, manager ----------------------------------------------------------------


def test_model_without_a_version(declare: Declare) -> None:
    """E003; and what the document makes of it."""
    declare(version=None)
    assert found() == {
        "E002": ["Sound.version is no column of the model."],
        "E003": ["It needs `version = models.BigIntegerField(db_default=1)`."],
    }


@pytest.mark.parametrize(
    "version",
    [
        models.IntegerField(db_default=1),
        models.BigIntegerField(db_default=1, db_column="revision"),
    ],
)
def test_version_that_will_not_do(declare: Declare, version: Any) -> None:
    """E003: 2 ** 31 changes are not enough, and the triggers know one name."""
    declare(version=version)
    assert list(found()) == ["E003"]


def test_version_that_may_be_absent(declare: Declare) -> None:
    """E003, and the document's member would have to follow it."""
    document = msgspec.defstruct("Loose", [("version", int | None)], bases=(Sound,))
    declare(document, version=models.BigIntegerField(null=True))
    assert list(found()) == ["E003"]


def test_keyspace_of_two_models(declare: Declare) -> None:
    """E004, for who has lost it."""
    first, second = declare(), declare()
    errors = [each for each in run_checks(tags=[Tags.models]) if each.id == "aevon_cache.E004"]
    assert [(each.obj, each.msg) for each in errors] == [
        (first, f"The keyspace `psyche` is also that of the model {second._meta.label}.")
    ]


def test_keyspace_of_something_else(declare: Declare) -> None:
    """E004: a write-behind document, say, which registers when Django is ready."""
    declare(keyspace=CANVAS)
    resources.register(resources.EntryResource(PsycheState.cached.projection))
    assert found() == {}
    resources._registry["canvas"] = resources.resource("psyche")
    assert found() == {
        "E004": ["The keyspace `canvas` is also that of the document PsycheDocument."]
    }


@pytest.mark.parametrize("keyspace", [CONVO_HISTORY, SESSION])
def test_keyspace_that_is_no_string_with_a_lifetime(declare: Declare, keyspace: Keyspace) -> None:
    """E004: a row is one text, and does not say when it ends."""
    declare(keyspace=keyspace)
    assert found() == {"E004": [f"The keyspace `{keyspace.name}` is no string with a lifetime."]}


@pytest.mark.parametrize(
    ("keyspace", "name"),
    [
        (Keyspace("ledger", "tests", "string", lambda: 1), "ledger"),
        (Keyspace("psyche", "tests", "string", lambda: 1), "psyche"),
        (CANVAS_INDEX.dirty, "dirty"),
        ("ledger", "ledger"),
    ],
)
def test_keyspace_outside_the_registry(declare: Declare, keyspace: Any, name: str) -> None:
    """E004, and not a traceback before the check is run. Who uses it is told, too."""
    ledger: Any = declare(keyspace=keyspace)
    assert found() == {"E004": [f"The keyspace `{name}` is not in `keyspace.REGISTRY`."]}
    if keyspace is not CANVAS_INDEX.dirty:
        with pytest.raises(UnknownKeyspace):
            ledger.cached.get(1)


def test_manager_that_tells_the_cache_nothing(declare: Declare) -> None:
    """E005."""
    declare(objects=models.Manager())
    assert found() == {
        "E005": ["Its default manager is no `CachedManager`: update() would go unseen."]
    }


# --- the database ------------------------------------------------------------------------------


def missing() -> list[str]:
    """The triggers that the check of the database misses."""
    errors = run_checks(tags=[Tags.database], databases=["default"])
    texts = [error.msg for error in errors if error.id == "aevon_cache.W006"]
    return [trigger for text in texts for trigger in re.findall(r"has no trigger (\w+)", text)]


@pytest.mark.django_db
def test_triggers_that_are_there() -> None:
    """Nothing to say."""
    assert missing() == []


@pytest.mark.django_db
@pytest.mark.parametrize("trigger", TRIGGERS)
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
def test_trigger_of_an_anchor_that_is_gone() -> None:
    """W006, for a document of several tables: of the row that has its version."""
    query("DROP TRIGGER cache_is_told ON auth_sessions_sessionanchor")
    assert missing() == ["cache_is_told"]


@pytest.mark.django_db
def test_trigger_that_tells_of_another_keyspace() -> None:
    """W006: the migration has another name than the model."""
    for name in ("versions", "versions_end", "changed"):
        query(f"DROP FUNCTION klepsydra_psychestate_{name} CASCADE")
    for operation in triggers.versioned("klepsydra_psychestate", keyspace="psyches"):
        query(str(operation.sql))
    assert sorted(missing()) == sorted(TRIGGERS)


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


def nonsense() -> Any:
    """As of a lifetime whose setting has been forgotten."""
    raise AttributeError("no attribute")


@pytest.mark.parametrize(
    ("name", "ttl_ms", "fault"),
    [
        ("a:b", lambda: 1, "The keyspace `a:b` is not called a-z, 0-9 and _, 32 at most."),
        ("odd", lambda: "1", "The lifetime of the keyspace `odd` is '1' ms."),
        ("odd", lambda: 0, "The lifetime of the keyspace `odd` is 0 ms."),
        ("odd", nonsense, "The lifetime of the keyspace `odd` cannot be read: no attribute."),
    ],
)
def test_keyspace_that_cannot_work(
    declare: Declare, monkeypatch: pytest.MonkeyPatch, name: str, ttl_ms: Any, fault: str
) -> None:
    """E004, before a row is committed that cannot be published."""
    keyspace = Keyspace(name, "klepsydra", "string", ttl_ms)
    monkeypatch.setitem(REGISTRY, name, keyspace)
    declare(keyspace=keyspace)
    assert found() == {"E004": [fault]}
