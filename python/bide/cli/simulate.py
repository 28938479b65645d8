"""``bide simulate``: clients against a rate-limited server, in virtual time.

The driver, the policies and the limiter are the real ones; the server, the wire and the clock are
``bide._simulation``'s. Thousands of requests take a second, and the same seed gives the same run.

Rules: what is asked for is bounded before it begins. A policy is run against a server that speaks its
dialect, with the window of ``--server``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

import bide
from bide._driver import Driver
from bide._simulation import ModelServer, Report, World, run
from bide.cli._chart import Lane, Line, draw_lanes, draw_lines, spark, write_chart
from bide.cli._contention import STRATEGIES, contend
from bide.cli._dialects import writer_of
from bide.cli._input import Mistake, named_policy, names_that_begin
from bide.cli._options import number_between, whole_number_between
from bide.cli._screen import console, draws_blocks, plain_table, span
from bide.policy import _engine

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["simulate"]

MOST_REQUESTS = 300_000
"""Answers that a whole simulation may take: half a minute."""

SLICES = 240
"""Slices of time in a chart."""

CONTENDERS = tuple(range(10, 101, 10))


class Pace(StrEnum):
    """Who has a limiter."""

    SHARED = "shared"
    EACH = "each"
    NONE = "none"


PACES = {
    Pace.SHARED: "one limiter for all",
    Pace.EACH: "a limiter for each",
    Pace.NONE: "no limiter, retries only",
}


class Preset(StrEnum):
    """Simulations that are known from elsewhere."""

    AWS = "aws"


class Setting(NamedTuple):
    """What every row has in common."""

    limit: bide.Limit
    clients: int
    windows: int
    latency: float
    failures: float
    seed: int


class Row(NamedTuple):
    """One policy in one pace, and what it came to."""

    policy: str
    pace: Pace
    report: Report
    offered: int
    """Requests that the server had room for, in the windows that count."""
    good: list[int]
    bad: list[int]

    @property
    def title(self) -> str:
        return f"{self.policy}, {PACES[self.pace]}"

    @property
    def goodput(self) -> float:
        return self.report.successes / self.offered


def simulate(
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            "-p",
            metavar="NAME|FILE",
            autocompletion=names_that_begin,
            help="Give it several times to compare.",
        ),
    ] = None,
    clients: Annotated[
        int,
        typer.Option(
            parser=whole_number_between(1, 1000),
            metavar="NUMBER",
            help="Each asks for all it can get.",
        ),
    ] = 8,
    server: Annotated[
        str,
        typer.Option(
            metavar="LIMIT",
            help="Such as 600/10s; else what the first policy publishes.",
        ),
    ] = "",
    pace: Annotated[
        list[Pace] | None,
        typer.Option(metavar="|".join(Pace), help="Who has a limiter; give it several times to compare."),
    ] = None,
    windows: Annotated[
        int,
        typer.Option(
            parser=whole_number_between(1, 1000),
            metavar="NUMBER",
            help="That count, after the first.",
        ),
    ] = 4,
    latency: Annotated[
        float,
        typer.Option(
            parser=number_between(0.0001, 60), metavar="SECONDS", help="From a request to its answer."
        ),
    ] = 0.05,
    failures: Annotated[
        float,
        typer.Option(
            parser=number_between(0, 90), metavar="PERCENT", help="Of the requests that end in a 503."
        ),
    ] = 0.0,
    seed: Annotated[
        int,
        typer.Option(
            parser=whole_number_between(0, 2**63), metavar="NUMBER", help="The same one gives the same run."
        ),
    ] = 1,
    chart: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the chart as .svg, or as .png (pip install 'bide[png]')."),
    ] = None,
    preset: Annotated[
        Preset | None,
        typer.Option(
            metavar="|".join(Preset), help="aws: backoffs with and without jitter, contending for one row."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> int:
    """Compare policies against a server, in virtual time.

    Shows the share of the server's quota that came to use (goodput), the requests that it refused (429), and
    the requests over time. Exit codes: 0 done, 2 wrong use.

    \b
    Examples:
      bide simulate --policy clever
      bide simulate --clients 50 --server 600/10s --pace shared --pace none
      bide simulate -p github -p openai -p my-api.toml --server 300/30s --chart compared.svg
      bide simulate --preset aws --chart backoff.svg
    """
    if chart is not None and chart.suffix.lower() not in (".svg", ".png"):
        raise Mistake(f"--chart {str(chart)!r}: name a file that ends in .svg or .png")
    if preset is not None:
        return _aws(seed, chart, as_json)
    policies = [named_policy(name) for name in policy or ["http"]]
    paces = pace or [Pace.SHARED, Pace.NONE]
    limit = _limit(server, policies[0])
    asked = limit.limit * (windows + 2) * len(policies) * len(paces)
    if asked > MOST_REQUESTS:
        raise Mistake(
            f"that takes {asked:,} requests, more than {MOST_REQUESTS:,}: give a smaller --server, such as 600/10s, "
            "fewer --windows, or fewer policies"
        )
    setting = Setting(limit, clients, windows, latency, failures / 100.0, seed)
    rows = [_row(policy, which, setting) for policy in policies for which in paces]
    edges = [_phase(limit) + number * limit.window for number in range(windows + 1)]
    seconds = edges[-1]
    told = (
        f"{clients:,} client{'s' if clients > 1 else ''}, {limit.limit:,} requests per {span(limit.window)}"
    )
    told += f", {latency * 1000:g} ms away"
    if chart is not None:
        lanes = [Lane(row.title, row.good, row.bad) for row in rows]
        _write(chart, draw_lanes, told, lanes, seconds, edges[:-1])
    if as_json:
        head = {"limit": limit.limit, "window": limit.window, "clients": clients}
        print(json.dumps({**head, "rows": list(map(_document, rows))}, indent=2))
    else:
        _show(console(), told, rows, edges, seconds)
    return 0


def _limit(text: str, policy: bide.Policy) -> bide.Limit:
    try:
        return bide.Limit.parse(text or (policy.limits[0] if policy.limits else "600/minute"))
    except ValueError as error:
        raise Mistake(f"--server: {error}") from None


def _phase(limit: bide.Limit) -> float:
    """Where the server's first window ends, after the start: nobody knows it, so not at the start."""
    return 0.6 * limit.window


