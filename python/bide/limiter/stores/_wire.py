"""How calls reach the server: over the connections of the official client libraries.

Three wires, one contract: ``call(trips, deadline)`` brings the scripts' replies or raises one of the wire's
``errors``; nothing takes longer than the deadline.

- ``Wire`` blocks. It writes and reads the socket of a library's connection by itself: a deadline holds for the whole
  call, however slowly the answer drips in, and less is done for each call than the library does for any command.
- ``AsyncWire`` goes through the library's asyncio connections, those of one event loop.
- ``ClientWire`` and ``AsyncClientWire`` go through a client object: a cluster's, a sentinel's, or the caller's own.

``met_a_stranger`` is set when a server did not know a script: it was restarted, or is another one.

Rules of this file: a connection on which a call did not end is closed, never used again. A call may be sent twice only
where an idle connection turns out to have been closed by the server: permits may then be counted twice, never too few.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from bide.limiter.stores._scripts import Trip

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import ModuleType

__all__ = ["AsyncClientWire", "AsyncWire", "ClientWire", "Library", "ServerError", "Wire"]

MOST_CONNECTIONS = 64
"""Of one process, or of one event loop: a call beyond them waits for one, within its deadline."""


class ServerError(Exception):
    """The server's reply is an error: its text."""

    @classmethod
    def of_a_stranger(cls) -> ServerError:
        return cls("it does not speak the protocol of Redis, or something between does not")


def octets_of(reply: object) -> bytes:
    """A script's reply as a library gives it: it may have been told to decode texts."""
    if isinstance(reply, str):
        return reply.encode()
    if not isinstance(reply, bytes):
        raise ServerError.of_a_stranger()
    return reply


class Library:
    """What is asked of a client library: ``redis`` or ``valkey``, which name their parts alike."""

    def __init__(self, module: ModuleType, asynchronous: ModuleType) -> None:
        self.module: Any = module
        self.asynchronous: Any = asynchronous
        base: type[Exception] = self.module.ConnectionError.__base__
        self.errors = (base, OSError, EOFError, ServerError, TimeoutError)
        self.no_script: type[Exception] = self.module.exceptions.NoScriptError

    def connection(self, url: str, timeout: float) -> Any:
        kind, options = self._read(url, self.module.connection.parse_url, self.module.Connection)
        return self._plain(_keeping_deadlines(kind)(**options, **self._limits(timeout)))

    def asynchronous_connection(self, url: str, timeout: float) -> Any:
        module = self.asynchronous.connection
        kind, options = self._read(url, module.parse_url, module.Connection)
        return self._plain(kind(**options, **self._limits(timeout)))

    def _read(self, url: str, parse: Any, default: Any) -> tuple[Any, dict[str, Any]]:
        options = dict(parse(url))
        return options.pop("connection_class", default), options

    def _limits(self, timeout: float) -> dict[str, Any]:
        return {"socket_timeout": timeout, "socket_connect_timeout": timeout, "protocol": 2}

    def _plain(self, connection: Any) -> Any:
        # The library's name costs two round trips for each new connection, inside of somebody's deadline.
        for name in ("driver_info", "lib_name", "lib_version"):
            setattr(connection, name, None)
        return connection


@functools.cache
def _keeping_deadlines(kind: Any) -> Any:
    """A library's blocking connection, whose handshake keeps to the deadline of the call that needs it."""

    class Connection(kind):  # type: ignore[misc]  # a class of a library that is chosen at run time
        deadline = float("inf")

        def read_response(self, *arguments: Any, **options: Any) -> Any:
            self._sock.settimeout(left(self.deadline))
            return super().read_response(*arguments, **options)

    return Connection


