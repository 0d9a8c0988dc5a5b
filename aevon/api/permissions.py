"""What a view asks of its caller."""

from typing import Any

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request

from aevon.api.callers import caller


def requires(*permissions: str, sovereignty_class: str = "") -> type[IsAuthenticated]:
    """A permission class for callers with all these permissions (`app.codename`) and this class
    or a higher one; others get 403, and nobody at all 401.

    `permission_classes = (requires("canvas.view_canvas", sovereignty_class="SOVEREIGN"),)`. It
    costs nothing: what the caller may do came with the session document. A gateway asks the same of
    `validate/`, in its query.
    """

    class Requires(IsAuthenticated):
        def has_permission(self, request: Request, view: Any) -> bool:
            if not super().has_permission(request, view):
                return False
            who = caller(request)
            held = all(map(who.has_perm, permissions))
            return held and (not sovereignty_class or who.has_class(sovereignty_class))

    return Requires
