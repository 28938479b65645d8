"""Pulls every student of your districts from the Clever API into SQLite. Stop it at any time, run it again.

    export CLEVER_TOKENS="north=TOKEN south=TOKEN"
    python clever_sync.py --database students.sqlite

The rate limit, the waits and the retries are bide's (``AsyncTransport`` in ``sync``); this program only turns
pages and stores them. A page and the cursor behind it are one transaction: a run that was stopped, by Ctrl-C
or by a power cut, is gone on with from its last stored page.

Exit codes: 0 complete, 1 a district failed (its token, mostly), 2 wrong use or an unreadable database, 75 the
API is down or the wait too long: resume later, 130 interrupted.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

import bide
import bide.httpx

APPLICATION_ID = 0x62696465  # marks a database of this program
SCHEMA = """
    CREATE TABLE student (district TEXT, id TEXT, data TEXT NOT NULL, PRIMARY KEY (district, id));
    CREATE TABLE cursor (district TEXT PRIMARY KEY, starting_after TEXT NOT NULL, complete INTEGER NOT NULL);
"""
OPTIONS = (
    ("--database", str, "clever.sqlite", "where the students go"),
    ("--base-url", str, "https://api.clever.com", "the service"),
    ("--page-size", int, 1000, "students of one request, 1 to 10000"),
    ("--expect", int, None, "students of a district, if you know, for its bar"),
    ("--first-wait", float, 1.0, "seconds before the first retry after an error; doubles each time"),
    ("--report", str, None, "a file for the seconds waited and when to resume, as JSON"),
)
UNREADABLE = (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError, RecursionError)
EXIT_DEFERRED = 75  # EX_TEMPFAIL of sysexits.h: try again later


class Store:
    """The students so far, and for each district the id after which to go on."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        if self._database.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
            if self._database.execute("SELECT count(*) FROM sqlite_schema").fetchone() != (0,):
                raise sqlite3.DatabaseError("it belongs to another program")
            self._database.executescript(f"BEGIN; PRAGMA application_id={APPLICATION_ID}; {SCHEMA} COMMIT;")
        self._database.execute("PRAGMA journal_mode=WAL")
        # NORMAL: a power cut may take back the last pages, and their cursors with them.
        self._database.execute("PRAGMA synchronous=NORMAL")

    def cursor(self, district: str) -> tuple[str, bool]:
        query = "SELECT starting_after, complete FROM cursor WHERE district = ?"
        starting_after, complete = self._database.execute(query, (district,)).fetchone() or ("", 0)
        return starting_after, bool(complete)

    def count(self, district: str) -> int:
        query = "SELECT count(*) FROM student WHERE district = ?"
        return int(self._database.execute(query, (district,)).fetchone()[0])

    def add(self, district: str, students: dict[str, str], starting_after: str, complete: bool) -> None:
        rows = [(district, identifier, data) for identifier, data in students.items()]
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:  # commits, or rolls back
            self._database.executemany("INSERT OR REPLACE INTO student VALUES (?, ?, ?)", rows)
            cursor = (district, starting_after, complete)
            self._database.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)", cursor)


class WhyColumn(ProgressColumn):
    """Why a district waits, counted down: "window used up, 3.2 s until reset"."""

    max_refresh: float | None = 0.1

    def render(self, task: Task) -> Text:
        left = task.fields["until"] - time.monotonic()
        return Text(task.fields["why"].format(left) if left > 0 else "", style="yellow")


class Bars(Progress):
    """A live bar for each district on a terminal; elsewhere a line for each wait of a second or more."""

    def __init__(self) -> None:
        console = Console(highlight=False, soft_wrap=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            WhyColumn(),
        )
        super().__init__(*columns, console=console, disable=not console.is_terminal)

    def show_wait(self, task: Task, why: str, seconds: float) -> None:
        self.update(task.id, why=why, until=time.monotonic() + seconds)
        if self.disable and seconds >= 1.0:
            self.console.print(f"{task.description}: {why.format(seconds)}", markup=False)


def read_page(response: httpx.Response) -> tuple[dict[str, str], str | None]:
    """A page's students by id, and the cursor of the page after it: None on the last page.

    Of the ``next`` link only the cursor is used: the token is sent to no address that an answer names.
    """
    page = response.json()
    students = {str(item["data"]["id"]): json.dumps(item["data"]) for item in page["data"]}
    following = [link["uri"] for link in page["links"] if link["rel"] == "next"]
    return students, httpx.URL(following[0]).params["starting_after"] if following else None


