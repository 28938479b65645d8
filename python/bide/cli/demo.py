"""``bide demo``: the sync of examples/clever_sync.py against the stand-in service, and proof of its claims.

Three parts: (a) a sync through faults, (b) an outage and the resumed sync, (c) the native limiter beside the
pure one. Server and sync are processes of their own; what is claimed is counted by the server, and read from
the database.

Rules: every claim is checked, and one that fails makes the exit code 1. The databases are demo.sqlite and
demo.sqlite-outage in the current folder; a demo that was interrupted is gone on with, a file that no demo
wrote is left alone.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bide.cli._measure import least_nanoseconds
from bide.cli.serve import token_of

__all__ = ["demo"]

DISTRICTS = ("north", "south", "west")
LIMIT = 100
WINDOW_SECONDS = 5
PAGE_SIZE = 25
STUDENTS = 430 * PAGE_SIZE
STUDENTS_IN_OUTAGE = 80 * PAGE_SIZE
FIRST_WAIT_SECONDS = 0.1
CALLS = 20_000
ROUNDS = 15
FAULTS = "500=1,502=1,503=1,drop=0.5,slow=0.5"
DEMO_DATABASE = 0x64000000
"""Plus the number of students, the ``user_version`` of a demo's database: no other one is ever deleted."""

PROGRAM = Path(__file__).with_name("clever_sync.py")
"""The example, as it is packaged: a link to examples/clever_sync.py, of which a wheel holds the content."""


class _CannotStart(Exception):
    """What is missing, in one line."""


class _Server:
    """A running ``bide serve``."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "bide.cli", "serve", "--while-stdin-is-open"]
        command += ["--limit", str(LIMIT), "--window", str(WINDOW_SECONDS), *options]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().partition(" ")[0]
        if not self.url:
            raise _CannotStart("the stand-in service did not start")

    def ask(self, method: str, target: str, document: object = None) -> Any:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        connection.request(method, target, json.dumps(document))
        answer = json.load(connection.getresponse())
        connection.close()
        return answer

    def stop(self) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


@contextmanager
def _serving(*options: str) -> Iterator[_Server]:
    server = _Server(*options)
    try:
        yield server
    finally:
        server.stop()


class _Database:
    """One part's database: opened, or left alone and complained of."""

    def __init__(self, path: str, students: int) -> None:
        self.path = path
        self._students = students
        self.pages_before = self._pages()
        if self.pages_before and self.count() == len(DISTRICTS) * students:
            self.delete()
            self.pages_before = self._pages()

    def delete(self) -> None:
        """Removes it from the disk: it is a demo's."""
        for suffix in ("", "-wal", "-shm"):
            Path(self.path + suffix).unlink(missing_ok=True)

    def _read(self, query: str) -> list[tuple[Any, ...]]:
        database = sqlite3.connect(self.path)
        try:
            return database.execute(query).fetchall()
        finally:
            database.close()

    def _pages(self) -> int:
        """Pages that are stored already; a new file is marked as a demo's."""
        try:
            (mark,) = self._read("PRAGMA user_version")[0]
            tables = self._read("SELECT count(*) FROM sqlite_schema")
            if tables == [(0,)]:
                self._read(f"PRAGMA user_version={DEMO_DATABASE + self._students}")
                return 0
            if mark == DEMO_DATABASE + self._students:
                return self.count() // PAGE_SIZE
        except sqlite3.Error as error:
            raise _CannotStart(f"{self.path}: {error}; move it away, or run in another folder") from None
        raise _CannotStart(
            f"{self.path} was not written by this demo; move it away, or run in another folder"
        )

    def count(self) -> int:
        return int(self._read("SELECT count(*) FROM student")[0][0])

    def holds_every_student_once(self) -> bool:
        """Compares what is stored with what the service has, student by student."""
        rows = self._read(
            "SELECT district, id, json_extract(data, '$.id') FROM student ORDER BY district, id"
        )
        expected = [
            (district, f"{number:08x}{index:016x}", f"{number:08x}{index:016x}")
            for number, district in enumerate(DISTRICTS, start=1)
            for index in range(self._students)
        ]
        return rows == expected


