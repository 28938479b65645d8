"""``bide serve``: the stand-in Clever service as a process."""

from __future__ import annotations

import asyncio
import errno
import re
import sys
from typing import Annotated

import typer

from bide.cli._options import number_between, whole_number_between

__all__ = ["serve", "token_of"]


def token_of(district: str) -> str:
    """The bearer token by which the stand-in knows a district: no secret.

    >>> token_of("north")
    'north-token'
    """
    return f"{district}-token"


def _districts(text: str) -> str:
    names = text.split(",")
    if len(set(names)) < len(names) or not all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names):
        raise typer.BadParameter(f"{text!r}; write different names such as north,south,west")
    return text


def serve(
    port: Annotated[
        int, typer.Option(parser=whole_number_between(0, 65_535), metavar="PORT", help="0 takes a free one.")
    ] = 0,
    limit: Annotated[
        int,
        typer.Option(
            parser=whole_number_between(1, 67_000_000),
            metavar="REQUESTS",
            help="What each token may send in a window.",
        ),
    ] = 1200,
    window: Annotated[
        float,
        typer.Option(
            parser=number_between(0.001, 31_622_400), metavar="SECONDS", help="The window's length."
        ),
    ] = 60.0,
    students: Annotated[
        int,
        typer.Option(
            parser=whole_number_between(0, 10_000_000), metavar="COUNT", help="Students of each district."
        ),
    ] = 10_000,
    districts: Annotated[
        str, typer.Option(parser=_districts, metavar="NAMES", help="The token of NAME is NAME-token.")
    ] = "north,south,west",
    seed: Annotated[
        int,
        typer.Option(
            parser=whole_number_between(0, 2**63),
            metavar="NUMBER",
            help="Determines the windows' phases and the faults.",
        ),
    ] = 0,
    faults: Annotated[
        str,
        typer.Option(
            metavar="KIND=PERCENT,...",
            help="Of 500, 502, 503, drop (close without an answer), slow; such as 503=2,drop=0.5.",
        ),
    ] = "",
    slow_seconds: Annotated[
        float,
        typer.Option(parser=number_between(0, 3600), metavar="SECONDS", help="How late a slow answer is."),
    ] = 1.0,
    clock_offset: Annotated[
        float,
        typer.Option(
            parser=number_between(-1e9, 1e9), metavar="SECONDS", help="How far ahead the server's clock is."
        ),
    ] = 0.0,
    outage_after: Annotated[
        int | None,
        typer.Option(
            parser=whole_number_between(0, 10**15),
            metavar="REQUESTS",
            help="After so many every answer is 503.",
        ),
    ] = None,
    outage_seconds: Annotated[
        float | None,
        typer.Option(
            parser=number_between(0, 1e9), metavar="SECONDS", help="How long the outage lasts; else for good."
        ),
    ] = None,
    while_stdin_is_open: Annotated[
        bool, typer.Option("--while-stdin-is-open", help="Stop also when standard input ends.")
    ] = False,
) -> int:
    """Serve a stand-in of the Clever API on this machine.

    Prints one line, with the address, when it is ready. GET /-/counts tells what was answered; GET and PUT
    /-/script show and change faults and outage while it runs. Stops on Ctrl-C or SIGTERM.

    Example: bide serve --port 8080 --limit 300 --window 5
    """
    from bide.cli.http_server import serve_until_stopped
    from bide.cli.stand_in import Script, Service

    try:
        script = Script(faults, slow_seconds, clock_offset, outage_after, outage_seconds)
    except ValueError as mistake:
        raise typer.BadParameter(str(mistake), param_hint="'--faults'") from None
    tokens = {name: token_of(name) for name in districts.split(",")}
    service = Service(tokens, limit=limit, window_seconds=window, students=students, seed=seed, script=script)
    listed = " ".join(f"{name}={token}" for name, token in tokens.items())

    def ready(url: str) -> None:
        print(f"{url} serves; {limit} requests per {window:g} s; CLEVER_TOKENS='{listed}'", flush=True)

    try:
        asyncio.run(
            serve_until_stopped(service, port=port, ready=ready, while_stdin_is_open=while_stdin_is_open)
        )
    except BrokenPipeError:
        raise
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        message = f"port {port} {why}; choose another with --port, or leave --port out for a free one"
        print(f"bide serve: {message}", file=sys.stderr)
        return 2
    return 0
