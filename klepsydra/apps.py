from django.apps import AppConfig


class KlepsydraConfig(AppConfig):
    name = "klepsydra"
    verbose_name = "KLEPSYDRA"

    def ready(self) -> None:
        from klepsydra import intents, receivers

        receivers.connect()
        intents.connect()
