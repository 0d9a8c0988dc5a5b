"""`/api/v1/beep/`."""

from django.urls import path

from beep import views

urlpatterns = [
    path("commands/", views.CommandsView.as_view(), name="beep-commands"),
    path("history/", views.HistoryView.as_view(), name="beep-history"),
]
