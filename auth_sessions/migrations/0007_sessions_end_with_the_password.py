"""A change of the password, and the user's deactivation, end the user's sessions, whoever writes.

Tables are locked in the order in which readers take them, users before sessions. Processes of before
go on beside it: no column loses its name, and new ones need no value.
"""

from django.db import migrations, models

from aevon.cache.triggers import PIN

# By its name `end_sessions` runs before the trigger that raises the anchor: sessions are locked
# before their anchor, as a refresh takes them. A hash that is made anew, of the same password, is
# none of it.
USERS = """
CREATE FUNCTION auth_sessions_end_sessions() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'Who ends sessions does so in READ COMMITTED: this transaction would not see'
            ' those that were opened since it began.' USING ERRCODE = 'invalid_transaction_state';
    END IF;
    UPDATE auth_sessions_session
    SET ended_at = clock_timestamp(),
        end_reason = CASE WHEN NEW.is_active THEN 'password' ELSE 'disabled' END
    WHERE user_id = NEW.id AND ended_at IS NULL;
    RETURN NULL;
END $$;

CREATE FUNCTION auth_sessions_log_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.logged_out_at := GREATEST(OLD.logged_out_at, NEW.logged_out_at);
    IF OLD.is_active AND NOT NEW.is_active THEN
        NEW.logged_out_at := clock_timestamp();
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER log_out BEFORE UPDATE OF is_active, logged_out_at ON auth_sessions_user
FOR EACH ROW EXECUTE FUNCTION auth_sessions_log_out();

CREATE TRIGGER end_sessions AFTER UPDATE OF password, is_active ON auth_sessions_user
FOR EACH ROW WHEN (
    (OLD.is_active AND NOT NEW.is_active)
    OR (
        OLD.password IS DISTINCT FROM NEW.password
        AND current_setting('aevon.rehash', true) IS DISTINCT FROM 'on'
    )
) EXECUTE FUNCTION auth_sessions_end_sessions();
"""
USERS_AS_BEFORE = """
DROP TRIGGER log_out ON auth_sessions_user;
DROP FUNCTION auth_sessions_log_out();
DROP TRIGGER end_sessions ON auth_sessions_user;
DROP FUNCTION auth_sessions_end_sessions();
"""
# The record of a session that is over is in no document: nothing has to follow when it goes.
SESSIONS = """
DROP TRIGGER raise_session_anchor ON auth_sessions_session;

CREATE TRIGGER raise_session_anchor AFTER INSERT OR UPDATE ON auth_sessions_session
FOR EACH ROW EXECUTE FUNCTION auth_sessions_users_row_changed();

CREATE TRIGGER raise_session_anchor_at_its_end AFTER DELETE ON auth_sessions_session
FOR EACH ROW WHEN (OLD.ended_at IS NULL AND OLD.access_expires_at > clock_timestamp())
EXECUTE FUNCTION auth_sessions_users_row_changed();
"""
SESSIONS_AS_BEFORE = """
DROP TRIGGER raise_session_anchor_at_its_end ON auth_sessions_session;
DROP TRIGGER raise_session_anchor ON auth_sessions_session;

CREATE TRIGGER raise_session_anchor AFTER INSERT OR UPDATE OR DELETE ON auth_sessions_session
FOR EACH ROW EXECUTE FUNCTION auth_sessions_users_row_changed();
"""
REASONS = [
    ("logout", "Logged out"),
    ("ended", "Ended from another session"),
    ("reuse", "Refresh token used twice, or by another"),
    ("password", "Password changed"),
    ("disabled", "User disabled"),
    ("admin", "Ended by an administrator"),
]


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0006_nobody_is_missed")]
    operations = [
        migrations.AddField(
            "user", "logged_out_at", models.DateTimeField(null=True, blank=True, editable=False)
        ),
        migrations.RunSQL(PIN + USERS, USERS_AS_BEFORE),
        migrations.AlterField(
            "session", "refreshed_at", models.DateTimeField(db_column="refreshed_at")
        ),
        migrations.RenameField("session", "refreshed_at", "last_seen_at"),
        migrations.AddField("session", "rotated_at", models.DateTimeField(null=True, blank=True)),
        migrations.AddField(
            "session",
            "address",
            models.CharField(max_length=43, blank=True, default="", db_default=""),
        ),
        migrations.AddField("session", "is_page", models.BooleanField(null=True)),
        migrations.AlterField(
            "session",
            "end_reason",
            models.CharField(max_length=16, blank=True, choices=REASONS),
        ),
        migrations.RunSQL(SESSIONS, SESSIONS_AS_BEFORE),
    ]
