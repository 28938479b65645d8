"""The commands, put together; and how a mistake is told.

Rules: a command is added here by one line.
"""

from __future__ import annotations

import sys

import typer

from bide.cli.demo import demo
from bide.cli.serve import serve

__all__ = ["run"]

app = typer.Typer(
    help="Tells an HTTP client what to do with a response, and keeps it inside a rate limit.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong use, 75 deferred (resume later), 130 interrupted.",
    add_completion=True,
    rich_markup_mode=None,
)
app.command()(demo)
app.command()(serve)

# Typer carries its own copy of click since 0.26 and used click before: the class is found, not imported.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def run(arguments: list[str]) -> int:
    """Runs one command; a mistake in the arguments is one line and 2."""
    command = typer.main.get_command(app)
    try:
        result = command.main(arguments or ["--help"], prog_name="bide", standalone_mode=False)
    except _UsageError as mistake:
        context = getattr(mistake, "ctx", None)
        path = context.command_path if context else "bide"
        message = " ".join(str(getattr(mistake, "format_message", mistake.__str__)()).split())
        print(f"{path}: {message.rstrip('.')} (see {path} --help)", file=sys.stderr)
        return 2
    except typer.Abort:
        return 130
    return result if isinstance(result, int) else 0
