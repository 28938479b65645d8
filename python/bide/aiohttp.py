"""A client middleware for aiohttp that paces, waits and repeats.

    session = aiohttp.ClientSession(middlewares=[bide.aiohttp.middleware(bide.CLEVER)])

It needs aiohttp 3.12.3 or newer: 3.12 brought client middlewares, and its first releases close a file that
they have sent, so that it could not be sent again.

Rules of this file: it turns a client request into an Exchange, and sends, sleeps and discards in aiohttp's
way; all else is in ``_driver``. A session's total time-out runs on while it waits, and ends the wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp import payload
from aiohttp.http_exceptions import HttpProcessingError

from bide._driver import Driver, Exchange, Options
from bide._flow import Failed
from bide._foreign import LARGEST_DRAIN_BYTES, LOOK_BYTES, in_memory, is_seekable, says_error
from bide.errors import Deferred
from bide.policy import Failure

if TYPE_CHECKING:
    from bide.policy import Policy

__all__ = ["middleware"]

Middleware = Callable[
    [aiohttp.ClientRequest, Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]],
    Awaitable[aiohttp.ClientResponse],
]

LOOK_SECONDS = 0.25
"""A session tells nobody that it was closed: a wait looks that often."""


def middleware(
    policy: Policy | None = None,
    *,
    inner: Middleware | None = None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    **options: Unpack[Options],
) -> Middleware:
    """Sends through the session, inside the API's rate limit, and repeats what may be repeated.

    The response that the caller gets has the ``Decision`` as its attribute ``bide``. Of the session's
    time-outs, ``total`` holds for the whole, waits included; the others hold for each try.

    Args:
        policy: the API's policy, such as ``bide.CLEVER``; None chooses it by the host of each request.
        inner: another middleware, which each try goes through, such as one that signs; the same as naming it
            after this one in the session's ``middlewares``. (What sends is the session's connector.)
        sleep: how to wait, given seconds.
        options: ``limiter``, ``store``, ``key``, ``deadline``, ``max_wait``, ``idempotent``, ``on_decision``,
            ``on_wait``, ``on_defer``: see ``bide._driver.Driver``.

    Returns:
        A middleware for ``aiohttp.ClientSession(middlewares=...)`` or for one request.

    Raises (when a request is sent):
        bide.Deferred: the work should cease and go on later; it is also the ``aiohttp`` exception of the last
            failure, or ``aiohttp.ClientResponseError`` after a response that says 400 or more.
        aiohttp.ClientError, TimeoutError: a failure that must not be repeated, as it came.

    >>> import bide
    >>> paced = middleware(bide.CLEVER, max_wait=60.0)
    """
    driver = Driver(policy, **options)
    deferred_in: WeakKeyDictionary[object, tuple[object, Deferred]] = WeakKeyDictionary()

    async def paced(
        request: aiohttp.ClientRequest,
        handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]],
    ) -> aiohttp.ClientResponse:
        async def send(attempt: int) -> object:
            if attempt > 1:
                await (
                    request.close()
                )  # The body may still be on its way: it is sent again from its beginning.
            try:
                return await (handler(request) if inner is None else inner(request, handler))
            except TimeoutError as error:
                if _is_total(request):
                    return Failed(error, None)
                raise
            except aiohttp.ClientResponseError as error:
                # What came was not HTTP: its status is made up.
                if isinstance(error.__cause__, HttpProcessingError):
                    return Failed(error, Failure.PROTOCOL)
                raise

        async def wait(seconds: float) -> None:
            while seconds > 0.0 and not request.session.closed:
                await sleep(min(seconds, LOOK_SECONDS) if sleep is asyncio.sleep else seconds)
                seconds = seconds - LOOK_SECONDS if sleep is asyncio.sleep else 0.0

        # aiohttp answers some failures with another try of its own, through all middlewares, in the same task
        # and with the same timer: what has been deferred stays so.
        timer = getattr(request, "_timer", None)
        ended = deferred_in.pop(asyncio.current_task(), None)
        if ended is not None and ended[0] is timer:
            raise ended[1]
        closing = _Closing(request.session)
        verdict = await driver.run_async(
            _exchange(request), send, _discard, _look, wait, _unbroken, _aside, closing
        )
        try:
            response: Any = driver.conclude(verdict, _own_closed if closing.is_set() else _own, _reaching)
        except Deferred as error:
            deferred_in[asyncio.current_task()] = timer, error
            raise
        response.bide = verdict.decision
        return response  # type: ignore[no-any-return]  # what the handler returned

    return paced


class _Closing(NamedTuple):
    """Whether a session was closed."""

    session: aiohttp.ClientSession

    def is_set(self) -> bool:
        return self.session.closed


_unfinished: set[asyncio.Future[object]] = set()
"""What goes on although its task was cancelled: an event loop by itself may forget it."""


async def _aside(call: Callable[[str], object], host: str) -> None:
    await asyncio.to_thread(call, host)


async def _unbroken(call: Awaitable[object]) -> None:
    ending = asyncio.ensure_future(call)
    _unfinished.add(ending)
    ending.add_done_callback(_unfinished.discard)
    await asyncio.shield(ending)


def _is_total(request: aiohttp.ClientRequest) -> bool:
    """Whether the session's total time-out has passed."""
    timer = getattr(request, "_timer", None)  # There is no public name for it.
    try:
        if timer is not None:
            timer.assert_timeout()
    except TimeoutError:
        return True
    return False


