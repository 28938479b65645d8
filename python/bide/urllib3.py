"""For urllib3: ``Retry``, to be passed as ``retries=``, and ``PoolManager``, which paces as well.

``Retry`` is a ``urllib3.Retry`` whose questions "again?" and "how long?" the policy answers; it works
wherever urllib3 or requests take one, but it cannot hold back a first request. ``PoolManager`` does.

Rules of this file: what urllib3 counts (redirects, its own counters, history) stays urllib3's; the loop of
``PoolManager`` is in ``_driver``.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Mapping
from http.client import HTTPResponse
from itertools import takewhile
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, Unpack

import urllib3
from urllib3 import HTTPHeaderDict
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError, ResponseError
from urllib3.util import parse_url

from bide._driver import Driver, Exchange, Options, Verdict, deferred, is_asked, policy_of
from bide._foreign import LARGEST_DRAIN_BYTES, LOOK_BYTES, Patience, in_memory, rewinder
from bide._rewound import begin
from bide.policy import HTTP, Action, Decision, Policy, Reply, decide, failure_of

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse
    from urllib3.connectionpool import ConnectionPool

    from bide.limiter import Limiter

__all__ = ["PoolManager", "Retry", "drain", "look"]

BAD_REQUEST = 400
"""Every other refusal of a client may be one to repeat, by the policy of some host, which ``is_retry`` is not told."""

_answered = threading.local()
"""urllib3 asks ``is_retry`` before it shows the response. Where only the response can tell, and tells not to
repeat, ``increment`` raises and notes here that the response is to be handed out; ``raise_on_status``, which
is asked next in the same thread, says so."""


class _Own(NamedTuple):
    """What a ``Retry`` has beside urllib3's parameters; ``new`` passes it on."""

    policy: Policy | None
    patience: dict[str, float]
    idempotent: bool
    methods: frozenset[str] | None
    """The methods that the caller named; None: the policy says which are safe."""
    on_decision: Callable[[Decision], object] | None
    sleep: Callable[[float], object]
    started_at: float | None
    """Monotonic seconds of the first failure."""
    driver: Driver | None
    """The limiter that the caller gave, if any, and the keys that it counts."""

    def policy_for(self, host: str | None) -> Policy:
        policy = self.policy or (policy_of(host) if host else HTTP)
        return policy.replace(**self.patience) if self.patience else policy


