"""The WSGI application that granian serves."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aevon.settings")

application = get_wsgi_application()

from aevon.cache import processes  # noqa: E402  its settings are there only now

processes.start("web")
