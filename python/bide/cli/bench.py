"""``bide bench``: the native limiter beside its pure twin, on this machine, in a few seconds.

Rules: both do the same calls with the same keys in the same process, in turns; the quickest round counts. The
verdict is words that the numbers bear out, and says so too where native is not the quicker one.
"""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Callable
from itertools import cycle, islice
from typing import Annotated, Any, NamedTuple

import typer

import bide
from bide.cli._measure import least_nanoseconds
from bide.cli._options import number_between
from bide.cli._screen import console, plain_table

__all__ = ["bench"]

COUNT = 20_000
"""Calls in a round."""

ROUND_SECONDS = 0.05
"""About what a round of all rows takes of each limiter: how many rounds fit into the time given."""

ROOMY, FULL = "67000000/hour", "1/hour"
THREADS = 4


class Row(NamedTuple):
    """One kind of call."""

    title: str
    limit: str
    make: Callable[[Any], Callable[[], object]]
    """Makes of a limiter a function that calls it ``COUNT`` times."""


def _one_key(name: str) -> Callable[[Any], Callable[[], object]]:
    def make(limiter: Any) -> Callable[[], object]:
        call = getattr(limiter, name)

        def calls() -> None:
            for _ in range(COUNT):
                call("a key")

        return calls

    return make


def _many_keys(limiter: Any) -> Callable[[], object]:
    keys = [f"key {number:05}" for number in range(COUNT)]
    call = limiter.try_acquire

    def calls() -> None:
        for key in keys:
            call(key)

    return calls


def _at_once(limiter: Any) -> Callable[[], object]:
    batches = [[f"key {number:05}" for number in range(first, first + 100)] for first in range(0, COUNT, 100)]

    def calls() -> None:
        for batch in batches:
            limiter.try_acquire_many(batch)

    return calls


def _threads(limiter: Any) -> Callable[[], object]:
    share = COUNT // THREADS
    own = [[f"{number} {key}" for key in range(50)] for number in range(THREADS)]

    def work(keys: list[str]) -> None:
        call = limiter.try_acquire
        for key in islice(cycle(keys), share):
            call(key)

    def calls() -> None:
        threads = [threading.Thread(target=work, args=(keys,)) for keys in own]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return calls


ROWS = (
    Row("try_acquire, allowed", ROOMY, _one_key("try_acquire")),
    Row("try_acquire, refused", FULL, _one_key("try_acquire")),
    Row("take, with what is left", ROOMY, _one_key("take")),
    Row(f"try_acquire, {COUNT:,} keys", ROOMY, _many_keys),
    Row("try_acquire_many, of 100", ROOMY, _at_once),
    Row(f"try_acquire, {THREADS} threads", ROOMY, _threads),
)


def bench(
    seconds: Annotated[
        float,
        typer.Option(parser=number_between(0.1, 18), metavar="SECONDS", help="About how long to measure."),
    ] = 8.0,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> int:
    """Measure the native limiter beside the pure one.

    On this machine, in less than 20 seconds, with a verdict in words. Exit codes: 0 done, 2 wrong use.

    \b
    Examples:
      bide bench
      bide bench --seconds 2 --json
    """
    from bide.limiter._pure import Limiter as Pure

    kinds: dict[str, Any] = {"pure": Pure}
    try:
        from bide.limiter._compiled import Limiter as Native
    except ImportError:
        pass  # an installation without the extension: the twin alone is measured
    else:
        kinds = {"native": Native, "pure": Pure}
    rounds = max(3, int(seconds / (ROUND_SECONDS * len(ROWS))))
    found = {
        row.title: least_nanoseconds(
            {name: row.make(kind(row.limit)) for name, kind in kinds.items()}, COUNT, rounds
        )
        for row in ROWS
    }
    decides = least_nanoseconds({"decide": _decisions()}, COUNT // 10, rounds)["decide"]
    rounded = {title: {name: round(ns, 1) for name, ns in row.items()} for title, row in found.items()}
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    if as_json:
        document = {"nanoseconds": rounded, "decide_nanoseconds": round(decides, 1), **machine}
        print(json.dumps(document, indent=2))
        return 0
    out = console()
    out.print("Python {python}, {machine}, {cores} cores; ns a call\n".format(**machine), style="dim")
    table = plain_table("", "native", "pure", "pure / native", right=1)
    for title, row in rounded.items():
        native = row.get("native")
        ratio = f"{row['pure'] / native:.1f}x" if native else "-"
        table.add_row(title, f"{native:,.0f}" if native else "-", f"{row['pure']:,.0f}", ratio)
    table.add_row("decide, a 429 with its fields", "-", f"{decides:,.0f}", "-")
    out.print(table)
    how = f"the least of {rounds} rounds of {COUNT:,} calls in turns, the loop around them included"
    out.print(f"\n{how}\n", style="dim")
    for sentence in verdict(found, decides):
        out.print(sentence, style="bold" if sentence.startswith("Verdict") else "")
    return 0


def _decisions() -> Callable[[], object]:
    headers = {
        "Date": "Tue, 14 Nov 2023 22:13:20 GMT", "X-RateLimit-Limit": "1200", "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "1700000030", "X-RateLimit-Bucket": "all",
    }  # fmt: skip
    reply = bide.Reply(429, headers)

    def calls() -> None:
        for _ in range(COUNT // 10):
            bide.decide(reply, bide.CLEVER, attempt=1, now=1_700_000_000.0, draw=0.5)

    return calls


def verdict(found: dict[str, dict[str, float]], decides: float) -> list[str]:
    """What the numbers say, in words.

    Args:
        found: the title of a row -> "native" and "pure" -> nanoseconds of a call.
        decides: nanoseconds of a decision.
    """
    usual = next(iter(found.values()))
    pure = usual["pure"]
    native = usual.get("native")
    if native is None:
        first = (
            f"Verdict: this installation has no native limiter; the pure one takes {pure:,.0f} ns a call. "
            "It gives the same answers; a wheel with the extension gives them sooner."
        )
        return [first, _share(pure, "it")]
    ratios = {title: row["pure"] / row["native"] for title, row in found.items()}
    least, most = min(ratios.values()), max(ratios.values())
    slower = [title for title, ratio in ratios.items() if ratio < 1.0]
    if slower:
        first = f"native is {pure / native:.1f} times as fast in the usual call, but not for: {'; '.join(slower)}."
    elif least < 2.0:
        first = (
            f"native is the faster one, but only {least:.1f} to {most:.1f} times: take the one that "
            "installs more easily."
        )
    else:
        first = (
            f"native is {least:.0f} to {most:.0f} times as fast as the pure twin on this machine, and gives "
            "the same answers."
        )
    return [
        f"Verdict: {first}",
        _share(native, "the native limiter"),
        f"For a client neither matters: a decision takes {decides / 1000:.1f} us, a request a thousand times that.",
    ]


def _share(nanoseconds: float, who: str) -> str:
    share = nanoseconds * 10_000 / 1e9
    return f"A service of 10,000 requests a second gives {who} {share:.2%} of one core."
