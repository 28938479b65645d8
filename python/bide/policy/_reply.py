"""What came back: ``Reply``, every client's own response, and the exceptions that stand for one.

Rules of this file: no client is imported. A response is known by its attributes, its headers by how they can
be listed, an exception by the module and name of its class. Field lines of one name are joined with ", " in
their order (RFC 9110 section 5.3), whichever way a client keeps them, so that every client's reply reads
alike.
"""

from __future__ import annotations

from bide.policy._fields import MAX_FIELD, SPACE
from bide.policy._types import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from bide.policy._explain import Recorder
    from bide.policy._policy import Program

    Listing = Callable[[Any], Iterable[tuple[object, object]]]
    Text = str | bytes
    Headers = Mapping[str, Text | list[Text]] | Mapping[bytes, Text] | Iterable[tuple[Text, Text]]

__all__ = ["Reply", "failure_of"]

TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Reply:
    """What came back, made by hand: a response, or the failure to get one.

    Args:
        status: the response's status code; None with ``failure``.
        headers: a mapping or pairs, names and values str or bytes; a list of values is that field sent so
            often.
        method: the request's method.
        body: the response's body, for policies that look into it: bytes, str or parsed JSON.
        failure: why there is no response.
        idempotent: the request may be repeated whatever its method: it carried an ``Idempotency-Key``.

    Raises:
        TypeError, ValueError: an argument of the wrong shape; says what to pass.

    >>> Reply(429, {"Retry-After": "3"})
    Reply(429, headers=['Retry-After'])
    >>> Reply(failure=Failure.TIMEOUT, method="POST")
    Reply(failure='timeout', method='POST')
    """

    __slots__ = ("body", "failure", "headers", "idempotent", "lowered", "method", "outcome", "status")

    body: object
    failure: Failure | None
    headers: tuple[tuple[str, str], ...]
    idempotent: bool
    lowered: tuple[tuple[str, str], ...]
    method: str
    outcome: int | Failure
    status: int | None

    def __init__(
        self,
        status: int | None = None,
        headers: Headers = (),
        *,
        method: str = "GET",
        body: object = None,
        failure: Failure | None = None,
        idempotent: bool = False,
    ) -> None:
        if failure is None and (not isinstance(status, int) or isinstance(status, bool)):
            raise TypeError(f"status is an int such as 429, got {status!r}; without a response give failure=")
        if failure is not None and not isinstance(failure, Failure):
            raise TypeError(f"failure is a bide.Failure, got {failure!r}")
        pairs = tuple(_own_pairs(headers))
        values = {
            "status": status,
            "outcome": status if failure is None else failure,
            "headers": pairs,
            "lowered": tuple((name.lower(), value) for name, value in pairs),
            "method": check_method(method),
            "body": body,
            "failure": failure,
            "idempotent": bool(idempotent),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Reply is frozen: {name!r} cannot be set")

    def __repr__(self) -> str:
        # Values of headers may be secrets, a body may be anything.
        what = f"failure={str(self.failure)!r}" if self.failure is not None else f"{self.status}"
        if self.headers:
            what += f", headers={[name for name, _ in self.headers]!r}"
        if self.method != "GET":
            what += f", method={self.method!r}"
        return f"Reply({what})"


def check_method(method: object) -> str:
    """The method as it is sent; raises for what is no token."""
    if not isinstance(method, str):
        raise TypeError(f"method is a str such as 'GET', got {method!r}")
    if not method or not TOKEN.issuperset(method):
        raise ValueError(f"method is a token such as 'GET', got {method!r}")
    return method.upper()


def _own_pairs(headers: object) -> Iterable[tuple[str, str]]:
    """A caller's headers as pairs of str; raises for another shape."""
    items = getattr(headers, "items", None)
    pairs: Any = items() if callable(items) else headers
    if isinstance(pairs, (str, bytes)) or not hasattr(pairs, "__iter__"):
        raise TypeError(f"headers are a mapping or a list of pairs, got {type(headers).__name__}")
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"headers are pairs of a name and a value, got {type(pair).__name__}")
        name, value = pair
        for single in value if isinstance(value, (list, tuple)) else (value,):
            if not isinstance(name, (str, bytes)) or not isinstance(single, (str, bytes)):
                raise TypeError("names and values of headers are str or bytes: write '30', not 30")
            yield _text(name), _text(single).strip(SPACE)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


