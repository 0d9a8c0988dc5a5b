"""`/api/v1/auth/`."""

from django.urls import path

from auth_sessions import browser, gateway, views

urlpatterns = [
    # In front: it is asked for every request that a gateway lets through.
    path("validate/", gateway.validate, name="validate"),
    path("token/", views.TokenView.as_view(), name="token"),
    path("token/refresh/", views.RefreshView.as_view(), name="token-refresh"),
    path("browser/", browser.BrowserView.as_view(), name="browser"),
    path("browser/access/", browser.BrowserAccessView.as_view(), name="browser-access"),
    path("logout/", views.LogoutView.as_view(), name="logout"),
    path("password/", views.PasswordView.as_view(), name="password"),
    path("sessions/", views.SessionsView.as_view(), name="sessions"),
    path("sessions/<uuid:sid>/", views.SessionView.as_view(), name="session"),
]
