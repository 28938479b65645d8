"""What every adapter does alike with a client's own objects: its exceptions, its responses, its bodies.

Rules of this file: no import of a client, no I/O of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bide._flow import Verdict
from bide.errors import Deferred
from bide.policy import decide, failure_of
from bide.policy._source import MAX_BODY

if TYPE_CHECKING:
    from bide.policy import Decision, Policy

__all__ = [
    "LARGEST_DRAIN_BYTES",
    "LOOK_BYTES",
    "Patience",
    "decision_about",
    "deferred",
    "in_memory",
    "is_seekable",
    "rewinder",
    "says_error",
    "status_of",
]

LARGEST_DRAIN_BYTES = 65_536
"""A discarded response is read to its end, so that its connection can be used again, up to this size."""

LOOK_BYTES = MAX_BODY + 4_096
"""What is read of a body for the policy, which has to see that it is longer than the policy looks at; coded
bytes may be a few more than what they stand for."""

SHORTEST_TRY_SECONDS = 0.001
"""No client takes a time-out of 0; the driver begins no try when none of the time is left."""

_deferred_classes: dict[type[BaseException], type[Deferred]] = {}


def deferred(
    verdict: Verdict,
    own: Callable[[Any, str], Exception],
    kind_of: Callable[[type[Exception]], type[Exception]] | None = None,
) -> Deferred:
    """The exception for a DEFER: ``bide.Deferred`` and the client's own, of the last failure or about the response.

    It carries the arguments and attributes of that one, and is raised ``from`` a failure, so that code written for the
    client finds what it looks for. The constructors of such classes want all kinds of arguments: it is made without.

    Args:
        verdict: how it ended.
        own: makes the client's own exception of a response, or of None where nothing was sent, and a sentence.
        kind_of: the class to use for a failure's class, where that one will not do.
    """
    answer, decision = verdict
    failure = answer if isinstance(answer, Exception) else None
    model = own(answer, decision.advice) if failure is None else failure
    kind = type(model) if failure is None or kind_of is None else kind_of(type(failure))
    made = _deferred_classes.get(kind)
    if made is None:
        made = _deferred_classes[kind] = type("Deferred", (Deferred, kind), {"__module__": "bide"})
    error = made.__new__(made)
    error.args = model.args
    error._text = decision.advice
    if isinstance(model, OSError) and isinstance(error, OSError):
        error.errno, error.strerror, error.filename = model.errno, model.strerror, model.filename
    error.__dict__ |= vars(model)
    error.decision = decision
    error.response = None if failure is not None else answer
    error.__cause__ = failure
    return error


def says_error(answer: object) -> bool:
    """A response whose status is one that a client raises for."""
    return (status_of(answer) or 0) >= 400


def rewinder(body: object) -> Callable[[], object] | None:
    """What brings a request's body back to its beginning; None when it can be sent only once.

    Args:
        body: None, str, bytes, an open file (brought back to where it stands now), or an iterable.
    """
    if body is None or isinstance(body, str | bytes | bytearray | memoryview):
        return _nothing
    if hasattr(body, "read"):
        if not is_seekable(body):
            return None
        start = body.tell()  # type: ignore[attr-defined]  # what can seek can tell
        return lambda: body.seek(start)  # type: ignore[attr-defined]  # is_seekable has seen it
    begins_anew = hasattr(body, "__iter__") or hasattr(body, "__aiter__")
    return (
        _nothing if begins_anew and not hasattr(body, "__next__") and not hasattr(body, "__anext__") else None
    )


def is_seekable(file: object) -> bool:
    """The file says that it can be brought back to an earlier place."""
    seekable = getattr(file, "seekable", None)
    try:
        return callable(seekable) and bool(seekable())
    except (AttributeError, OSError, ValueError):  # A wrapper's guess about what it wraps, or a closed file.
        return False


def _nothing() -> None:
    """Bytes and lists begin anew each time they are sent."""


def decision_about(answer: object, policy: Policy, **options: Any) -> Decision | None:
    """The decision about what a caller's function returned or raised; None where that is no HTTP client's.

    Args:
        answer: a response, an exception that carries one or stands for one, or anything else.
        policy: the API's policy.
        **options: of ``bide.decide``; a body that the client has read already is given it, too.
    """
    if isinstance(answer, Deferred):
        return None
    response = answer
    if isinstance(answer, BaseException):
        response = getattr(answer, "response", None)
        carries_none = status_of(answer) is None and getattr(answer, "response", None) is None
        if carries_none and failure_of(answer) is None:
            return None
    elif status_of(answer) is None or not hasattr(answer, "headers"):
        return None
    return decide(answer, policy, **{"body": in_memory(response), **options})


def in_memory(response: object) -> bytes | None:
    """The body of any client's response, where the client has read it already; None where it has not."""
    for name in ("_content", "_body"):  # What else a client offers would read it now, or raise.
        body = getattr(response, name, None)
        if isinstance(body, bytes):
            return body
    return None


def status_of(answer: object) -> int | None:
    """The status of any client's response; None for a failure."""
    for name in ("status_code", "status", "code"):
        status = getattr(answer, name, None)
        if isinstance(status, int):
            return status
    return None


class Patience:
    """A time-out as urllib3 takes it: a ``Timeout(total=...)`` holds for all tries and the waits between them.

    Args:
        timeout: the caller's.
        clock: what the waits are measured with, in monotonic seconds.
    """

    def __init__(self, timeout: Any, clock: Callable[[], float]) -> None:
        self._timeout = timeout
        self._clock = clock
        self._began_at = self._clock()
        total = getattr(timeout, "total", None)
        self.total: float | None = total if isinstance(total, int | float) else None

    def left(self) -> Any:
        """The time-out of a try that begins now."""
        if self.total is None:
            return self._timeout
        left = self._timeout.clone()
        left.total = max(self.total - (self._clock() - self._began_at), SHORTEST_TRY_SECONDS)
        return left
