"""Fixtures for all tests: the stand-in Clever service as a process of its own."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

# A run in the background inherits that SIGINT is ignored, and hands it on to the programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)


class StandIn:
    """A running ``bide serve``; its address, its counts and its script."""

    def __init__(self, options: tuple[str, ...]) -> None:
        command = [sys.executable, "-m", "bide.cli", "serve", "--while-stdin-is-open", *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.greeting = self.process.stdout.readline()
        self.url = self.greeting.split(" ")[0]
        self.port = urlsplit(self.url).port

    def request(
        self, method: str, target: str, token: str = "", body: str | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own: status, headers with lower-case names, body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, target, body, {"Authorization": f"Bearer {token}"} if token else {})
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return response.status, headers, response.read()
        finally:
            connection.close()

    def counts(self) -> dict[str, Any]:
        counts: dict[str, Any] = json.loads(self.request("GET", "/-/counts")[2])
        return counts

    def change_script(self, **members: object) -> None:
        status, _, body = self.request("PUT", "/-/script", body=json.dumps(members))
        assert status == 200, body

    def stop(self) -> int:
        """Ends its standard input, which stops it; returns its exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        code = self.process.wait(timeout=10)
        self.process.stdout.close()
        return code


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Callable[..., StandIn]]:
    """Starts a stand-in service with the options given, as often as called; all stop with the module."""
    started: list[StandIn] = []

    def start(*options: str) -> StandIn:
        started.append(StandIn(options))
        return started[-1]

    yield start
    assert [server.stop() for server in started] == [0] * len(started)
