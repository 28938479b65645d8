"""``bide demo``: small enough for a test, with the real server, the real program and the real claims."""

import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

import bide.cli.demo

SMALL = {
    "LIMIT": 15, "WINDOW_SECONDS": 1, "PAGE_SIZE": 5, "STUDENTS": 330, "STUDENTS_IN_OUTAGE": 60,
    "FIRST_WAIT_SECONDS": 0.02, "CALLS": 500, "ROUNDS": 5,
}  # fmt: skip


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], int]:
    monkeypatch.chdir(tmp_path)
    for name, value in SMALL.items():
        monkeypatch.setattr(bide.cli.demo, name, value)
    return bide.cli.demo.demo


def small_demo_process(folder: Path, students: int) -> subprocess.Popen[str]:
    """The same small demo as a process that can be interrupted: every window's end is waited for long enough to be
    told."""
    program = (
        "import sys, bide.cli.demo as demo\n"
        f"vars(demo).update({SMALL | {'STUDENTS': students, 'WINDOW_SECONDS': 4}!r})\n"
        "from bide.cli import main\n"
        "sys.exit(main(['demo']))"
    )  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_packaged_program_is_the_example_itself() -> None:
    example = Path(__file__).parents[2] / "examples" / "clever_sync.py"
    assert bide.cli.demo.PROGRAM.read_bytes() == example.read_bytes()


def test_every_claim_holds_and_is_shown_in_plain_text_of_eighty_columns(
    small_demo: Callable[[], int], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code = small_demo()
    output, errors = capfd.readouterr()
    assert code == 0, output
    assert errors == ""
    assert "FAILED" not in output
    assert "\x1b" not in output
    assert "-token" not in output
    assert max(map(len, output.splitlines())) <= 80
    for claim in (
        r"ok +every record is there exactly once: 990 students",
        r"ok +429s after the first window: 0",
        r"ok +ends of windows crossed by each district: [4-9]",
        r"ok +exit code 75",
        r"ok +18 requests met the outage",
        r"ok +nothing is lost: 180 students",
        r"ok +\d+ pages fetched for 36 that were missing; fetched twice: [0-3]",
        r"s waited: window used up +\d+\.\d +\d+\.\d +\d+\.\d +\d+\.\d",
        r"share of the allowed rate, full windows +\d+\.\d% ",
        r"try_acquire, allowed +\d+ +\d+ +\d+\.\dx" if find_spec("bide._native") else "no native limiter",
        r"no claim failed",
    ):
        assert re.search(claim, output), (claim, output)
    assert {path.name for path in tmp_path.iterdir()} == {"demo.sqlite"}


def test_a_claim_that_does_not_hold_is_marked_and_makes_the_exit_code_1(
    small_demo: Callable[[], int], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bide.cli.demo, "STUDENTS", 20)
    assert small_demo() == 1
    output, _ = capfd.readouterr()
    assert "FAILED  ends of windows crossed by each district: 0 (at least 4)" in output
    assert "1 claim failed" in output


def test_an_interrupted_demo_leaves_a_database_from_which_the_next_one_goes_on(
    small_demo: Callable[[], int],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    students = 240
    monkeypatch.setattr(bide.cli.demo, "STUDENTS", students)
    process = small_demo_process(tmp_path, students)
    assert process.stdout is not None
    while "window used up" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == (
        "interrupted; what was fetched is stored: run it again to go on\n"
        "bide demo: interrupted; run it again to go on from where it was\n"
    )
    database = sqlite3.connect(tmp_path / "demo.sqlite")
    (stored,) = database.execute("SELECT count(*) FROM student").fetchone()
    database.close()
    assert 0 < stored < 3 * students
    assert small_demo() == 0
    output, _ = capfd.readouterr()
    assert f"going on with demo.sqlite, which holds {stored:,} students" in output


@pytest.mark.parametrize("name", ["demo.sqlite", "demo.sqlite-outage"])
def test_a_database_that_no_demo_wrote_is_one_line_exit_2_and_left_alone(
    small_demo: Callable[[], int], capfd: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"my own notes" * 1000)
    assert small_demo() == 2
    output, errors = capfd.readouterr()
    assert output == ""
    assert re.fullmatch(rf"bide demo: {name}: .*; move it away, or run in another folder\n", errors)
    assert (tmp_path / name).read_bytes() == b"my own notes" * 1000


def test_another_programs_database_is_left_alone(
    small_demo: Callable[[], int], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "demo.sqlite")
    other.execute("CREATE TABLE student (mine)")
    other.close()
    before = (tmp_path / "demo.sqlite").read_bytes()
    assert small_demo() == 2
    assert "demo.sqlite was not written by this demo" in capfd.readouterr().err
    assert (tmp_path / "demo.sqlite").read_bytes() == before


@pytest.mark.parametrize(
    ("missing", "command", "said"),
    [
        ("typer", "serve", "bide: the command line needs an extra: pip install 'bide[cli]'"),
        ("httpx", "demo", "bide demo: the demo needs extras: pip install 'bide[cli,httpx]'"),
    ],
)
def test_a_missing_extra_is_one_line_that_says_what_to_install(
    tmp_path: Path, missing: str, command: str, said: str
) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; "
        f"from bide.cli import main; sys.exit(main([{command!r}]))"
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{said}\n")


def test_a_reader_that_goes_away_ends_the_demo_without_a_stack_trace(tmp_path: Path) -> None:
    process = small_demo_process(tmp_path, 100)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 1
    assert "Traceback" not in errors
