"""What a client's exception says about the request, without importing the client.

Rules of this file: an exception is known by the package and the name of its class, from one literal table
that the adapters use, too. What is not in it is no failure that a repetition cures.
"""

from __future__ import annotations

from bide.policy._types import Failure

__all__ = ["failure_of"]

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
    "http": {"InvalidURL", "ImproperConnectionState"},
    "urllib3": {"ResponseError", "LocationValueError", "ClosedPoolError", "CertificateError"},
    "aiohttp": {"ServerFingerprintMismatch", "ClientConnectorDNSError"},
}
"""Repeating cures none of these, whatever carries them."""

REFUSED_BY_CLIENT = {"urllib3": {"SSLError"}}
"""With words of its own, not another's, it is the client's own check of the certificate that failed."""

TRY_AGAIN = {"socket": {"gaierror": (-3, 2, 11002)}, "aiodns": {"DNSError": (3, 11, 12)}}
"""Whatever carries these, the host name may resolve the next time: EAI_AGAIN on Linux, macOS and Windows, and
ARES_ESERVFAIL, ARES_ECONNREFUSED, ARES_ETIMEOUT of c-ares."""

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
    if any(map(_is_hopeless, chain)) and not any(map(_is_try_again, chain)):
        return None
    if chain[-1].args and _is_named(type(chain[-1]), REFUSED_BY_CLIENT):
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
    return any(_is_named(cls, HOPELESS) for cls in type(link).__mro__)


def _is_try_again(link: BaseException) -> bool:
    codes = TRY_AGAIN.get(_package(type(link)), {}).get(type(link).__name__, ())
    return bool(link.args) and link.args[0] in codes


def _is_named(cls: type, names: dict[str, set[str]]) -> bool:
    return cls.__name__ in names.get(_package(cls), ())


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]
