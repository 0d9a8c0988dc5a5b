"""The reference readers, which are no package: loaded from where they lie."""

import importlib.util
import sys
from types import ModuleType

from .conftest import CONFIGURATIONS

FOLDER = CONFIGURATIONS / "readers"


def _loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


session_reader = _loaded("session_reader")
