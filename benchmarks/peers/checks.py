"""Whether the peers of `validate/` do what they say."""

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken

from benchmarks import bare
from benchmarks.apart import Calls


def ready(token: str) -> Calls:
    """Make the tables of the blacklist, and count what a request costs."""
    with connection.schema_editor() as editor:
        for model in (OutstandingToken, BlacklistedToken):
            editor.create_model(model)
    client = Client(headers={"Authorization": f"Bearer {token}"}, SERVER_NAME="127.0.0.1")
    for path, costs in {"/rest/": 1, "/plain/": 0}.items():
        with CaptureQueriesContext(connection) as seen:
            assert client.get(path).status_code == 204
        assert len(seen) == costs, seen.captured_queries
    with CaptureQueriesContext(connection) as seen:
        answer = client.post("/verify/", {"token": token}, content_type="application/json")
    assert (answer.status_code, len(seen)) == (200, 1), (answer, seen.captured_queries)
    before = _gets()
    client.get("/plain/")
    assert _gets() == before + 1
    return {}


def _gets() -> int:
    return int(bare.client().info("commandstats")["cmdstat_get"]["calls"])
