"""Who a user is, which sessions they hold, and the anchor that versions both."""

import uuid
from typing import Any, ClassVar, Final, Self

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.models import AbstractUser, UserManager
from django.db import connection, models, transaction
from django.db.models import F, Q
from django.utils.crypto import salted_hmac

from aevon.cache import CachedManager, CachedQuerySet

USER_AGENT_MAX: Final = 200


class SovereigntyClass(models.TextChoices):
    """A user's standing in ΛΞVON OS (domain.md), from the lowest to the highest."""

    INITIATE = "INITIATE", "Initiate"
    SOVEREIGN = "SOVEREIGN", "Sovereign"
    ARCHITECT = "ARCHITECT", "Architect"

    def reaches(self, needed: str) -> bool:
        """Whether this is the class `needed` or a higher one. Raises `ValueError` for no class."""
        order = SovereigntyClass.values
        return order.index(self) >= order.index(needed)


class Users(UserManager.from_queryset(CachedQuerySet)):  # type: ignore[misc]  # made by a call
    """Django's manager of users; `session:{userId}` follows what its querysets write."""

    use_in_migrations = False


class User(AbstractUser):
    """An account."""

    sovereignty_class = models.CharField(
        max_length=16, choices=SovereigntyClass.choices, default=SovereigntyClass.INITIATE
    )
    # What was logged in before, in the admin as well, is no longer. It never goes back: whoever
    # saves a row read earlier does not bring a login back to life (migration 0007).
    logged_out_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects: ClassVar["UserManager[User]"] = Users()

    def has_class(self, needed: str) -> bool:
        """As `SovereigntyClass.reaches`."""
        return SovereigntyClass(self.sovereignty_class).reaches(needed)

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """What Django's sessions, and so the admin's, hold on to: they end with all others."""
        if self.logged_out_at is None:
            return str(super()._get_session_auth_hash(secret))  # type: ignore[misc]  # stubs lack it
        stands = f"{self.password} {self.logged_out_at}"
        salt = "auth_sessions.models.User.session"
        return salted_hmac(salt, stands, secret=secret, algorithm="sha256").hexdigest()

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        """As Django's, which would miss a session that is opened while it collects."""
        with transaction.atomic():
            list(User.objects.select_for_update().filter(pk=self.pk))
            return super().delete(*args, **options)

    def check_password(self, raw_password: str | None) -> bool:
        """As Django's, whose hash is made anew when its parameters are old ones: of the same
        password, so that no session ends, and never over one that was changed meanwhile."""
        return check_password(raw_password, self.password, self._rehash)

    async def acheck_password(self, raw_password: str | None) -> bool:
        """As `check_password`."""
        return await sync_to_async(self.check_password)(raw_password)

    def _rehash(self, raw_password: str) -> None:
        rows, new = User.objects.filter(pk=self.pk), make_password(raw_password)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('aevon.rehash', 'on', true)")
            replaced = rows.filter(password=self.password).update(password=new)
            cursor.execute("SELECT set_config('aevon.rehash', '', true)")
        if not replaced:  # somebody was faster: with the same password, or with another one
            new = rows.values_list("password", flat=True).first() or ""
        if replaced or check_password(raw_password, new):
            self.password = new

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(sovereignty_class__in=SovereigntyClass.values),
                name="user_sovereignty_class_known",
            )
        ]


class Session(models.Model):
    """One login, from its first token to its end. Ended sessions stay for a time, as a record.

    A change of the user's password, and their deactivation, end all of them in the database
    itself, whoever writes (migration 0007).
    """

    class EndReason(models.TextChoices):
        LOGOUT = "logout", "Logged out"
        ENDED = "ended", "Ended from another session"
        REUSE = "reuse", "Refresh token used twice, or by another"
        PASSWORD = "password", "Password changed"
        DISABLED = "disabled", "User disabled"
        ADMIN = "admin", "Ended by an administrator"

    sid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="sessions"
    )
    # The token id of the one refresh token that is still good, as SHA-256: the table is no key.
    refresh_digest = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)
    # To within the lifetime of an access token: whoever goes on refreshes by then.
    last_seen_at = models.DateTimeField(db_column="refreshed_at")
    # When the refresh token was replaced by its successor; none has been, or long ago.
    rotated_at = models.DateTimeField(null=True, blank=True)
    access_expires_at = models.DateTimeField()
    refresh_expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    end_reason = models.CharField(max_length=16, blank=True, choices=EndReason.choices)
    # Whether its refresh token is in a cookie of the page's, and good for nothing else, or a
    # program's. Null of one from before there was a difference: the door it comes to first decides.
    is_page = models.BooleanField(null=True)
    user_agent = models.CharField(max_length=USER_AGENT_MAX, blank=True)
    # The network it was opened from, not the address: enough to know one's own by.
    address = models.CharField(max_length=43, blank=True, default="", db_default="")

    objects: ClassVar["CachedManager[Self]"] = CachedManager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["user"], condition=Q(ended_at=None), name="session_live_of_user"),
            models.Index(fields=["refresh_expires_at"], name="session_by_its_end"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(access_expires_at__lte=F("refresh_expires_at")),
                name="session_access_ends_before_refresh",
            ),
            models.CheckConstraint(
                condition=Q(ended_at=None, end_reason="")
                | (Q(ended_at__isnull=False) & ~Q(end_reason="")),
                name="session_end_has_reason",
            ),
        ]

    def __str__(self) -> str:
        return str(self.sid)


class SessionAnchor(models.Model):
    """One row per user: its version rises with every change of what `session:{userId}` shows.

    The database's triggers raise it (migration 0002), whoever writes: sessions, the user's name,
    state and class, their permissions, their groups, and what those groups may do.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        primary_key=True,
        on_delete=models.CASCADE,
        related_name="session_anchor",
    )
    version = models.BigIntegerField(default=1)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(version__gte=1), name="session_anchor_version_ge_1")
        ]

    def __str__(self) -> str:
        return f"{self.user_id} v{self.version}"
