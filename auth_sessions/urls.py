"""`/api/v1/auth/`."""

from django.urls import path

from auth_sessions import views

urlpatterns = [
    path("token/", views.TokenView.as_view(), name="token"),
    path("token/refresh/", views.RefreshView.as_view(), name="token-refresh"),
    path("logout/", views.LogoutView.as_view(), name="logout"),
    path("sessions/", views.SessionsView.as_view(), name="sessions"),
    path("sessions/<uuid:sid>/", views.SessionView.as_view(), name="session"),
    path("validate/", views.validate, name="validate"),
]
