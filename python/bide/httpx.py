"""httpx transports that pace, wait and repeat: ``httpx.Client(transport=bide.httpx.Transport(bide.CLEVER))``.

They serve httpx and httpx2 alike: every class is taken from the request, or from the transport they wrap.

Rules of this file: it turns a request into an Exchange, and sends, sleeps and discards in httpx's way; all
else is in ``_driver``. The inner transport does the I/O; it is the library's own unless another is given.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import anyio
import anyio.to_thread

from bide._driver import Driver, Exchange, Options, Verdict
from bide._foreign import LARGEST_DRAIN_BYTES, LOOK_BYTES, in_memory, is_seekable, rewinder, says_error

if TYPE_CHECKING:
    import httpx
    import httpx2

    from bide.policy import Policy

    class _Base(httpx.BaseTransport, httpx2.BaseTransport):
        def handle_request(self, request: Any) -> Any: ...

    class _AsyncBase(httpx.AsyncBaseTransport, httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: Any) -> Any: ...

else:
    try:
        import httpx
    except ImportError:
        import httpx2 as httpx
    _Base, _AsyncBase = httpx.BaseTransport, httpx.AsyncBaseTransport

__all__ = ["AsyncTransport", "Transport"]


def _library(made_by_it: object) -> Any:
    """httpx or httpx2: the module that a request, a response or a transport comes from."""
    for cls in type(made_by_it).__mro__:
        name = cls.__module__.partition(".")[0]
        if name in ("httpx", "httpx2"):
            return sys.modules[name]
    return httpx


def _rewinder(stream: object) -> Callable[[], object] | None:
    """What brings a request's body back to its beginning; None when it can be sent only once."""
    # There is no public name for the fields of a multipart body, nor for what a body iterates over.
    fields = getattr(stream, "fields", None)
    if isinstance(fields, list):
        files = [getattr(field, "file", b"") for field in fields]
        return rewinder(b"") if all(isinstance(f, str | bytes) or is_seekable(f) for f in files) else None
    source = getattr(stream, "_stream", stream)
    # An asynchronous file would have to be sought asynchronously.
    return None if hasattr(source, "aread") else rewinder(source)


def _exchange(request: Any, repeatable: bool) -> Exchange:
    return Exchange(
        method=request.method,
        host=request.url.raw_host.decode("ascii"),
        request=request,
        authorization=request.headers.get("authorization"),
        idempotent="idempotency-key" in request.headers,
        repeatable=repeatable,
        target=request.url.path,
    )


def _concluded(driver: Driver, verdict: Verdict, request: Any) -> Any:
    """Hands the caller its response with the decision attached, or raises what ended the attempt."""
    library = _library(request)

    def own(answer: Any, advice: str) -> Exception:
        error: Exception
        if says_error(answer):
            error = library.HTTPStatusError(advice, request=request, response=answer)
        else:
            error = library.HTTPError(advice)
            error.request = request  # type: ignore[attr-defined]  # httpx's exceptions have one
        return error

    response: Any = driver.conclude(verdict, own)
    response.extensions["bide"] = verdict.decision
    return response


