"""Canvases and conversations of the engine's tests."""

from aevon.intents import Window
from beep.context import resolve, response_for
from beep.grammar import canonical
from beep.resolution import WINDOW, Canvas, ResolvedCommand, Turn

MICRO_APPS = ("Notes", "Psyche", "Clock", "Sessions")
INSTRUMENTS = ("Sisyphus's Ascent", "Oracle of Delphi", "SpinForge")

Line = str | tuple[str, str]


def canvas(*titles: str) -> Canvas:
    """Windows with these titles, from left to right and from the back to the front, each a little
    larger than the one before."""
    return Canvas(tuple(map(_window, titles, range(len(titles)))), MICRO_APPS, INSTRUMENTS)


def _window(title: str, number: int) -> Window:
    slug = title.lower().replace(" ", "-") or "app"
    side = 200 + 10 * number
    return Window(
        title or slug,
        slug,
        title,
        slug,
        x=400 * number,
        y=40,
        width=side,
        height=side,
        z_index=number,
    )


def talk(*lines: Line, on: Canvas) -> tuple[Turn, ...]:
    """The turns of a conversation, newest first; a bare command is answered as BEEP does."""
    turns: tuple[Turn, ...] = ()
    for line in lines:
        command, answer = line if isinstance(line, tuple) else (line, "Done.")
        response = response_for(command, resolve(command, turns, on), answer)
        turns = (Turn(len(turns) + 1, command, response), *turns)[:WINDOW]
    return turns


def said(resolved: ResolvedCommand) -> str:
    """A resolved command in one line: the command it came to, or the question."""
    return canonical(resolved.intent) if resolved.intent else f"? {resolved.question}"
