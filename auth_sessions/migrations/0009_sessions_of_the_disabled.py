"""Sessions of users who were disabled before that ended them: who is enabled again logs in again."""

from django.db import migrations

END = """
UPDATE auth_sessions_session SET ended_at = now(), end_reason = 'disabled'
WHERE ended_at IS NULL AND user_id IN (SELECT id FROM auth_sessions_user WHERE NOT is_active);
"""


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0008_sessions_by_their_end")]
    operations = [migrations.RunSQL(END, migrations.RunSQL.noop)]
