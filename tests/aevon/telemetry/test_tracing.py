"""Traces are for who asks for them: what that costs the others, and what is missing or away."""

import subprocess
import sys
import textwrap

from tests.aevon.programs import environment
from tests.servers import ROOT

NOBODY = "http://127.0.0.1:1"
ASK = """
import sys
{before}
import django
django.setup()
from django.test import Client
client = Client(headers={{"Host": "localhost"}})
print({{client.get("/api/v1/canvas/").status_code for _ in range(20)}})
import aevon.celery
print("aevon.telemetry.tracing" in sys.modules, "opentelemetry.exporter" in sys.modules)
{after}
"""
# Waits until the batch has been tried.
SEND = "from aevon.telemetry.tracing import provider; provider.force_flush()"
WITHOUT_PACKAGES = "sys.modules['opentelemetry.exporter'] = None"


def asked(endpoint: str, *, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
    """What a process says that answers some requests."""
    program = textwrap.dedent(ASK).format(before=before, after=after)
    variables = environment(
        DJANGO_SETTINGS_MODULE="aevon.settings",
        AEVON_OTLP_ENDPOINT=endpoint,
        OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="1",
    )
    command = (sys.executable, "-c", program)
    return subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )


def test_unset_nothing_is_imported() -> None:
    """Neither ours nor what it needs."""
    assert asked("").stdout == "{401}\nFalse False\n"


def test_a_collector_that_is_away() -> None:
    """Requests are answered, the process ends, and one line tells why there are no traces."""
    told = asked(NOBODY, after=f"{SEND}\nclient.get('/')\n{SEND}")
    assert (told.returncode, told.stdout) == (0, "{401}\nTrue True\n")
    lines = [line for line in told.stderr.splitlines() if "opentelemetry" in line]
    assert len(lines) == 1, told.stderr


FAILING = """
from django.http import HttpResponse
from django.test import RequestFactory
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from psycopg import sql
from aevon.telemetry import tracing
kept = InMemorySpanExporter()
tracing.provider.add_span_processor(SimpleSpanProcessor(kept))
composed = sql.SQL("SELECT {}").format(sql.Literal("marked"))
plain = "SELECT %s"
def answer(request):
    for statement, params in ((composed, None), (plain, ["marked"])):
        tracing._statement(lambda *_: None, statement, params, False, {})
    return HttpResponse(status=int(request.GET["status"]))
for status in ("200", "499", "500"):
    tracing.TracingMiddleware(answer)(RequestFactory().get("/", {"status": status}))
spans = kept.get_finished_spans()
told = [s for s in spans if s.kind.name == "SERVER"]
print([(s.attributes["http.response.status_code"], s.status.status_code.name) for s in told])
print(sorted({s.attributes["db.query.text"] for s in spans if s.kind.name == "CLIENT"}))
print(any("marked" in s.to_json() for s in spans))
"""


def test_a_span_tells_a_failure_and_no_value() -> None:
    """An answer of 500 and more is one. What psycopg composed has its values in it."""
    told = asked(NOBODY, after=FAILING).stdout.splitlines()[2:]
    assert told == [
        "[(200, 'UNSET'), (499, 'UNSET'), (500, 'ERROR')]",
        "['', 'SELECT %s']",
        "False",
    ]


def test_missing_packages_are_named() -> None:
    """With the file that has them."""
    told = asked(NOBODY, before=WITHOUT_PACKAGES)
    assert told.returncode == 1
    assert (
        "ImproperlyConfigured: AEVON_OTLP_ENDPOINT is set and OpenTelemetry is missing:"
        " pip install -r requirements-tracing.txt"
    ) in told.stderr


def test_an_endpoint_that_is_no_url() -> None:
    """Would fail for ever, a minute at a time."""
    told = asked("collector:4318")
    assert told.returncode == 1
    assert "AEVON_OTLP_ENDPOINT must begin with http:// or https://." in told.stderr
