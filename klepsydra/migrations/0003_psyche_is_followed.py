"""The cache layer's triggers keep a PsycheState's version, and tell the outbox of every change."""

from django.db import migrations

from aevon.cache import triggers

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


class Migration(migrations.Migration):
    dependencies = [("klepsydra", "0002_triggers"), ("cache", "0002_outbox_of_every_change")]
    operations = [
        migrations.RunSQL(REPLACE),
        migrations.DeleteModel(name="VersionFloor"),
        *triggers.versioned("klepsydra_psychestate", keyspace="psyche", touched="updated_at"),
    ]
