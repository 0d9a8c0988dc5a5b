"""The database raises a user's session anchor, whoever writes what `session:{userId}` shows."""

from django.db import migrations

# UPDATE only: an anchor is made with its user, and a cascade that removes the user's rows must
# not bring it back.
FUNCTIONS = """
CREATE FUNCTION auth_sessions_make_anchor() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO auth_sessions_sessionanchor (user_id, version) VALUES (NEW.id, 1)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE FUNCTION auth_sessions_user_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE auth_sessions_sessionanchor SET version = version + 1 WHERE user_id = NEW.id;
    RETURN NULL;
END $$;

CREATE FUNCTION auth_sessions_users_row_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE auth_sessions_sessionanchor SET version = version + 1
    WHERE user_id IN (COALESCE(OLD.user_id, NEW.user_id), COALESCE(NEW.user_id, OLD.user_id));
    RETURN NULL;
END $$;

CREATE FUNCTION auth_sessions_group_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE auth_sessions_sessionanchor SET version = version + 1
    WHERE user_id IN (
        SELECT user_id FROM auth_sessions_user_groups
        WHERE group_id IN (COALESCE(OLD.group_id, NEW.group_id), COALESCE(NEW.group_id, OLD.group_id))
    );
    RETURN NULL;
END $$;

CREATE TRIGGER make_session_anchor AFTER INSERT ON auth_sessions_user
FOR EACH ROW EXECUTE FUNCTION auth_sessions_make_anchor();

CREATE TRIGGER raise_session_anchor
AFTER UPDATE OF username, is_active, is_superuser, sovereignty_class ON auth_sessions_user
FOR EACH ROW WHEN (
    (OLD.username, OLD.is_active, OLD.is_superuser, OLD.sovereignty_class)
    IS DISTINCT FROM (NEW.username, NEW.is_active, NEW.is_superuser, NEW.sovereignty_class)
) EXECUTE FUNCTION auth_sessions_user_changed();

CREATE TRIGGER raise_session_anchor AFTER INSERT OR UPDATE OR DELETE ON auth_sessions_session
FOR EACH ROW EXECUTE FUNCTION auth_sessions_users_row_changed();

CREATE TRIGGER raise_session_anchor AFTER INSERT OR UPDATE OR DELETE ON auth_sessions_user_groups
FOR EACH ROW EXECUTE FUNCTION auth_sessions_users_row_changed();

CREATE TRIGGER raise_session_anchor
AFTER INSERT OR UPDATE OR DELETE ON auth_sessions_user_user_permissions
FOR EACH ROW EXECUTE FUNCTION auth_sessions_users_row_changed();

CREATE TRIGGER raise_session_anchor AFTER INSERT OR UPDATE OR DELETE ON auth_group_permissions
FOR EACH ROW EXECUTE FUNCTION auth_sessions_group_changed();
"""

REMOVE = """
DROP TRIGGER raise_session_anchor ON auth_group_permissions;
DROP TRIGGER raise_session_anchor ON auth_sessions_user_user_permissions;
DROP TRIGGER raise_session_anchor ON auth_sessions_user_groups;
DROP TRIGGER raise_session_anchor ON auth_sessions_session;
DROP TRIGGER raise_session_anchor ON auth_sessions_user;
DROP TRIGGER make_session_anchor ON auth_sessions_user;
DROP FUNCTION auth_sessions_group_changed();
DROP FUNCTION auth_sessions_users_row_changed();
DROP FUNCTION auth_sessions_user_changed();
DROP FUNCTION auth_sessions_make_anchor();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("auth_sessions", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]
    operations = [migrations.RunSQL(FUNCTIONS, REMOVE)]
