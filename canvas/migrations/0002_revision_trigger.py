"""The database raises a canvas's revision when its layout changes without that, whoever writes.

A flush gives the revision itself and never fires this.
"""

from django.db import migrations

RAISE = """
CREATE FUNCTION canvas_raise_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision = OLD.revision + 1;
    NEW.updated_at = clock_timestamp();
    RETURN NEW;
END $$;

CREATE TRIGGER raise_revision BEFORE UPDATE ON canvas_canvas
FOR EACH ROW WHEN (NEW.revision <= OLD.revision AND NEW.layout IS DISTINCT FROM OLD.layout)
EXECUTE FUNCTION canvas_raise_revision();
"""

REMOVE = """
DROP TRIGGER raise_revision ON canvas_canvas;
DROP FUNCTION canvas_raise_revision();
"""


class Migration(migrations.Migration):
    dependencies = [("canvas", "0001_initial")]
    operations = [migrations.RunSQL(RAISE, REMOVE)]
