"""A requests adapter that paces, waits and repeats: ``bide.requests.mount(session, bide.CLEVER)``.

Rules of this file: it turns a prepared request into an Exchange, and sends and discards in requests' way; all
else is in ``_driver``. The inner adapter does the I/O; it is requests' own unless another is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from bide import urllib3
from bide._driver import Driver, Exchange, Options
from bide._foreign import LARGEST_DRAIN_BYTES, Patience, in_memory, rewinder, says_error

if TYPE_CHECKING:
    from bide.policy import Policy

__all__ = ["Adapter", "mount"]

AnySession = TypeVar("AnySession", bound=requests.Session)


class Adapter(BaseAdapter):
    """Sends through ``inner``, inside the API's rate limit, and repeats what may be repeated.

    The response that the caller gets has the ``Decision`` as its attribute ``bide``. A request may take
    longer than its ``timeout``, which holds for each try: ``max_wait`` and ``deadline`` bound the whole.
    Closing the session ends the waits of its other threads with ``bide.Deferred``.

    Args:
        policy: the API's policy, such as ``bide.CLEVER``; None chooses it by the host of each request.
        inner: the adapter that does the I/O; ``requests.adapters.HTTPAdapter()`` when none is given. It is
            closed with this one. It should not retry by itself.
        sleep: how to wait, given seconds; a sleep that ``close`` ends when none is given.
        options: ``limiter``, ``store``, ``key``, ``deadline``, ``max_wait``, ``idempotent``, ``on_decision``,
            ``on_wait``, ``on_defer``: see ``bide._driver.Driver``.

    Raises (when a request is sent):
        bide.Deferred: the work should cease and go on later; it is also the ``requests`` exception of the
            last failure, or ``requests.HTTPError`` after a response that says 400 or more.
        requests.RequestException: a failure that must not be repeated, as it came.

    >>> import bide, requests
    >>> session = requests.Session()
    >>> session.mount("https://api.clever.com/", Adapter(bide.CLEVER, max_wait=60.0))
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        inner: BaseAdapter | None = None,
        sleep: Callable[[float], object] | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__()
        self._driver = Driver(policy, **options)
        self._inner = HTTPAdapter() if inner is None else inner
        self._sleep = sleep
        self._options: dict[str, Any] = {"policy": policy, "inner": inner, "sleep": sleep, **options}

    def __getattr__(self, name: str) -> Any:
        """What code for an ``HTTPAdapter`` looks for, such as ``poolmanager``, is the inner adapter's."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __reduce__(self) -> tuple[Callable[..., Adapter], tuple[type[Adapter], dict[str, Any]]]:
        """Sessions are pickled with their adapters: the copy is made anew of the options."""
        return _made_anew, (type(self), self._options)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float, float] | tuple[float, None] | None = None,
        verify: bool | str = True,
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        rewind = rewinder(request.body)
        patience = Patience(timeout, self._driver.monotonic)

        def send(attempt: int) -> requests.Response:
            if attempt > 1 and rewind is not None:
                rewind()
            return self._inner.send(request, stream, patience.left(), verify, cert, proxies)

        exchange = _exchange(request, rewind is not None, patience.total)
        verdict = self._driver.run(exchange, send, _discard, _look, self._sleep)

        def own(answer: Any, advice: str) -> Exception:
            kind = requests.HTTPError if says_error(answer) else requests.RequestException
            return kind(advice, request=request, response=answer)

        response: Any = self._driver.conclude(verdict, own)
        response.bide = verdict.decision
        return response  # type: ignore[no-any-return]  # what the inner adapter returned

    def close(self) -> None:
        self._driver.close()
        self._inner.close()


def _made_anew(cls: type[Adapter], options: dict[str, Any]) -> Adapter:
    return cls(**options)


def mount(
    session: AnySession,
    policy: Policy | None = None,
    *,
    prefix: str | tuple[str, ...] = ("https://", "http://"),
    **options: Any,
) -> AnySession:
    """Mounts one ``Adapter`` on a session, and returns the session.

    Args:
        session: a ``requests.Session``.
        policy: the API's policy; None chooses it by the host of each request.
        prefix: the URL prefixes that it serves: all when none is given.
        **options: those of ``Adapter``.

    Raises:
        TypeError, ValueError: an option is not of its kind; says what to pass.

    >>> import bide, requests
    >>> session = mount(requests.Session(), bide.CLEVER)
    """
    adapter = Adapter(policy, **options)
    for start in (prefix,) if isinstance(prefix, str) else prefix:
        session.mount(start, adapter)
    return session


def _exchange(request: requests.PreparedRequest, repeatable: bool, deadline: float | None) -> Exchange:
    url = parse_url(request.url or "")
    return Exchange(
        method=request.method or "GET",
        host=(url.host or "").strip("[]"),
        request=request,
        authorization=request.headers.get("Authorization"),
        idempotent="Idempotency-Key" in request.headers,
        repeatable=repeatable,
        target=url.path or "",
        deadline=deadline,
    )


def _look(response: Any) -> bytes | None:
    body = in_memory(response)
    return urllib3.look(response.raw) if body is None else body


def _discard(response: Any, drains: bool, keeps: bool) -> None:
    """Reads the rest of a small body, which the caller may see when ``keeps``, and closes the response."""
    try:
        length = response.headers.get("Content-Length", "")
        is_small = len(length) <= 5 and length.isdecimal() and int(length) <= LARGEST_DRAIN_BYTES
        if drains and keeps and is_small:
            _ = response.content
        elif drains and hasattr(response.raw, "stream"):  # Some other adapters' have only a file.
            urllib3.drain(response.raw)
    except (requests.RequestException, HTTPError, OSError):
        pass  # A body that breaks off is of no more interest than one that does not.
    finally:
        response.close()
