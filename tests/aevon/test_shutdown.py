"""A web server that is told to end ends in good order."""

import contextlib
import http.client
import signal
import socket
import subprocess
import threading
from typing import Any

import pytest
from django.conf import settings

from aevon.cache import processes
from aevon.ports import free_port
from tests.aevon.programs import program
from tests.servers import environment
from tests.waiting import eventually

BODY = b'{"username": "nobody", "password": "wrong"}'


class Login(threading.Thread):
    """A login half of whose body comes at once, and the rest when it is told to go on."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.answer: Any = None
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def run(self) -> None:
        self._connection.putrequest("POST", "/api/v1/auth/token/")
        self._connection.putheader("Content-Type", "application/json")
        self._connection.putheader("Content-Length", str(len(BODY)))
        self._connection.endheaders(BODY[:10])
        self.begun.set()
        assert self.go_on.wait(30)
        try:
            self._connection.send(BODY[10:])
            response = self._connection.getresponse()
            self.answer = response.status, response.read().endswith(b"}")
        except (OSError, http.client.HTTPException) as error:
            self.answer = error
        finally:
            self._connection.close()


def listens(port: int) -> bool:
    """Whether somebody takes connections."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def live(port: int) -> int:
    """The status of a request that is answered at once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/health/live")
        return connection.getresponse().status


def wait_for_line(web: "subprocess.Popen[str]", words: str) -> None:
    """Until the server has said so."""
    assert web.stdout is not None
    # Its end closes the pipe: nobody waits for ever for what is not said.
    patience = threading.Timer(60, web.kill)
    patience.start()
    try:
        assert any(words in line for line in web.stdout)
    finally:
        patience.cancel()


@pytest.mark.django_db(transaction=True)
def test_what_is_under_way_is_answered() -> None:
    """Requests whose bodies were still coming when the server was told to end get their answers;
    then nobody listens, and its process is off the list."""
    port = free_port()
    options = ("--interface", "wsgi", "--no-ws", "--port", str(port), "--blocking-threads", "4")
    command = ("-m", "granian", *options, "aevon.wsgi:application")
    with program(*command, **environment(settings.AEVON_CACHE["URL"])) as web:
        assert eventually(lambda: listens(port) and processes.processes(), 60)
        logins = [Login(port) for _ in range(3)]
        for login in logins:
            login.start()
        assert all(login.begun.wait(30) for login in logins)
        # Its connection was taken after theirs.
        assert live(port) == 200
        web.send_signal(signal.SIGTERM)
        wait_for_line(web, "Stopping worker")
        for login in logins:
            login.go_on.set()
            login.join()
        web.communicate(timeout=30)
    assert [login.answer for login in logins] == [(401, True)] * 3
    assert web.returncode == 0
    assert not listens(port)
    assert processes.processes() == []
