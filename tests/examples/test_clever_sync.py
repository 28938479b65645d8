"""examples/clever_sync.py, run as a person runs it: whatever stops it, the next run loses nothing."""

import json
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bide.cli import clever_sync

PROGRAM = Path(__file__).parents[2] / "examples" / "clever_sync.py"
TOKENS = "north=north-token south=south-token"
PAGE_SIZE = 10


def command(url: str, database: Path, *options: str) -> list[str]:
    arguments = ["--base-url", url, "--database", str(database), "--page-size", str(PAGE_SIZE), *options]
    return [sys.executable, str(PROGRAM), *arguments]


def environment(tokens: str = TOKENS) -> dict[str, str]:
    return os.environ | {"CLEVER_TOKENS": tokens}


def run(url: str, database: Path, *options: str, tokens: str = TOKENS) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(url, database, *options), env=environment(tokens), capture_output=True, text=True, timeout=60
    )
    assert "-token" not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def students_of(database: Path) -> list[tuple[str, str]]:
    connection = sqlite3.connect(database)
    rows = connection.execute("SELECT district, id FROM student ORDER BY district, id").fetchall()
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    return rows


def cursors_of(database: Path) -> dict[str, str]:
    connection = sqlite3.connect(database)
    rows = dict(connection.execute("SELECT district, starting_after FROM cursor").fetchall())
    connection.close()
    return rows


def all_students(count: int) -> list[tuple[str, str]]:
    return [
        (district, f"{number:08x}{index:016x}")
        for number, district in enumerate(("north", "south"), start=1)
        for index in range(count)
    ]


def pages_answered(server: Any) -> int:
    return int(server.counts()["answers"].get("200", 0))


def repeated_pages(server: Any) -> list[int]:
    return [district["repeated_pages"] for district in server.counts()["districts"].values()]


def assert_goes_on_from_whole_pages(database: Path) -> None:
    """What a stopped run leaves: whole pages, and a cursor at the end of each district's last one."""
    stored = students_of(database)
    for district, cursor in cursors_of(database).items():
        identifiers = [identifier for name, identifier in stored if name == district]
        assert len(identifiers) % PAGE_SIZE == 0
        assert identifiers[-1] == cursor


def test_every_student_of_every_district_is_stored_once_in_spite_of_faults_and_a_wrong_clock(
    stand_in: Callable[..., Any], tmp_path: Path
) -> None:
    server = stand_in(
        "--students", "165", "--districts", "north,south", "--limit", "8", "--window", "1",
        "--faults", "500=4,502=4,503=4,drop=4,slow=4", "--slow-seconds", "0.05", "--clock-offset", "-7200",
    )  # fmt: skip
    report = tmp_path / "report.json"
    done = run(server.url, tmp_path / "db", "--first-wait", "0.05", "--report", str(report))
    assert done.returncode == 0, done
    assert students_of(tmp_path / "db") == all_students(165)
    assert "north: complete, 165 students\n" in done.stdout
    assert repeated_pages(server) == [0, 0]
    counts = server.counts()
    for district in counts["districts"].values():
        assert len(district["windows"]) >= 3
        assert sum(window["answers"].get("429", 0) for window in district["windows"][1:]) == 0
    waited = json.loads(report.read_text())["waited_seconds"]
    assert waited["north"]["window used up"] > 0.0
    assert "window used up, " in done.stdout


