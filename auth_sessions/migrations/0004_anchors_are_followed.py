"""The outbox is told of every change of a session anchor, and so of what the session shows."""

from django.db import migrations

from aevon.cache import triggers


class Migration(migrations.Migration):
    dependencies = [
        ("auth_sessions", "0003_permissions_are_followed"),
        ("cache", "0002_outbox_of_every_change"),
    ]
    operations = triggers.noted("auth_sessions_sessionanchor", keyspace="session")
