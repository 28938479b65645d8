"""What one needs to test code that uses bide: a clock that moves when told to, a server that obeys a script.

Rules of this file: everything here is public and deterministic; nothing reads the real time.
"""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import BinaryIO, NamedTuple, Self

__all__ = ["FakeClock", "ReceivedRequest", "ScriptedServer", "answer_bytes"]


class FakeClock:
    """A clock for tests: monotonic seconds when called, Unix time by ``time()``; sleeping moves it on.

    Args:
        start: the first monotonic reading, in seconds.
        unix: the Unix time at that reading, in seconds.

    Readings are kept in whole nanoseconds, so that ten steps of 0.1 s are exactly one second. Threads may
    share it.

    >>> import bide
    >>> clock = FakeClock()
    >>> limiter = bide.Limiter("1/minute", clock=clock)
    >>> limiter.try_acquire("a"), limiter.try_acquire("a")
    (True, False)
    >>> clock.advance(60)
    >>> limiter.try_acquire("a")
    True
    """

    __slots__ = ("_lock", "_now_ns", "_unix_minus_now_ns", "slept")

    slept: list[float]
    """Every sleep so far, in seconds, in order."""

    def __init__(self, start: float = 1_000.0, unix: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now_ns = nanoseconds(start)
        self._unix_minus_now_ns = nanoseconds(unix) - self._now_ns
        self.slept = []

    def __call__(self) -> float:
        """The monotonic reading, in seconds."""
        return self._now_ns / 1_000_000_000

    def time(self) -> float:
        """The wall clock: Unix time in seconds."""
        return (self._now_ns + self._unix_minus_now_ns) / 1_000_000_000

    def advance(self, seconds: float) -> None:
        """Moves both readings; backwards too, when ``seconds`` is negative, as a faulty clock would."""
        step = nanoseconds(seconds)
        with self._lock:
            self._now_ns += step

    def step_wall(self, seconds: float) -> None:
        """Moves the wall clock alone, as an administrator or NTP would."""
        self._unix_minus_now_ns += nanoseconds(seconds)

    def sleep(self, seconds: float) -> None:
        """Notes the sleep in ``slept`` and moves on by it at once; ``seconds`` from 0."""
        if not seconds >= 0.0:
            raise ValueError(f"seconds must be from 0, not {seconds}")
        self.slept.append(seconds)
        self.advance(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """As ``sleep``, and lets the event loop's other tasks run once."""
        from asyncio import sleep

        self.sleep(seconds)
        await sleep(0)


def nanoseconds(seconds: float) -> int:
    if not math.isfinite(seconds):
        raise ValueError(f"seconds must be finite, not {seconds}")
    return round(seconds * 1_000_000_000)


class ReceivedRequest(NamedTuple):
    """One request as it came over the wire: the request line, the fields (names in lower case), the body."""

    line: str
    fields: tuple[tuple[str, str], ...]
    body: bytes


def answer_bytes(
    status: int,
    fields: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    *,
    head: bool = False,
) -> bytes:
    r"""The bytes of an HTTP/1.1 response, for ``ScriptedServer``.

    Args:
        status: 100..999; 204 and 304 get no length, as RFC 9110 section 8.6 has it.
        fields: header fields in order.
        body: its length is stated.
        head: the answer to a HEAD: the length is stated, the body is not sent.

    >>> answer_bytes(204)
    b'HTTP/1.1 204 No Content\r\n\r\n'
    """
    reason = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in pairs)]
    if status not in (204, 304):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head else body)


def _read_request(incoming: BinaryIO) -> ReceivedRequest | None:
    """Reads one request; None at the end of the connection."""
    line = incoming.readline().decode("latin-1").strip()
    if not line:
        return None
    fields = []
    while field := incoming.readline().decode("latin-1").strip():
        name, _, value = field.partition(":")
        fields.append((name.lower(), value.strip()))
    given = dict(fields)
    body = b""
    if "content-length" in given:
        body = incoming.read(int(given["content-length"]))
    elif given.get("transfer-encoding") == "chunked":
        while size := int(incoming.readline() or b"0", 16):
            body += incoming.read(size)
            incoming.readline()
        incoming.readline()
    return ReceivedRequest(line, tuple(fields), body)


class ScriptedServer:
    """A real HTTP/1.1 server on a loopback socket that answers what it was told to, byte for byte.

    Args:
        answers: one for each request, in the order in which they come; the last one repeats. ``bytes`` are
            sent as they stand (``answer_bytes`` makes them); None closes the connection without a word.

    Attributes:
        url: "http://127.0.0.1:PORT".
        requests: every request that came, whole: (request line, fields, body).
        connections: how many connections were opened.

    >>> with ScriptedServer([answer_bytes(503), answer_bytes(200)]) as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, answers: Sequence[bytes | None]) -> None:
        if not answers:
            raise ValueError("answers must hold at least one answer: bytes, or None to drop the connection")
        self.requests: list[ReceivedRequest] = []
        self.connections: int = 0
        self._answers = list(answers)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url: str = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as incoming, suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (request := _read_request(incoming)) is not None:
                with self._lock:
                    answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
                    self.requests.append(request)
                if answer is None:
                    break
                connection.sendall(answer)
                if b"\r\nconnection: close" in answer.lower():
                    break
        with self._lock:
            self._open.discard(connection)
