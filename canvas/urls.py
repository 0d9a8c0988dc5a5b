"""`/api/v1/canvas/`."""

from django.urls import path

from canvas import views

urlpatterns = [path("", views.CanvasView.as_view(), name="canvas")]
