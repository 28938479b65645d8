"""httpx transports that pace, wait and repeat: ``httpx.Client(transport=bide.httpx.Transport(bide.CLEVER))``.

Rules of this file: it turns an httpx request into an Exchange, and sends, sleeps and discards in httpx's way;
all else is in ``_driver``. The inner transport does the I/O; it is httpx's own unless another is given.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

import anyio
import httpx

from bide._driver import Driver, Exchange, Options, Verdict, deferred, drive, drive_async

if TYPE_CHECKING:
    from bide.policy import Policy

__all__ = ["AsyncTransport", "Transport"]

LARGEST_DRAIN_BYTES = 65_536
"""A discarded response is read to its end, so that its connection can be used again, up to this size."""


def _rewinder(stream: object) -> Callable[[], object] | None:
    """What brings a request's body back to its beginning; None when it can be sent only once."""
    if isinstance(stream, httpx.ByteStream):
        return _nothing
    # httpx has no public name for the fields of a multipart body, nor for what a body iterates over.
    fields = getattr(stream, "fields", None)
    if isinstance(fields, list):
        files = [getattr(field, "file", b"") for field in fields]
        return _nothing if all(isinstance(file, str | bytes) or _seekable(file) for file in files) else None
    source = getattr(stream, "_stream", None)
    if hasattr(source, "read"):
        if not _seekable(source):
            return None
        start = source.tell()
        return lambda: source.seek(start)
    one_shot = source is None or hasattr(source, "__next__") or hasattr(source, "__anext__")
    return None if one_shot else _nothing


def _nothing() -> None:
    """Bytes, and multipart bodies, begin anew each time they are iterated."""


def _seekable(file: object) -> bool:
    seekable = getattr(file, "seekable", None)
    return bool(seekable is not None and seekable())


def _exchange(request: httpx.Request, repeatable: bool) -> Exchange:
    return Exchange(
        method=request.method,
        host=request.url.host,
        request=request,
        authorization=request.headers.get("authorization"),
        idempotent="idempotency-key" in request.headers,
        repeatable=repeatable,
    )


def _concluded(driver: Driver, verdict: Verdict, request: httpx.Request) -> httpx.Response:
    """Hands the caller its response with the decision attached, or raises what ended the attempt."""
    answer, decision = verdict
    if decision.action == "defer" and (driver.raises_deferred or not isinstance(answer, httpx.Response)):
        error = deferred(verdict, httpx.HTTPError)
        error.request = request  # type: ignore[attr-defined]  # every httpx.HTTPError has it
        raise error
    if isinstance(answer, BaseException):
        raise answer
    assert isinstance(answer, httpx.Response)
    answer.extensions["bide"] = decision
    return answer


class Transport(httpx.BaseTransport):
    """Sends through ``inner``, inside the API's rate limit, and repeats what may be repeated.

    The response that the caller gets has the ``Decision`` in ``response.extensions["bide"]``. A request may
    take longer than the client's time-outs, which hold for each try: ``max_wait`` and ``deadline`` bound the
    whole.

    Args:
        policy: the API's policy, such as ``bide.CLEVER``; ``bide.HTTP`` when none is given.
        inner: the transport that does the I/O; ``httpx.HTTPTransport()`` when none is given. It is closed
            with this one.
        sleep: how to wait, given seconds; ``time.sleep`` when none is given.
        options: ``limiter``, ``store``, ``key``, ``deadline``, ``max_wait``, ``idempotent``, ``on_decision``,
            ``on_wait``, ``on_defer``: see ``bide._driver.Driver``.

    Raises (when a request is sent):
        bide.Deferred: the work should cease and go on later; it is also the ``httpx`` exception of the last
            failure, or ``httpx.HTTPError`` after a response.
        httpx.TransportError: a failure that must not be repeated, as it came.

    >>> import bide
    >>> transport = Transport(bide.CLEVER, max_wait=60.0)
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        inner: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
        **options: Unpack[Options],
    ) -> None:
        self._driver = Driver(policy, **options)
        self._inner = httpx.HTTPTransport() if inner is None else inner
        self._sleep = sleep

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        rewind = _rewinder(request.stream)

        def send(attempt: int) -> httpx.Response:
            if attempt > 1 and rewind is not None:
                rewind()
            return self._inner.handle_request(request)

        flow = self._driver.flow(_exchange(request, rewind is not None))
        return _concluded(self._driver, drive(flow, send, self._sleep, _discard), request)

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._inner.__exit__(exc_type, exc_value, traceback)


class AsyncTransport(httpx.AsyncBaseTransport):
    """``Transport`` for ``httpx.AsyncClient``, on asyncio or trio. Waiting never blocks the event loop.

    Args:
        inner: ``httpx.AsyncHTTPTransport()`` when none is given.
        sleep: how to wait, given seconds; ``anyio.sleep`` when none is given.
        policy, options, errors: as for ``Transport``.

    >>> import bide
    >>> transport = AsyncTransport(bide.CLEVER)
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        inner: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
        **options: Unpack[Options],
    ) -> None:
        self._driver = Driver(policy, **options)
        self._inner = httpx.AsyncHTTPTransport() if inner is None else inner
        self._sleep = sleep

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        rewind = _rewinder(request.stream)

        async def send(attempt: int) -> httpx.Response:
            if attempt > 1 and rewind is not None:
                rewind()
            return await self._inner.handle_async_request(request)

        flow = self._driver.flow(_exchange(request, rewind is not None))
        return _concluded(self._driver, await drive_async(flow, send, self._sleep, _discard_async), request)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._inner.__aexit__(exc_type, exc_value, traceback)


def _discard(response: object) -> None:
    assert isinstance(response, httpx.Response)
    try:
        if _is_small(response):
            response.read()
        else:
            drained = 0
            for chunk in response.iter_raw():
                drained += len(chunk)
                if drained > LARGEST_DRAIN_BYTES:
                    break
    except httpx.HTTPError:
        pass  # A body that breaks off is of no more interest than one that does not.
    finally:
        response.close()


async def _discard_async(response: object) -> None:
    assert isinstance(response, httpx.Response)
    try:
        if _is_small(response):
            await response.aread()
        else:
            drained = 0
            async for chunk in response.aiter_raw():
                drained += len(chunk)
                if drained > LARGEST_DRAIN_BYTES:
                    break
    except httpx.HTTPError:
        pass  # A body that breaks off is of no more interest than one that does not.
    finally:
        await response.aclose()


def _is_small(response: httpx.Response) -> bool:
    """A small body is kept: the response may be the one that a ``Deferred`` carries."""
    length = response.headers.get("content-length", "")
    return len(length) <= 5 and length.isdecimal() and int(length) <= LARGEST_DRAIN_BYTES
