"""The documentation's pages as they are written, and the code in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.servers import ROOT

DOCS: Final = ROOT / "docs"
_FENCE = re.compile(r"^(```+)([a-z]*)(?: ([^\n]*))?\n(.*?)^\1$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: where it is, its language, what follows that, and its text."""

    page: str
    line: int
    language: str
    options: str
    text: str

    @property
    def title(self) -> str:
        """What stands above it on the site: the name of the file, where it is one."""
        found = re.search(r'title="([^"]+)"', self.options)
        return found.group(1) if found else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page, in the same order everywhere."""
    return sorted(DOCS.rglob("*.md"))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text()
    return [
        Block(
            page=str(page.relative_to(ROOT)),
            line=text.count("\n", 0, found.start()) + 1,
            language=found.group(2),
            options=found.group(3) or "",
            text=found.group(4),
        )
        for found in _FENCE.finditer(text)
    ]


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a `console` block, each with the output that is shown below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        first, _, shown = part.partition("\n")
        while first.endswith("\\"):
            more, _, shown = shown.partition("\n")
            first = f"{first[:-1]}{more.strip()}"
        yield first, shown


def fits(shown: str, output: str) -> bool:
    """Whether the output is what is shown, in which `…` stands for anything in a line, and alone
    for any lines or none. A command that is shown without output may say what it likes."""
    if not shown.strip():
        return True
    pattern = "".join(map(_pattern, _plain(shown).split("\n")))
    return re.fullmatch(pattern, f"{_plain(output)}\n") is not None


def _pattern(line: str) -> str:
    if line == "…":
        return "(?:.*\n)*?"
    return ".*".join(map(re.escape, line.split("…"))) + "\n"


def _plain(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def write(folder: Path, block: Block) -> None:
    """Make the file that a block is, or add to it."""
    name, _, where = block.title.partition(", ")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text() if where == "at the end" else ""
    path.write_text(before + block.text)
