"""``bide store``: looks into a file store that is in use, and empties it under its workers."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bide

Run = Callable[..., Any]
SECRET = "Bearer 5ca1ab1e0ddba11"

pytestmark = pytest.mark.skipif(bide.IMPLEMENTATION != "native", reason="the twin has no file store")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits.bide"


@pytest.fixture
def limiter(path: Path) -> bide.Limiter:
    limiter = bide.Limiter("10/minute", "100/hour", store=f"file://{path}", max_keys=100)
    for number in range(1, 6):
        limiter.try_acquire(f"{SECRET} {number}", number)
    limiter.try_acquire(f"{SECRET} 1", 10)
    return limiter


def inspected(run_here: Run, *arguments: object) -> dict[str, Any]:
    ran = run_here("store", "inspect", *map(str, arguments), "--json")
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


def test_it_tells_the_header_what_lives_and_the_fullest_buckets(
    run_here: Run, limiter: bide.Limiter, path: Path
) -> None:
    found = inspected(run_here, path, "--top", 3)
    minute, hour = found.pop("limits")
    assert found == {
        "path": str(path),
        "bytes": path.stat().st_size,
        "version": 2,
        "created_at": pytest.approx(path.stat().st_mtime, abs=60.0),
        "clock": "this boot's",
        "replaced": False,
        "max_keys": 100,
        "denied": 1,
        "reused": 0,
        "overflowed": 0,
    }
    assert (minute["window"], minute["live"], minute["overflowing"]) == (60.0, 5, 0)
    assert [bucket["count"] for bucket in minute["fullest"]] == [5, 4, 3]
    assert {bucket["state"] for bucket in minute["fullest"]} == {"counting"}
    assert all(re.fullmatch("[0-9a-f]{12}", bucket["fingerprint"]) for bucket in minute["fullest"])
    assert all(0.0 < bucket["reset_after"] <= 60.0 for bucket in minute["fullest"])
    assert (hour["window"], hour["live"]) == (3600.0, 5)
    assert [bucket["fingerprint"] for bucket in hour["fullest"]] == [
        bucket["fingerprint"] for bucket in minute["fullest"]
    ]


def test_its_text_says_the_same_to_a_person(run_here: Run, limiter: bide.Limiter, path: Path) -> None:
    limiter.penalize(f"{SECRET} 2", 90.0)
    limiter.contact(f"{SECRET} 9")
    ran = run_here("store", "inspect", f"file://{path}")
    assert ran.code == 0
    assert ran.out.startswith(f"{path}\nmade ")
    assert "layout 2, on this boot's clock" in ran.out
    assert f"{path.stat().st_size:,} bytes for 100 keys" in ran.out
    assert "1 calls refused, 0 slots reused, 0 calls without room" in ran.out
    assert "window of 1 min: 6 live keys, 0 overflow counters" in ran.out
    assert "window of 1 h: 6 live keys" in ran.out
    assert "nobody passes" in ran.out
    assert "the first request is out" in ran.out
    assert re.search(r"^[0-9a-f]{12} +5 +(5\d|60)(\.\d)? s", ran.out, re.MULTILINE)


def test_no_key_and_no_secret_is_in_what_it_says(run_here: Run, limiter: bide.Limiter, path: Path) -> None:
    secret = path.read_bytes()[24:40].hex()
    for flags in ((), ("--json",)):
        ran = run_here("store", "inspect", str(path), *flags)
        assert "5ca1ab1e" not in ran.out
        assert secret[:16] not in ran.out
        assert secret[16:] not in ran.out


def test_it_changes_nothing_and_needs_no_right_to(run_here: Run, limiter: bide.Limiter, path: Path) -> None:
    path.chmod(0o400)
    before, status = path.read_bytes(), path.stat()
    inspected(run_here, path)
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == status.st_mtime_ns


def test_it_sees_what_is_written_after_the_file_was_opened(
    run_here: Run, limiter: bide.Limiter, path: Path
) -> None:
    for count in (6, 7):
        limiter.try_acquire(f"{SECRET} 5")
        assert inspected(run_here, path)["limits"][0]["fullest"][0]["count"] == count


def test_the_overflow_is_told(run_here: Run, path: Path) -> None:
    limiter = bide.Limiter("10/minute", store=f"file://{path}", max_keys=1)
    for number in range(20):
        limiter.try_acquire(str(number))
    found = inspected(run_here, path)
    assert found["overflowed"] > 0
    assert (found["limits"][0]["live"], found["limits"][0]["overflowing"]) == (4, 1)


def test_a_store_of_another_boot_and_one_on_a_callers_clock_are_told(
    run_here: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bide.limiter.stores import file
    from bide.testing import FakeClock

    with monkeypatch.context() as before:
        before.setattr(file, "boot_of_this_machine", lambda: 1_234)
        bide.Limiter("10/minute", store=f"file://{path}").try_acquire("a")
    found = inspected(run_here, path)
    assert found["clock"] == "another boot's"
    assert found["limits"][0]["live"] == 1
    path.unlink()
    bide.Limiter("10/minute", store=f"file://{path}", clock=FakeClock()).try_acquire("a")
    assert inspected(run_here, path)["clock"] == "a caller's"


def test_reset_empties_it_under_a_running_limiter(run_here: Run, limiter: bide.Limiter, path: Path) -> None:
    ran = run_here("store", "reset", str(path))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{path}: a new store is in its place")
    assert limiter.take(f"{SECRET} 5").remaining == 9
    assert inspected(run_here, path)["limits"][0]["live"] == 1
    assert os.listdir(path.parent) == [path.name]


def test_a_reset_that_was_begun_and_not_ended_is_told(
    run_here: Run, limiter: bide.Limiter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bide.limiter.stores import file

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "rename", fail)
        with pytest.raises(bide.StoreError, match="Input/output error"):
            file.reset(str(path))
    assert inspected(run_here, path)["replaced"]
    assert "replaced: a reset was begun" in run_here("store", "inspect", str(path)).out
    assert limiter.take(f"{SECRET} 5").remaining == 9, "the next call has ended it"
    assert not inspected(run_here, path)["replaced"]


@pytest.mark.parametrize("command", ["inspect", "reset"])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "it is a directory"),
        (lambda path: path.write_bytes(b"x" * 5_000), "is damaged"),
        (lambda path: path.write_bytes(b""), "no whole store"),
        (lambda path: path.symlink_to("x"), "symbolic link"),
    ],
    ids=["missing", "directory", "text", "empty", "link"],
)
def test_what_is_no_store_is_told_in_one_line(
    run_here: Run, path: Path, command: str, make: Callable[[Path], object], words: str
) -> None:
    make(path)
    if path.is_file():
        path.chmod(0o600)
    ran = run_here("store", command, str(path))
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith(f"bide store {command}: {path}: ")
    assert words in ran.err
    assert ran.err.count("\n") == 1


def test_a_url_that_is_written_wrong_is_a_mistake(run_here: Run) -> None:
    ran = run_here("store", "inspect", "redis://localhost")
    assert ran.code == 2
    assert "file:///run/app/limits.bide" in ran.err
