"""The schema documents every problem."""

from io import StringIO
from typing import Any

import pytest
import yaml
from django.core.management import call_command


@pytest.fixture(scope="module")
def schema() -> Any:
    """The schema of the test API, generated with warnings as errors and validated."""
    out = StringIO()
    urls = "tests.aevon.api.views"
    call_command("spectacular", urlconf=urls, validate=True, fail_on_warn=True, stdout=out)
    return yaml.safe_load(out.getvalue())


def test_operation_with_a_body(schema: Any) -> None:
    """The errors that a body can cause are listed, as problem documents."""
    responses = schema["paths"]["/api/stake/"]["post"]["responses"]
    assert {"200", "400", "413", "415", "429", "503", "default"} == set(responses)
    content = responses["400"]["content"]
    reference = {"$ref": "#/components/schemas/Problem"}
    assert content == {"application/problem+json": {"schema": reference}}


def test_operation_without_a_body(schema: Any) -> None:
    """A GET cannot be too large; a path with a parameter can miss."""
    responses = schema["paths"]["/api/raise/{name}/"]["get"]["responses"]
    assert "413" not in responses
    assert "404" in responses


def test_operation_behind_a_token(schema: Any) -> None:
    """Only what asks for a token can answer 401, and says so in a header."""
    private = schema["paths"]["/api/private/"]["get"]["responses"]
    assert "WWW-Authenticate" in private["401"]["headers"]
    assert "401" not in schema["paths"]["/api/stake/"]["post"]["responses"]


def test_headers(schema: Any) -> None:
    """Refusals for a time say for how long."""
    responses = schema["paths"]["/api/echo/"]["get"]["responses"]
    assert "Retry-After" in responses["503"]["headers"]
    assert "Retry-After" in responses["429"]["headers"]


def test_problem_component(schema: Any) -> None:
    """One shared component describes the document."""
    problem = schema["components"]["schemas"]["Problem"]
    assert problem["required"] == ["type", "title", "status", "detail"]
    assert "errors" in problem["properties"]
