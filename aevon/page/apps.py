"""The app's name for Django, which finds template and static files by it."""

from django.apps import AppConfig


class PageConfig(AppConfig):
    """Holds no model: the page keeps nothing of its own."""

    name = "aevon.page"
    label = "page"
