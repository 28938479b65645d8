"""``bide store``: looks into a file store, and empties one, while its workers run.

Rules: what cannot be done is one line on standard error and exit code 1. A key is shown as the fingerprint that the
store keeps; nothing else of it is there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bide.cli._options import whole_number_between
from bide.cli._screen import clock_time, console, plain_table, shown, span
from bide.errors import StoreError
from bide.limiter.stores.file import inspect, path_of, reset

__all__ = ["app"]

app: typer.Typer = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


def _path(text: str) -> str:
    if "://" in text:
        try:
            return path_of(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return os.path.abspath(text)


StorePath = Annotated[
    str, typer.Argument(metavar="PATH", parser=_path, help="The store's file, or its file:// URL.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON object.")]


@app.callback()
def store() -> None:
    """Look into a file store, or empty it, while its workers run.

    \b
    Examples:
      bide store inspect /run/app/limits.bide
      bide store reset /run/app/limits.bide
    """


@app.command("inspect")
def inspect_(
    path: StorePath,
    most: Annotated[
        int,
        typer.Option(
            "--top",
            parser=whole_number_between(0, 1000),
            metavar="N",
            help="How many of each limit's fullest buckets are shown, from 0 to 1000.",
        ),
    ] = 10,
    as_json: AsJson = False,
) -> int:
    """Show what a store holds.

    Its header, its live keys, its overflow and its fullest buckets. It only reads, and the store may be in
    use. Keys are shown as fingerprints, counts as they are: each process applies a limit of its own to them.
    Exit codes: 0 done, 1 it cannot be read, 2 wrong use.

    \b
    Examples:
      bide store inspect /run/app/limits.bide
      bide store inspect /run/app/limits.bide --top 100 --json
    """
    try:
        found = inspect(path, most)
    except StoreError as error:
        return _failed("inspect", error)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)
    return 0


def _print(found: dict[str, Any]) -> None:
    out = console()
    out.print(shown(found["path"]))
    if found["replaced"]:
        out.print("replaced: a reset was begun and not ended; the next call of a limiter ends it")
    made = f"{clock_time(found['created_at'])}, layout {found['version']}, on {found['clock']} clock"
    out.print(f"made {made}; {found['bytes']:,} bytes for {found['max_keys']:,} keys")
    counted = (f"{found[name]:,} {word}" for name, word in _COUNTERS.items())
    out.print(", ".join(counted))
    for limit in found["limits"]:
        live, overflowing = f"{limit['live']:,} live keys", f"{limit['overflowing']:,} overflow counters"
        out.print(f"\nwindow of {span(limit['window'])}: {live}, {overflowing}")
        if not limit["fullest"]:
            continue
        table = plain_table("fingerprint", "count", "ends in", "", right=1)
        for bucket in limit["fullest"]:
            state = "" if bucket["state"] == "counting" else _STATES[bucket["state"]]
            count = f"{bucket['count']:,}" if not state else "-"
            table.add_row(bucket["fingerprint"], count, span(bucket["reset_after"]), state)
        out.print(table)


_COUNTERS = {"denied": "calls refused", "reused": "slots reused", "overflowed": "calls without room"}
_STATES = {
    "held": "nobody passes (a penalty, or a full count)",
    "probing": "the first request is out",
    "syncing": "a reply is being written",
}


@app.command("reset")
def reset_(path: StorePath) -> int:
    """Empty a store under its workers.

    A new one is put in its place; running workers move over at their next call. Windows and max_keys stay as
    they are: to share other windows, use another path. Exit codes: 0 done, 1 it cannot be done, 2 wrong use.

    \b
    Example:
      bide store reset /run/app/limits.bide
    """
    try:
        reset(path)
    except StoreError as error:
        return _failed("reset", error)
    print(f"{shown(path)}: a new store is in its place ({Path(path).stat().st_size:,} bytes)")
    return 0


def _failed(command: str, error: StoreError) -> int:
    print(f"bide store {command}: {shown(error, 600)}", file=sys.stderr)
    return 1
