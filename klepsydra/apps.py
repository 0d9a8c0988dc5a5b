from django.apps import AppConfig


class KlepsydraConfig(AppConfig):
    name = "klepsydra"
    verbose_name = "KLEPSYDRA"

    def ready(self) -> None:
        from klepsydra import intents, projection, receivers

        projection.connect()
        receivers.connect()
        intents.connect()
