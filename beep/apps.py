from django.apps import AppConfig


class BeepConfig(AppConfig):
    name = "beep"
    verbose_name = "BEEP"

    def ready(self) -> None:
        from beep import checks, intents, projection  # noqa: F401  one registers

        projection.connect()
        intents.connect()
