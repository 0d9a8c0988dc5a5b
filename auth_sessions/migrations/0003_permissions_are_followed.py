"""Anchors follow permissions themselves, no member of a group is missed by a race, and users who
were there before the triggers have an anchor too."""

from django.db import migrations

# Who joins a group, or is given a permission, refers to its row, and so waits for these locks:
# whoever is not seen here commits later, and reads what is the case by then. Anchors are locked in
# order: two changes that raise the same ones must not wait for each other.
FORWARDS = """
INSERT INTO auth_sessions_sessionanchor (user_id, version) SELECT id, 1 FROM auth_sessions_user
ON CONFLICT DO NOTHING;

CREATE FUNCTION auth_sessions_raise_anchors(users bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM auth_sessions_sessionanchor WHERE user_id = ANY(users)
    ORDER BY user_id FOR NO KEY UPDATE;
    UPDATE auth_sessions_sessionanchor SET version = version + 1 WHERE user_id = ANY(users);
END $$;

CREATE OR REPLACE FUNCTION auth_sessions_group_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM auth_group WHERE id IN (OLD.group_id, NEW.group_id) ORDER BY id FOR UPDATE;
    PERFORM auth_sessions_raise_anchors(ARRAY(
        SELECT user_id FROM auth_sessions_user_groups WHERE group_id IN (OLD.group_id, NEW.group_id)
    ));
    RETURN NULL;
END $$;

CREATE FUNCTION auth_sessions_permission_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM auth_permission WHERE id IN (OLD.id, NEW.id) FOR UPDATE;
    PERFORM auth_sessions_raise_anchors(ARRAY(
        SELECT id FROM auth_sessions_user WHERE is_superuser
        UNION SELECT user_id FROM auth_sessions_user_user_permissions
            WHERE permission_id IN (OLD.id, NEW.id)
        UNION SELECT ug.user_id FROM auth_sessions_user_groups ug
            JOIN auth_group_permissions gp ON gp.group_id = ug.group_id
            WHERE gp.permission_id IN (OLD.id, NEW.id)
    ));
    RETURN NULL;
END $$;

CREATE TRIGGER raise_session_anchor
AFTER INSERT OR DELETE OR UPDATE OF codename, content_type_id ON auth_permission
FOR EACH ROW EXECUTE FUNCTION auth_sessions_permission_changed();
"""

BACKWARDS = """
DROP TRIGGER raise_session_anchor ON auth_permission;
DROP FUNCTION auth_sessions_permission_changed();

CREATE OR REPLACE FUNCTION auth_sessions_group_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE auth_sessions_sessionanchor SET version = version + 1
    WHERE user_id IN (
        SELECT user_id FROM auth_sessions_user_groups WHERE group_id IN (OLD.group_id, NEW.group_id)
    );
    RETURN NULL;
END $$;

DROP FUNCTION auth_sessions_raise_anchors(bigint[]);
"""


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0002_anchor_triggers")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