def _row(policy: bide.Policy, pace: Pace, setting: Setting) -> Row:
    limit, clients, windows, latency, failures, seed = setting
    text = f"{limit.limit}/{limit.window_ms}ms"
    patience = max(policy.max_wait, 2.5 * limit.window)
    policy = policy.replace(limits=(text,), window=limit.window, max_wait=patience)
    # What a decision draws comes from the engine's own chance: here it belongs to the run.
    _engine._chance.seed(seed)

    def driver(world: World) -> Driver:
        limiter: bide.Limiter | Literal[False]
        limiter = False if pace is Pace.NONE else bide.Limiter(text, clock=world)
        return Driver(policy, limiter=limiter, clock=world, budget=False)

    server = ModelServer(
        limit.limit, limit.window, phase=_phase(limit), failures=failures, write=writer_of(policy)
    )
    seconds = _phase(limit) + windows * limit.window
    good, bad = [0] * SLICES, [0] * SLICES

    def count(now: float, status: int) -> None:
        if now < seconds:  # the run goes on until the last window that counts has been answered
            (bad if status == 429 else good)[int(now / seconds * SLICES)] += 1

    shared = pace is Pace.SHARED
    report = run(
        driver, server, workers=clients if shared else 1, clients=1 if shared else clients, latency=latency,
        windows=windows, seed=seed, on_answer=count,
    )  # fmt: skip
    carried = int(clients / latency * limit.window)
    return Row(policy.name, pace, report, min(limit.limit, carried) * windows, good, bad)


# For people ----------------------------------------------------------------------------------------------


