"""A server that writes its window as a policy reads it: the other direction of a dialect.

Rules of this file: the first window of the dialect is written, in the unit that its reader reads; what a
dialect has no field for is not said. No vendor is named.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from bide._simulation import State, Writer, http_date
from bide.policy import Field, Policy, StructuredWindows, Window

__all__ = ["writer_of"]


def writer_of(policy: Policy) -> Writer:
    """How a server of that API writes its window in an answer.

    >>> from bide.policy import CLEVER
    >>> writer_of(CLEVER)(State(5, 3, 1_700_000_060.0, 1_700_000_000.0, False))["x-ratelimit-remaining"]
    '3'
    """
    window = next(filter(_is_writable, policy.dialect.windows), None)
    waits = [
        wait for wait in policy.dialect.waits if isinstance(wait, Field) and wait.header and _is_plain(wait)
    ]

    def write(state: State) -> dict[str, str]:
        fields: dict[str, str] = {}
        if isinstance(window, StructuredWindows):
            left = max(0, math.ceil(state.reset_at - state.now))
            fields[window.header] = f'"default";r={state.remaining};t={left}'
            fields[window.policy] = f'"default";q={state.limit}'
        elif window is not None:
            fields |= _window(window, state)
        if state.refused and waits:
            fields[_name(waits[0])] = _time(waits[0], state)
        return fields

    return write


def _window(window: Window, state: State) -> dict[str, str]:
    counts = {"limit": state.limit, "remaining": state.remaining, "used": state.limit - state.remaining}
    fields = {}
    for role, value in counts.items():
        field = getattr(window, role)
        if isinstance(field, Field):
            fields[_name(field)] = str(value)
    if isinstance(window.reset, Field):
        fields[_name(window.reset)] = _time(window.reset, state)
    if isinstance(window.bucket, Field):
        fields[_name(window.bucket)] = "simulated"
    return fields


def _is_writable(window: Window | StructuredWindows) -> bool:
    if isinstance(window, StructuredWindows):
        return True
    fields = window.fields()
    return all(field.header and _is_plain(field) for field in fields) and not (
        window.exhausted or window.refill
    )


def _is_plain(field: Field) -> bool:
    return not (field.json or field.parameter or field.separator)


def _name(field: Field) -> str:
    return field.header.replace("*", "requests")


def _time(field: Field, state: State) -> str:
    left = max(0.0, state.reset_at - state.now)
    reader = field.read[0]
    if reader == "milliseconds" or reader == "whole_milliseconds":
        return str(math.ceil(left * 1000.0))
    if reader == "minutes":
        return f"{left / 60.0:.6f}"
    if reader == "duration":
        return f"{math.ceil(left * 1000.0)}ms"
    if reader == "unix_seconds":
        return str(math.ceil(state.reset_at))
    if reader == "unix_milliseconds":
        return str(math.ceil(state.reset_at * 1000.0))
    if reader == "http_date":
        return http_date(math.ceil(state.reset_at))
    if reader == "iso_8601":
        return datetime.fromtimestamp(math.ceil(state.reset_at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(math.ceil(left))  # seconds, whole_seconds, auto
