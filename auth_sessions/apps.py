from django.apps import AppConfig


class AuthSessionsConfig(AppConfig):
    name = "auth_sessions"
    verbose_name = "Sessions"

    def ready(self) -> None:
        from auth_sessions import projection, schema  # noqa: F401  registers with the schema

        projection.connect()
