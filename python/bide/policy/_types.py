"""The values that the engine is asked with and answers with.

Rules of this file: values only, frozen, without behaviour. A value is a tuple underneath: the cheapest frozen
object that CPython makes, compared, hashed and pickled in C. That is an implementation detail; read the
fields. The standard library's ``dataclasses`` and ``typing`` are not imported: they cost more than this
whole package.
"""

from __future__ import annotations

from collections import _tuplegetter  # type: ignore[attr-defined]  # what namedtuple makes its fields of
from enum import StrEnum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self, TypeVar, dataclass_transform

    _Tuple = object
    _Value = TypeVar("_Value", bound="Record")

    def make(kind: type[_Value], values: tuple[object, ...], /) -> _Value:
        """A value of its fields in order, unchecked."""
        ...

else:
    _Tuple = tuple
    make = tuple.__new__

    def dataclass_transform(**_):
        """Tells type checkers only; at run time it returns the class as it is."""
        return lambda cls: cls


__all__ = ["Action", "Decision", "Failure", "Quota", "Reason"]


class Action(StrEnum):
    """What the client should do."""

    PROCESS = "process"
    """Use the response. ``Decision.wait`` may ask for a pause before the next request."""
    RETRY = "retry"
    """Hold ``Decision.wait`` seconds, then send the request again."""
    FAIL = "fail"
    """Do not repeat: the same request would fail again, or repeating it is not safe."""
    DEFER = "defer"
    """Cease now; resume the work not before ``Decision.resume_at``."""


class Reason(StrEnum):
    """Why: what the reply says went right or wrong."""

    OK = "ok"
    REDIRECT = "redirect"
    RATE_LIMITED = "rate_limited"
    NOT_READY = "not_ready"
    BAD_REQUEST = "bad_request"
    INVALID_AUTH = "invalid_auth"
    FORBIDDEN = "forbidden"
    NOT_AVAILABLE = "not_available"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    REQUEST_TIMEOUT = "request_timeout"
    TOO_EARLY = "too_early"
    CLIENT_ERROR = "client_error"
    SERVER_ERROR = "server_error"
    NOT_IMPLEMENTED = "not_implemented"
    CONNECT_FAILED = "connect_failed"
    TIMED_OUT = "timed_out"
    PROTOCOL_ERROR = "protocol_error"
    NOT_REPEATABLE = "not_repeatable"
    """It failed in a way that a repetition may cure, but repeating this request is not safe or not
    possible."""


class Failure(StrEnum):
    """A failure to get a response. What matters is whether the server can have acted on the request."""

    CONNECT = "connect"
    """No connection was made, so nothing was sent: the server surely did not act."""
    TIMEOUT = "timeout"
    """No answer in time: the server may have acted."""
    PROTOCOL = "protocol"
    """The connection broke, or what came was not HTTP: the server may have acted."""


@dataclass_transform(frozen_default=True)
class Record(_Tuple):
    """The base of every value here: annotated names become read-only fields, as in a frozen dataclass.

    A subclass may define ``_check``, called once after construction, which raises TypeError or ValueError.
    """

    __slots__ = ()
    if TYPE_CHECKING:
        _fields: tuple[str, ...] = ()
        _defaults: dict[str, object] = {}

    def __init_subclass__(cls) -> None:
        names = tuple(cls.__annotations__)
        cls._fields = names
        cls._defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
        type.__setattr__(cls, "__match_args__", names)
        for index, name in enumerate(names):
            setattr(cls, name, _tuplegetter(index, None))

    if not TYPE_CHECKING:

        def __new__(cls, *values, **named):
            if len(values) > len(cls._fields):
                raise TypeError(f"{cls.__name__} takes at most {len(cls._fields)} values, got {len(values)}")
            given = dict(zip(cls._fields, values, strict=False))
            for name in named:
                if name not in cls._fields:
                    raise TypeError(f"{cls.__name__} has no field {name!r}{nearest(name, cls._fields)}")
                if name in given:
                    raise TypeError(f"{cls.__name__} got two values for {name!r}")
            given.update(named)
            missing = [name for name in cls._fields if name not in given and name not in cls._defaults]
            if missing:
                raise TypeError(f"{cls.__name__} needs a value for {', '.join(map(repr, missing))}")
            value = make(cls, tuple(given.get(name, cls._defaults.get(name)) for name in cls._fields))
            return value._check()

    def _check(self) -> Self:
        return self

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed.

        Args:
            **changes: new values by field name.

        Raises:
            TypeError: a name that is not a field, or a value of the wrong type.
            ValueError: a value out of range.
        """
        return type(self)(**{**self._asdict(), **changes})

    def _asdict(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self._fields}

    def __getnewargs__(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self._fields)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
        return f"{type(self).__name__}({fields})"


def nearest(name: str, names: tuple[str, ...]) -> str:
    """``"; did you mean 'x'?"`` when one of the names is close, else what names there are."""
    from difflib import get_close_matches

    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(names)}"


class Quota(Record):
    """One rate-limit window, as the server stated it. What it did not state, or not readably, is None.

    Attributes:
        limit: requests (or the API's own units) allowed in the window.
        remaining: how many of them are left; some APIs state fractions, or fall below zero.
        reset_after: seconds from the receipt of the reply to the window's end, corrected by the server's
            ``Date`` where the server stated a Unix time; 0.0 or less: it has just ended.
        reset_at: Unix time of the window's end, as stated; for a stated delay, the client's clock plus it.
        window: length of the window in seconds.
        bucket: the server's name for this counter, else the window's name in the policy, else None.
    """

    __slots__ = ()
    limit: float | None = None
    remaining: float | None = None
    reset_after: float | None = None
    reset_at: float | None = None
    window: float | None = None
    bucket: str | None = None


class Decision(Record):
    """What to do with a reply, and why.

    Attributes:
        action: PROCESS, RETRY, FAIL or DEFER.
        wait: seconds to hold before the next request to this bucket: finite, 0.0 or more. It may be above
            zero on every action: on PROCESS the quota is used up, or the server asks for a pause; on DEFER it
            is the time to ``resume_at``.
        resume_at: Unix time on the client's clock, on DEFER only: cease now, resume not before it.
        reason: what the reply says went right or wrong.
        advice: one sentence for a person: what to check or change.
        quota: the governing window: of the used-up ones the one that ends last, else the one with the
            smallest share left. If the server stated no window but a wait, its end alone is given here.
        quotas: every window that the server stated; empty when it stated none.
        source: what gave the wait: a header's name in lower case, "body", "backoff", "default", or "".
    """

    __slots__ = ()
    action: Action
    wait: float = 0.0
    resume_at: float | None = None
    reason: Reason = Reason.OK
    advice: str = ""
    quota: Quota | None = None
    quotas: tuple[Quota, ...] = ()
    source: str = ""