class _Sync:
    """One run of the example, to its end."""

    def __init__(self, server: _Server, database: str, students: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.json")
            command = [sys.executable, str(PROGRAM), "--base-url", server.url, "--database", database]
            command += ["--page-size", str(PAGE_SIZE), "--expect", str(students), "--report", str(report)]
            command += ["--first-wait", str(FIRST_WAIT_SECONDS)]
            tokens = " ".join(f"{name}={token_of(name)}" for name in DISTRICTS)
            # A process group of its own: Ctrl-C reaches it once, from here.
            process = subprocess.Popen(command, env=os.environ | {"CLEVER_TOKENS": tokens}, process_group=0)
            try:
                self.code = process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                process.wait()
                raise
            told = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
        self.resume_at: float | None = told.get("resume_at")
        self.waited_seconds: dict[str, dict[str, float]] = told.get("waited_seconds", {})


class _Demo:
    """The three parts, what they claim and whether it held."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)
        self._console.width = min(self._console.width, 80)
        self.failed = 0

    def _say(self, text: str = "", style: str = "") -> None:
        self._console.print(text, style=style, markup=False)

    def _claim(self, holds: bool, text: str) -> None:
        self.failed += not holds
        self._say(f"  {'ok     ' if holds else 'FAILED '} {text}", "" if holds else "bold red")

    def _table(self, columns: list[str], rows: list[list[str]]) -> None:
        from rich import box
        from rich.table import Table

        table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def run(self) -> int:
        """Plays all parts; returns the exit code."""
        faults = _Database("demo.sqlite", STUDENTS)
        outage = _Database("demo.sqlite-outage", STUDENTS_IN_OUTAGE)
        self.sync_through_faults(faults)
        self.outage(outage)
        outage.delete()
        self.native_beside_pure()
        self._say(f"\n{self.failed or 'no'} claim{'s' if self.failed > 1 else ''} failed", "bold")
        return 1 if self.failed else 0

    def sync_through_faults(self, database: _Database) -> None:
        self._say("(a) A sync through a bad day of the API", "bold")
        self._say(
            f"    3 districts of {STUDENTS:,} students, {LIMIT} requests per {WINDOW_SECONDS} s for each\n"
            "    in windows that the client does not know; errors, dropped connections,\n"
            "    late answers, a server clock 30 s ahead; a tenth of the usual backoff"
        )
        if database.pages_before:
            self._say(f"    going on with {database.path}, which holds {database.count():,} students")
        with _serving(
            "--students", str(STUDENTS), "--faults", FAULTS, "--slow-seconds", "0.3", "--clock-offset", "30"
        ) as server:  # fmt: skip
            sync = _Sync(server, database.path, STUDENTS)
            counts = server.ask("GET", "/-/counts")["districts"]
        self._summary(counts, sync)
        windows = {name: district["windows"] for name, district in counts.items()}
        refused = sum(
            window["answers"].get("429", 0) for several in windows.values() for window in several[1:]
        )
        self._claim(sync.code == 0, "the sync ended well")
        self._claim(
            database.holds_every_student_once(),
            f"every record is there exactly once: {database.count():,} students",
        )
        repeated = sum(district["repeated_pages"] for district in counts.values())
        self._claim(repeated == 0, f"pages fetched twice: {repeated}")
        self._claim(refused == 0, f"429s after the first window: {refused}")
        if not database.pages_before:
            crossed = min(len(several) for several in windows.values()) - 1
            self._claim(crossed >= 4, f"ends of windows crossed by each district: {crossed} (at least 4)")

    def _summary(self, counts: dict[str, Any], sync: _Sync) -> None:
        def row(title: str, values: list[float], form: str = "{:,.0f}") -> list[str]:
            return [title, *(form.format(value) for value in values), form.format(sum(values))]

        districts = list(counts.values())
        answers = [Counter[str](district["answers"]) for district in districts]
        first = [Counter[str](*(w["answers"] for w in district["windows"][:1])) for district in districts]
        waited = [sync.waited_seconds.get(name, {}) for name in counts]
        full = [district["windows"][1:-1] for district in districts]
        used = [sum(window["counted"] for window in windows) for windows in full]
        # A window in which nothing was sent is not in the list, but in the numbering.
        numbers = [[window["number"] for window in district["windows"]] for district in districts]
        allowed = [LIMIT * max(max(several) - min(several) - 1, 0) if several else 0 for several in numbers]
        shares = [*zip(used, allowed, strict=True), (sum(used), sum(allowed))]
        rows = [
            row("requests", [sum(a.values()) - a["slow"] for a in answers]),
            row("answered 200", [a["200"] for a in answers]),
            row("answered 429 in the first window", [a["429"] for a in first]),
            row("answered 429 after it", [a["429"] - b["429"] for a, b in zip(answers, first, strict=True)]),
            row("answered 5xx, retried", [a["500"] + a["502"] + a["503"] for a in answers]),
            row("connections dropped, retried", [a["dropped"] for a in answers]),
            *(
                row(f"s waited: {cause}", [causes.get(cause, 0.0) for causes in waited], "{:.1f}")
                for cause in sorted({cause for causes in waited for cause in causes})
            ),
            ["share of the allowed rate, full windows", *(f"{u / a:.1%}" if a else "-" for u, a in shares)],
        ]
        self._table(["", *counts, "total"], rows)

    def outage(self, database: _Database) -> None:
        self._say("\n(b) An outage: cease, and resume later", "bold")
        self._say("    backoff 0.1, 0.2, 0.4, 0.8, 1.6 s (in earnest ten times as long)")
        left = len(DISTRICTS) * STUDENTS_IN_OUTAGE // PAGE_SIZE - database.pages_before
        with _serving("--students", str(STUDENTS_IN_OUTAGE), "--outage-after", str(left // 2)) as server:
            sync = _Sync(server, database.path, STUDENTS_IN_OUTAGE)
            during = server.ask("GET", "/-/counts")["answers"]
            stored = database.count()
            self._claim(sync.code == 75, f"exit code {sync.code} (75: resume later)")
            tries = during.get("503", 0)
            self._claim(
                tries == 6 * len(DISTRICTS), f"{tries} requests met the outage: 1 and 5 retries a district"
            )
            self._claim((sync.resume_at or 0.0) > time.time(), "it says when to resume")
            self._claim(stored > 0, f"{stored:,} students are stored")
            self._say("    the outage is over; the same command again")
            server.ask("PUT", "/-/script", {"outage_after": None})
            sync = _Sync(server, database.path, STUDENTS_IN_OUTAGE)
            counts = server.ask("GET", "/-/counts")
        self._claim(sync.code == 0, "the second run ended well")
        self._claim(
            database.holds_every_student_once(),
            f"nothing is lost: {database.count():,} students, each exactly once",
        )
        repeated = sum(district["repeated_pages"] for district in counts["districts"].values())
        fetched = counts["answers"].get("200", 0)
        self._claim(
            repeated <= len(DISTRICTS) and fetched == left + repeated,
            f"{fetched} pages fetched for {left} that were missing; fetched twice: {repeated}",
        )

    def native_beside_pure(self) -> None:
        self._say("\n(c) The limiter: native beside pure, ns a call", "bold")
        try:
            from bide.limiter._compiled import Limiter as Native
        except ImportError:
            self._say("    this installation has no native limiter: nothing to compare")
            return
        from bide.limiter._pure import Limiter as Pure

        rows = []
        slower = []
        for title, limit, name in (
            ("try_acquire, allowed", "67000000/hour", "try_acquire"),
            ("try_acquire, refused", "1/hour", "try_acquire"),
            ("take, allowed", "67000000/hour", "take"),
        ):
            limiters = {"native": Native(limit), "pure": Pure(limit)}
            calls = {kind: _repeated(getattr(limiter, name)) for kind, limiter in limiters.items()}
            least = least_nanoseconds(calls, CALLS, ROUNDS)
            ratio = least["pure"] / least["native"]
            slower += [title] if ratio <= 1.0 else []
            rows.append([title, f"{least['native']:.0f}", f"{least['pure']:.0f}", f"{ratio:.1f}x"])
        self._table(["", "native", "pure", "pure / native"], rows)
        self._say(f"    least of {ROUNDS} interleaved rounds of {CALLS:,} calls, with the loop around them")
        self._claim(not slower, f"rows in which native is not the faster one: {len(slower)}")


def _repeated(call: Callable[[str], object]) -> Callable[[], object]:
    def calls() -> None:
        for _ in range(CALLS):
            call("a key")

    return calls


def demo() -> int:
    """Sync through a bad day of an API, and prove it.

    Three districts from a stand-in of the Clever API, through faults and an outage. Takes about a
    minute, prints what it claims and whether it held, and exits 1 if a claim failed. Ctrl-C stops it;
    the next run goes on from demo.sqlite in the current folder.

    Example: bide demo
    """
    try:
        import httpx  # noqa: F401  # only whether it is there: the example needs it

        if not PROGRAM.is_file():
            raise _CannotStart(f"{PROGRAM.name} is missing beside bide.cli: install bide from a wheel")
        return _Demo().run()
    except (ModuleNotFoundError, _CannotStart) as error:
        why = (
            "the demo needs extras: pip install 'bide[cli,httpx]'"
            if isinstance(error, ImportError)
            else error
        )
        print(f"bide demo: {why}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bide demo: interrupted; run it again to go on from where it was", file=sys.stderr)
        return 130