def left(deadline: float) -> float:
    """Seconds until the deadline; raises when there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0.0:
        raise TimeoutError("no answer within the deadline")
    return seconds


class Wire:
    """Connections of one process, one for each call that is under way."""

    def __init__(self, library: Library, url: str, timeout: float) -> None:
        self.errors = library.errors
        self.met_a_stranger = False
        self._library = library
        self._url = url
        self._timeout = timeout
        self._lock = threading.Lock()
        self._made = 0
        self._idle: deque[Any] = deque()

    def call(self, trips: Sequence[Trip], deadline: float) -> list[bytes]:
        packed = trips[0].packed() if len(trips) == 1 else b"".join([trip.packed() for trip in trips])
        replies = self._exchange(packed, len(trips), deadline)
        for reply in replies:
            if isinstance(reply, ServerError):
                break
        else:
            return cast("list[bytes]", replies)
        unknown = [n for n, reply in enumerate(replies) if is_unknown(reply)]
        if unknown:
            self.met_a_stranger = True
            again = b"".join([trips[n].packed(whole=True) for n in unknown])
            for n, reply in zip(unknown, self._exchange(again, len(unknown), deadline), strict=True):
                replies[n] = reply
        return [checked(reply) for reply in replies]

    def _exchange(self, packed: bytes, count: int, deadline: float) -> list[bytes | ServerError]:
        connection = self._free_one(deadline)
        if connection is not None:
            try:
                return self._talk(connection, packed, count, deadline)
            except TimeoutError:
                raise
            except (EOFError, OSError):
                self.close()  # The server has closed it, so it has closed the others that lie idle.
            with self._lock:
                self._made += 1
        try:
            connection = self._library.connection(self._url, min(self._timeout, left(deadline)))
            connection.deadline = deadline
            connection.connect()
        except BaseException:
            self._drop(connection)
            raise
        return self._talk(connection, packed, count, deadline)

    def _free_one(self, deadline: float) -> Any:
        """An idle connection; None: one may be made. Beyond the most it looks again until the deadline."""
        while True:
            try:
                return self._idle.pop()
            except IndexError:
                with self._lock:
                    if self._made < MOST_CONNECTIONS:
                        self._made += 1
                        return None
            time.sleep(min(left(deadline), 0.001))

    def _drop(self, connection: Any) -> None:
        with self._lock:
            self._made -= 1
        if connection is not None:
            connection.disconnect()

    def _talk(self, connection: Any, packed: bytes, count: int, deadline: float) -> list[bytes | ServerError]:
        try:
            socket = connection._sock
            socket.settimeout(left(deadline))
            socket.sendall(packed)
            data = socket.recv(65_536)
            replies: list[bytes | ServerError] = []
            at = 0
            while True:
                if not data:
                    raise EOFError("the server closed the connection")
                while len(replies) < count:
                    found = reply_at(data, at)
                    if found is None:
                        break
                    reply, at = found
                    replies.append(reply)
                if len(replies) == count:
                    break
                socket.settimeout(left(deadline))
                more = socket.recv(65_536)
                data = data + more if more else b""
        except BaseException:
            self._drop(connection)
            raise
        for reply in replies:
            if isinstance(reply, ServerError) and is_fatal(reply):
                self._drop(connection)
                self.close()
                return replies
        self._idle.append(connection)
        return replies

    def close(self) -> None:
        """Closes what lies idle; a later call connects anew."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            self._drop(connection)

    def forget(self) -> None:
        """In a forked child: leaves the parent's connections alone."""
        idle, self._idle = self._idle, deque()
        self._lock, self._made = threading.Lock(), 0
        for connection in idle:
            connection._sock.close()  # this process' descriptor only: nothing is sent, nothing shut down
            connection._sock = None


def reply_at(data: bytes, at: int) -> tuple[bytes | ServerError, int] | None:
    """One reply of a script, a text or an error, and where the next one begins; None: not whole yet."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return None
    kind, line = data[at : at + 1], data[at + 1 : line_end]
    if kind == b"$" and line.isdigit():
        start, stop = line_end + 2, line_end + 2 + int(line)
        return (data[start:stop], stop + 2) if len(data) >= stop + 2 else None
    if kind == b"-":
        return ServerError(line.decode("utf-8", "replace")), line_end + 2
    raise ServerError.of_a_stranger()


def is_unknown(reply: bytes | ServerError) -> bool:
    return isinstance(reply, ServerError) and str(reply).startswith("NOSCRIPT")


def is_fatal(reply: ServerError) -> bool:
    """It was the primary, or will be: the name may lead to another server by now."""
    return str(reply).startswith(("READONLY", "LOADING", "MASTERDOWN"))


def checked(reply: bytes | ServerError) -> bytes:
    if isinstance(reply, ServerError):
        raise reply
    return reply


class _OfAClient:
    """A client object, or what makes one."""

    def __init__(self, library: Library, make: Callable[[], Any], owned: bool) -> None:
        self.errors = library.errors
        self.met_a_stranger = False
        self._library = library
        self._make = make
        self._owned = owned
        self._client: Any = None


class ClientWire(_OfAClient):
    """A client object: a cluster's, a sentinel's, the caller's own. Its own time-outs hold."""

    def call(self, trips: Sequence[Trip], deadline: float) -> list[bytes]:
        if self._client is None:
            self._client = self._make()
        replies = []
        for trip in trips:
            left(deadline)
            try:
                reply = self._client.evalsha(trip.script.digest, 1, trip.key, *trip.arguments)
            except self._library.no_script:
                self.met_a_stranger = True
                reply = self._client.eval(trip.script.text, 1, trip.key, *trip.arguments)
            replies.append(octets_of(reply))
        return replies

    def close(self) -> None:
        client, self._client = self._client, None
        if self._owned and client is not None:
            client.close()

    def forget(self) -> None:
        if self._owned:
            self._client = None


