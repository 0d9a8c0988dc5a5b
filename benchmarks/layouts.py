"""The canvas that is changed and saved in the benchmarks. For a process of any settings."""

from typing import Any


def layout(user_id: int, windows: int = 11) -> dict[str, Any]:
    """Eleven windows: 1.5 KB of JSON."""
    return {"microApps": {f"app-{n}": window(n, user_id) for n in range(windows)}}


def window(number: int, user_id: int) -> dict[str, Any]:
    """One of them."""
    return {
        "type": "note",
        "title": f"Note {number} of {user_id}",
        "position": {"x": 40 * number, "y": user_id % 1_000},
        "size": {"width": 320, "height": 200},
        "zIndex": number,
    }
