"""``bide explain``: what to do with a recorded response, and how that came about.

Rules: the decision is ``bide.explain``'s own; here it is only written. Of the response nothing is shown but
its status and the fields that were looked at, and of those no secret.
"""

from __future__ import annotations

import json
import sys
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

import typer

import bide
from bide.cli._choice import Choice, by_host, choose
from bide.cli._input import Fetched, Mistake, fetch, host_of, named_policy, names_that_begin, recorded
from bide.cli._options import number_between, whole_number_between
from bide.cli._screen import clock_time, console, countdown, plain_table, shown, span
from bide.policy import Action, Decision, Explanation, Quota
from bide.policy._fields import http_date

if TYPE_CHECKING:
    from rich.console import Console

    from bide.cli._recorded import Recorded
    from bide.policy._explain import FieldNote

__all__ = ["explain"]

STYLES = {
    Action.PROCESS: "bold green",
    Action.RETRY: "bold yellow",
    Action.FAIL: "bold red",
    Action.DEFER: "bold magenta",
}
SECRETS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
FRESH_SECONDS = 300.0
"""A response whose Date is further from this machine's clock was recorded, not just received."""


def explain(
    source: Annotated[
        str, typer.Argument(metavar="FILE|URL", help="A recorded response; - or nothing is standard input.")
    ] = "-",
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            "-p",
            metavar="NAME|FILE",
            autocompletion=names_that_begin,
            help="A policy's name, or a TOML file. Without it: by the host, else by the response's shape.",
        ),
    ] = None,
    attempt: Annotated[
        int,
        typer.Option(
            "--attempt",
            "-n",
            parser=whole_number_between(1, 10**9),
            metavar="NUMBER",
            help="Which try this was; 1 is the first.",
        ),
    ] = 1,
    method: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="The request's method. Without it: the record's, else GET."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--url", "--host", metavar="URL|HOST", help="Where the request went: chooses the policy."
        ),
    ] = None,
    now: Annotated[
        float | None,
        typer.Option(
            parser=number_between(0, 1e11 - 1),
            metavar="UNIX_TIME",
            help="When the response came, in seconds. Without it: now, or an old record's Date.",
        ),
    ] = None,
    draw: Annotated[
        float | None,
        typer.Option(
            parser=number_between(0, 1 - 2**-53),
            metavar="NUMBER",
            help="The chance in the jitter, from 0 to 1; without it, drawn.",
        ),
    ] = None,
    elapsed: Annotated[
        float,
        typer.Option(parser=number_between(0, 1e9), metavar="SECONDS", help="Since the first try began."),
    ] = 0.0,
    status: Annotated[
        int | None,
        typer.Option(
            parser=whole_number_between(100, 999), metavar="CODE", help="For a record that is headers alone."
        ),
    ] = None,
    get: Annotated[bool, typer.Option("--get", help="Fetch URL, once, and explain what comes.")] = False,
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header", "-H", metavar="'NAME: VALUE'", help="A request header for --get; never shown."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
    live: Annotated[
        bool | None,
        typer.Option(
            "--countdown/--no-countdown",
            help="Count the wait down. Without it: on a terminal, for a response that has just come.",
        ),
    ] = None,
) -> int:
    """Explain what to do with a response.

    Shows the decision, the wait, every field that was read or dropped and why. The response is what
    curl -si, http -v, wget -S or a browser's HAR file recorded; of several the last one counts. Ctrl-C
    ends the countdown. Exit codes: 0 explained, 2 wrong use or no response in it.

    \b
    Examples:
      curl -si https://api.github.com/users/octocat | bide explain
      bide explain response.txt --policy clever --attempt 3
      bide explain --get https://api.github.com/rate_limit --json
      pbpaste | bide explain --host api.openai.com
    """
    sends = (method or "GET").upper()
    if get and sends not in ("GET", "HEAD"):
        raise Mistake("--get sends GET or HEAD; record another method's response with curl -si")
    if header and not get:
        raise Mistake("--header goes with --get")
    if get and source == "-":
        raise Mistake("--get needs an address such as https://api.example.org/things")
    fetched = fetch(source, sends, header or []) if get else Fetched(recorded(source, status), None)
    host = host_of(address or (source if get else ""))
    response = fetched.response
    if policy is not None:
        choice = Choice(named_policy(policy), "as given")
    elif response is not None:
        choice = choose(response, host)
    else:
        choice = by_host(host)
    received, is_fresh = _received_at(response, now)
    asked = method or (response.method if response else None) or "GET"
    try:
        explanation = bide.explain(
            _reply(fetched), choice.policy, attempt=attempt, method=asked, elapsed=elapsed, now=received,
            draw=draw, body=response.body if response else None,
        )  # fmt: skip
    except TypeError:
        # An unknown host, a certificate that does not verify: no repetition cures that.
        raise Mistake(f"no response, and repeating will bring none: {_cause(fetched.error)}") from None
    except ValueError as error:
        raise Mistake(str(error)) from None
    if as_json:
        print(json.dumps(_document(explanation, choice, response, attempt, asked, received), indent=2))
        return 0
    out = console()
    came = "" if is_fresh else f"; came {clock_time(received)}" + (", by its Date" if now is None else "")
    _write(out, explanation, choice, fetched, attempt, received, came)
    wait = explanation.decision.wait
    counts = live if live is not None else out.is_terminal and not out.is_dumb_terminal and is_fresh
    if counts and wait > 0.0:
        _count_down(
            out, explanation.decision, received, wait if not is_fresh else received + wait - time.time()
        )
    return 0