class AsyncWire:
    """Connections of one event loop."""

    def __init__(self, library: Library, url: str, timeout: float) -> None:
        import asyncio

        self.errors = library.errors
        self.met_a_stranger = False
        self._library = library
        self._url = url
        self._timeout = timeout
        self._free = asyncio.BoundedSemaphore(MOST_CONNECTIONS)
        self._idle: deque[Any] = deque()
        self._keeper: AsyncGenerator[None, None] | None = None

    async def call(self, trips: Sequence[Trip], deadline: float) -> list[bytes]:
        import asyncio

        if self._keeper is None:
            self._keeper = kept_until_the_loop_ends(self.close)
            await anext(self._keeper)
        async with asyncio.timeout(left(deadline)), self._free:
            replies = await self._exchange([trip.packed() for trip in trips])
            unknown = [n for n, reply in enumerate(replies) if isinstance(reply, self._library.no_script)]
            if unknown:
                self.met_a_stranger = True
                again = await self._exchange([trips[n].packed(whole=True) for n in unknown])
                for n, reply in zip(unknown, again, strict=True):
                    replies[n] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return [reply for reply in replies if isinstance(reply, bytes)]

    async def _exchange(self, packed: list[bytes]) -> list[bytes | Exception]:
        while self._idle:
            try:
                return await self._talk(self._idle.pop(), packed)
            except (OSError, self._library.module.ConnectionError):
                pass  # The server has closed it, and the others that lie idle.
        connection = self._library.asynchronous_connection(self._url, self._timeout)
        return await self._talk(connection, packed)

    async def _talk(self, connection: Any, packed: list[bytes]) -> list[bytes | Exception]:
        replies: list[bytes | Exception] = []
        fatal = False
        try:
            await connection.connect()
            await connection.send_packed_command(packed, check_health=False)
            for _ in packed:
                try:
                    reply = await connection.read_response(disconnect_on_error=False)
                    replies.append(octets_of(reply))
                except self._library.module.ResponseError as error:
                    fatal = fatal or isinstance(error, self._library.module.ReadOnlyError)
                    replies.append(error)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if fatal:
            await connection.disconnect(nowait=True)
            await self.close()
        else:
            self._idle.append(connection)
        return replies

    async def close(self) -> None:
        """Closes what lies idle; a later call connects anew."""
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)


class AsyncClientWire(_OfAClient):
    """An asyncio client object: a cluster's, a sentinel's, the caller's own."""

    def __init__(self, library: Library, make: Callable[[], Any], owned: bool) -> None:
        super().__init__(library, make, owned)
        self._keeper: AsyncGenerator[None, None] | None = None

    async def call(self, trips: Sequence[Trip], deadline: float) -> list[bytes]:
        import asyncio

        if self._client is None:
            self._client = self._make()
            self._keeper = kept_until_the_loop_ends(self.close)
            await anext(self._keeper)
        replies = []
        async with asyncio.timeout(left(deadline)):
            for trip in trips:
                try:
                    reply = await self._client.evalsha(trip.script.digest, 1, trip.key, *trip.arguments)
                except self._library.no_script:
                    self.met_a_stranger = True
                    reply = await self._client.eval(trip.script.text, 1, trip.key, *trip.arguments)
                replies.append(octets_of(reply))
        return replies

    async def close(self) -> None:
        client, self._client = self._client, None
        if self._owned and client is not None:
            await client.aclose()


async def kept_until_the_loop_ends(close: Callable[[], Any]) -> AsyncGenerator[None, None]:
    """A loop ends its unfinished asynchronous generators (``asyncio.run`` sees to it): then it closes."""
    try:
        yield
    finally:
        await close()
