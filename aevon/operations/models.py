"""Who may look at the Reflex Arc, and who may operate it."""

from django.db import models


class ReflexArc(models.Model):
    """Has no rows and no table: it is what the two permissions, and the log of what was done with
    them, are about."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = [
            ("view_reflexarc", "Can see the Reflex Arc: its state, and what it holds on any user"),
            ("operate_reflexarc", "Can warm, flush, repair, persist, and end a user's sessions"),
        ]
        verbose_name = verbose_name_plural = "Reflex Arc"

    def __str__(self) -> str:
        return "Reflex Arc"
