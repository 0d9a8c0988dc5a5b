"""A change may have no version: whatever the entry holds is compared then, also where the outbox
knew a version before."""

from django.db import migrations

from aevon.cache.triggers import PIN

NOTE = """
CREATE OR REPLACE FUNCTION cache_note_change(space text, owner bigint, committed bigint)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF owner < 1 THEN RETURN; END IF; -- such a user id has no key
    INSERT INTO cache_outbox AS noted (keyspace, user_id, version, added_at)
    VALUES (space, owner, committed, clock_timestamp())
    ON CONFLICT (keyspace, user_id) DO UPDATE SET version = {};
END $$;
"""
# GREATEST would take a number over NULL, which says: whatever the entry holds.
AFTER = """CASE
        WHEN noted.version IS NOT NULL AND excluded.version IS NOT NULL
        THEN GREATEST(noted.version, excluded.version) END"""
BEFORE = """CASE
        WHEN noted.version < excluded.version THEN excluded.version ELSE noted.version END"""


class Migration(migrations.Migration):
    dependencies = [("cache", "0002_outbox_of_every_change")]
    operations = [migrations.RunSQL(PIN + NOTE.format(AFTER), PIN + NOTE.format(BEFORE))]
