"""The API does what its OpenAPI document says, whatever schemathesis makes of it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from django.contrib.auth.hashers import make_password

from auth_sessions.models import User
from tests.aevon.programs import environment
from tests.faults.bench.production import Production
from tests.faults.bench.report import tried
from tests.servers import ROOT

HERE: Final = Path(__file__).parent
PASSWORD: Final = "as-long-as-it-is-unguessable-9"
EXAMPLES: Final = int(os.environ.get("SCHEMA_EXAMPLES", "60"))
SEED: Final = int(os.environ.get("SCHEMA_SEED", "8"))
USERS: Final = 50
CASES_MIN: Final = 2_000
OPERATIONS: Final = 22
# The others need what only chance would guess: a session's id, the right password.
SUCCESSES_MIN: Final = 18


def schemathesis(
    site: Production, users: Sequence[User], folder: Path
) -> tuple[str, dict[str, Any]]:
    """All its checks, which are its default, in all its phases: what it printed, and its report."""
    report = folder / "report.json"
    arguments = (
        *("--config-file", str(HERE / "schemathesis.toml"), "--no-color", "run"),
        *(f"{site.url}/api/schema/", "--header", "X-Forwarded-Proto: https"),
        *("--max-examples", str(EXAMPLES), "--seed", str(SEED)),
        *("--no-shrink", "--continue-on-failure", "--workers", "2"),
        *("--generation-database", "none"),
        *("--report", "json", "--report-json-path", str(report)),
    )
    known = {
        "SCHEMATHESIS_HOOKS": "tests.hostile.schemathesis_hooks",
        "HOSTILE_URL": site.url,
        "HOSTILE_USERS": ",".join(user.username for user in users),
        "HOSTILE_PASSWORD": PASSWORD,
        "HOSTILE_SUCCEEDED": str(folder / "succeeded"),
        "PYTHONPATH": str(ROOT),
    }
    ran = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *arguments],
        cwd=folder,
        env=environment(**known),
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), ran.stdout + ran.stderr
    return ran.stdout, json.loads(report.read_text())


def test_the_api_keeps_to_its_document(
    site: Production, transactional_db: None, tmp_path: Path
) -> None:
    """No 5xx, nothing undocumented, no answer of another shape, no wrong input accepted and no
    right one refused."""
    password = make_password(PASSWORD)
    names = [f"schema{number}" for number in range(USERS)]
    users = [User(username=n, email=f"{n}@example.org", password=password) for n in names]
    printed, report = schemathesis(site, User.objects.bulk_create(users), tmp_path)
    cases = report["test_cases"]
    print(f"schemathesis: seed {report['seed']}, {cases['generated']:,} cases")
    assert report["failures"] == [], printed
    assert report["errors"] == [], printed
    assert report["operations"]["tested"] == OPERATIONS
    assert cases["generated"] >= CASES_MIN
    succeeded = {*(tmp_path / "succeeded").read_text().splitlines()}
    assert len(succeeded) >= SUCCESSES_MIN, succeeded
    tried("requests that schemathesis makes of the OpenAPI document", cases["generated"])
