"""The outbox is told of canvases that somebody else has written: the live document follows them where
it holds nothing unsaved."""

from django.db import migrations

from aevon.cache import triggers


class Migration(migrations.Migration):
    dependencies = [("canvas", "0003_notes"), ("cache", "0002_outbox_of_every_change")]
    operations = triggers.noted(
        "canvas_canvas", keyspace="canvas", version="revision", by_others=True
    )
