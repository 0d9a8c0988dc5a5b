"""What a view may ask of its caller."""

from typing import Any

import pytest
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from aevon.api.permissions import requires
from auth_sessions import services
from auth_sessions.models import User
from tests.auth_sessions.rows import permission

pytestmark = pytest.mark.django_db


class Treasury(APIView):
    """A view of somebody's."""

    permission_classes = (
        requires(
            "auth_sessions.view_user", "auth_sessions.change_user", sovereignty_class="SOVEREIGN"
        ),
    )

    def get(self, request: Request) -> Response:
        return Response({"name": request.user.username})


def status(access: str = "") -> int:
    """What the view answers."""
    headers = {"Authorization": f"Bearer {access}"} if access else {}
    return Treasury.as_view()(APIRequestFactory().get("/", headers=headers)).status_code


@pytest.mark.parametrize(
    ("held", "sovereignty_class", "expected"),
    [
        (("view_user", "change_user"), "SOVEREIGN", 200),
        (("view_user", "change_user"), "ARCHITECT", 200),
        (("view_user", "change_user"), "INITIATE", 403),
        (("view_user",), "ARCHITECT", 403),
    ],
)
def test_a_caller_needs_the_class_and_every_permission(
    make_user: Any, held: tuple[str, ...], sovereignty_class: str, expected: int
) -> None:
    """That class or a higher one."""
    user: User = make_user(username="ada", sovereignty_class=sovereignty_class)
    user.user_permissions.set(map(permission, held))
    _, pair = services.open_session(user)
    assert status(pair.access) == expected
    assert user.has_class("SOVEREIGN") is (sovereignty_class != "INITIATE")


def test_nobody_is_401() -> None:
    """As everywhere."""
    assert status() == 401


def test_a_class_that_is_none_is_the_views_mistake(make_user: Any) -> None:
    """It says so, and lets nobody in."""
    with pytest.raises(ValueError, match="KING"):
        make_user(username="ada").has_class("KING")