def _received_at(response: Recorded | None, now: float | None) -> tuple[float, bool]:
    """When the response came, and whether that is just now."""
    current = time.time()
    if now is not None:
        return now, abs(now - current) < FRESH_SECONDS
    date = http_date(response.get("date") or "", current) if response else None
    if date is not None and abs(date - current) > FRESH_SECONDS:
        return max(0.0, float(date)), False
    return current, True


def _reply(fetched: Fetched) -> object:
    if fetched.response is None:
        return fetched.error
    return bide.Reply(fetched.response.status, fetched.response.headers)


def _cause(error: Exception | None) -> str:
    return shown(f"{type(error).__name__}: {error}")


# For people ----------------------------------------------------------------------------------------------


def _write(
    out: Console,
    explanation: Explanation,
    choice: Choice,
    fetched: Fetched,
    attempt: int,
    received: float,
    came: str,
) -> None:
    decision, response = explanation.decision, fetched.response
    title = _status_text(response.status) if response else f"no response ({_cause(fetched.error)})"
    if response and response.responses > 1:
        title += f" (the last of {response.responses} responses)"
    out.print(title, style="bold")
    others = (
        f"; {', '.join(choice.others[:4])} would fit as well: choose with --policy" if choice.others else ""
    )
    out.print(f"policy {shown(choice.policy.name)}, {shown(choice.why)}{others}{came}", style="dim")
    out.print()
    out.print(_verdict(decision, received), style=STYLES[decision.action])
    out.print(f"{decision.reason.replace('_', ' ')}, attempt {attempt}: {shown(decision.advice, 400)}")
    if decision.quotas or decision.quota:
        out.print()
        _write_quotas(out, decision, received)
    out.print()
    if explanation.read or explanation.dropped:
        table = plain_table("", "field", "value", "read as")
        table.columns[1].no_wrap = out.width > 90
        table.columns[3].ratio = 1
        table.columns[2].max_width = 30
        for kind, notes in (("read", explanation.read), ("dropped", explanation.dropped)):
            for note in notes:
                style = "red" if kind == "dropped" else ""
                table.add_row(kind, shown(note.name), _value(note), shown(_meaning(note)), style=style)
        out.print(table)
    else:
        out.print("No field of it says anything about limits or waiting.")
    if explanation.steps:
        out.print()
        width = len(str(len(explanation.steps)))
        for number, step in enumerate(explanation.steps, 1):
            out.print(f"{number:>{width}}. {shown(step)}")


