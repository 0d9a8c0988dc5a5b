"""A change of permissions misses nobody who comes by them meanwhile, superusers included.

Whoever becomes a superuser refers to no row that a new permission could lock: both take one
advisory lock. And a transaction that does not see what others have committed since it began
(REPEATABLE READ, SERIALIZABLE) cannot know whom a permission concerns: it is refused.
"""

from django.db import migrations

from aevon.cache.triggers import PIN


def function(name: str, body: str) -> str:
    return f"""
CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
{body.strip()}
    RETURN NULL;
END $$;
"""


# "aevo", and the first of its locks.
SUPERUSERS = "1634039407, 1"
SEES_WHAT_IS = """
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'Permissions are changed in READ COMMITTED: this transaction would not see'
            ' who has come by them since it began.' USING ERRCODE = 'invalid_transaction_state';
    END IF;
"""

MADE = """
    INSERT INTO auth_sessions_sessionanchor (user_id, version) VALUES (NEW.id, 1)
    ON CONFLICT DO NOTHING;
"""
CHANGED = """
    UPDATE auth_sessions_sessionanchor SET version = version + 1 WHERE user_id = NEW.id;
"""
GROUP = """
    PERFORM FROM auth_group WHERE id IN (OLD.group_id, NEW.group_id) ORDER BY id FOR UPDATE;
    PERFORM auth_sessions_raise_anchors(ARRAY(
        SELECT user_id FROM auth_sessions_user_groups WHERE group_id IN (OLD.group_id, NEW.group_id)
    ));
"""
PERMISSION = """
    PERFORM FROM auth_permission WHERE id IN (OLD.id, NEW.id) FOR UPDATE;
    PERFORM auth_sessions_raise_anchors(ARRAY(
        SELECT id FROM auth_sessions_user WHERE is_superuser
        UNION SELECT user_id FROM auth_sessions_user_user_permissions
            WHERE permission_id IN (OLD.id, NEW.id)
        UNION SELECT ug.user_id FROM auth_sessions_user_groups ug
            JOIN auth_group_permissions gp ON gp.group_id = ug.group_id
            WHERE gp.permission_id IN (OLD.id, NEW.id)
    ));
"""
FORWARDS = (
    PIN
    + function(
        "auth_sessions_make_anchor",
        f"""
    IF NEW.is_superuser THEN
        PERFORM pg_advisory_xact_lock_shared({SUPERUSERS});
    END IF;
{MADE}""",
    )
    + function(
        "auth_sessions_user_changed",
        f"""
    IF NEW.is_superuser AND NOT OLD.is_superuser THEN
        PERFORM pg_advisory_xact_lock_shared({SUPERUSERS});
    END IF;
{CHANGED}""",
    )
    + function("auth_sessions_group_changed", SEES_WHAT_IS + GROUP)
    + function(
        "auth_sessions_permission_changed",
        f"""{SEES_WHAT_IS}
    PERFORM pg_advisory_xact_lock({SUPERUSERS});
{PERMISSION}""",
    )
)
BACKWARDS = (
    PIN
    + function("auth_sessions_make_anchor", MADE)
    + function("auth_sessions_user_changed", CHANGED)
    + function("auth_sessions_group_changed", GROUP)
    + function("auth_sessions_permission_changed", PERMISSION)
)


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0005_users_are_followed")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