class Transport(_Base):
    """Sends through ``inner``, inside the API's rate limit, and repeats what may be repeated.

    The response that the caller gets has the ``Decision`` in ``response.extensions["bide"]``. A request may
    take longer than the client's time-outs, which hold for each try: ``max_wait`` and ``deadline`` bound the
    whole. Closing the client ends the waits of its other threads with ``bide.Deferred``.

    Args:
        policy: the API's policy, such as ``bide.CLEVER``; None chooses it by the host of each request.
        inner: the transport that does the I/O; ``HTTPTransport()`` of the client's library when none is
            given. It is closed with this one.
        sleep: how to wait, given seconds; a sleep that ``close`` ends when none is given.
        options: ``limiter``, ``store``, ``key``, ``deadline``, ``max_wait``, ``idempotent``, ``on_decision``,
            ``on_wait``, ``on_defer``: see ``bide._driver.Driver``.

    Raises (when a request is sent):
        bide.Deferred: the work should cease and go on later; it is also the ``httpx`` exception of the last
            failure, or ``httpx.HTTPStatusError`` after a response that says 400 or more.
        httpx.TransportError: a failure that must not be repeated, as it came.

    >>> import bide
    >>> transport = Transport(bide.CLEVER, max_wait=60.0)
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        inner: httpx.BaseTransport | httpx2.BaseTransport | None = None,
        sleep: Callable[[float], object] | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._driver = Driver(policy, **options)
        self._inner: Any = inner
        self._making = threading.Lock()
        self._sleep = sleep

    def handle_request(self, request: Any) -> Any:
        inner = self._inner or self._made_for(request)
        rewind = _rewinder(request.stream)

        def send(attempt: int) -> Any:
            if attempt > 1 and rewind is not None:
                rewind()
            response = inner.handle_request(request)
            response.request = request
            return response

        exchange = _exchange(request, rewind is not None)
        verdict = self._driver.run(exchange, send, _discard, _look, self._sleep)
        return _concluded(self._driver, verdict, request)

    def _made_for(self, request: Any) -> Any:
        with self._making:  # Threads that share a client begin with it at once.
            if self._inner is None:
                self._inner = _library(request).HTTPTransport()
            return self._inner

    def close(self) -> None:
        self._driver.close()
        if self._inner is not None:
            self._inner.close()

    def __enter__(self) -> Self:
        if self._inner is not None:
            self._inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._driver.close()
        if self._inner is not None:
            self._inner.__exit__(exc_type, exc_value, traceback)


class AsyncTransport(_AsyncBase):
    """``Transport`` for ``httpx.AsyncClient``, on asyncio or trio. Waiting never blocks the event loop.

    Args:
        inner: ``AsyncHTTPTransport()`` of the client's library when none is given.
        sleep: how to wait, given seconds; a sleep that ``aclose`` ends when none is given.
        policy, options, errors: as for ``Transport``.

    >>> import bide
    >>> transport = AsyncTransport(bide.CLEVER)
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        inner: httpx.AsyncBaseTransport | httpx2.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._driver = Driver(policy, **options)
        self._inner = inner
        self._sleep = self._wait if sleep is None else sleep
        self._waiting: set[anyio.Event] = set()

    async def handle_async_request(self, request: Any) -> Any:
        inner: Any = self._inner
        if inner is None:
            inner = self._inner = _library(request).AsyncHTTPTransport()
        rewind = _rewinder(request.stream)

        async def send(attempt: int) -> Any:
            if attempt > 1 and rewind is not None:
                rewind()
            response = await inner.handle_async_request(request)
            response.request = request
            return response

        exchange = _exchange(request, rewind is not None)
        verdict = await self._driver.run_async(
            exchange, send, _discard_async, _look_async, self._sleep, _unbroken, _aside
        )
        return _concluded(self._driver, verdict, request)

    async def _wait(self, seconds: float) -> None:
        closed = anyio.Event()
        self._waiting.add(closed)
        try:
            with anyio.move_on_after(seconds):
                await closed.wait()
        finally:
            self._waiting.discard(closed)

    def _wake(self) -> None:
        self._driver.close()
        for closed in self._waiting:
            closed.set()

    async def aclose(self) -> None:
        self._wake()
        if self._inner is not None:
            await self._inner.aclose()

    async def __aenter__(self) -> Self:
        if self._inner is not None:
            await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._wake()
        if self._inner is not None:
            await self._inner.__aexit__(exc_type, exc_value, traceback)


async def _aside(call: Callable[[str], object], host: str) -> None:
    await anyio.to_thread.run_sync(call, host)


async def _unbroken(call: Awaitable[object]) -> None:
    with anyio.CancelScope(shield=True):
        await call


