"""A urllib handler that paces, waits and repeats.

    opener = urllib.request.build_opener(bide.urllib.Handler(bide.CLEVER))

Rules of this file: it turns a urllib request into an Exchange, and sends and discards in urllib's way; all
else is in ``_driver``. It stands in the place of the opener's HTTP and HTTPS handlers; what other handlers do
with a response (redirects, errors, cookies) is theirs, as ever.
"""

from __future__ import annotations

import ssl
import urllib.request
import zlib
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, Unpack
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from bide._driver import Driver, Exchange, Options
from bide._foreign import LARGEST_DRAIN_BYTES, LOOK_BYTES, rewinder, says_error
from bide._rewound import begin

if TYPE_CHECKING:
    from bide.policy import Policy

__all__ = ["Handler"]


class Handler(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Opens http and https URLs inside the API's rate limit, and repeats what may be repeated.

    The response that the caller gets has the ``Decision`` as its attribute ``bide``. A request may take
    longer than its ``timeout``, which holds for each try: ``max_wait`` and ``deadline`` bound the whole.

    Args:
        policy: the API's policy, such as ``bide.CLEVER``; None chooses it by the host of each request.
        inner: the handler that does the I/O: one with ``http_open``, ``https_open`` or both; urllib's own when
            none is given.
        context: the TLS context for https of urllib's own; None is the default one.
        sleep: how to wait, given seconds; a sleep that ``close`` ends when none is given.
        options: ``limiter``, ``store``, ``key``, ``deadline``, ``max_wait``, ``idempotent``, ``on_decision``,
            ``on_wait``, ``on_defer``: see ``bide._driver.Driver``.

    Raises (when a URL is opened):
        bide.Deferred: the work should cease and go on later; it is also the exception of the last failure, or
            ``urllib.error.HTTPError`` after a response that says 400 or more.
        urllib.error.URLError, OSError, http.client.HTTPException: a failure that must not be repeated, as it
            came; ``urllib.error.HTTPError`` is raised as ever for a response that says 400 or more.

    >>> import bide, urllib.request
    >>> opener = urllib.request.build_opener(Handler(bide.CLEVER, max_wait=60.0))
    """

    # Before the handlers that an opener may have already.
    handler_order = 490

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        inner: urllib.request.BaseHandler | None = None,
        context: ssl.SSLContext | None = None,
        sleep: Callable[[float], object] | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(context=context)
        self._driver = Driver(policy, **options)
        self._inner = inner
        self._sleep = sleep

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self._paced(req, getattr(self._inner, "http_open", super().http_open))

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self._paced(req, getattr(self._inner, "https_open", super().https_open))

    def _paced(
        self, request: urllib.request.Request, open_: Callable[[urllib.request.Request], Any]
    ) -> HTTPResponse:
        rewind = rewinder(request.data)

        def send(attempt: int) -> object:
            if attempt > 1 and rewind is not None:
                rewind()
            return open_(request)

        exchange = _exchange(request, rewind is not None)
        verdict = self._driver.run(exchange, send, _discard, _look, self._sleep)

        def own(answer: Any, advice: str) -> Exception:
            if not says_error(answer):
                return URLError(advice)
            return HTTPError(request.full_url, answer.status, answer.reason, answer.headers, answer)

        response: Any = self._driver.conclude(verdict, own)
        response.bide = verdict.decision
        return response  # type: ignore[no-any-return]  # what the opener's own handlers return

    def close(self) -> None:
        """Ends the waits of other threads with ``bide.Deferred``."""
        self._driver.close()


def _exchange(request: urllib.request.Request, repeatable: bool) -> Exchange:
    url = urlsplit(request.full_url)
    return Exchange(
        method=request.get_method(),
        host=url.hostname or "",
        request=request,
        authorization=request.get_header("Authorization"),
        idempotent=request.has_header("Idempotency-key"),  # urllib spells every field so
        repeatable=repeatable,
        target=url.path,
    )


def _look(response: Any) -> bytes | None:
    # The response goes on reading from what was put back, and what it was itself is what that reads from.
    source = HTTPResponse.__new__(HTTPResponse)
    vars(source).update(vars(response))
    taken, response.fp = begin(source)
    response.chunked = False
    coding = response.headers.get("Content-Encoding", "identity").lower()
    if coding == "identity":
        return taken
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(taken, LOOK_BYTES)
    except zlib.error:
        return None


def _discard(response: Any, drains: bool, keeps: bool) -> None:
    """urllib opens a connection for each request: it is closed with the response."""
    try:
        if drains:
            response.read(LARGEST_DRAIN_BYTES)
    except (OSError, HTTPException):
        pass  # A body that breaks off is of no more interest than one that does not.
    finally:
        response.close()
