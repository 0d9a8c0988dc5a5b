"""`/api/v1/canvas/`."""

from django.urls import path

from canvas import note_views, views

urlpatterns = [
    path("", views.CanvasView.as_view(), name="canvas"),
    path("notes/<str:appId>/", note_views.NoteView.as_view(), name="canvas-note"),
]
