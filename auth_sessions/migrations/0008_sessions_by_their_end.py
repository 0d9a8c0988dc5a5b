"""Old records are found by an index, which is made while others read and write."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("auth_sessions", "0007_sessions_end_with_the_password")]
    operations = [
        AddIndexConcurrently(
            "session", models.Index(fields=["refresh_expires_at"], name="session_by_its_end")
        ),
    ]
