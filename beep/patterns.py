"""Templates of what people say, and how they become regular expressions.

    [list|show] [me] [all] [the|my] (windows|apps)

A word stands for itself, `[…]` may be left out, `(…|…)` is a choice, `<name>` a slot. Each word
takes the space behind it along, so a text is matched with one space after its last word.
"""

import re
from collections.abc import Mapping
from typing import Final

_TOKEN: Final = re.compile(r"[\[\]()|]|<(?P<slot>\w+)>|(?P<word>[^\s\[\]()|<>]+)")
_SIGNS: Final = {"[": "(?:", "]": ")?", "(": "(?:", ")": ")", "|": "|"}


def expression(template: str, slots: Mapping[str, str]) -> str:
    """The regular expression of a template. Raises `KeyError` for an unknown slot."""
    return "".join(_written(token, slots) for token in _TOKEN.finditer(template))


def _written(token: re.Match[str], slots: Mapping[str, str]) -> str:
    if token["slot"]:
        return slots[token["slot"]]
    return f"{re.escape(token['word'])} " if token["word"] else _SIGNS[token[0]]


class Pattern:
    """One of several templates, blind to case, against a whole text with single spaces."""

    def __init__(self, *templates: str, slots: Mapping[str, str]) -> None:
        # A group may be named once in an expression, so each template is one of its own.
        self._expressions = tuple(
            re.compile(expression(each, slots), re.IGNORECASE | re.DOTALL) for each in templates
        )

    def match(self, text: str) -> dict[str, str] | None:
        """The named groups of the first template that the text is, without spaces at their ends;
        "" for those that are not in it. None when it is none of them."""
        for each in self._expressions:
            if found := each.fullmatch(f"{text} "):
                return {name: (value or "").strip() for name, value in found.groupdict().items()}
        return None
