"""How the command line is run in these tests: as a process, in a terminal of some width, or in this process."""

import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import pytest

from bide.cli import main

COMMAND = (sys.executable, "-m", "bide.cli")


class Ran(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


@pytest.fixture
def run_process() -> Callable[..., Ran]:
    """Runs the command line as a process of its own."""

    def run(*words: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Ran:
        done = subprocess.run(
            [*COMMAND, *words], input=stdin, capture_output=True, env=os.environ | (env or {}), timeout=60
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def run_here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Runs the command line's entry point in this process: much faster, and the same code."""

    def run(*words: str, stdin: bytes = b"") -> Ran:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        assert os.write(writer, stdin) == len(stdin), "more than a pipe holds: give a file"
        os.close(writer)
        with os.fdopen(reader) as file, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", file)
            code = main(words)
        sys.stdout.flush()
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def run_in_terminal() -> Callable[..., Ran]:
    """Runs the command line with a terminal as its standard streams; ``interrupt`` is what must be seen on it
    before Ctrl-C is typed."""
    pty, termios, fcntl = map(pytest.importorskip, ("pty", "termios", "fcntl"))

    def run(*words: str, columns: int = 80, term: str = "xterm-256color", interrupt: str = "") -> Ran:
        process, terminal = pty.fork()
        if process == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
            signal.signal(signal.SIGINT, signal.default_int_handler)
            # Given, not inherited: the readline module sets COLUMNS behind Python's back.
            os.execve(sys.executable, [*COMMAND, *words], {**os.environ, "TERM": term, "COLUMNS": ""})
        seen = b""
        end = time.monotonic() + 30.0
        # Linux says EIO when the other side has gone.
        with suppress(OSError):
            while time.monotonic() < end:
                if select.select([terminal], [], [], 0.1)[0]:
                    chunk = os.read(terminal, 65_536)
                    if not chunk:
                        break
                    seen += chunk
                    if interrupt and interrupt in seen.decode("utf-8", "replace"):
                        os.write(terminal, b"\x03")
                        interrupt = ""
        os.close(terminal)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        return Ran(code, seen.decode("utf-8", "replace"), "")

    return run
