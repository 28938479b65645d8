"""A policy in words: what it reads, where, in which unit, and how patient it is.

The reference pages and ``bide policies NAME`` are written with these. Names of fields stand between backticks.

Rules of this file: nothing is stated that the policy does not state. What has no words yet is a KeyError, not
a gap. The standard library and bide.policy, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

from bide.policy import Dialect, Field, Override, Policy, Reason, Refill, StructuredWindows, When, Window

__all__ = [
    "code",
    "codes",
    "condition",
    "fact_rows",
    "override",
    "place",
    "reset_units",
    "structured",
    "wait_remarks",
    "wait_rows",
    "window_remarks",
    "window_rows",
]

TIMES = {
    "auto": (
        "told by its size: below 1,000,000,000 a delay in seconds, below 100,000,000,000 a Unix time in seconds, "
        "above it a Unix time in milliseconds; else an HTTP-date, an ISO 8601 time or a Go duration"
    ),
    "seconds": "a delay in seconds, decimals allowed",
    "whole_seconds": "a delay in whole seconds",
    "milliseconds": "a delay in milliseconds, decimals allowed",
    "whole_milliseconds": "a delay in whole milliseconds",
    "minutes": "a delay in minutes",
    "duration": "a delay as a Go duration, such as `6m0s` or `12ms`",
    "unix_seconds": "a Unix time in seconds",
    "unix_milliseconds": "a Unix time in milliseconds",
    "http_date": "an HTTP-date",
    "iso_8601": "an ISO 8601 (RFC 3339) time",
}
LENGTHS = {
    "seconds": "seconds, decimals allowed",
    "whole_seconds": "whole seconds",
    "milliseconds": "milliseconds, decimals allowed",
    "whole_milliseconds": "whole milliseconds",
    "minutes": "minutes",
    "duration": "a Go duration, such as `6m0s`",
}
COUNTS = {
    "number": "a count",
    "whole": "a whole count",
    "grouped": "a count with separators between groups of three digits",
}
READERS = {**TIMES, **COUNTS, "text": "text"}
COMBINE = {
    "first": "the explicit wait counts",
    "greatest": "the longer one counts",
    "window_first": "the window's end counts",
}
CLOCKS = {
    "date": "the reply's `Date`, where it has one, so that a wrong clock on the client's side does no harm",
    "local": "the client's own clock",
}
JITTER = {
    "none": "no jitter",
    "full": "full jitter (anything from 0 to the wait)",
    "equal": "equal jitter (half of the wait is sure, half is chance)",
    "spread": "up to a quarter more by chance, never less",
    "decorrelated": "decorrelated jitter",
}


def fact_rows(policy: Policy) -> list[tuple[str, str]]:
    """The numbers of patience, and what a person wants to know."""
    backoff = policy.backoff
    margin = policy.dialect.margin
    return [
        ("Hosts", codes(policy.hosts) or "none: take it by name"),
        ("Published limits", codes(policy.limits) or "not stated"),
        ("Length of the window", span(policy.window) if policy.window else "not stated"),
        ("Retries", str(policy.retries)),
        ("Backoff", f"{span(backoff.base)}, doubling up to {span(backoff.cap)}; {JITTER[backoff.jitter]}"),
        (
            "Wait after a refusal that states none",
            "the backoff" if policy.default_wait is None else span(policy.default_wait),
        ),
        ("Longest wait held on for", span(policy.max_wait) if policy.max_wait < 1e9 else "any"),
        ("Deferred work without a stated time resumes in", span(policy.resume_after)),
        *([("Deadline", span(policy.deadline))] if policy.deadline is not None else []),
        ("Added to every stated wait", span(margin) if margin else "nothing"),
        ("Unix times are measured against", CLOCKS[policy.dialect.clock]),
        (
            "Method where nothing tells it",
            code(policy.assume_method) if policy.assume_method else "none: it counts as not idempotent",
        ),
    ]


def window_rows(window: Window, policy: Policy) -> Iterable[tuple[str, str, str]]:
    """What a window reads, where, and how."""
    for role in ("limit", "remaining", "used"):
        value = getattr(window, role)
        if isinstance(value, Field):
            yield role, place(value), ", else ".join(READERS[name] for name in value.read or ("number",))
        elif value is not None:
            yield role, "constant", f"{value:,g}"
    if window.align is not None:
        yield "reset", "the clock", f"the next multiple of {span(window.align)}, UTC"
    elif window.reset is not None:
        yield "reset", place(window.reset), units(window.reset)
    elif window.length is not None:
        yield "reset", "not stated", "a used-up window has ended when its length has passed"
    elif window.refill is None:
        yield "reset", "not stated", "nothing tells when a used-up window ends"
    if isinstance(window.refill, Field):
        yield "refill", place(window.refill), "units that come back each second"
    elif window.refill is not None:
        yield "refill", "constant", f"{window.refill:g} units come back each second"
    if isinstance(window.length, Field):
        yield (
            "length",
            place(window.length),
            ", else ".join(LENGTHS.get(name, TIMES[name]) for name in window.length.read),
        )
    elif window.length is not None:
        yield "length", "constant", span(window.length)
    elif policy.window is not None:
        yield "length", "not stated", f"the policy's {span(policy.window)} bounds what is believed"
    if window.bucket is not None:
        yield "bucket", place(window.bucket), "the server's name for the counter"


def window_remarks(window: Window) -> Iterable[str]:
    """What is special about a window."""
    remarks: list[str] = []
    if window.used is not None and window.remaining is None:
        remarks.append("What remains is the limit less what is used.")
    if window.used is not None and window.limit is None:
        remarks.append("The limit is what remains and what is used together.")
    if any("*" in field.header for field in window.fields()):
        remarks.append("What stands in place of `*` in a header's name names the window.")
    if window.key_column is not None:
        remarks.append(f"{ordinal(window.key_column).capitalize()} of each list's member names the window.")
    if window.exhausted:
        remarks.append("A reset that is ahead says that the window is used up.")
    if window.fresh:
        remarks.append("In a reply from a cache (`Age` above 0) the fields say nothing.")
    if window.structured:
        remarks.append("A field that is no structured field List (RFC 9651) is ignored whole.")
    if remarks:
        yield " ".join(remarks)


def structured(window: StructuredWindows) -> str:
    """What the RateLimit field of the IETF drafts says."""
    return (
        f"Header {code(window.header)}, the RateLimit field of the IETF drafts, by its shape: a List "
        f'(`"name";r=50;t=30`) or a Dictionary (`limit=100, remaining=50, reset=30`). Resets are '
        f"delays in whole seconds. Header {code(window.policy)} adds the limit and the window's "
        "length in seconds. A malformed field is ignored whole, and so are all of them in a reply "
        "from a cache."
    )


def wait_rows(dialect: Dialect) -> Iterable[tuple[str, str, str]]:
    """The explicit waits in their order: number, where, how."""
    for number, wait in enumerate(dialect.waits, 1):
        if isinstance(wait, Field):
            yield str(number), place(wait), units(wait)
        else:
            yield str(number), "computed", refill(wait)


def wait_remarks(dialect: Dialect) -> Iterable[str]:
    """What an explicit wait means beside a window, and on a success."""
    if dialect.windows:
        yield f"Beside the end of a used-up window: {COMBINE[dialect.combine]}."
    yield (
        "On a success it is a wait, too: the next request is held for so long."
        if dialect.wait_on_success
        else "On a success it is no wait."
    )


def override(rule: Override) -> str:
    """A header by which the server itself says whether to repeat."""
    return f"header {code(rule.header)}: {codes(rule.retry)} says repeat, {codes(rule.fail)} says do not"


def place(field: Field) -> str:
    """Where a value stands."""
    if field.text:
        where = f"body, after the words {code(field.text)}"
    else:
        where = f"header {code(field.header)}" if field.header else f"JSON body, {code(field.body)}"
    if field.json:
        where += f", which is JSON, {code(field.json)} in it"
    if field.parameter:
        where += f", the value of {code(field.parameter + '=')}"
    if field.separator:
        where += f", {ordinal(field.column)} of those that {code(field.separator)} separates"
    return where


def units(field: Field) -> str:
    """The unit of a time."""
    return ", else ".join(TIMES[name] for name in field.read)


def refill(wait: Refill) -> str:
    """How a wait is computed from a leaky bucket."""
    needed, available, rate = (
        place(part) if isinstance(part, Field) else f"{part:g}"
        for part in (wait.needed, wait.available, wait.rate)
    )
    formula = "seconds: (units needed - units available) / units a second"
    return f"{formula}; needed: {needed}; available: {available}; a second: {rate}"


def condition(when: When) -> str:
    """A condition, all of whose parts must hold."""
    parts: list[str] = []
    if when.status:
        parts.append(f"status {' or '.join(map(str, when.status))}")
    if when.header:
        parts.append(f"header {code(when.header)}" + (" is present" if not when.values else ""))
    if when.body:
        parts.append(f"{code(when.body)} in the JSON body" + (" is something" if not when.values else ""))
    if when.values:
        parts[-1] += f" is {codes(when.values, ' or ')}"
    if when.text:
        parts.append(f"the body contains {codes(when.text, ' or ')}")
    if when.used_up:
        parts.append("a window is used up")
    meaning = "" if when.reason is Reason.RATE_LIMITED else f" (the reason is {code(when.reason)})"
    return " and ".join(parts) + meaning


def reset_units(dialect: Dialect) -> str:
    """The units of all resets, in short."""
    short = {
        **dict.fromkeys(("seconds", "whole_seconds"), "a delay in seconds"),
        **dict.fromkeys(("milliseconds", "whole_milliseconds"), "a delay in milliseconds"),
        "minutes": "a delay in minutes",
        "duration": "a Go duration",
        "auto": "told by their size",
        **{name: TIMES[name] for name in ("unix_seconds", "unix_milliseconds", "http_date", "iso_8601")},
    }
    found: dict[str, None] = {}
    for window in dialect.windows:
        if isinstance(window, StructuredWindows):
            found["a delay in seconds"] = None
        elif window.align is not None:
            found["the clock's"] = None
        elif window.reset is not None:
            found.update(dict.fromkeys(short[name] for name in window.reset.read))
    return ", ".join(found) or "not stated"


def ordinal(column: int) -> str:
    names = ("first", "second", "third", "fourth")
    return f"the {names[column]} column" if column < len(names) else f"column {column + 1}"


def span(seconds: float) -> str:
    """A length of time for a person."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}{'s' if seconds != size else ''}"
    return f"{seconds:g} second{'s' if seconds != 1 else ''}"


def code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def codes(texts: Iterable[str], joint: str = ", ") -> str:
    return joint.join(map(code, texts))
