"""The commands, put together; and how a mistake is told.

Rules: a command is added here by one line.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from bide.cli import policies, store
from bide.cli._input import Mistake
from bide.cli._screen import shown
from bide.cli.bench import bench
from bide.cli.demo import demo
from bide.cli.explain import explain
from bide.cli.serve import serve
from bide.cli.simulate import simulate

__all__ = ["run"]

EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong use, 75 deferred (resume later), 130 interrupted."

app = typer.Typer(epilog=EXIT_CODES, add_completion=True, rich_markup_mode=None, no_args_is_help=True)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        from bide.limiter import IMPLEMENTATION

        print(f"bide {version('bide')}, {IMPLEMENTATION} limiter, Python {sys.version.split()[0]}")
        raise typer.Exit


@app.callback()
def bide(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="No colours; anywhere on the line. So does NO_COLOR=1.")
    ] = False,
) -> None:
    """Tells an HTTP client what to do with a response, and keeps it inside a rate limit.

    \b
    Examples:
      curl -si https://api.github.com/users/octocat | bide explain
      bide policies github
      bide simulate --clients 8 --policy clever
    """


app.command()(explain)
app.add_typer(policies.app, name="policies")
app.add_typer(store.app, name="store")
app.command()(simulate)
app.command()(bench)
app.command()(demo)
app.command()(serve)

# Typer carries its own copy of click since 0.26 and used click before: the class is found, not imported.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def run(arguments: list[str]) -> int:
    """Runs one command; a mistake in the arguments is one line and 2."""
    command = typer.main.get_command(app)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the terminal's encoding lacks
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    words = [word for word in options if word != "--no-color"] + arguments[len(options) :]
    with _colours_unless("--no-color" in options):
        try:
            result = command.main(words or ["--help"], prog_name="bide", standalone_mode=False)
        except _UsageError as mistake:
            context = getattr(mistake, "ctx", None)
            path = context.command_path if context else "bide"
            return _tell(path, str(getattr(mistake, "format_message", mistake.__str__)()))
        except Mistake as mistake:
            return _tell(_command_of(words), str(mistake))
        except typer.Abort:
            return 130
    return result if isinstance(result, int) else 0


def _tell(path: str, message: str) -> int:
    text = shown(" ".join(message.split()), 600)
    print(f"{path}: {text.rstrip('.')} (see {path} --help)", file=sys.stderr)
    return 2


def _command_of(words: list[str]) -> str:
    """The command of a line, for a mistake that was found while it ran."""
    named = [word for word in words if not word.startswith("-")][:2]
    known = {command.name for command in policies.app.registered_commands} | {"check", "show"}
    subcommand = named[:1] == ["policies"] and len(named) > 1 and named[1] in known
    return " ".join(["bide", *named[: 2 if subcommand else 1]])


@contextmanager
def _colours_unless(unwanted: bool) -> Iterator[None]:
    """Sets NO_COLOR, which the commands' own processes obey, too."""
    before = os.environ.get("NO_COLOR")
    if unwanted:
        os.environ["NO_COLOR"] = "1"
    try:
        yield
    finally:
        if unwanted and before is None:
            os.environ.pop("NO_COLOR", None)