def _verdict(decision: Decision, received: float) -> str:
    at = clock_time(received + decision.wait)
    wait = f"{span(decision.wait)} ({countdown(decision.wait)}), at {at}"
    source = f", says {shown(decision.source)}" if decision.source not in ("", "backoff", "default") else ""
    if decision.action is Action.RETRY:
        return f"RETRY in {wait}{source}" if decision.wait else "RETRY at once"
    if decision.action is Action.DEFER:
        return f"DEFER: cease now, resume in {wait}{source}"
    verb = "PROCESS the response" if decision.action is Action.PROCESS else "FAIL: do not repeat it"
    return verb + (f"; hold the next request {wait}{source}" if decision.wait else "")


def _write_quotas(out: Console, decision: Decision, received: float) -> None:
    table = plain_table("window", "limit", "remaining", "resets in", "at", right=1)
    for quota in decision.quotas or (decision.quota,):
        if quota is None:
            continue
        name = shown(quota.bucket or "quota", 24)
        if quota.window is not None:
            name += f", {span(quota.window)}"
        if quota is decision.quota and len(decision.quotas) > 1:
            name += " (governs)"
        after = quota.reset_after
        table.add_row(
            name,
            _count(quota.limit),
            _count(quota.remaining),
            "-" if after is None else span(after) if after > 0 else "just ended",
            "-" if after is None else clock_time(received + after),
        )
    out.print(table)


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.12g}"


def _value(note: FieldNote) -> str:
    return "(not shown)" if note.name in SECRETS else shown(note.text, 60)


def _meaning(note: FieldNote) -> str:
    return note.meaning.removeprefix("read as ").removeprefix("dropped: ")


def _status_text(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _count_down(out: Console, decision: Decision, received: float, seconds: float) -> None:
    """Counts down on the last line, until it is over or Ctrl-C comes."""
    verb = "resume" if decision.action is Action.DEFER else "send"
    end = time.monotonic() + seconds
    out.print()
    if not out.is_terminal:
        time.sleep(max(0.0, seconds))
        out.print(f"now: {verb} it again")
        return
    from rich.live import Live
    from rich.text import Text

    def line() -> Text:
        left = max(0.0, end - time.monotonic())
        return Text(
            f"{verb} in {countdown(left)}  (Ctrl-C ends this)", style=STYLES[decision.action], no_wrap=True
        )

    try:
        with Live(console=out, get_renderable=line, refresh_per_second=10, transient=True):
            while (left := end - time.monotonic()) > 0.0:
                time.sleep(min(left, 0.1))
        out.print(f"now: {verb} it", style=STYLES[decision.action])
    except KeyboardInterrupt:
        sys.stdout.flush()


# For programs --------------------------------------------------------------------------------------------


def _document(
    explanation: Explanation,
    choice: Choice,
    response: Recorded | None,
    attempt: int,
    method: str,
    received: float,
) -> dict[str, Any]:
    decision = explanation.decision
    return {
        "status": response.status if response else None,
        "responses": response.responses if response else 0,
        "policy": {"name": choice.policy.name, "why": choice.why, "others": list(choice.others)},
        "method": method,
        "attempt": attempt,
        "now": received,
        "action": str(decision.action),
        "wait": decision.wait,
        "retry_at": received + decision.wait if decision.action is Action.RETRY else None,
        "resume_at": decision.resume_at,
        "reason": str(decision.reason),
        "advice": decision.advice,
        "source": decision.source,
        "quota": _members(decision.quota),
        "quotas": [_members(quota) for quota in decision.quotas],
        "read": [_note(note) for note in explanation.read],
        "dropped": [_note(note) for note in explanation.dropped],
        "steps": list(explanation.steps),
    }


def _members(quota: Quota | None) -> dict[str, Any] | None:
    return None if quota is None else quota._asdict()


def _note(note: FieldNote) -> dict[str, str]:
    return {"name": note.name, "text": "" if note.name in SECRETS else note.text, "meaning": note.meaning}
