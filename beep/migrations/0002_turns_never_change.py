"""Turns are a record, and numbers are given once: whoever writes, the database holds to both."""

from django.db import migrations

TRIGGERS = """
CREATE FUNCTION beep_turn_refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'turns are never changed' USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE FUNCTION beep_conversation_refuse_return() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'turns are numbered and forgotten upwards only'
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER refuse_update BEFORE UPDATE ON beep_turn
FOR EACH ROW EXECUTE FUNCTION beep_turn_refuse_update();

CREATE TRIGGER refuse_return BEFORE UPDATE ON beep_conversation
FOR EACH ROW WHEN (
    NEW.last_seq < OLD.last_seq OR NEW.forgotten_through < OLD.forgotten_through
) EXECUTE FUNCTION beep_conversation_refuse_return();
"""

REMOVE = """
DROP TRIGGER refuse_return ON beep_conversation;
DROP TRIGGER refuse_update ON beep_turn;
DROP FUNCTION beep_conversation_refuse_return();
DROP FUNCTION beep_turn_refuse_update();
"""


class Migration(migrations.Migration):
    dependencies = [("beep", "0001_initial")]
    operations = [migrations.RunSQL(TRIGGERS, REMOVE)]