async def sync(district: str, token: str, store: Store, bars: Bars, options: argparse.Namespace) -> int:
    """Pulls one district from its cursor to its end; returns an exit code."""
    starting_after, complete = store.cursor(district)
    bars.add_task(district, completed=store.count(district), total=options.expect, why="", until=0.0)
    task = bars.tasks[-1]
    waited: dict[str, float] = options.told["waited_seconds"].setdefault(district, {})

    def on_wait(sleep: bide.Sleep) -> None:
        cause, end = "window used up", "reset"
        if sleep.decision:
            cause, end = sleep.decision.reason.replace("_", " "), "retry"
        waited[cause] = waited.get(cause, 0.0) + sleep.seconds
        bars.show_wait(task, f"{cause}, {{:.1f}} s until {end}", sleep.seconds)

    def say(text: str) -> None:
        bars.console.print(f"{district}: {text}", markup=False)

    async with httpx.AsyncClient(
        transport=bide.httpx.AsyncTransport(options.policy, on_wait=on_wait),
        base_url=options.base_url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    ) as client:
        while not complete:
            start = {"starting_after": starting_after} if starting_after else {}
            try:
                response = await client.get("/v3.0/students", params={"limit": options.page_size, **start})
                decision: bide.Decision = response.extensions["bide"]
                if decision.action is not bide.Action.PROCESS:
                    say(f"{response.status_code}: {decision.advice}")
                    return 1
                students, following = read_page(response)
                if following == starting_after:
                    raise ValueError("its next page is itself")
            except bide.Deferred as deferred:
                resume_at = deferred.decision.resume_at or time.time()
                options.told["resume_at"] = max(resume_at, options.told.get("resume_at", 0.0))
                say(f"stopped, resume not before {datetime.fromtimestamp(resume_at):%Y-%m-%d %H:%M:%S}")
                return EXIT_DEFERRED
            except UNREADABLE as error:
                say(f"the page after {starting_after!r} cannot be read: {type(error).__name__}: {error}")
                return 1
            complete = following is None
            starting_after = following or starting_after
            store.add(district, students, starting_after, complete)
            bars.advance(task.id, len(students))
    count = store.count(district)
    bars.update(task.id, completed=count, total=count)
    say(f"complete, {count:,} students")
    return 0


async def sync_all(tokens: dict[str, str], store: Store, options: argparse.Namespace) -> int:
    with Bars() as bars:
        jobs = [sync(district, token, store, bars, options) for district, token in tokens.items()]
        codes = await asyncio.gather(*jobs)
    return next((code for code in (1, EXIT_DEFERRED) if code in codes), 0)


def read_tokens(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split()]
    tokens = {district: token for district, _, token in pairs}
    if not pairs or len(tokens) < len(pairs) or not all((*tokens, *tokens.values(), text.isascii())):
        raise ValueError('set CLEVER_TOKENS to "DISTRICT=TOKEN DISTRICT=TOKEN ...", each district once')
    return tokens


def read_base_url(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme != "https" and not (url.scheme == "http" and url.host in ("127.0.0.1", "localhost", "::1")):
        raise ValueError(f"--base-url {text!r}: write https://HOST (a token is not sent unencrypted)")
    return text


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            self.exit(2, f"{self.prog}: {message} (see --help)\n")

    parser = Parser(description='Pull all students of the districts in CLEVER_TOKENS="DISTRICT=TOKEN ..."')
    for name, kind, default, help_text in OPTIONS:
        shown = help_text if default is None else f"{help_text} (default: {default})"
        parser.add_argument(name, type=kind, default=default, metavar=kind.__name__.upper(), help=shown)
    options = parser.parse_args(arguments)
    try:
        options.tokens = read_tokens(os.environ.get("CLEVER_TOKENS", ""))
        options.base_url = read_base_url(options.base_url)
        if not 1 <= options.page_size <= 10_000:
            raise ValueError(f"--page-size {options.page_size}: write a whole number from 1 to 10000")
        if not 0 < options.first_wait <= 60:
            raise ValueError(f"--first-wait {options.first_wait}: write seconds, above 0 and up to 60")
    except ValueError as mistake:
        parser.error(str(mistake))
    backoff = bide.CLEVER.backoff.replace(base=options.first_wait, cap=60.0)
    options.policy = bide.CLEVER.replace(backoff=backoff)
    return options


def main(arguments: list[str] | None = None) -> int:
    options = read_options(arguments)
    options.told = {"waited_seconds": {}}
    try:
        code = asyncio.run(sync_all(options.tokens, Store(options.database), options))
    except sqlite3.Error as error:
        print(
            f"clever_sync.py: {options.database}: {error}; name another file with --database", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was fetched is stored: run it again to go on", file=sys.stderr)
        code = 130
    if options.report:
        Path(options.report).write_text(json.dumps(options.told), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
