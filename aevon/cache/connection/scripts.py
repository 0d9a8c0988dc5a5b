"""Lua scripts, and what is sent of them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Script:
    """A Lua script of `aevon/cache/lua/`: one key, declared (Dragonfly refuses undeclared ones).

    `uses` names a file of functions that stand in front of it.
    """

    name: str
    uses: str = ""

    @cached_property
    def source(self) -> str:
        """The text that EVAL sends."""
        folder = Path(__file__).parents[1] / "lua"
        names = [self.uses, self.name] if self.uses else [self.name]
        return "".join((folder / f"{name}.lua").read_text("utf-8") for name in names)

    @cached_property
    def sha(self) -> str:
        """The name that EVALSHA sends."""
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def on(self, key: str, *args: Any) -> "ScriptCall":
        """This script on `key`, for `Store.script` and `Store.pipeline`."""
        return ScriptCall(self, key, args)


@dataclass(slots=True)
class ScriptCall:
    """A script with its one key and its arguments."""

    script: Script
    key: str
    args: tuple[Any, ...]

    @property
    def evalsha(self) -> tuple[Any, ...]:
        """The short form, which a server that was restarted does not know."""
        return ("EVALSHA", self.script.sha, 1, self.key, *self.args)

    @property
    def eval(self) -> tuple[Any, ...]:
        """The long form, which every server knows."""
        return ("EVAL", self.script.source, 1, self.key, *self.args)


Command = tuple[Any, ...] | ScriptCall
