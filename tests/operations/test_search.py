"""The admin's own search."""

import pytest

from tests.operations.conftest import Browser

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "query", ["s=session", "s=session&extended=1", "s=Session&page=99999999999"]
)
def test_what_may_be_seen_is_found(browser_of: Browser, query: str) -> None:
    """By its name, whichever page of it is asked for, and again."""
    client = browser_of("view_session")
    for _ in range(2):
        answer = client.get(f"/admin/search/?{query}")
        assert answer.status_code == 200
        assert "/admin/auth_sessions/session/" in answer.content.decode()


@pytest.mark.parametrize("query", ["", "s=", "s=session", "s=no+such+thing"])
def test_nothing_else_is_found(browser_of: Browser, query: str) -> None:
    """Nor what is there for others."""
    answer = browser_of().get(f"/admin/search/?{query}")
    assert (answer.status_code, b"href" in answer.content) == (200, False)


@pytest.mark.parametrize(
    "path", ["search/?s=a%00", "auth_sessions/user/?sovereignty_class__exact=%00"]
)
def test_a_nul_is_refused(browser_of: Browser, path: str) -> None:
    """PostgreSQL knows none."""
    assert browser_of("view_user").get(f"/admin/{path}").status_code == 400
