"""The pages of others, under their policies: whatever the browser refuses stands in its console."""

from typing import Any

from playwright.sync_api import expect

from .conftest import Visitor
from .people import Person

FORMS = (
    "auth_sessions/user/2/change/", "auth_sessions/session/", "auth/group/add/",
    "klepsydra/psychestate/2/change/", "django_celery_beat/periodictask/add/",
)  # fmt: skip


def test_the_admin_works_under_its_policy(site: dict[str, Any], visitor: Visitor) -> None:
    """Menus, forms and scripts; nothing is refused and nothing asked of elsewhere."""
    chief = Person(site["url"], site["admin"]["username"], site["admin"]["password"])
    page = visitor(chief).page
    page.goto(f"{chief.url}/admin/")
    page.get_by_label("Username").fill(chief.username)
    page.get_by_label("Password").fill(chief.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("link", name="Users").first).to_be_visible()
    for path in FORMS:
        page.goto(f"{chief.url}/admin/{path}")
        page.wait_for_load_state("networkidle")
    # Alpine, which the policy has to let compile its expressions, has set the form up.
    assert page.evaluate("() => Object.keys(window.Alpine ?? {}).length > 0")


def test_the_documentation_works_under_its_policy(person: Person, visitor: Visitor) -> None:
    """It reads the schema, and sends a request of the reader's."""
    page = visitor(person).page
    page.goto(f"{person.url}/api/docs/")
    expect(page.locator(".opblock").first).to_be_visible()
    page.locator(".opblock-summary-get", has_text="List your live sessions").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    answer = page.locator(".live-responses-table .response-col_status").last
    expect(answer).to_contain_text("401")
