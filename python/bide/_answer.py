"""What the answers of a server middleware say of its limits: the fields, and how they are written.

Rules of this file: it runs for every request, so that what does not change is made once. An answer's fields are of one
instant, and their times are rounded up: nobody comes back too early.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from bide.limiter import Limit, Limiter, Outcome

__all__ = ["FIELDS", "OCTETS", "RATELIMIT", "TEXT", "X_RATELIMIT", "Fields", "Text", "Wire", "writer_of"]

X_RATELIMIT: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Bucket")
"""The four fields as Clever sends them; Reset is Unix time in whole seconds, rounded up."""

RATELIMIT: Final = ("RateLimit", "RateLimit-Policy")
"""The fields of draft-ietf-httpapi-ratelimit-headers, in the form of its revisions 08 to 11."""

FIELDS: Final = (*X_RATELIMIT, *RATELIMIT, "Retry-After")
"""Every field that can be sent. ``Retry-After`` stands on refusals only."""

Text = TypeVar("Text")
Fields = list[tuple[Text, Text]]


class Wire(NamedTuple, Generic[Text]):
    """Makes of a field's name, and of ASCII text for its value, what the server's interface takes."""

    name: Callable[[str], Text]
    value: Callable[[str], Text]


OCTETS: Final[Wire[bytes]] = Wire(lambda name: name.lower().encode(), str.encode)
"""ASGI: octets, names in lower case."""

TEXT: Final[Wire[str]] = Wire(str, str)
"""WSGI."""


class Texts(NamedTuple, Generic[Text]):
    """What the fields say of one limit."""

    constant: Fields[Text]
    quoted: Any
    """How ``RateLimit`` begins; Any, since no type says what ``str`` and ``bytes`` have in common: +."""
    window: float


def writer_of(
    limiter: Limiter, name: str, fields: frozenset[str], wire: Wire[Text]
) -> Callable[[Outcome, bool], Fields[Text]]:
    """Makes the function that writes the fields. It runs for every request: hence a closure, whose names cost
    less than attributes, and no call of another function of ours."""
    varying = ("X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit", "Retry-After")
    remaining_name, reset_name, rate_limit_name, retry_after_name = (
        wire.name(field) if field in fields else None for field in varying
    )
    number: Any = wire.value("%d")
    within: Any = wire.value(";t=%d")
    # A limiter on a clock of its own, as in tests, also tells the time of day.
    unix: Callable[[], float] = getattr(limiter._clock, "time", time.time)
    by_limit = texts_of(limiter, name, fields, wire)
    only = by_limit[limiter.limits[0].limit][0] if len(limiter.limits) == 1 else None
    # Both change once a second, and answers are many: number and text, replaced as one by whoever needs another.
    last_reset: tuple[int, Any] = (-1, None)
    last_within: tuple[int, Any] = (-1, None)

    def write(outcome: Outcome, refused: bool) -> Fields[Text]:
        nonlocal last_reset, last_within
        reset_after = outcome.reset_after
        if only is not None:
            constant, quoted, _ = only
        else:
            # Of several limits of one number, the shortest whose window the reset fits into.
            known = by_limit[outcome.limit]
            constant, quoted, _ = next((one for one in known if one.window >= reset_after), known[-1])
        found = constant.copy()
        remaining = number % outcome.remaining
        if remaining_name is not None:
            found.append((remaining_name, remaining))
        if reset_name is not None:
            reset, field = last_reset
            if reset != (now := ceil(unix() + reset_after)):
                field = (reset_name, number % now)
                last_reset = (now, field)
            found.append(field)
        if rate_limit_name is not None:
            seconds, text = last_within
            if seconds != (now := ceil(reset_after)):
                text = within % now
                last_within = (now, text)
            found.append((rate_limit_name, quoted + remaining + text))
        if refused and retry_after_name is not None:
            found.append((retry_after_name, number % max(1, ceil(outcome.retry_after))))
        return found

    return write


def texts_of(
    limiter: Limiter, name: str, fields: frozenset[str], wire: Wire[Text]
) -> dict[int, list[Texts[Text]]]:
    """The texts of a limiter's limits by their numbers, shorter windows first."""
    quoted = {limit: structured_string(policy_name(name, limit, limiter)) for limit in limiter.limits}
    policy = ", ".join(policy_item(quoted[limit], limit) for limit in limiter.limits)
    found: dict[int, list[Texts[Text]]] = {}
    for limit in sorted(limiter.limits, key=lambda limit: limit.window):
        values = {
            "X-RateLimit-Limit": str(limit.limit),
            "X-RateLimit-Bucket": name,
            "RateLimit-Policy": policy,
        }
        constant = [
            (wire.name(field), wire.value(value)) for field, value in values.items() if field in fields
        ]
        start = wire.value(quoted[limit] + ";r=")
        found.setdefault(limit.limit, []).append(Texts(constant, start, limit.window))
    return found


def policy_name(name: str, limit: Limit, limiter: Limiter) -> str:
    return name if len(limiter.limits) == 1 else f"{name}-{limit.window:g}s"


def policy_item(quoted: str, limit: Limit) -> str:
    """One member of ``RateLimit-Policy``; its window is a whole number of seconds, or is left out."""
    return f"{quoted};q={limit.limit}" + (f";w={limit.window:.0f}" if limit.window.is_integer() else "")


def structured_string(text: str) -> str:
    """A String of RFC 9651 section 4.1.6."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