# Headers of other libraries --------------------------------------------------------------------------------


def collect(headers: Any, program: Program, recorder: Recorder | None) -> dict[str, str]:
    """The fields that a policy wants, by lower-case name, in one pass over a response's own headers."""
    listing = _LISTINGS.get(type(headers))
    if listing is None:
        listing = _listing_of(headers)
        if len(_LISTINGS) < MAX_LISTINGS:
            _LISTINGS[type(headers)] = listing
    found: dict[str, str] = {}
    if recorder is None and not program.patterns:
        if listing is _httpx_pairs:
            wanted_bytes = program.wanted_bytes
            for _, lower, raw in headers._list:
                if lower in wanted_bytes:
                    _add(found, wanted_bytes[lower], raw, None)
            return found
        if listing is _urllib3_pairs:
            container = headers._container
            if program.wanted.keys().isdisjoint(container):
                return found
    wanted = program.wanted
    for name, value in listing(headers):
        if isinstance(name, str):
            lower_name = name.lower()
        elif isinstance(name, bytes):
            lower_name = name.decode("latin-1").lower()
        else:
            continue
        if lower_name in wanted or (program.patterns and _matches(lower_name, program)):
            _add(found, lower_name, value, recorder)
    return found


MAX_LISTINGS = 64
"""Classes of headers that are remembered."""

MAX_MATCHES = 64
"""Characters of a name that a pattern is tried on, and the number of fields that patterns may add."""


def _matches(name: str, program: Program) -> bool:
    return len(name) <= MAX_MATCHES and any(
        name.startswith(prefix) and name.endswith(suffix) and len(name) > len(prefix) + len(suffix)
        for prefix, suffix in program.patterns
    )


def _add(found: dict[str, str], name: str, value: object, recorder: Recorder | None) -> None:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    elif not isinstance(value, str):
        if recorder is not None:
            recorder.dropped(name, type(value).__name__, "not text")
        return
    value = value.strip(SPACE)
    if len(value) > MAX_FIELD:
        if recorder is not None:
            recorder.dropped(name, value, f"longer than {MAX_FIELD} characters")
        return
    if name not in found:
        if len(found) < 256:
            found[name] = value
    elif len(found[name]) + len(value) < MAX_FIELD:
        found[name] += ", " + value


def _listing_of(headers: object) -> Listing:
    """How the pairs of such headers can be listed: every field line once, in order."""
    kind = type(headers)
    if kind.__name__ == "Headers" and isinstance(getattr(headers, "_list", None), list):
        return _httpx_pairs
    if kind.__name__ == "HTTPHeaderDict" and isinstance(getattr(headers, "_container", None), dict):
        return _urllib3_pairs
    for method in ("raw_items", "lower_items", "multi_items", "items"):
        if callable(getattr(headers, method, None)):
            return _listed_by(method)
    if isinstance(headers, (list, tuple)):
        return _list_pairs
    if headers is None:
        return _no_pairs
    raise TypeError(f"the response's headers are a mapping or a list of pairs, got {type(headers).__name__}")


def _listed_by(method: str) -> Listing:
    def pairs(headers: Any) -> Iterable[tuple[object, object]]:
        listed: Iterable[tuple[object, object]] = getattr(headers, method)()
        return listed

    return pairs


def _httpx_pairs(headers: Any) -> Iterable[tuple[object, object]]:
    """httpx keeps (name, name in lower case, value), all bytes."""
    return [(name, value) for name, _, value in headers._list]


