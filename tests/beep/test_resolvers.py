"""Which resolver is used, and what the checks say of its settings."""

from typing import Any

import pytest
from django.views.debug import SafeExceptionReporterFilter

from beep import checks, context, llm, resolvers, services
from beep.resolution import Canvas, ResolvedCommand
from tests.beep.conftest import Performed
from tests.beep.endpoint import running

MODEL = {
    "AEVON_BEEP_RESOLVER": "beep.llm.resolve",
    "AEVON_BEEP_LLM_URL": "http://127.0.0.1:11434/v1",
    "AEVON_BEEP_LLM_MODEL": "small",
}
NOBODY = ResolvedCommand(None, question="Nobody is here.")


def nobody(command: str, history: Any, canvas: Canvas) -> ResolvedCommand:
    """A resolver of one's own."""
    return NOBODY


def test_the_rules_resolve_unless_a_setting_says_otherwise(settings: Any) -> None:
    """The setting is followed at once."""
    assert resolvers.current() is context.resolve
    settings.AEVON_BEEP_RESOLVER = "tests.beep.test_resolvers.nobody"
    assert resolvers.current()("close it", (), Canvas()) is NOBODY


def test_no_model_is_asked_by_default(settings: Any) -> None:
    """An endpoint in the settings is not enough: the resolver has to be chosen."""
    with running() as endpoint:
        endpoint.says({"intent": "canvas.tidy"})
        settings.AEVON_BEEP_LLM_URL, settings.AEVON_BEEP_LLM_MODEL = endpoint.url, "small"
        assert resolvers.current()("help", (), Canvas()).intent
        assert endpoint.asked == []
        settings.AEVON_BEEP_RESOLVER = "beep.llm.resolve"
        settings.AEVON_BEEP_LLM_TIMEOUT_SECONDS = 10
        assert resolvers.current()("help", (), Canvas()).intent
        assert len(endpoint.asked) == 1
        llm.configured().close()


@pytest.mark.django_db(transaction=True)
def test_a_command_goes_to_the_resolver_of_the_settings(
    settings: Any, make_user: Any, performed: Performed
) -> None:
    """What a model made of it is carried out, said and recorded like any other."""
    user = make_user()
    services.command(user.pk, "open Notes")
    with running() as endpoint:
        settings.AEVON_BEEP_LLM_URL = endpoint.url
        settings.AEVON_BEEP_RESOLVER = "beep.llm.resolve"
        settings.AEVON_BEEP_LLM_TIMEOUT_SECONDS = 10
        endpoint.says({"intent": "canvas.open", "arguments": {"microApps": ["notes"]}})
        answer = services.command(user.pk, "bring that thing up once more", idempotency_key="a")
        assert endpoint.asked[0].data["turns"][0]["command"] == "open Notes"
        llm.configured().close()
    assert [each[2] for each in performed] == [{"microApps": ["Notes"]}] * 2
    assert answer.response == 'Understood: open "Notes".\nOpened Notes.'
    assert services.history(user.pk)[-1].response == answer.response


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"AEVON_BEEP_RESOLVER": "beep.context.resolve", "AEVON_BEEP_LLM_URL": ""}, None),
        ({}, None),
        ({"AEVON_BEEP_RESOLVER": "beep.nowhere.resolve"}, "E001"),
        ({"AEVON_BEEP_RESOLVER": "resolve"}, "E001"),
        ({"AEVON_BEEP_RESOLVER": "beep.llm.PAUSE_SECONDS"}, "E001"),
        ({"AEVON_BEEP_LLM_URL": ""}, "E002"),
        ({"AEVON_BEEP_LLM_URL": "ftp://host/v1"}, "E002"),
        ({"AEVON_BEEP_LLM_URL": "http://host:port/v1"}, "E002"),
        ({"AEVON_BEEP_LLM_MODEL": ""}, "E002"),
        ({"AEVON_BEEP_LLM_KEY": "schlüssel"}, "E002"),
    ],
    ids=str,
)
def test_a_check_finds_what_would_not_work(settings: Any, changed: Any, wrong: str | None) -> None:
    """Before the first command does."""
    for name, value in (MODEL | changed).items():
        setattr(settings, name, value)
    found = [each.id for each in checks.resolver_is_there()]
    assert found == ([f"beep.{wrong}"] if wrong else [])


def test_the_key_is_not_on_a_page_of_settings(settings: Any) -> None:
    """Django leaves it out by its name."""
    settings.AEVON_BEEP_LLM_KEY = "sk-of-the-tests-0123456789"
    assert "sk-of" not in str(SafeExceptionReporterFilter().get_safe_settings())