def test_a_second_run_of_a_complete_sync_asks_for_nothing(
    stand_in: Callable[..., Any], tmp_path: Path
) -> None:
    server = stand_in("--students", "20", "--districts", "north,south")
    assert run(server.url, tmp_path / "db").returncode == 0
    before = server.counts()["requests"]
    assert run(server.url, tmp_path / "db").returncode == 0
    assert server.counts()["requests"] == before == 4


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)]
)  # fmt: skip
def test_a_run_that_is_stopped_again_and_again_is_gone_on_with_until_nothing_is_missing(
    stand_in: Callable[..., Any], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    server = stand_in(
        "--students", "240", "--districts", "north,south", "--faults", "slow=100", "--slow-seconds", "0.01"
    )
    database = tmp_path / "db"
    stops = 0
    for pages in (1, 12, 28):
        process = subprocess.Popen(
            command(server.url, database), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        while pages_answered(server) < pages:
            assert process.poll() is None
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == code
        assert b"Traceback" not in errors
        assert_goes_on_from_whole_pages(database)
        stops += 1
    assert len(students_of(database)) < 480
    assert run(server.url, database).returncode == 0
    assert students_of(database) == all_students(240)
    assert all(repeated <= stops for repeated in repeated_pages(server))
    assert pages_answered(server) == 48 + sum(repeated_pages(server))


@pytest.mark.parametrize(
    "statement", ["INSERT OR REPLACE INTO student", "INSERT OR REPLACE INTO cursor", "COMMIT"]
)
def test_a_kill_within_the_storing_of_a_page_leaves_neither_the_page_nor_its_cursor(
    tmp_path: Path, statement: str
) -> None:
    program = f"""if True:
        import os, signal
        from bide.cli.clever_sync import Store

        store = Store({str(tmp_path / "db")!r})
        store.add("north", {{"1": "a", "2": "b"}}, "2", False)
        store._database.set_trace_callback(
            lambda text: os.kill(os.getpid(), signal.SIGKILL) if text.startswith({statement!r}) else None
        )
        store.add("north", {{"3": "c", "4": "d"}}, "4", False)
        """
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == -signal.SIGKILL
    assert students_of(tmp_path / "db") == [("north", "1"), ("north", "2")]
    assert cursors_of(tmp_path / "db") == {"north": "2"}


def test_an_outage_ends_the_run_with_75_after_five_retries_and_the_next_run_completes_it(
    stand_in: Callable[..., Any], tmp_path: Path
) -> None:
    server = stand_in("--students", "200", "--districts", "north,south", "--outage-after", "20")
    database = tmp_path / "db"
    report = tmp_path / "report.json"
    done = run(server.url, database, "--first-wait", "0.02", "--report", str(report))
    assert done.returncode == 75
    assert (
        len(re.findall(r"^(?:north|south): stopped, resume not before 20\d\d-", done.stdout, re.MULTILINE))
        == 2
    )
    assert json.loads(report.read_text())["resume_at"] > 0
    assert server.counts()["answers"]["503"] == 2 * 6
    assert len(students_of(database)) == 20 * PAGE_SIZE
    assert_goes_on_from_whole_pages(database)
    server.change_script(outage_after=None)
    assert run(server.url, database).returncode == 0
    assert students_of(database) == all_students(200)
    assert repeated_pages(server) == [0, 0]


def test_a_wrong_token_fails_its_own_district_with_advice_and_no_other(
    stand_in: Callable[..., Any], tmp_path: Path
) -> None:
    server = stand_in("--students", "30")
    done = run(server.url, tmp_path / "db", tokens="north=wrong-token south=south-token")
    assert done.returncode == 1
    assert re.search(r"^north: 401: .*token", done.stdout, re.MULTILINE)
    assert len(students_of(tmp_path / "db")) == 30


def test_a_terminal_shows_bars_and_counts_down_why_it_waits(
    stand_in: Callable[..., Any], tmp_path: Path
) -> None:
    server = stand_in("--students", "60", "--districts", "north,south", "--limit", "4", "--window", "1")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(server.url, tmp_path / "db", "--expect", "60"),
        env=environment() | {"TERM": "xterm", "COLUMNS": "80"}, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other end of a pseudo-terminal was closed
            break
    os.close(ours)
    assert process.wait(timeout=30) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    seconds = re.findall(r"window used up, (\d\.\d) s until reset", text)
    assert len(set(seconds)) > 2
    assert "60/60" in text
    assert "-token" not in text
    assert all(len(line) <= 80 for line in re.split(r"[\r\n]+", text))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("noise", "file is not a database"),
        ("other", "it belongs to another program"),
        ("folder", "unable to open database file"),
        ("missing/folder", "unable to open database file"),
    ],
)
def test_an_unreadable_database_is_one_clear_line_exit_2_and_left_as_it_is(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 64)
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE mine (value)")
    other.close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    done = run("http://127.0.0.1:1", tmp_path / name)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert "--database" in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "tokens", "said"),
    [
        ((), "", 'set CLEVER_TOKENS to "DISTRICT=TOKEN'),
        ((), "just-a-token", 'set CLEVER_TOKENS to "DISTRICT=TOKEN'),
        ((), "north=a-token north=b-token", "each district once"),
        ((), "north=", 'set CLEVER_TOKENS to "DISTRICT=TOKEN'),
        ((), "north=schlüssel-token", 'set CLEVER_TOKENS to "DISTRICT=TOKEN'),
        (("--base-url", "http://api.clever.com"), TOKENS, "write https://"),
        (("--base-url", "ftp://127.0.0.1"), TOKENS, "write https://"),
        (("--base-url", "https://[::"), TOKENS, "write https://"),
        (("--page-size", "0"), TOKENS, "write a whole number from 1 to 10000"),
        (("--page-size", "10001"), TOKENS, "write a whole number from 1 to 10000"),
        (("--page-size", "ten"), TOKENS, "--page-size"),
        (("--first-wait", "nan"), TOKENS, "write seconds, above 0 and up to 60"),
        (("--first-wait", "-1"), TOKENS, "write seconds, above 0 and up to 60"),
        (("--speed", "1"), TOKENS, "--speed"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line_that_says_what_to_write_and_exit_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    tokens: str,
    said: str,
) -> None:
    monkeypatch.setenv("CLEVER_TOKENS", tokens)
    with pytest.raises(SystemExit) as ended:
        clever_sync.main(["--database", str(tmp_path / "db"), *options])
    output, errors = capfd.readouterr()
    assert (ended.value.code, output) == (2, "")
    assert len(errors.splitlines()) == 1
    assert said in errors
    assert "-token" not in errors
    assert not (tmp_path / "db").exists()


HOSTILE_PAGES = [
    ("no JSON", "<html>"),
    ("no page", "[]"),
    ("no data", '{"links": []}'),
    ("no id", '{"data": [{"data": {}}], "links": []}'),
    ("no link", '{"data": [], "links": [{}]}'),
    ("no cursor in the link", '{"data": [], "links": [{"rel": "next", "uri": "/v3.0/students"}]}'),
    ("no URL in the link", '{"data": [], "links": [{"rel": "next", "uri": "http://[::"}]}'),
    ("a number for a link", '{"data": [], "links": [{"rel": "next", "uri": 7}]}'),
    ("deep", "[" * 100_000),
]


@pytest.fixture
def says() -> Iterator[Callable[[str], tuple[str, list[str]]]]:
    """A server that answers every request with one text; gives its URL and the targets it was asked for."""
    servers: list[ThreadingHTTPServer] = []

    def start(text: str) -> tuple[str, list[str]]:
        targets: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                targets.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}", targets

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("text", [text for _, text in HOSTILE_PAGES], ids=[name for name, _ in HOSTILE_PAGES])
def test_a_page_that_cannot_be_read_fails_the_district_in_one_line_and_stores_nothing(
    says: Callable[[str], tuple[str, list[str]]], tmp_path: Path, text: str
) -> None:
    url, _ = says(text)
    done = run(url, tmp_path / "db", tokens="north=north-token")
    assert done.returncode == 1
    assert done.stdout.startswith("north: the page after '' cannot be read: ")
    assert len(done.stdout.splitlines()) == 1
    assert students_of(tmp_path / "db") == []


def test_a_next_link_to_another_host_takes_the_token_nowhere_and_one_to_itself_ends_the_run(
    says: Callable[[str], tuple[str, list[str]]], tmp_path: Path
) -> None:
    thief, stolen = says("{}")
    page = {"data": [], "links": [{"rel": "next", "uri": f"{thief}/v3.0/students?starting_after=x"}]}
    url, targets = says(json.dumps(page))
    done = run(url, tmp_path / "db", tokens="north=north-token")
    assert done.returncode == 1
    assert "its next page is itself" in done.stdout
    assert targets == ["/v3.0/students?limit=10", "/v3.0/students?limit=10&starting_after=x"]
    assert stolen == []