class Retry(urllib3.Retry):
    """A ``urllib3.Retry`` that a policy answers for.

    What was failed for good is not repeated, waits are the server's or the policy's, and in the end
    ``MaxRetryError`` is also ``bide.Deferred``. ``status_forcelist``, ``allowed_methods`` and
    ``backoff_factor``, where they are given, hold as in urllib3.

    urllib3 asks a ``Retry`` after a failure only. So a limiter that it is given learns from failures, a 429
    holds back whoever shares it, and a repetition waits for it; the first try of a request does not.

    Args:
        total: as in urllib3; a number, where it is given, is also the policy's ``retries``. A policy may
            stand here, too.
        policy: the API's policy; None chooses it by host. urllib3 asks about a status before it tells the host: an
            API that refuses with a success or a 400 needs its policy here.
        max_wait: the longest single wait in seconds; a longer one is DEFER. None is the policy's.
        deadline: seconds from the first failure, waits included, after which no further try begins.
        idempotent: the caller's promise that every request may be repeated, whatever its method.
        on_decision: called with each Decision about a failure.
        sleep: how to wait, given seconds.
        limiter, store, key: what counts the repetitions, as for ``PoolManager``; nothing does where none of
            ``limiter`` and ``store`` is given. The key is the pool's host with its own ``Authorization`` field:
            the one of a single request is not shown to a ``Retry``.
        **parameters: those of ``urllib3.Retry``.

    >>> import bide, requests
    >>> adapter = requests.adapters.HTTPAdapter(max_retries=Retry(policy=bide.CLEVER))
    """

    def __init__(
        self,
        total: bool | int | Policy | None = 10,
        *arguments: Any,
        policy: Policy | None = None,
        max_wait: float | None = None,
        deadline: float | None = None,
        idempotent: bool = False,
        on_decision: Callable[[Decision], object] | None = None,
        sleep: Callable[[float], object] | None = None,
        limiter: Limiter | Literal[False] | None = None,
        store: Any = "memory",
        key: str | bytes | Callable[[object], str | bytes] | None = None,
        _own: _Own | None = None,
        **parameters: Any,
    ) -> None:
        if isinstance(total, Policy):
            policy, total = total, 10
        elif _own is None and type(total) is int and total != 10:
            policy = (policy or HTTP).replace(retries=max(total, 0))
        if policy is not None and not isinstance(policy, Policy):
            raise TypeError(f"policy must be a bide.Policy such as bide.CLEVER, not {type(policy).__name__}")
        super().__init__(total, *arguments, **parameters)
        if _own is None:
            given = {"max_wait": max_wait, "deadline": deadline}
            default = self.allowed_methods == self.DEFAULT_ALLOWED_METHODS
            methods = None if default or not self.allowed_methods else frozenset(self.allowed_methods)
            patience = {name: value for name, value in given.items() if value is not None}
            driver = None
            if limiter or store != "memory":
                driver = Driver(
                    policy, limiter=limiter, store=store, key=key, max_wait=max_wait, deadline=deadline
                )
            elif key is not None:
                raise ValueError("key: a Retry counts nothing without a limiter; give limiter or store, too")
            _own = _Own(
                policy=policy,
                patience=patience,
                idempotent=idempotent or self.allowed_methods is None,
                methods=methods,
                on_decision=on_decision,
                sleep=time.sleep if sleep is None else sleep,
                started_at=None,
                driver=driver,
            )
            _own.policy_for(None)  # A mistake in a number is raised here.
        self._own = _own
        self._decision: Decision | None = None
        self._exchange: Exchange | None = None

    def new(self, **changes: Any) -> Self:
        return super().new(**{"_own": self._own, **changes})

    @property
    def raise_on_status(self) -> bool:
        return self._raise_on_status and not _answered.__dict__.pop("hand_out", False)

    @raise_on_status.setter
    def raise_on_status(self, value: bool) -> None:
        self._raise_on_status = value

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        if super().is_retry(method, status_code, has_retry_after):
            return True
        methods = self._own.methods
        exhausted = not self.total and not self.history and self.total is not None
        if exhausted or (methods is not None and method.upper() not in methods):
            return False
        if not self.respect_retry_after_header and not has_retry_after and not self.status_forcelist:
            return False
        if self._own.policy is None and BAD_REQUEST < status_code < 500:
            return True  # What this host means by it, ``increment`` can tell.
        policy = self._own.policy_for(None)
        reply = Reply(status_code, {"Retry-After": "1"} if has_retry_after else {}, method=method)
        decision = decide(reply, policy, attempt=1, idempotent=self._is_idempotent(method), now=0.0, draw=0.0)
        return decision.action in (Action.RETRY, Action.DEFER) or _may_be_refused(policy, status_code)

    def _is_idempotent(self, method: str | None) -> bool:
        named = self._own.methods is not None and method is not None and method.upper() in self._own.methods
        return self._own.idempotent or named

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        answer = error or response
        redirected = response is not None and bool(response.get_redirect_location())
        if answer is None or redirected or (error is not None and failure_of(error) is None):
            new = super().increment(method, url, response, error, _pool, _stacktrace)
            if error is not None:
                # Nothing that a repetition could cure: the end that urllib3 comes to when nothing is left.
                raise MaxRetryError(_pool, url, error) from error  # type: ignore[arg-type]  # as urllib3 calls it
            return new
        own = self._own
        if own.started_at is None:
            own = own._replace(started_at=time.monotonic())
        decision = self._decide(answer, method, _host(_pool, url), own)
        if own.driver is not None:
            own.driver.teach(_exchange_with(_pool, method, url), decision)
        try:
            new = super().increment(method, url, response, error, _pool, _stacktrace)
        except MaxRetryError as exhausted:
            if decision.action is Action.FAIL:
                raise
            raise self._deferred(decision, exhausted) from error
        new._own = own
        if decision.action is Action.RETRY:
            new._decision = decision
            new._exchange = _exchange_with(_pool, method, url)
            return new
        status = getattr(response, "status", 0)
        reason = error or ResponseError(ResponseError.SPECIFIC_ERROR.format(status_code=status))
        ended = MaxRetryError(_pool, url, reason)  # type: ignore[arg-type]  # as urllib3 calls it
        if decision.action is Action.DEFER:
            raise self._deferred(decision, ended) from error
        if error is not None:
            raise ended from error
        stated = response is not None and "Retry-After" in response.headers
        asked_by_policy = method is not None and not super().is_retry(method, status, stated)
        if asked_by_policy and self.is_retry(method or "", status, stated):
            _answered.hand_out = True
            raise ended
        return new

    def _decide(self, answer: object, method: str | None, host: str, own: _Own) -> Decision:
        errors = len(list(takewhile(lambda entry: entry.redirect_location is None, reversed(self.history))))
        started_at = time.monotonic() if own.started_at is None else own.started_at
        policy = own.policy_for(host)
        decision = decide(
            answer,
            policy,
            attempt=errors + 1,
            method=method,
            elapsed=time.monotonic() - started_at,
            body=look(answer) if is_asked(policy, answer) else None,
            idempotent=self._is_idempotent(method),
        )
        if own.on_decision is not None:
            own.on_decision(decision)
        return decision

    @staticmethod
    def _deferred(decision: Decision, ended: MaxRetryError) -> Exception:
        if decision.action is not Action.DEFER:
            decision = decision.replace(action=Action.DEFER, resume_at=time.time() + decision.wait)
        error = deferred(Verdict(ended, decision), _own)
        error._text = f"{decision.advice} ({ended.reason})"
        return error

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        try:
            return super().get_retry_after(response)
        except (InvalidHeader, ValueError, OverflowError):  # A server's garbage: as if it were not there.
            return None

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        decision = self._decision
        own_backoff = decision is not None and decision.source == "backoff" and self.backoff_factor
        if decision is None or own_backoff or not self.respect_retry_after_header:
            super().sleep(response)
        elif decision.wait > 0.0:
            self._own.sleep(decision.wait)
        if self._own.driver is not None and self._exchange is not None:
            full = self._own.driver.hold(self._exchange, self._own.sleep)
            if full is not None:
                raise deferred(Verdict(None, full), _own)


