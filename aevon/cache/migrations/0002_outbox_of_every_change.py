"""Every change of a cached row is noted in the outbox, with the version that it has.

The functions run with the rights of their owner: who may change a cached row need not be allowed
to write these tables.
"""

from django.db import migrations, models

from aevon.cache.triggers import PIN

FUNCTIONS = """
CREATE FUNCTION cache_note_change(space text, owner bigint, committed bigint)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF owner < 1 THEN RETURN; END IF; -- such a user id has no key
    INSERT INTO cache_outbox AS noted (keyspace, user_id, version, added_at)
    VALUES (space, owner, committed, clock_timestamp())
    ON CONFLICT (keyspace, user_id) DO UPDATE SET
        -- GREATEST would take a number over NULL, which says: whatever the entry holds.
        version = CASE WHEN noted.version < excluded.version THEN excluded.version ELSE noted.version END;
END $$;

-- Waits for whoever is deleting the user's row, and counts on from there.
CREATE FUNCTION cache_first_version(space text, owner bigint)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE first bigint;
BEGIN
    INSERT INTO cache_version_floor AS floor (keyspace, user_id, version) VALUES (space, owner, 1)
    ON CONFLICT (keyspace, user_id) DO UPDATE SET version = floor.version + 1
    RETURNING floor.version INTO first;
    RETURN first;
END $$;

CREATE FUNCTION cache_last_version(space text, owner bigint, last bigint)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    -- A row that was there before its triggers has no floor yet.
    INSERT INTO cache_version_floor AS floor (keyspace, user_id, version)
    VALUES (space, owner, last)
    ON CONFLICT (keyspace, user_id) DO UPDATE SET version = GREATEST(floor.version, last);
END $$;

-- For trigger functions, which run with their owner's rights, and nobody else.
REVOKE EXECUTE ON FUNCTION cache_note_change(text, bigint, bigint) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION cache_first_version(text, bigint) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION cache_last_version(text, bigint, bigint) FROM PUBLIC;

CREATE FUNCTION cache_wake_listener() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('aevon.writer', true) IS DISTINCT FROM 'app' THEN
        PERFORM pg_notify('aevon_cache', '');
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER cache_wakes_listener AFTER INSERT OR UPDATE ON cache_outbox
FOR EACH STATEMENT EXECUTE FUNCTION cache_wake_listener();
"""

REMOVE = """
DROP TRIGGER cache_wakes_listener ON cache_outbox;
DROP FUNCTION cache_wake_listener();
DROP FUNCTION cache_last_version(text, bigint, bigint);
DROP FUNCTION cache_first_version(text, bigint);
DROP FUNCTION cache_note_change(text, bigint, bigint);
"""


class Migration(migrations.Migration):
    dependencies = [("cache", "0001_initial")]
    operations = [
        migrations.AddField(
            model_name="outbox", name="version", field=models.BigIntegerField(null=True)
        ),
        migrations.CreateModel(
            name="VersionFloor",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("keyspace", models.CharField(max_length=32)),
                ("user_id", models.BigIntegerField()),
                ("version", models.BigIntegerField()),
            ],
            options={
                "db_table": "cache_version_floor",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("keyspace", "user_id"), name="cache_version_floor_one_per_key"
                    )
                ],
            },
        ),
        migrations.RunSQL(PIN + FUNCTIONS, REMOVE),
    ]