def _urllib3_pairs(headers: Any) -> Iterable[tuple[object, object]]:
    """urllib3 keeps, by name in lower case, a list of the name and its values."""
    return [(name, value) for name, values in headers._container.items() for value in values[1:]]


def _list_pairs(headers: Any) -> Iterable[tuple[object, object]]:
    return [(pair[0], pair[1]) for pair in headers if isinstance(pair, (tuple, list)) and len(pair) == 2]


def _no_pairs(headers: object) -> Iterable[tuple[object, object]]:
    return ()


_LISTINGS: dict[type, Listing] = {dict: _listed_by("items"), tuple: _list_pairs}


# Responses of other libraries ------------------------------------------------------------------------------

WHAT_TO_PASS = (
    "decide takes a response (with .status_code, .status or .code, and .headers), a bide.Reply, "
    "or a client's exception that says why there is no response"
)


def unpack(reply: object) -> tuple[int | Failure, object]:
    """A foreign response's status and headers, or the failure that an exception stands for.

    Raises:
        TypeError: it is neither.
    """
    for name in ("status_code", "status", "code"):
        status = getattr(reply, name, None)
        if isinstance(status, int) and not isinstance(status, bool):
            return int(status), getattr(reply, "headers", None)
    if isinstance(reply, BaseException):
        response = _attribute(reply, "response")
        if response is not None:
            return unpack(response)
        failure = failure_of(reply)
        if failure is not None:
            return failure, None
    raise TypeError(f"{WHAT_TO_PASS}; got {type(reply).__name__}")


def method_of(reply: object) -> str | None:
    """The method of the request that a foreign response or exception belongs to; None where it does
    not say."""
    for owner in (_attribute(reply, "request"), reply, _attribute(reply, "_original_response")):
        for name in ("method", "_request_method", "_method"):
            method = _attribute(owner, name)
            if isinstance(method, str) and method and TOKEN.issuperset(method):
                return method.upper()
    response = _attribute(reply, "response")
    return method_of(response) if response is not None and response is not reply else None


def sent_idempotency_key(reply: object) -> bool:
    """The request of a foreign response carried an ``Idempotency-Key``."""
    get = _attribute(_attribute(_attribute(reply, "request"), "headers"), "get")
    return callable(get) and bool(get("Idempotency-Key") or get("idempotency-key"))


def _attribute(owner: object, name: str) -> object:
    try:
        return getattr(owner, name, None)
    except RuntimeError:  # httpx: a response whose request was never set
        return None


# Exceptions of other libraries -----------------------------------------------------------------------------

CONNECT, TIMEOUT, PROTOCOL = Failure.CONNECT, Failure.TIMEOUT, Failure.PROTOCOL

_HTTPX = {
    "ConnectError": CONNECT, "ConnectTimeout": CONNECT, "PoolTimeout": CONNECT, "ProxyError": CONNECT,
    "TimeoutException": TIMEOUT, "NetworkError": PROTOCOL, "RemoteProtocolError": PROTOCOL,
}  # fmt: skip

FAILURES = {
    "httpx": _HTTPX,
    "httpx2": _HTTPX,
    "httpcore": _HTTPX,
    "requests": {
        "ConnectTimeout": CONNECT, "ProxyError": CONNECT, "SSLError": CONNECT, "Timeout": TIMEOUT,
        "ConnectionError": PROTOCOL, "ChunkedEncodingError": PROTOCOL, "ContentDecodingError": PROTOCOL,
    },
    "urllib3": {
        "NewConnectionError": CONNECT, "ConnectTimeoutError": CONNECT, "PoolError": CONNECT,
        "ProxyError": CONNECT, "SSLError": CONNECT, "MaxRetryError": PROTOCOL, "TimeoutError": TIMEOUT,
        "ProtocolError": PROTOCOL, "DecodeError": PROTOCOL,
    },
    "aiohttp": {
        "ClientConnectorError": CONNECT, "ConnectionTimeoutError": CONNECT, "ServerTimeoutError": TIMEOUT,
        "ServerConnectionError": PROTOCOL, "ClientOSError": PROTOCOL, "ClientPayloadError": PROTOCOL,
    },
    "http": {"HTTPException": PROTOCOL},
    "urllib": {"URLError": PROTOCOL},
    "socket": {"gaierror": CONNECT, "herror": CONNECT},
    "asyncio": {"IncompleteReadError": PROTOCOL},
    "ssl": {"SSLError": PROTOCOL},
    "builtins": {"ConnectionRefusedError": CONNECT, "TimeoutError": TIMEOUT, "ConnectionError": PROTOCOL},
}  # fmt: skip
"""Package and class name -> what it says; a class is known by the first name of its MRO that stands here."""

