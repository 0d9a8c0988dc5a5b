"""wrk, which makes the requests (https://github.com/wg/wrk; Debian has it as `wrk`)."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

WHY_NOT = "wrk is not installed (on Debian and Ubuntu: apt install wrk)"
LUA = Path(__file__).with_name("lua")


class WrkError(Exception):
    """Not what was to be measured was: the message has what wrk says."""


def is_there() -> bool:
    """Whether it can be run."""
    return shutil.which("wrk") is not None


def requests_a_second(
    url: str,
    *,
    connections: int,
    seconds: int,
    headers: Mapping[str, str],
    script: str = "",
    arguments: Sequence[str] = (),
) -> float:
    """How many `url` answers; raises `WrkError` where one is no 2xx or never came. `arguments` are
    the script's."""
    options = [f"-H{name}: {value}" for name, value in headers.items()]
    if script:
        options.append(f"-s{LUA / script}")
    said = run([f"-c{connections}", "-t1", f"-d{seconds}s", *options, url, "--", *arguments])
    if re.search(r"Non-2xx|Socket errors", said):
        raise WrkError(f"{url}: {said}")
    found = re.search(r"^Requests/sec:\s+([\d.]+)", said, re.MULTILINE)
    if found is None:
        raise WrkError(f"{url}: {said}")
    return float(found[1])


def run(arguments: Sequence[str]) -> str:
    """What it says."""
    ended = subprocess.run(["wrk", *arguments], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise WrkError(ended.stderr or ended.stdout)
    return ended.stdout
