"""The WSGI application that granian serves."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aevon.settings")

application = get_wsgi_application()

from aevon.cache import processes, server_checks  # noqa: E402  their settings are there only now

processes.start("web")
server_checks.tell_once()
