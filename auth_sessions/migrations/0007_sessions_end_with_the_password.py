"""A change of the password, and the user's deactivation, end the user's sessions, whoever writes."""

from django.db import migrations, models

from aevon.cache.triggers import PIN

# By its name it runs before the trigger that raises the anchor: sessions are locked before their
# anchor, as a refresh takes them. A hash that is made anew, of the same password, is none of it.
FORWARDS = """
CREATE FUNCTION auth_sessions_end_sessions() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE auth_sessions_session
    SET ended_at = clock_timestamp(),
        end_reason = CASE WHEN NEW.is_active THEN 'password' ELSE 'disabled' END
    WHERE user_id = NEW.id AND ended_at IS NULL;
    RETURN NULL;
END $$;

CREATE TRIGGER end_sessions AFTER UPDATE OF password, is_active ON auth_sessions_user
FOR EACH ROW WHEN (
    (OLD.is_active AND NOT NEW.is_active)
    OR (
        OLD.password IS DISTINCT FROM NEW.password
        AND current_setting('aevon.rehash', true) IS DISTINCT FROM 'on'
    )
) EXECUTE FUNCTION auth_sessions_end_sessions();
"""
BACKWARDS = """
DROP TRIGGER end_sessions ON auth_sessions_user;
DROP FUNCTION auth_sessions_end_sessions();
"""
REASONS = [
    ("logout", "Logged out"),
    ("ended", "Ended from another session"),
    ("reuse", "Refresh token used twice"),
    ("password", "Password changed"),
    ("disabled", "User disabled"),
    ("admin", "Ended by an administrator"),
]


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0006_nobody_is_missed")]
    operations = [
        migrations.RenameField("session", "refreshed_at", "last_seen_at"),
        migrations.AddField("session", "rotated_at", models.DateTimeField(null=True, blank=True)),
        migrations.AddField("session", "address", models.CharField(max_length=43, blank=True)),
        migrations.AlterField(
            "session",
            "end_reason",
            models.CharField(max_length=16, blank=True, choices=REASONS),
        ),
        migrations.RunSQL(PIN + FORWARDS, BACKWARDS),
    ]
