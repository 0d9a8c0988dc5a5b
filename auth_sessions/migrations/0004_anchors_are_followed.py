"""The outbox is told of every change of a session anchor, and so of what the session shows.

The functions of the earlier migrations find their tables whoever calls them, and from wherever.
"""

from django.db import migrations

from aevon.cache import triggers

FUNCTIONS = (
    "auth_sessions_make_anchor()",
    "auth_sessions_user_changed()",
    "auth_sessions_users_row_changed()",
    "auth_sessions_group_changed()",
    "auth_sessions_permission_changed()",
    "auth_sessions_raise_anchors(bigint[])",
)
PINNED = triggers.PIN + "".join(
    f"ALTER FUNCTION {each} SECURITY DEFINER SET search_path FROM CURRENT;\n" for each in FUNCTIONS
)
AS_BEFORE = "".join(
    f"ALTER FUNCTION {each} SECURITY INVOKER RESET search_path;\n" for each in FUNCTIONS
)


class Migration(migrations.Migration):
    dependencies = [
        ("auth_sessions", "0003_permissions_are_followed"),
        ("cache", "0002_outbox_of_every_change"),
    ]
    operations = [
        migrations.RunSQL(PINNED, AS_BEFORE),
        triggers.owned("auth_sessions_session"),
        *triggers.noted("auth_sessions_sessionanchor", keyspace="session"),
    ]
