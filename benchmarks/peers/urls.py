"""Other ways to let a caller in: each answers 204 with the user's id, or 200."""

import jwt
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.views import TokenVerifyView

from benchmarks import bare

CLIENT, KEY = bare.client(), settings.SIMPLE_JWT["SIGNING_KEY"]


class RestView(APIView):
    """REST framework with simplejwt's JWTAuthentication, which reads the user from the database."""

    def get(self, request: Request) -> Response:
        """Whoever it is."""
        return Response(status=204, headers={"X-User-Id": str(request.user.pk)})


def plain(request: HttpRequest) -> HttpResponse:
    """The least there is: the token is decoded, and the session looked up by one GET."""
    _, _, token = request.headers["Authorization"].partition(" ")
    claims = jwt.decode(token, KEY, algorithms=["HS256"], audience="aevon", issuer="aevon")
    held = CLIENT.get(f"session:{claims['sub']}")
    return HttpResponse(status=204 if held else 401, headers={"X-User-Id": claims["sub"]})


urlpatterns = [
    path("rest/", RestView.as_view()),
    path("verify/", TokenVerifyView.as_view()),
    path("plain/", plain),
    path("health/live", lambda _: HttpResponse()),
]
