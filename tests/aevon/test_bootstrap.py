"""How the virtual environment finds its Python."""

import sys
from pathlib import Path

import pytest

from aevon import bootstrap


@pytest.fixture
def shim(tmp_path: Path) -> str:
    """A Python that is on the path and not there, as pyenv has them."""
    path = tmp_path / "python3.99"
    path.write_text("#!/bin/sh\necho 'pyenv: python3.99: command not found' >&2\nexit 127\n")
    path.chmod(0o755)
    return str(path)


def test_a_python_works_when_it_runs_and_is_new_enough(
    shim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one does; a shim, a missing one and one that is too old do not."""
    assert bootstrap.works(sys.executable)
    assert not bootstrap.works(shim)
    assert not bootstrap.works("/nowhere/python3")
    assert not bootstrap.works(sys.executable, "no_such_module")
    monkeypatch.setattr(bootstrap, "OLDEST", (3, 99))
    assert not bootstrap.works(sys.executable)


def test_an_old_python_gives_way_to_one_that_works(
    shim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shims are passed over."""
    monkeypatch.setattr(bootstrap, "NEWER_NAMES", (shim, sys.executable))
    monkeypatch.setattr(sys, "version_info", (3, 6, 9))
    assert bootstrap.suitable_python() == sys.executable


def test_without_any_python_it_says_so(shim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence that names the way out."""
    monkeypatch.setattr(bootstrap, "NEWER_NAMES", (shim,))
    monkeypatch.setattr(sys, "version_info", (3, 6, 9))
    with pytest.raises(SystemExit, match=r"3\.6\.9: install a newer one, or name it with"):
        bootstrap.suitable_python()


def test_what_is_installed_needs_no_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout of another user's, with its environment, may be run."""
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    monkeypatch.setattr(bootstrap, "PYTHON", Path(sys.executable))
    bootstrap.stamp("requirements.txt").write_text(bootstrap.fingerprint("requirements.txt"))
    before = sorted(tmp_path.iterdir())
    bootstrap.main("requirements.txt")
    assert sorted(tmp_path.iterdir()) == before


def test_an_environment_of_an_old_python_is_made_anew(
    shim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it noted as installed counts no more; whatever stands in its `bin` goes."""
    venv = tmp_path / "venv"
    (venv / "bin" / "__pycache__").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(shim)
    monkeypatch.setattr(bootstrap, "VENV", venv)
    monkeypatch.setattr(bootstrap, "PYTHON", venv / "bin" / "python")
    bootstrap.stamp("requirements.txt").write_text("what the old one had")
    bootstrap.ensure_venv(sys.executable)
    assert bootstrap.works(str(venv / "bin" / "python"), "pip")
    assert not bootstrap.stamp("requirements.txt").exists()
