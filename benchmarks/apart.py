"""Calls that are made in a process of their own, for settings of their own, or to be many at once.

Some peers patch Django's ORM, and Aevon's settings wrap statements: each would pay for the others.
Such a process prepares once and waits, quiet, until it is told what to call.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

from benchmarks.measure import Side, seconds

# By their names.
Calls = dict[str, Callable[[], Any]]


@contextlib.contextmanager
def apart(
    function: str, *arguments: object, times: int, **environment: str
) -> Iterator[dict[str, Side]]:
    """The sides that `module:function` offers, which it prepares with these arguments; each makes
    its call `times` times and tells the seconds of one; a call that is made once tells what it
    returns. `environment` is added to this process's."""
    command = [sys.executable, "-m", "benchmarks.apart", function, *map(str, arguments)]
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        names = _answer(process)
        yield {name: partial(_asked, process, name, times) for name in names}
    finally:
        process.communicate()


def _asked(process: "subprocess.Popen[str]", name: str, times: int) -> float:
    assert process.stdin is not None
    print(json.dumps([name, times]), file=process.stdin, flush=True)
    return float(_answer(process))


def _answer(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("A process of its own ended: it says why above.")
    return json.loads(line)


def main(function: str, *arguments: str) -> None:
    """The process: names first, then one number for each line that asks."""
    import django

    django.setup()
    module, _, name = function.partition(":")
    calls: Calls = getattr(import_module(module), name)(*arguments)
    print(json.dumps(list(calls)), flush=True)
    for line in sys.stdin:
        called, times = json.loads(line)
        print(json.dumps(_told(calls[called], times)), flush=True)


def _told(call: Callable[[], Any], times: int) -> float:
    if times > 1:
        return seconds(call, times=times)
    told = call()
    assert isinstance(told, float)
    return told


if __name__ == "__main__":
    main(*sys.argv[1:])
