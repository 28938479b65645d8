"""The stand-in service's HTTP/1.1 (RFC 9112), on asyncio of the standard library.

Rules: this file knows nothing of students or limits, and the service nothing of sockets. Connections are kept
alive and answers leave in the order of their requests. Head, body and number of connections are bounded;
what cannot be understood is answered 400 once and the connection closed.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from http import HTTPStatus

from bide.cli.stand_in import Answer, Service

__all__ = ["serve_until_stopped"]

MAX_HEAD = 32 * 1024
MAX_BODY = 64 * 1024
MAX_CONNECTIONS = 1_000

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[\x21-\x7e]*) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")


class _Malformed(Exception):
    """The bytes are no request that this server reads; carries the status to answer with."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Request:
    """One request, parsed from the front of a connection's buffer."""

    __slots__ = ("authorization", "body", "keep_alive", "method", "size", "target")

    def __init__(self, head: bytes, buffer: bytearray) -> None:
        first, *lines = head.split(b"\r\n")
        line = _REQUEST_LINE.fullmatch(first)
        if line is None:
            raise _Malformed(400)
        headers: dict[bytes, bytes] = {}
        for text in lines:
            pair = _FIELD.fullmatch(text)
            if pair is None:
                raise _Malformed(400)
            name = pair[1].lower()
            if name in (b"content-length", b"authorization") and name in headers:
                raise _Malformed(400)
            headers[name] = pair[2]
        if b"transfer-encoding" in headers:
            raise _Malformed(411)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise _Malformed(400)
        if len(length) > 9 or int(length) > MAX_BODY:
            raise _Malformed(413)
        start = len(head) + 4
        self.size = start + int(length)
        self.method = line[1].decode("ascii")
        self.target = line[2].decode("ascii")
        self.authorization = headers.get(b"authorization", b"").decode("latin-1")
        self.body = bytes(buffer[start : self.size])
        self.keep_alive = line[3] == b"1" and headers.get(b"connection", b"").lower() != b"close"


class _Connection(asyncio.Protocol):
    def __init__(self, service: Service, clock: Callable[[], float], connections: set[_Connection]) -> None:
        self._service = service
        self._clock = clock
        self._connections = connections
        self._buffer = bytearray()
        self._waiting: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if len(self._connections) >= MAX_CONNECTIONS:
            transport.abort()
            return
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.abort()

    def abort(self) -> None:
        """Closes the connection now, whatever was still to be said."""
        self._connections.discard(self)
        if self._waiting is not None:
            self._waiting.cancel()
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            self._answer_all()
        except _Malformed as malformed:
            self._buffer.clear()
            self._send(Answer(malformed.status), "GET", keep_alive=False)

    def _answer_all(self) -> None:
        while self._waiting is None and self._transport is not None and not self._transport.is_closing():
            end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD)
            if end < 0:
                if len(self._buffer) >= MAX_HEAD:
                    raise _Malformed(431)
                return
            request = _Request(bytes(self._buffer[:end]), self._buffer)
            if len(self._buffer) < request.size:
                return
            del self._buffer[: request.size]
            answer = self._service.answer(
                request.method, request.target, request.authorization, request.body, self._clock()
            )
            if answer.delay_seconds:
                self._transport.pause_reading()
                loop = asyncio.get_running_loop()
                self._waiting = loop.call_later(answer.delay_seconds, self._send_late, answer, request)
            else:
                self._send(answer, request.method, request.keep_alive)

    def _send_late(self, answer: Answer, request: _Request) -> None:
        self._waiting = None
        self._send(answer, request.method, request.keep_alive)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self.data_received(b"")

    def _send(self, answer: Answer, method: str, keep_alive: bool) -> None:
        if self._transport is None:
            return
        if not answer.status:
            self.abort()
            return
        date = http_date(self._clock() + self._service.script.clock_offset_seconds)
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", f"Date: {date}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        lines.append(f"Content-Length: {len(answer.body)}")
        if not keep_alive:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        self._transport.write(head if method == "HEAD" else head + answer.body)
        if not keep_alive:
            self._transport.close()


def http_date(at: float) -> str:
    """A Unix time as an HTTP-date (RFC 9110 section 5.6.7).

    >>> http_date(784111777.9)
    'Sun, 06 Nov 1994 08:49:37 GMT'
    """
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(at)
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


async def serve_until_stopped(
    service: Service, *, port: int, ready: Callable[[str], None], while_stdin_is_open: bool = False
) -> None:
    """Serves on the loopback interface until SIGTERM or SIGINT.

    Args:
        service: what answers.
        port: 0 takes a free one.
        ready: called once with the base URL when connections are accepted.
        while_stdin_is_open: stop also at the end of standard input, so that no parent leaves it behind.

    Raises:
        OSError: the port cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Wall time once, then only the monotonic clock: a corrected wall clock must not move the windows.
    began = time.time() - time.monotonic()
    connections: set[_Connection] = set()
    server = await loop.create_server(
        lambda: _Connection(service, lambda: began + time.monotonic(), connections),
        "127.0.0.1",
        port,
        backlog=512,
    )
    if while_stdin_is_open:

        def stop_at_end_of_stdin() -> None:
            while os.read(0, 4096):
                pass
            loop.call_soon_threadsafe(stop.set)

        threading.Thread(target=stop_at_end_of_stdin, daemon=True).start()
    try:
        ready(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await stop.wait()
    finally:
        server.close()
        for connection in list(connections):
            connection.abort()
        await server.wait_closed()