def _own(answer: Any, advice: str) -> Exception:
    if not says_error(answer):
        return aiohttp.ClientError(advice)
    about = {"status": answer.status, "message": answer.reason or "", "headers": answer.headers}
    return aiohttp.ClientResponseError(answer.request_info, answer.history, **about)


def _own_closed(_: object, advice: str) -> Exception:
    return aiohttp.ClientConnectionError(advice)


def _reaching(failure: type[Exception]) -> type[Exception]:
    """The class of a ``Deferred`` for such a failure: of an ``OSError`` that is none of its own, aiohttp makes
    another exception."""
    own = issubclass(failure, aiohttp.ClientError | TimeoutError)
    return aiohttp.ClientError if issubclass(failure, OSError) and not own else failure


def _exchange(request: aiohttp.ClientRequest) -> Exchange:
    return Exchange(
        method=request.method,
        host=request.url.raw_host or "",
        request=request,
        authorization=request.headers.get("Authorization"),
        idempotent="Idempotency-Key" in request.headers,
        repeatable=_is_repeatable(request.body),
        target=request.url.raw_path,
    )


def _is_repeatable(body: object) -> bool:
    """Whether aiohttp can write this body a second time: it brings files back to where they stood itself."""
    if isinstance(body, payload.IOBasePayload):
        return is_seekable(body._value)
    if isinstance(body, aiohttp.MultipartWriter):
        return all(_is_repeatable(part) for part, _, _ in body)
    return not isinstance(body, payload.AsyncIterablePayload)


async def _look(response: Any) -> bytes | None:
    body = in_memory(response)
    if body is not None:
        return body
    content = response.content
    taken = b""
    try:
        while len(taken) < LOOK_BYTES and (chunk := await content.read(LOOK_BYTES - len(taken))):
            taken += chunk
    except (aiohttp.ClientError, TimeoutError):
        pass  # Whoever reads the response meets it again.
    _put_back(content, taken)
    return taken


def _put_back(content: Any, taken: bytes) -> None:
    """``StreamReader.unread_data``, which is the only way and says that it will go."""
    if content._buffer_offset:
        content._buffer[0] = content._buffer[0][content._buffer_offset :]
        content._buffer_offset = 0
    if taken:
        content._buffer.appendleft(taken)
        content._size += len(taken)
        content._cursor -= len(taken)
        content._eof_counter = 0


async def _discard(response: Any, drains: bool, keeps: bool) -> None:
    """Reads a small body, which the caller may see when ``keeps``, and gives the connection back."""
    if not drains:
        response.close()
        return
    length = response.content_length
    try:
        if keeps and length is not None and length <= LARGEST_DRAIN_BYTES:
            await response.read()
        else:
            drained = 0
            while chunk := await response.content.read(4096):
                drained += len(chunk)
                if drained > LARGEST_DRAIN_BYTES:
                    break
    except (aiohttp.ClientError, TimeoutError):
        pass  # A body that breaks off is of no more interest than one that does not.
    finally:
        if response.content.is_eof():
            response.release()
        else:
            response.close()
