"""Users have the manager whose querysets the session document follows."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("auth_sessions", "0004_anchors_are_followed")]
    operations = [migrations.AlterModelManagers(name="user", managers=[])]
