"""`make bench`: every figure of the product beside its limit and its peers.

`python -m benchmarks` measures everything and writes docs/benchmarks.md and docs/capacity.md;
`python -m benchmarks P1 P5` measures and prints these alone; with `--write` the pages have them,
beside what was measured before.
"""

import argparse
from importlib.util import find_spec
from typing import Final

from benchmarks import capacity, report, wrk
from benchmarks.measure import Options, Result, measured

ROUNDS, SHORT = 9, 2
# Which module has which figures, as `figures(options)`. Each runs in a process and on servers of
# its own: Django can be set up once.
MODULES: Final[dict[str, tuple[str, ...]]] = {
    "benchmarks.loads": ("P1", "P9"),
    "benchmarks.near": ("near", "near-delay"),
    "benchmarks.gateway": ("P3",),
    "benchmarks.patterns": ("P4", "P5", "P8"),
    "benchmarks.saves": ("P6",),
    "benchmarks.warmup": ("P7",),
    "benchmarks.growth": ("P2", "by-users"),
    "benchmarks.clients": ("by-clients",),
    "benchmarks.documents": ("by-size",),
    "benchmarks.weights": ("weights",),
    "benchmarks.mixed": ("P10",),
}
# Beside packages that only `.venv-bench` has.
PEERED: Final = {"benchmarks.loads", "benchmarks.gateway", "benchmarks.saves"}


def main() -> None:
    """Measure, print, and write if that was everything, or is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, allow_abbrev=False
    )
    names = [name for each in MODULES.values() for name in each]
    parser.add_argument("figures", nargs="*", metavar="P1", help="only these, printed")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS}, or {SHORT} in a short run")
    parser.add_argument("--short", action="store_true", help="only to see that it runs")
    parser.add_argument("--write", action="store_true", help="put these into the pages")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.figures) - set(names)):
        parser.error(f"there is no {unknown[0]}: {', '.join(names)}")
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("at least one round is needed")
    if arguments.short and arguments.write:
        parser.error("a short run says nothing that belongs into the pages")
    asked_for = [
        module
        for module, offered in MODULES.items()
        if not arguments.figures or set(offered) & set(arguments.figures)
    ]
    if find_spec("cacheops") is None and PEERED & set(asked_for):
        parser.error("the peers are not installed here: `make bench` brings them along")
    everything = not arguments.figures and not arguments.short
    if everything and not wrk.is_there():
        parser.error(f"{wrk.WHY_NOT}: without it the page would lack P3 and P10")
    rounds = arguments.rounds or (SHORT if arguments.short else ROUNDS)
    options = Options(rounds=rounds, short=arguments.short)
    beside = report.read() if arguments.figures and arguments.write else None
    results: list[Result] = []
    for module in asked_for:
        # A module measures all that it has.
        found = [e for e in measured(module, options) if _is_asked_for(e.id, arguments.figures)]
        results += found
        report.show(found)
    if everything or arguments.write:
        report.write(results, options.rounds, beside=beside)
        capacity.make()


def _is_asked_for(name: str, figures: list[str]) -> bool:
    """`P8` has two, `P8-append` and `P8-read`."""
    return not figures or any(name == each or name.startswith(f"{each}-") for each in figures)


if __name__ == "__main__":
    main()