WRAPPERS = {
    "requests": {"ConnectionError", "SSLError"},
    "urllib3": {"MaxRetryError", "SSLError"},
    "urllib": {"URLError"},
}
"""Exceptions that say less than the one that they carry, if that one says anything."""

HOPELESS = {
    "ssl": {"SSLCertVerificationError"},
    "socket": {"gaierror"},
    "http": {"InvalidURL", "ImproperConnectionState", "UnknownProtocol"},
    "urllib3": {"ResponseError", "LocationValueError", "ClosedPoolError"},
}
"""Repeating cures none of these, whatever carries them."""

TRY_AGAIN = frozenset({-3, 2, 11002})
"""EAI_AGAIN on Linux, macOS and Windows: this host name may resolve the next time."""

UNREACHABLE = frozenset({"ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "EADDRNOTAVAIL"})
"""An OSError of these was raised before anything was sent."""


def failure_of(exception: BaseException) -> Failure | None:
    """What a client's exception says about the request, by the names of its classes.

    Args:
        exception: of httpx, requests, urllib3, aiohttp, or the standard library.

    Returns:
        CONNECT, TIMEOUT or PROTOCOL; None for an exception that is none of these, or that a repetition cannot
        cure (an invalid URL, an unknown host name, a certificate that does not verify).

    >>> failure_of(ConnectionRefusedError()), failure_of(ValueError())
    (<Failure.CONNECT: 'connect'>, None)
    """
    failure, wrapper = _lookup(exception)
    if failure is None:
        return None
    chain = _chain(exception)
    if any(map(_is_hopeless, chain)):
        return None
    if wrapper:
        for link in chain:
            inner, wraps = _lookup(link)
            if inner is not None and not wraps:
                return inner
    return failure


def _chain(exception: BaseException) -> list[BaseException]:
    """The exception and what it carries, outermost first."""
    chain: list[BaseException] = []
    link: BaseException | None = exception
    while link is not None and link not in chain and len(chain) < 8:
        chain.append(link)
        carried = (getattr(link, "reason", None), *link.args[:2], link.__cause__, link.__context__)
        link = next((inner for inner in carried if isinstance(inner, BaseException)), None)
    return chain


def _lookup(exception: BaseException) -> tuple[Failure | None, bool]:
    """What the class says, and whether it only wraps another exception."""
    for cls in type(exception).__mro__:
        failure = FAILURES.get(_package(cls), {}).get(cls.__name__)
        if failure is not None:
            return failure, _is_named(cls, WRAPPERS)
    if isinstance(exception, OSError) and exception.errno is not None:
        from errno import errorcode

        if errorcode.get(exception.errno) in UNREACHABLE:
            return CONNECT, False
    return None, False


def _is_hopeless(link: BaseException) -> bool:
    named = any(_is_named(cls, HOPELESS) for cls in type(link).__mro__)
    return named and not (type(link).__name__ == "gaierror" and getattr(link, "errno", None) in TRY_AGAIN)


def _is_named(cls: type, names: dict[str, set[str]]) -> bool:
    return cls.__name__ in names.get(_package(cls), ())


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]
