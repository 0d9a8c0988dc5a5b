"""The users named on a command line: `1,2,5-9`."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from aevon.cache.keyspace import InvalidKey, canonical_user_id

MAX_TEXT_LENGTH: Final = 4096
_PART: Final = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")


@dataclass(frozen=True, slots=True)
class UserRanges:
    """User ids as ranges in rising order, none touching another: a million cost no memory."""

    ranges: tuple[range, ...]

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.ranges)

    def __len__(self) -> int:
        return sum(map(len, self.ranges))

    def __contains__(self, user_id: object) -> bool:
        if not isinstance(user_id, int):
            return False
        following = bisect_right(self.ranges, user_id, key=lambda each: each.start)
        return following > 0 and user_id in self.ranges[following - 1]


def parse_users(text: str) -> UserRanges:
    """The users in a list of ids and ranges; each once, however often it is named.

    Raises `InvalidKey` for everything else: globs, spaces, line ends, zero, leading zeros,
    ranges that run backwards, more than 4,096 characters.
    """
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidKey(f"A list of users of {len(text)} characters; {MAX_TEXT_LENGTH} at most.")
    return UserRanges(tuple(_merged(_range(part) for part in text.split(","))))


def _range(part: str) -> range:
    match = _PART.fullmatch(part)
    if match is None:
        shown = repr(part if len(part) <= 40 else part[:37] + "…")
        raise InvalidKey(f"Neither a user id nor a range: {shown}. Write for example 1,2,5-9.")
    first = canonical_user_id(match[1])
    last = canonical_user_id(match[2] or match[1])
    if last < first:
        raise InvalidKey(f"A range that runs backwards: {part}. Write {last}-{first}.")
    return range(first, last + 1)


def _merged(ranges: Iterable[range]) -> list[range]:
    """The same ids in rising order, overlapping and touching ranges made one."""
    merged: list[range] = []
    for each in sorted(ranges, key=lambda each: each.start):
        if merged and each.start <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, each.stop))
        else:
            merged.append(each)
    return merged
