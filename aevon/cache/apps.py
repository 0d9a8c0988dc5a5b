from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_migrate


class CacheConfig(AppConfig):
    name = "aevon.cache"
    label = "cache"
    verbose_name = "Reflex Arc"

    def ready(self) -> None:
        # The checks register themselves.
        from aevon.cache import checks, failsafe, query_times, server_checks

        def take_time(*, using: str, **_: Any) -> None:
            failsafe.lift_limits(using)

        def hurry_again(*, using: str, **_: Any) -> None:
            failsafe.restore_limits(using)

        assert all((checks, server_checks))  # noqa: S101  imported for their effect
        query_times.watch()
        pre_migrate.connect(take_time, weak=False, dispatch_uid="aevon.cache")
        post_migrate.connect(hurry_again, weak=False, dispatch_uid="aevon.cache")
