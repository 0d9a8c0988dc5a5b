"""`/api/v1/klepsydra/`."""

from django.urls import path

from klepsydra import views

urlpatterns = [
    path("psyche/", views.PsycheView.as_view(), name="psyche"),
    path("instruments/", views.InstrumentsView.as_view(), name="instruments"),
    path("interactions/", views.InteractionsView.as_view(), name="interactions"),
]
