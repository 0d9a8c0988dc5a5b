"""What a history run is made of, for the process that leads it and for its workers."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

PLAN_FILE: Final = "plan.json"
STARTED_FILE: Final = "started"
CROWD_FILE: Final = "crowd.json"
# An operation's number also stands in the row that it writes: 12 bits worker, 19 bits operation.
OPERATIONS_BITS: Final = 19
WORKERS_MAX: Final = 2**12

Weights = dict[str, int]
EVERY_WAY: Final[Weights] = {
    "play": 40,
    "update": 20,
    "save": 15,
    "save fields": 10,
    "savepoint": 8,
    "outside": 5,
    # Each leaves a fence that lasts for seconds.
    "roll back": 2,
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run. Shares are of operations, 0 … 1."""

    folder: str
    seconds: float
    reads: int = 0  # a machine under load goes on until there are so many, three times as long
    users: tuple[int, ...]
    sessions: tuple[int, ...] = ()  # users with a session, whose class is changed
    writers: int = 3
    readers: int = 5
    ways: Weights
    evict_every: float = 0.002  # seconds; 0: never
    kill_every: float = 1.0  # seconds; 0: never
    dying: float = 0.0  # the share of writers that die between commit and install
    # Up to so many seconds before each other fill and install.
    slow_fills: float = 0.0
    slow_installs: float = 0.0

    def save(self) -> None:
        """For the workers."""
        (Path(self.folder) / PLAN_FILE).write_text(json.dumps(asdict(self)))


def load(folder: str) -> Plan:
    """As saved there."""
    return Plan(**json.loads((Path(folder) / PLAN_FILE).read_text()))
