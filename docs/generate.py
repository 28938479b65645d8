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
from bide.policies._words import (
    codes,
    condition,
    fact_rows,
    override,
    reset_units,
    structured,
    wait_remarks,
    wait_rows,
    window_remarks,
    window_rows,
)
from bide.policy import Dialect, Policy, Rule, StructuredWindows, Window
from bide.policy import _status as tables

FOLDER = Path(__file__).parent / "reference"

GENERATED = "This page is generated from the data that bide decides by; `make reference` writes it anew."


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
        table(("What", "Value"), fact_rows(policy)),
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


def windows_section(dialect: Dialect, policy: Policy) -> Iterable[str]:
    yield "## Windows"
    if not dialect.windows:
        yield "No field that tells a window is read."
    for number, window in enumerate(dialect.windows, 1):
        yield f"### Window {number}" + (
            f": {window.name}" if isinstance(window, Window) and window.name else ""
        )
        if isinstance(window, StructuredWindows):
            yield structured(window)
            continue
        yield table(("What", "Where", "How it is read"), window_rows(window, policy))
        yield from window_remarks(window)


def waits_section(dialect: Dialect) -> Iterable[str]:
    yield "## Explicit waits"
    if not dialect.waits:
        yield "None is read."
        return
    yield "The first one that can be read counts."
    yield table(("Order", "Where", "How it is read"), wait_rows(dialect))
    yield from wait_remarks(dialect)


def refusal_section(dialect: Dialect) -> Iterable[str]:
    yield "## Refusals"
    yield "A reply is a refusal (the server did not act, and says later) when one of these holds:"
    yield bullets(map(condition, dialect.refused_when)) if dialect.refused_when else "None."
    if dialect.override:
        yield "The server decides itself whether to repeat, whatever the status, by:"
        yield bullets(map(override, dialect.override))
    if dialect.final:
        yield "Not to be repeated, whatever else the reply says:"
        yield bullets(map(condition, dialect.final))


# Words ---------------------------------------------------------------------------------------------------


def special(policy: Policy) -> str:
    """The first sentence of the notes."""
    return escaped(re.split(r"(?<=\.)\s+(?=[A-Z0-9])", " ".join(policy.notes.split()), maxsplit=1)[0])


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


def linked(source: str) -> str:
    """A source, its addresses as links."""
    parts = re.split(r"(https?://[^\s,()]+)", source)
    return "".join(f"<{part}>" if index % 2 else escaped(part) for index, part in enumerate(parts))


def escaped(text: str) -> str:
    """Plain text that Markdown leaves as it is."""
    return re.sub(r"[*<`\[]|(?<!\w)_", r"\\\g<0>", text)


if __name__ == "__main__":
    write()