def _own(_: object, advice: str) -> Exception:
    return HTTPError(advice)


def _host(pool: ConnectionPool | None, url: str | None) -> str:
    """Whom a request is for: the pool may be a proxy's, whose requests name the whole URL."""
    named = None if url is None or url.startswith("/") else parse_url(url).host
    return (named or getattr(pool, "host", None) or "").strip("[]")


def _exchange_with(pool: ConnectionPool | None, method: str | None, url: str | None) -> Exchange:
    fields = HTTPHeaderDict(getattr(pool, "headers", None))
    return Exchange(
        method=method or "GET",
        host=_host(pool, url),
        request={"method": method, "url": url, "headers": fields},
        authorization=fields.get("Authorization"),
        target=(url or "").partition("?")[0],
    )


def _may_be_refused(policy: Policy, status: int) -> bool:
    """Whether what else a response says could make it a refusal, or ask for another try."""
    if 300 <= status < 400:  # A redirect is urllib3's own, and would be counted twice.
        return False
    dialect = policy.dialect
    asked = any(
        not when.plain and (not when.status or status in when.status) for when in dialect.refused_when
    )
    return asked or bool(dialect.override)


class PoolManager:
    """Sends through the pools of ``inner``, inside the API's rate limit, and repeats what may be repeated.

    The response that the caller gets has the ``Decision`` as its attribute ``bide``. ``retries=`` counts
    redirects only, each of which is a request of its own. A request may take longer than its ``timeout``,
    which holds for each try, but for a ``Timeout(total=...)``, which holds for the whole, waits included.

    Args:
        policy: the API's policy, such as ``bide.CLEVER``; None chooses it by the host of each request.
        inner: the ``urllib3.PoolManager`` (or ``ProxyManager``) that does the I/O; its pools are paced from
            now on, whoever uses them. It is cleared with this one.
        sleep: how to wait, given seconds; a sleep that ``clear`` ends when none is given.
        options: ``limiter``, ``store``, ``key`` (given the keyword arguments of ``urlopen``), ``deadline``,
            ``max_wait``, ``idempotent``, ``on_decision``, ``on_wait``, ``on_defer``: see
            ``bide._driver.Driver``.

    Raises (when a request is sent):
        bide.Deferred: the work should cease and go on later; it is also urllib3's exception of the last
            failure, or ``urllib3.exceptions.HTTPError`` after a response.
        urllib3.exceptions.HTTPError: a failure that must not be repeated, as it came.

    >>> import bide
    >>> http = PoolManager(bide.CLEVER, max_wait=60.0)
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        inner: urllib3.PoolManager | None = None,
        sleep: Callable[[float], object] | None = None,
        **options: Unpack[Options],
    ) -> None:
        inner = urllib3.PoolManager() if inner is None else inner
        self._driver = Driver(policy, **options)
        self._inner = inner
        inner.clear()
        paced = {"driver": self._driver, "wait": sleep and staticmethod(sleep)}
        inner.pool_classes_by_scheme = {
            scheme: type(cls.__name__, (_Paced, cls), paced)
            for scheme, cls in inner.pool_classes_by_scheme.items()
        }

    def request(self, method: str, url: str, **arguments: Any) -> BaseHTTPResponse:
        """As ``urllib3.PoolManager.request``."""
        return self._inner.request(method, url, **arguments)

    def urlopen(self, method: str, url: str, redirect: bool = True, **arguments: Any) -> BaseHTTPResponse:
        """As ``urllib3.PoolManager.urlopen``."""
        return self._inner.urlopen(method, url, redirect=redirect, **arguments)

    def clear(self) -> None:
        """Ends the waits of other threads with ``bide.Deferred``, and closes all pools."""
        self._driver.close()
        self._inner.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


class _Paced(HTTPConnectionPool):
    """Mixed into the pool classes of one ``PoolManager``."""

    driver: Driver
    wait: Callable[[float], object] | None

    def urlopen(  # type: ignore[override]  # passes on what it does not look at
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        retries: urllib3.Retry | bool | int | None = None,
        redirect: bool = True,
        assert_same_host: bool = True,
        timeout: Any = ...,
        **arguments: Any,
    ) -> BaseHTTPResponse:
        rewind = rewinder(body)
        patience = Patience(self.timeout if timeout is ... else timeout, self.driver.monotonic)
        own = urllib3.Retry.from_int(retries, redirect=redirect, default=self.retries)
        tries = urllib3.Retry(False if own.total is False else 0, redirect=own.redirect)

        def send(attempt: int) -> BaseHTTPResponse:
            if attempt > 1 and rewind is not None:
                rewind()
            left = patience.left()
            return super(_Paced, self).urlopen(
                method, url, body, headers, tries, redirect, assert_same_host, left, **arguments
            )

        fields = HTTPHeaderDict(self.headers if headers is None else headers)
        exchange = Exchange(
            method=method.upper(),
            host=_host(self, url),
            request={"method": method, "url": url, "body": body, "headers": fields},
            authorization=fields.get("Authorization"),
            idempotent="Idempotency-Key" in fields,
            repeatable=rewind is not None,
            target=url.partition("?")[0],
            deadline=patience.total,
        )
        verdict = self.driver.run(exchange, send, _discard, look, self.wait)
        response: Any = self.driver.conclude(verdict, _own)
        response.retries = own
        response.bide = verdict.decision
        return response  # type: ignore[no-any-return]  # what urlopen returned


def look(response: Any) -> bytes | None:
    """The beginning of a body, decoded, whoever asked for the response; its reader finds all of it."""
    source = getattr(response, "_fp", None)  # There is no public name for what it reads from.
    if in_memory(response) is not None or not isinstance(source, HTTPResponse):
        return in_memory(response)
    taken, response._fp = begin(source)
    coding = response.headers.get("Content-Encoding")
    if coding is None:
        return taken
    decoded = urllib3.HTTPResponse(io.BytesIO(taken), {"Content-Encoding": coding}, preload_content=False)
    try:
        return decoded.read(LOOK_BYTES)
    except HTTPError:
        return None


def drain(response: Any) -> bool:
    """Reads the rest of a small body, as it came; whether that was all of it."""
    drained = 0
    while drained <= LARGEST_DRAIN_BYTES:
        chunk = response.read(4096, decode_content=False)
        if not chunk:
            return True
        drained += len(chunk)
    return False


def _discard(response: Any, drains: bool, keeps: bool) -> None:
    """Reads the rest of a small body, and gives the connection back."""
    is_whole = False
    try:
        is_whole = drains and drain(response)
    except (HTTPError, OSError):
        is_whole = True  # A body that breaks off is of no more interest than one that does not.
    finally:
        if not is_whole:
            response.close()
        response.release_conn()
