from django.apps import AppConfig


class CacheConfig(AppConfig):
    name = "aevon.cache"
    label = "cache"
    verbose_name = "Reflex Arc"

    def ready(self) -> None:
        from aevon.cache import checks  # noqa: F401  registers the system checks
