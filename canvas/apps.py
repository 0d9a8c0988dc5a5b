from django.apps import AppConfig


class CanvasConfig(AppConfig):
    name = "canvas"
    verbose_name = "Canvas"

    def ready(self) -> None:
        from canvas import intents, projection, services

        projection.connect()
        services.connect()
        intents.connect()
