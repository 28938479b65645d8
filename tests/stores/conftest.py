"""Servers for the tests of remote stores: shared ones, ones to be stopped and killed, and a slow way to them."""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

KINDS = ["redis", "valkey"]

_numbers = itertools.count()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def server(kind: str, counting_servers: Callable[..., Any]) -> Any:
    """The session's server: not to be stopped."""
    return counting_servers(kind)


@pytest.fixture
def url(server: Any) -> str:
    """A URL with a prefix of the test's own, and a deadline that a loaded machine keeps."""
    return f"{server.url}?prefix=t{next(_numbers)}:&timeout=10"


@pytest.fixture
def mortal(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A server of the test's own, to be paused and killed."""
    server_class = type(request.getfixturevalue("counting_servers")(kind))
    server = server_class(kind, tmp_path)
    yield server
    server.stop()


class Proxy:
    """A way to a server on which each answer takes its time, whole or octet by octet."""

    def __init__(self, port: int) -> None:
        self.delay_seconds = 0.0
        self.octets_at_once = 1 << 16
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for one, other, slow in ((near, far, False), (far, near, True)):
                    thread = threading.Thread(target=self._carry, args=(one, other, slow), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _carry(self, one: socket.socket, other: socket.socket, slow: bool) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                while data:
                    if slow and self.delay_seconds:
                        time.sleep(self.delay_seconds)
                    other.sendall(data[: self.octets_at_once])
                    data = data[self.octets_at_once :]
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=10)
        for end in self._open:
            end.close()


@pytest.fixture
def proxy(server: Any) -> Iterator[Proxy]:
    way = Proxy(server.port)
    yield way
    way.close()
