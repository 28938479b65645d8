"""What came back: ``Reply``, and every client's own response.

Rules of this file: no client is imported. A response is known by its attributes.
"""

from __future__ import annotations

from bide.policy._failure import failure_of
from bide.policy._fields import SPACE
from bide.policy._types import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Text = str | bytes
    Headers = Mapping[str, Text | list[Text]] | Mapping[bytes, Text] | Iterable[tuple[Text, Text]]

__all__ = ["Reply"]

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

    __slots__ = ("body", "code", "failure", "headers", "idempotent", "lowered", "method", "status")

    body: object
    code: int
    failure: Failure | None
    headers: tuple[tuple[str, str], ...]
    idempotent: bool
    lowered: tuple[tuple[str, str], ...]
    method: str
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
            "code": 0 if status is None else int(status),
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


# Responses of other libraries ------------------------------------------------------------------------------

WHAT_TO_PASS = (
    "decide takes a response (with .status_code, .status or .code, and .headers), a bide.Reply, "
    "or a client's exception that says why there is no response"
)


def unpack(reply: object) -> tuple[int, object, Failure | None]:
    """A foreign response's status and headers, or the failure that an exception stands for.

    Raises:
        TypeError: it is neither.
    """
    for name in ("status_code", "status", "code"):
        status = getattr(reply, name, None)
        if isinstance(status, int) and not isinstance(status, bool):
            if len(STATUS_BY_CLASS) < MAX_CLASSES:
                STATUS_BY_CLASS[type(reply)] = name
            return int(status), getattr(reply, "headers", None), None
    if isinstance(reply, BaseException):
        response = _attribute(reply, "response")
        if response is not None:
            return unpack(response)
        failure = failure_of(reply)
        if failure is not None:
            return 0, None, failure
    raise TypeError(f"{WHAT_TO_PASS}; got {type(reply).__name__}")


MAX_CLASSES = 64
"""Classes of responses that are remembered."""

STATUS_BY_CLASS: dict[type, str] = {}
"""Where responses of a class keep their status, for those that were met."""


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
