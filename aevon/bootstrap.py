"""Makes `.venv` and installs a requirements file into it, when that has changed.

`make` runs this with the Python it finds (`python3 -I aevon/bootstrap.py requirements.txt`), so
it speaks a dialect that an old Python can read, and imports nothing that is not installed yet. A
second argument names another environment than `.venv`.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
OLDEST = (3, 11)
NEWER_NAMES = ("python3.14", "python3.13", "python3.12", "python3.11")


def main(requirements: str) -> None:
    """Make the environment ready for `requirements`; harmless and quick when it is."""
    if is_installed(requirements) and works(str(PYTHON), "pip"):
        return
    python = suitable_python()
    try:
        VENV.mkdir(exist_ok=True)
        with (VENV / "lock").open("a") as lock:
            # `make test` beside `make run` on a fresh clone: one installs, the other waits.
            fcntl.flock(lock, fcntl.LOCK_EX)
            ensure_venv(python)
            install(requirements)
    except OSError as error:
        sys.exit("The virtual environment cannot be made: " + str(error) + ".")


def suitable_python() -> str:
    """The Python that runs this, or a newer one on the path; exits when all are too old."""
    if sys.version_info >= OLDEST:
        return sys.executable
    for name in NEWER_NAMES:
        if works(name):
            return name
    sys.exit(
        "Python 3.11 or later is needed, and "
        + sys.executable
        + " is "
        + ".".join(str(part) for part in sys.version_info[:3])
        + ": install a newer one, or name it with `make PYTHON=/path/to/python3`."
    )


def works(python: str, module: str = "venv") -> bool:
    """Whether this Python runs, has the module, and is new enough: a name on the path may be a shim
    for one that is not there, and a virtual environment may have been made by an older one."""
    check = "import sys, " + module + "; sys.exit(sys.version_info < " + repr(OLDEST) + ")"
    quiet = subprocess.DEVNULL
    try:
        return subprocess.call([python, "-c", check], stdout=quiet, stderr=quiet) == 0  # noqa: S603  a command of ours
    except OSError:
        return False


def ensure_venv(python: str) -> None:
    """Create the virtual environment, also over one whose Python has gone or is too old."""
    if works(str(PYTHON), "pip"):
        return
    for stamp in VENV.glob("installed-*"):
        stamp.unlink()
    # venv would leave the old Python in place.
    shutil.rmtree(str(VENV / "bin"), ignore_errors=True)
    print("Creating the virtual environment ...", flush=True)
    if subprocess.call([python, "-m", "venv", str(VENV)]):  # noqa: S603  a command of ours
        sys.exit(
            "The virtual environment cannot be made: this Python lacks the venv module "
            "(on Debian and Ubuntu: apt install python3-venv)."
        )


def install(requirements: str) -> None:
    """Install the file's packages unless this very list is installed already."""
    if is_installed(requirements):
        return
    print("Installing " + requirements + " (once) ...", flush=True)
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.call([*command, "-r", str(ROOT / requirements)]):  # noqa: S603  a command of ours
        sys.exit("The packages could not be installed; the lines above say why.")
    for name in {requirements, "requirements.txt"}:
        stamp(name).write_text(fingerprint(name))


def is_installed(requirements: str) -> bool:
    """Whether the stamp matches the file."""
    path = stamp(requirements)
    return path.exists() and path.read_text() == fingerprint(requirements)


def stamp(requirements: str) -> Path:
    """Where it is noted what was installed."""
    return VENV / ("installed-" + requirements.replace(os.sep, "-"))


def fingerprint(requirements: str) -> str:
    """Changes when the file, or a list under it, does."""
    names = ("requirements.txt", "requirements-tracing.txt", requirements)
    return hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in names)).hexdigest()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        VENV = ROOT / sys.argv[2]
        PYTHON = VENV / "bin" / "python"
    main(sys.argv[1])
