from django.apps import AppConfig


class BeepConfig(AppConfig):
    name = "beep"
    verbose_name = "BEEP"

    def ready(self) -> None:
        from beep import intents, projection

        projection.connect()
        intents.connect()
