"""How fast a flush brings 10,000 changed canvases into PostgreSQL, beside the least it could do.

Prints a table: medians over rounds in which the sides take turns. The ratios are the figures; the
rows per second belong to this machine. Starts servers of its own.
"""

from rich.console import Console
from rich.table import Table

from benchmarks.site import medians, site

ROUNDS = 7


def main() -> None:
    """Run and print."""
    with site():
        from benchmarks.canvases import ways

        sides = ways()
        taken = medians({name: side for name, (_, side) in sides.items()}, rounds=ROUNDS)
        rates = {name: count / taken[name] for name, (count, _) in sides.items()}
        table = Table("10,000 changed canvases of 1.5 KB", "rows/s", "our flush, of this")
        for name, rate in rates.items():
            table.add_row(name, f"{rate:,.0f}", f"{rates['our flush'] / rate:.2f}")
        Console().print(table)


if __name__ == "__main__":
    main()
