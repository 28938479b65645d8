"""Writes the reference pages in ``docs/reference`` from the data that bide decides by.

Rules of this file: nothing is stated here that the status tables and the policies do not state; only units,
places and rules are put into words. What has no words yet is a KeyError, not a gap. The pages are a function
of the data alone: the same data gives the same bytes. The standard library and bide, nothing else.

Run it with ``make reference``; a test compares the pages with what ``pages`` gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from bide import policies
from bide.policy import Dialect, Field, Policy, Reason, Refill, Rule, StructuredWindows, When, Window
from bide.policy import _status as tables

FOLDER = Path(__file__).parent / "reference"

GENERATED = "This page is generated from the data that bide decides by; `make reference` writes it anew."

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


def pages() -> dict[str, str]:
    """Every reference page: its path below ``docs/reference`` to its text."""
    known = {name: policies.load(name) for name in policies.names()}
    return {
        "statuses.md": statuses_page(),
        "policies.md": index_page(known),
        **{f"policies/{name}.md": policy_page(policy) for name, policy in known.items()},
    }


def write(folder: Path = FOLDER) -> None:
    """Writes the pages, and removes those whose policy is gone."""
    made = pages()
    for path in folder.rglob("*.md"):
        if path.relative_to(folder).as_posix() not in made:
            path.unlink()
    for name, text in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


# Pages ---------------------------------------------------------------------------------------------------


def statuses_page() -> str:
    return page(
        "What each status means",
        GENERATED,
        "The action is what `decide` starts from; what the reply says about limits can change it (see "
        "[how a decision is made](../decide.md)). A status that says that the server did not act lets a "
        "request of any method be repeated; after the others only an idempotent one is.",
        "## Any HTTP server",
        "RFC 9110 section 15, RFC 6585, RFC 8470.",
        status_table(tables.GENERAL),
        "A status that is not in the table is treated as its class is; one outside 100 to 599 as 500.",
        status_table(tables.CLASSES, {rule.status: f"{rule.status // 100}xx" for rule in tables.CLASSES}),
        "## Clever",
        "These rows come before the general ones in the policy [clever](policies/clever.md).",
        status_table(tables.CLEVER),
    )


def index_page(known: Mapping[str, Policy]) -> str:
    rows = [
        (
            f"[{name}](policies/{name}.md)",
            codes(policy.hosts) or "none: take it by name",
            codes(policy.limits) or "not stated",
            reset_units(policy.dialect),
            special(policy),
        )
        for name, policy in known.items()
    ]
    return page(
        "The policies that come with bide",
        GENERATED,
        f"{len(known)} policies. `bide.policies.load(name)` gives one by name, `bide.policies.for_host(host)` "
        "by host. How to write another: [policies](../policies.md).",
        table(("Policy", "Hosts", "Published limits", "Resets are", "Special"), rows),
    )


def policy_page(policy: Policy) -> str:
    dialect = policy.dialect
    differing = [
        "## Statuses",
        "Rows that differ from, or add to, [the general table](../statuses.md):",
        status_table(policy.statuses),
    ]
    return page(
        policy.name,
        GENERATED,
        f"Source: {linked(policy.source)}." if policy.source else "No source is stated.",
        escaped(" ".join(policy.notes.split())),
        facts(policy),
        *windows_section(dialect, policy),
        *waits_section(dialect),
        *refusal_section(dialect),
        *(differing if policy.statuses else ()),
        "## Not confirmed",
        f"No source confirms these, so they are not read: {codes(policy.unconfirmed)}."
        if policy.unconfirmed
        else "Nothing is marked as unconfirmed.",
    )


# Sections ------------------------------------------------------------------------------------------------


def facts(policy: Policy) -> str:
    backoff = policy.backoff
    margin = policy.dialect.margin
    rows = [
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
    return table(("What", "Value"), rows)


def windows_section(dialect: Dialect, policy: Policy) -> Iterable[str]:
    yield "## Windows"
    if not dialect.windows:
        yield "No field that tells a window is read."
    for number, window in enumerate(dialect.windows, 1):
        yield f"### Window {number}" + (
            f": {window.name}" if isinstance(window, Window) and window.name else ""
        )
        if isinstance(window, StructuredWindows):
            yield (
                f"Header {code(window.header)}, the RateLimit field of the IETF drafts, by its shape: a List "
                f'(`"name";r=50;t=30`) or a Dictionary (`limit=100, remaining=50, reset=30`). Resets are '
                f"delays in whole seconds. Header {code(window.policy)} adds the limit and the window's "
                "length in seconds. A malformed field is ignored whole, and so are all of them in a reply "
                "from a cache."
            )
            continue
        yield table(("What", "Where", "How it is read"), window_rows(window, policy))
        yield from window_remarks(window)


def window_rows(window: Window, policy: Policy) -> Iterable[tuple[str, str, str]]:
    for role in ("limit", "remaining", "used"):
        value = getattr(window, role)
        if isinstance(value, Field):
            yield role, place(value), COUNTS[value.read[0] if value.read else "number"]
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
        yield "length", place(window.length), ", else ".join(LENGTHS[name] for name in window.length.read)
    elif window.length is not None:
        yield "length", "constant", span(window.length)
    elif policy.window is not None:
        yield "length", "not stated", f"the policy's {span(policy.window)} bounds what is believed"
    if window.bucket is not None:
        yield "bucket", place(window.bucket), "the server's name for the counter"


def window_remarks(window: Window) -> Iterable[str]:
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


def waits_section(dialect: Dialect) -> Iterable[str]:
    yield "## Explicit waits"
    if not dialect.waits:
        yield "None is read."
        return
    yield "The first one that can be read counts."
    rows = [
        (
            str(number),
            place(wait) if isinstance(wait, Field) else "computed",
            units(wait) if isinstance(wait, Field) else refill(wait),
        )
        for number, wait in enumerate(dialect.waits, 1)
    ]
    yield table(("Order", "Where", "How it is read"), rows)
    if dialect.windows:
        yield f"Beside the end of a used-up window: {COMBINE[dialect.combine]}."
    yield (
        "On a success it is a wait, too: the next request is held for so long."
        if dialect.wait_on_success
        else "On a success it is no wait."
    )


def refusal_section(dialect: Dialect) -> Iterable[str]:
    yield "## Refusals"
    yield "A reply is a refusal (the server did not act, and says later) when one of these holds:"
    yield bullets(map(condition, dialect.refused_when)) if dialect.refused_when else "None."
    if dialect.override:
        yield "The server decides itself whether to repeat, whatever the status, by:"
        yield bullets(
            f"header {code(rule.header)}: {codes(rule.retry)} says repeat, {codes(rule.fail)} says do not"
            for rule in dialect.override
        )
    if dialect.final:
        yield "Not to be repeated, whatever else the reply says:"
        yield bullets(map(condition, dialect.final))


# Words ---------------------------------------------------------------------------------------------------


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


def special(policy: Policy) -> str:
    """The first sentence of the notes."""
    return escaped(re.split(r"(?<=\.)\s+(?=[A-Z0-9])", " ".join(policy.notes.split()), maxsplit=1)[0])


def ordinal(column: int) -> str:
    return ("the first column", "the second column", "the third column", "the fourth column")[column]


def span(seconds: float) -> str:
    """A length of time for a person."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}{'s' if seconds != size else ''}"
    return f"{seconds:g} second{'s' if seconds != 1 else ''}"


# Markdown ------------------------------------------------------------------------------------------------


def page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", *(part for part in parts if part))) + "\n"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def status_table(rules: Iterable[Rule], shown: Mapping[int, str] | None = None) -> str:
    rows = [
        (
            (shown or {}).get(rule.status, str(rule.status)),
            rule.action.value,
            rule.reason.value,
            "surely not" if rule.not_acted else "",
            escaped(rule.advice),
        )
        for rule in rules
    ]
    return table(("Status", "Action", "Reason", "Acted on", "Advice"), rows)


def bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def codes(texts: Iterable[str], joint: str = ", ") -> str:
    return joint.join(map(code, texts))


def linked(source: str) -> str:
    """A source, its addresses as links."""
    parts = re.split(r"(https?://[^\s,()]+)", source)
    return "".join(f"<{part}>" if index % 2 else escaped(part) for index, part in enumerate(parts))


def escaped(text: str) -> str:
    """Plain text that Markdown leaves as it is."""
    return re.sub(r"[*<`\[]|(?<!\w)_", r"\\\g<0>", text)


if __name__ == "__main__":
    write()