def _show(out: Console, told: str, rows: list[Row], edges: Sequence[float], seconds: float) -> None:
    out.print(told, style="bold")
    out.print()
    table = plain_table("policy", "pace", "goodput", "answered", "429 at first", "429 later", right=2)
    best = max(row.goodput for row in rows)
    for row in rows:
        report = row.report
        table.add_row(
            row.policy, PACES[row.pace], f"{row.goodput:.1%}", f"{report.successes:,}",
            f"{report.first_window_refusals:,}", f"{report.refusals:,}",
            style="bold" if row.goodput == best and not report.refusals else "",
        )  # fmt: skip
    out.print(table)
    columns = min(out.width, 80) - 5
    most = max(max(_gathered(row.good, columns)) + max(_gathered(row.bad, columns)) for row in rows)
    for row in rows:
        out.print(f"\n{row.title}")
        for name, counts, style in (("ok", row.good, "cyan"), ("429", row.bad, "red")):
            if any(counts):
                line = spark(_gathered(counts, columns), most, draws_blocks(out))
                out.print(f"{name:>4} ", style="dim", end="")
                out.print(line, style=style, no_wrap=True, overflow="crop")
    marks = [" "] * columns
    for edge in edges:
        marks[min(columns - 1, int(edge / seconds * columns))] = "|"
    out.print(f"     {''.join(marks)}", style="dim")
    out.print(
        f"     {span(seconds)} of virtual time; | a window of the server ends; the first does not count",
        style="dim",
    )


def _gathered(counts: list[int], columns: int) -> list[int]:
    """The slices of a chart in so many columns."""
    found = [0] * columns
    for index, count in enumerate(counts):
        found[index * columns // len(counts)] += count
    return found


def _document(row: Row) -> dict[str, Any]:
    report = row.report
    return {
        "policy": row.policy,
        "pace": str(row.pace),
        "goodput": round(row.goodput, 6),
        "answered": report.successes,
        "refused_in_first_window": report.first_window_refusals,
        "refused_later": report.refusals,
        "answered_over_time": row.good,
        "refused_over_time": row.bad,
    }


def _write(path: Path, draw: Any, *arguments: Any) -> None:
    try:
        path.write_bytes(write_chart(path.suffix.lower()[1:], draw, *arguments))
    except ModuleNotFoundError:
        raise Mistake("a PNG needs an extra: pip install 'bide[png]'; an .svg needs none") from None
    except OSError as error:
        raise Mistake(f"{str(path)!r} cannot be written: {error.strerror or error}") from None


# The AWS table -------------------------------------------------------------------------------------------


def _aws(seed: int, chart: Path | None, as_json: bool) -> int:
    found = {
        name: {clients: contend(clients, backoff, runs=6, seed=seed) for clients in CONTENDERS}
        for name, backoff in STRATEGIES.items()
    }
    if chart is not None:
        # Without backoff the writes grow with the square: drawn, it would flatten the others.
        lines = [
            Line(name, [(clients, result.writes) for clients, result in results.items()])
            for name, results in found.items()
            if STRATEGIES[name] is not None
        ]
        title = "Backoff and jitter: work for the server"
        _write(chart, draw_lines, title, lines, "clients that contend", "writes until all are done")
    if as_json:
        document = {
            name: {str(clients): result._asdict() for clients, result in results.items()}
            for name, results in found.items()
        }
        print(json.dumps(document, indent=2))
        return 0
    out = console()
    out.print("Clients contend for one row; who loses backs off and tries again", style="bold")
    out.print("the model of the AWS Architecture Blog, Exponential Backoff and Jitter (2015)\n", style="dim")
    shown = (10, 20, 50, 100)
    table = plain_table("writes until all are done; clients:", *map(str, shown), right=1)
    for name, results in found.items():
        table.add_row(name, *(f"{results[clients].writes:,.0f}" for clients in shown))
    out.print(table)
    out.print()
    table = plain_table("seconds until all are done; clients:", *map(str, shown), right=1)
    for name, results in found.items():
        table.add_row(name, *(f"{results[clients].seconds:.2f}" for clients in shown))
    out.print(table)
    out.print("\nWrites over the number of clients, 10 to 100")
    most = int(
        max(
            result.writes
            for name, results in found.items()
            if STRATEGIES[name]
            for result in results.values()
        )
    )
    for name, results in found.items():
        counts = [min(most, round(result.writes)) for result in results.values()]
        out.print(f"{name:>24} ", style="dim", end="")
        out.print(spark(counts, most, draws_blocks(out)), style="cyan")
    full, none = found["full jitter"][100], found["exponential, no jitter"][100]
    out.print(
        f"\nOf 100 clients, full jitter costs the server {none.writes / full.writes:.1f} times fewer writes than "
        f"the same backoff without it, and ends {none.seconds / full.seconds:.1f} times sooner."
    )
    return 0
