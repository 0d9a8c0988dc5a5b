"""What a `User-Agent` says in a person's words, as the page's Sessions app has it. Pure."""

import re
from typing import Final

_BROWSERS: Final = {
    r"Edg/": "Edge",
    r"Firefox/": "Firefox",
    r"Chrome/": "Chrome",
    r"Safari/": "Safari",
    r"curl/": "curl",
    r"(?i:python)": "Python",
}
_SYSTEMS: Final = {
    r"Android": "Android",
    r"iPhone|iPad": "iOS",
    r"Windows": "Windows",
    r"Mac OS X": "macOS",
    r"Linux": "Linux",
}
_SHOWN: Final = 40  # characters of what is none of these


def device_of(user_agent: str) -> str:
    """`Firefox on Linux`, or as much as can be told."""
    browser, system = _first(_BROWSERS, user_agent), _first(_SYSTEMS, user_agent)
    if browser and system:
        return f"{browser} on {system}"
    return browser or user_agent[:_SHOWN].strip() or "Unknown program"


def _first(words: dict[str, str], text: str) -> str | None:
    return next((word for pattern, word in words.items() if re.search(pattern, text)), None)
