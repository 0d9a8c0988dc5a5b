"""Free TCP ports of this machine."""

import contextlib
import socket
from collections.abc import Iterator

HOST = "127.0.0.1"
PORT_ATTEMPTS = 50


class NoPortError(Exception):
    """Every port that was tried is taken."""


def free_port() -> int:
    """A TCP port of this machine that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def reserved_port(wanted: int) -> Iterator[int]:
    """The first free port from `wanted` on, held so that another `make run` sees it as taken."""
    for port in range(wanted, min(wanted + PORT_ATTEMPTS, 65_536)):
        try:
            reservation = reserve(port)
        except OSError:
            continue
        with reservation:
            number: int = reservation.getsockname()[1]
            yield number
        return
    raise NoPortError(f"No port from {wanted} on is free; set AEVON_PORT.")


def reserve(port: int) -> socket.socket:
    """Bind `port` without listening; raises OSError when it is taken.

    granian binds with SO_REUSEPORT, so it can share this reservation; the first, exclusive bind
    finds out whether somebody else has the port.
    """
    with socket.socket() as probe:
        # Closed connections of the last run must not count as somebody else.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
    reservation = socket.socket()
    try:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reservation.bind((HOST, port))
    except OSError:
        reservation.close()
        raise
    return reservation
