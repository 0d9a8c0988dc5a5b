"""`make demo`: exit code 0 when everything was as the contract says, else 1."""

import argparse
import sys

import httpx
import psycopg
import redis
from rich.console import Console

from aevon import demo
from aevon.demo.crowd import crowd
from aevon.demo.story import NotRunning, opened, running
from aevon.demo.user import tell


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=demo.__doc__)
    parser.add_argument(
        "--users", type=int, default=1, help="users at the same time (1: the story)"
    )
    users = parser.parse_args().users
    console = Console()
    try:
        with opened(running(), console) as story:
            if users == 1:
                tell(story)
            else:
                crowd(story, users)
    except NotRunning as reason:
        console.print(str(reason), style="red")
        return 1
    except (httpx.TransportError, redis.ConnectionError, psycopg.OperationalError) as error:
        console.print(f"The server cannot be reached: {error}", style="red")
        return 1
    if story.problems:
        console.print(f"\n[red]{len(story.problems)} differences from the contract.[/]")
        return 1
    console.print("\n[green]Everything as the contract says.[/]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
