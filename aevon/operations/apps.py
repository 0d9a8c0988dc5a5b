from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "aevon.operations"
    label = "operations"
    verbose_name = "Operations"
