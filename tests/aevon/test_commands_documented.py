"""docs/reference/commands.md knows every command, option and member of a report."""

import io
import json
import re
from typing import Any, Final

import pytest
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import BaseCommand

from auth_sessions.models import User
from tests.servers import ROOT

TEXT: Final = (ROOT / "docs" / "reference" / "commands.md").read_text()
OURS: Final = ("aevon.", "auth_sessions", "beep", "canvas", "klepsydra")
COMMANDS: Final = sorted(name for name, app in get_commands().items() if app.startswith(OURS))
SECTIONS: Final = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
COMMON: Final = re.findall(r"^\| `(--\w+)", TEXT.partition("## cache_warmup")[0], re.MULTILINE)
# Each as an operator would call it; what it needs beside that.
CALLS: Final = {
    "cache_warmup": (),
    "cache_flush": (),
    "cache_audit": (),
    "cache_inspect": ("{user}",),
    "cache_stats": ("--keys",),
    "cache_listen": ("--once",),
    "canvas_persist": (),
    "create_demo_users": ("--count=1", "--password=p"),
}


def test_every_command_has_a_section() -> None:
    """And every section a command."""
    assert COMMANDS == sorted(SECTIONS) == sorted(CALLS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_documented(command: str) -> None:
    """In the section's table, or in that of all; and none that does not exist."""
    parser = load_command_class(get_commands()[command], command).create_parser(
        "manage.py", command
    )
    django = BaseCommand().create_parser("manage.py", "any")
    theirs = {option for action in django._actions for option in action.option_strings}
    own = {option for action in parser._actions for option in action.option_strings} - theirs
    told = set(re.findall(r"`(--[\w-]+)", SECTIONS[command]))
    assert own <= told | set(COMMON)
    assert told - own <= {"--after", "--repair", "--json"}  # named in another's text


@pytest.mark.django_db
@pytest.mark.parametrize("command", COMMANDS)
def test_every_member_of_a_report_is_documented(command: str, user: User) -> None:
    """At all depths but inside what is stored."""
    out = io.StringIO()
    call_command(
        command, *(each.format(user=user.pk) for each in CALLS[command]), "--json", stdout=out
    )
    named = set(re.findall(r"`(\w+)`", SECTIONS[command].partition("JSON:")[2]))
    assert members(json.loads(out.getvalue())) <= named


def members(value: Any) -> set[str]:
    """The names of members; not those that are a keyspace's, a result's or a document's own."""
    if isinstance(value, list):
        return {name for each in value for name in members(each)}
    if not isinstance(value, dict):
        return set()
    stored = {"cached", "postgresql", "loads", "entries", "unsaved", "processes", "day"}
    inside = {
        n
        for name, each in value.items()
        if name not in stored or _of_users(each)
        for n in members(each)
    }
    return set(value) | inside


def _of_users(value: Any) -> bool:
    """Whether this is the list of a user's entries, whose members are fixed."""
    return isinstance(value, list) and all("key" in each for each in value)
