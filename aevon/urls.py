"""Where each service answers. Probes are answered before: aevon/health.py."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from aevon.operations.search import search
from aevon.page.views import page
from auth_sessions.admin_login import admin_login, admin_password_change
from auth_sessions.jwks import jwks

api_v1 = [
    path("auth/", include("auth_sessions.urls")),
    path("klepsydra/", include("klepsydra.urls")),
    path("canvas/", include("canvas.urls")),
    path("beep/", include("beep.urls")),
]

urlpatterns = [
    path("", page, name="page"),
    path("api/v1/", include(api_v1)),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path(
        "api/docs/",
        SpectacularSwaggerSplitView.as_view(url_name="schema", http_method_names=["get", "head"]),
        name="docs",
    ),
    path(f"{settings.AEVON_ADMIN_PATH}/login/", admin_login),
    path(
        f"{settings.AEVON_ADMIN_PATH}/password_change/",
        admin.site.admin_view(admin_password_change, cacheable=True),
    ),
    path(f"{settings.AEVON_ADMIN_PATH}/search/", admin.site.admin_view(search)),
    path(f"{settings.AEVON_ADMIN_PATH}/reflex-arc/", include("aevon.operations.urls")),
    path(f"{settings.AEVON_ADMIN_PATH}/", admin.site.urls),
    path(".well-known/jwks.json", jwks, name="jwks"),
]
handler400 = "aevon.api.problems.bad_request"
handler403 = "aevon.api.problems.permission_denied"
handler404 = "aevon.api.problems.not_found"
handler500 = "aevon.api.problems.server_error"
