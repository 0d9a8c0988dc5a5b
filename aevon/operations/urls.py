"""Below the admin's own address."""

from django.urls import path

from aevon.operations import views

app_name = "reflex_arc"
urlpatterns = [
    path("", views.dashboard, name="dashboard"),
    path("state/", views.state, name="state"),
    path("users/", views.find, name="find"),
    path("users/<str:user>/", views.user, name="user"),
    path("users/<str:user>/<str:service>/<slug:name>/", views.deed, name="deed"),
]
