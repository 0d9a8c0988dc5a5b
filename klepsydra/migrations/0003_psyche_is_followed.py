"""The cache layer's triggers keep a PsycheState's version, and tell the outbox of every change."""

from importlib import import_module

from django.db import migrations

from aevon.cache import triggers

EARLIER = import_module("klepsydra.migrations.0002_triggers").PSYCHES

REPLACE = """
DROP TRIGGER psyche_ends ON klepsydra_psychestate;
DROP TRIGGER psyche_begins ON klepsydra_psychestate;
DROP TRIGGER psyche_changes ON klepsydra_psychestate;
DROP FUNCTION klepsydra_psyche_ends();
DROP FUNCTION klepsydra_psyche_begins();
DROP FUNCTION klepsydra_psyche_changes();

INSERT INTO cache_version_floor (keyspace, user_id, version)
SELECT 'psyche', f.user_id, GREATEST(f.version, p.version) FROM klepsydra_versionfloor f
LEFT JOIN klepsydra_psychestate p USING (user_id);
"""

# The next time forward counts on from the earlier table again.
RESTORE = """
INSERT INTO klepsydra_versionfloor (user_id, version)
SELECT f.user_id, f.version FROM cache_version_floor f
JOIN auth_sessions_user u ON u.id = f.user_id WHERE f.keyspace = 'psyche';
DELETE FROM cache_version_floor WHERE keyspace = 'psyche';
"""


class Migration(migrations.Migration):
    dependencies = [("klepsydra", "0002_triggers"), ("cache", "0002_outbox_of_every_change")]
    operations = [
        migrations.RunSQL(REPLACE, RESTORE + EARLIER),
        migrations.DeleteModel(name="VersionFloor"),
        *triggers.versioned("klepsydra_psychestate", keyspace="psyche", touched="updated_at"),
    ]
