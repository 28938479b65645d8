"""The command line: ``bide COMMAND``, also ``python -m bide.cli``.

Rules: a user's mistake is one line on standard error that says what to write instead, and exit code 2; there
is no stack trace for it. A command is a function in a module of its own, returns its exit code, and imports
what is heavy when it runs. Exit codes: 0 done, 1 failed, 2 wrong use, 75 deferred (resume later),
130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

UNWRITABLE = {errno.EPIPE, errno.ENOSPC, errno.EFBIG, errno.EIO}
"""The reader of our output has gone, or there is no room for it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
        arguments: the words after ``bide``; None takes those of this process.

    >>> main(["serve", "--limit", "many"])
    2
    """
    try:
        from bide.cli._app import run
    except ModuleNotFoundError as missing:
        if missing.name not in ("typer", "rich"):
            raise
        print("bide: the command line needs an extra: pip install 'bide[cli]'", file=sys.stderr)
        return 2
    try:
        code = run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        if error.errno != errno.EPIPE:
            print(f"bide: the output cannot be written: {error.strerror}", file=sys.stderr)
        # What is still buffered must not fail a second time at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code
