"""The outbox is told of every change of the turns, whoever makes it; old turns are found by their
time."""

from django.db import migrations, models

from aevon.cache import triggers
from aevon.cache.triggers import PIN

# Turns may be forgotten by this number alone, without being deleted. The application deletes them,
# which is noted: noting this as well, it would take the outbox's row before the turns, and whoever
# deletes old turns takes them in the other order.
FORGOTTEN = f"""{PIN}
CREATE FUNCTION beep_conversation_forgotten() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM cache_note_change('convo_history', NEW.user_id, NULL);
    RETURN NULL;
END $$;

CREATE TRIGGER cache_is_told AFTER UPDATE OF forgotten_through ON beep_conversation
FOR EACH ROW WHEN (
    NEW.forgotten_through <> OLD.forgotten_through
    AND current_setting('aevon.writer', true) IS DISTINCT FROM 'app'
)
EXECUTE FUNCTION beep_conversation_forgotten();
"""
REMOVE = """
DROP TRIGGER cache_is_told ON beep_conversation;
DROP FUNCTION beep_conversation_forgotten();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("beep", "0003_turn_undo"),
        ("cache", "0003_changes_of_no_version"),
    ]
    operations = [
        migrations.AddIndex(
            model_name="turn", index=models.Index(fields=["at"], name="turn_by_time")
        ),
        triggers.listed("beep_turn", keyspace="convo_history"),
        migrations.RunSQL(FORGOTTEN, REMOVE),
    ]