class _Rewound:
    """A body whose beginning was taken: that, then what is still to come, or the error that it came to."""

    def __init__(self, stream: Any, chunks: Any) -> None:
        self._stream = stream
        self._chunks = chunks
        self.taken: list[bytes] = []
        self.size = 0
        self.error: Exception | None = None

    def add(self, chunk: bytes) -> bool:
        """Keeps a chunk; whether that is enough."""
        self.taken.append(chunk)
        self.size += len(chunk)
        return self.size >= LOOK_BYTES

    def __iter__(self) -> Iterator[bytes]:
        yield from self.taken
        if self.error is not None:
            raise self.error
        yield from self._chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.taken:
            yield chunk
        if self.error is not None:
            raise self.error
        async for chunk in self._chunks:
            yield chunk

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()


def _look(response: Any) -> bytes | None:
    body = in_memory(response)
    if body is not None:
        return body
    chunks = iter(response.stream)
    response.stream = rewound = _rewound_class(_library(response).SyncByteStream)(response.stream, chunks)
    try:
        for chunk in chunks:
            if rewound.add(chunk):
                break
    except _library(response).HTTPError as error:
        rewound.error = error
    return _decoded(response, b"".join(rewound.taken))


async def _look_async(response: Any) -> bytes | None:
    body = in_memory(response)
    if body is not None:
        return body
    chunks = aiter(response.stream)
    response.stream = rewound = _rewound_class(_library(response).AsyncByteStream)(response.stream, chunks)
    try:
        async for chunk in chunks:
            if rewound.add(chunk):
                break
    except _library(response).HTTPError as error:
        rewound.error = error
    return _decoded(response, b"".join(rewound.taken))


@functools.cache
def _rewound_class(kind: type) -> Any:
    """A client takes only streams of its own library."""
    return type("Rewound", (_Rewound, kind), {})


def _decoded(response: Any, taken: bytes) -> bytes | None:
    coding = response.headers.get("content-encoding")
    if coding is None:
        return taken
    # In small pieces, so that what is decoded is bounded, too.
    pieces = (taken[start : start + 1_024] for start in range(0, len(taken), 1_024))
    library = _library(response)
    body = b""
    try:
        for piece in library.Response(200, headers={"content-encoding": coding}, content=pieces).iter_bytes():
            body += piece
            if len(body) >= LOOK_BYTES:
                break
    except library.DecodingError:
        return None
    return body


def _discard(response: Any, drains: bool, keeps: bool) -> None:
    try:
        size = _size(response, keeps) if drains else LARGEST_DRAIN_BYTES + 1
        if size is None:
            drained = 0
            for chunk in response.iter_raw():
                drained += len(chunk)
                if drained > LARGEST_DRAIN_BYTES:
                    break
        elif size <= LARGEST_DRAIN_BYTES:
            response.read()
    except _library(response).HTTPError:
        pass  # A body that breaks off is of no more interest than one that does not.
    finally:
        response.close()


async def _discard_async(response: Any, drains: bool, keeps: bool) -> None:
    try:
        size = _size(response, keeps) if drains else LARGEST_DRAIN_BYTES + 1
        if size is None:
            drained = 0
            async for chunk in response.aiter_raw():
                drained += len(chunk)
                if drained > LARGEST_DRAIN_BYTES:
                    break
        elif size <= LARGEST_DRAIN_BYTES:
            await response.aread()
    except _library(response).HTTPError:
        pass  # A body that breaks off is of no more interest than one that does not.
    finally:
        await response.aclose()


def _size(response: Any, keeps: bool) -> int | None:
    """What is left of the body, as its length says; None where one has to look, or need not decode it."""
    if response.is_stream_consumed or response.request.method == "HEAD":
        return 0
    length = response.headers.get("content-length", "")
    size = int(length[:16]) if length.isascii() and length.isdigit() else None
    return size if keeps or size is None or size > LARGEST_DRAIN_BYTES else None
