from django.apps import AppConfig
from django.conf import settings


class AuthSessionsConfig(AppConfig):
    name = "auth_sessions"
    verbose_name = "Sessions"

    def ready(self) -> None:
        from auth_sessions import (  # noqa: F401  two register themselves
            checks,
            intents,
            keys,
            projection,
            schema,
        )

        projection.connect()
        intents.connect()
        if not settings.DEVELOPMENT:
            # A process that could neither sign nor verify a token is not to serve; in development
            # the check says so.
            keys.ring()
