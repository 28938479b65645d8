"""What a file store lives through: openers at once, a kill at any step, a reset, a reboot, another clock, a fork.

Where a process is killed it is a real one. A reboot is another boot id, as the kernel would give it, over the same
file; a time namespace is a real one where that can be had.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import bide
from bide.cli import main

pytestmark = [
    pytest.mark.skipif(bide.IMPLEMENTATION != "native", reason="the twin has no file store"),
    pytest.mark.skipif(sys.platform == "win32", reason="the file store is for POSIX systems"),
    pytest.mark.thread_unsafe,  # it forks, and changes the module under test
]

HOUR_MS = 3_600_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits.bide"


@pytest.fixture
def file() -> Any:
    from bide.limiter.stores import file

    return file


def opened(path: Path, limit: str = "10/hour") -> bide.Limiter:
    return bide.Limiter(limit, store=f"file://{path}", max_keys=100)


def in_child(function: Callable[[], object]) -> str:
    """What ``function`` returns in a forked child, as text; "" when it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            os.write(writing, str(function()).encode())
        except BaseException as error:  # whatever it is, the parent shows it
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read().decode()
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return told


# Openers ---------------------------------------------------------------------------------------------------


def test_of_many_makers_at_once_one_wins_and_all_share_its_file(path: Path) -> None:
    program = (
        "import bide, sys\n"
        "bide.Limiter\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        f"limiter = bide.Limiter('50/hour', store='file://{path}')\n"
        "print(sum(limiter.try_acquire('a') for _ in range(20)))\n"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    assert sum(int(worker.communicate(timeout=20)[0]) for worker in workers) == 50
    assert os.listdir(path.parent) == [path.name]


def kill_at_line(number: int, source: str, function: Callable[[], object]) -> bool:
    """Runs it in a child that kills itself before the n-th line of ``source``; whether it came to its end."""

    def work() -> str:
        lines = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal lines
            if frame.f_code.co_filename != source:
                return None
            if event == "line":
                lines += 1
                if lines == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        function()
        sys.settrace(None)
        return "ended"

    told = in_child(work)
    assert told in ("", "ended"), told
    return told == "ended"


def killed_everywhere(
    source: str, function: Callable[[], object], check: Callable[[int], None], step: int = 1
) -> int:
    """Kills at every line in turn (of the long proof; else at each ``step``-th), and checks what was left; returns
    how many lines there were."""
    number = 1
    while not kill_at_line(number, source, function):
        check(number)
        number += 1 if "BIDE_KILLS" in os.environ else step
        assert number < 1_000
    check(number)
    return number


def test_a_maker_that_is_killed_at_any_step_leaves_nothing_or_a_whole_store(path: Path, file: Any) -> None:
    def check(number: int) -> None:
        left = os.listdir(path.parent)
        assert left in ([], [path.name]), (number, left)
        assert opened(path).take("a").remaining == 9
        path.unlink()

    assert killed_everywhere(file.__file__, lambda: opened(path), check) > 60


def test_an_opener_that_is_killed_at_any_step_disturbs_nobody(path: Path, file: Any) -> None:
    limiter = opened(path, "1000/hour")
    taken = 0

    def check(number: int) -> None:
        nonlocal taken
        taken += 2
        assert limiter.try_acquire("a")
        assert opened(path, "1000/hour").take("a").remaining == 1000 - taken

    assert killed_everywhere(file.__file__, lambda: opened(path), check) > 40


# Resets ----------------------------------------------------------------------------------------------------


def test_a_reset_empties_it_and_every_limiter_moves_over_at_its_next_call(path: Path, file: Any) -> None:
    limiters = [opened(path) for _ in range(2)] + [opened(path, "5/hour")]
    again = bide.Limiter("10/hour", store=limiters[0].store, max_keys=100, name="again")
    for _ in range(3):
        assert limiters[0].try_acquire("a", 5)
        assert limiters[1].try_acquire("a", 5)
        assert not any(limiter.try_acquire("a") for limiter in limiters)
        file.reset(str(path))
        assert limiters[2].peek("a").remaining == 5
        assert limiters[1].take("a", 4).remaining == 6
        assert limiters[0].take("a", 1).remaining == 5
        assert again.take("a").remaining == 9
        assert [limiter.stats().live for limiter in limiters] == [2, 2, 2]
        assert opened(path).peek("a").remaining == 5
        file.reset(str(path))
    assert os.listdir(path.parent) == [path.name]


CALLS: dict[str, Callable[[bide.Limiter], object]] = {
    "try_acquire": lambda limiter: limiter.try_acquire("a"),
    "take": lambda limiter: limiter.take("a").allowed,
    "contact": lambda limiter: limiter.contact("b").allowed,
    "peek": lambda limiter: limiter.peek("a").remaining == 10,
    "try_acquire_many": lambda limiter: limiter.try_acquire_many(["a", "a"]) == [True, True],
    "penalize": lambda limiter: limiter.penalize("a", 5.0) is None,
    "sync": lambda limiter: limiter.sync("a", bide.Quota(remaining=3, reset_after=9.0)) is None,
    "reset": lambda limiter: limiter.reset("a") is None,
    "stats": lambda limiter: limiter.stats().live == 0,
    "acquire": lambda limiter: limiter.acquire("a", timeout=0).allowed,
}


@pytest.mark.parametrize("call", CALLS)
def test_whatever_is_called_first_moves_over(path: Path, file: Any, call: str) -> None:
    limiter, witness = opened(path), opened(path)
    assert limiter.try_acquire("a", 10)
    file.reset(str(path))
    assert CALLS[call](limiter)
    file.reset(str(path))
    assert limiter.take("c").remaining == 9
    assert witness.take("c").remaining == 8


def test_an_outcome_of_before_a_reset_gives_nothing_back(path: Path, file: Any) -> None:
    limiter = opened(path)
    outcome = limiter.take("a", 5)
    file.reset(str(path))
    limiter.take("a", 3)
    limiter.refund("a", outcome)
    assert limiter.peek("a").remaining >= 7
    assert limiter.peek("a").remaining <= 10


def test_the_files_that_were_replaced_do_not_pile_up(path: Path, file: Any) -> None:
    limiter = opened(path)
    for _ in range(30):
        file.reset(str(path))
        assert limiter.try_acquire("a")
    with open("/proc/self/maps", encoding="ascii") as maps:
        mapped = [
            line for line in maps if path.name in line or ("(deleted)" in line and str(path.parent) in line)
        ]
    assert len(mapped) == 1, mapped


def test_a_running_process_moves_over_and_shares_the_new_count(path: Path) -> None:
    program = (
        "import bide, sys\n"
        f"limiter = bide.Limiter('3/hour', store='file://{path}')\n"
        "for line in sys.stdin:\n"
        "    print(sum(limiter.try_acquire('a') for _ in range(int(line))), flush=True)\n"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]

    def ask(number: int, times: int) -> int:
        pipes = workers[number]
        assert pipes.stdin is not None
        assert pipes.stdout is not None
        pipes.stdin.write(f"{times}\n")
        pipes.stdin.flush()
        return int(pipes.stdout.readline())

    try:
        assert [ask(0, 2), ask(1, 2), ask(0, 1)] == [2, 1, 0]
        assert main(["store", "reset", str(path)]) == 0
        assert [ask(0, 1), ask(1, 9), ask(0, 9)] == [1, 2, 0]
    finally:
        for worker in workers:
            worker.communicate()


def test_threads_that_use_it_while_it_is_reset_never_pass_beyond_the_limit(path: Path, file: Any) -> None:
    limiter = opened(path, "40/hour")
    passed = [0] * 4
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            while not stop.is_set():
                passed[number] += sum(limiter.try_acquire_many(["a"] * 10))
                passed[number] += limiter.try_acquire("a")
        except BaseException as error:  # handed to the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        file.reset(str(path))
    while opened(path, "40/hour").peek("a").allowed:
        time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert 40 <= sum(passed) <= 40 * 6


def test_a_reset_that_is_killed_at_any_step_is_undone_or_finished_by_the_next_call(
    path: Path, file: Any
) -> None:
    limiter, other = opened(path), opened(path)

    def check(number: int) -> None:
        before = limiter.peek("a").remaining
        assert before in (5, 10), "all of the old counters, or none"
        assert other.take("a").remaining == before - 1
        assert limiter.take("a").remaining == before - 2
        assert opened(path).take("a").remaining == before - 3
        left = set(os.listdir(path.parent))
        assert left <= {path.name, f".{path.name}.next"}, (number, left)
        file.reset(str(path))
        assert os.listdir(path.parent) == [path.name]
        assert limiter.take("a", 5).remaining == 5
        assert other.peek("a").remaining == 5

    limiter.take("a", 5)
    assert killed_everywhere(file.__file__, lambda: file.reset(str(path)), check) > 60


def test_a_reset_waits_for_another_one_and_gives_up_in_the_end(
    path: Path, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    limiter = opened(path)
    limiter.take("a")
    monkeypatch.setattr(file, "LOCK_SECONDS", 0.05)
    with path.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(bide.StoreError, match=r"another process has been resetting it for 0\.05 s"):
            file.reset(str(path))
        assert limiter.take("a").remaining == 8, "a limiter needs no lock"
        assert opened(path).take("a").remaining == 7, "nor does an opener"


@pytest.mark.parametrize("what", ["nothing", "another store"])
def test_where_the_next_store_is_not_the_resets_a_limiter_says_so(path: Path, file: Any, what: str) -> None:
    limiter = opened(path)
    file.reset(str(path))
    path.unlink()
    if what == "another store":
        opened(path)
    for call in (lambda: limiter.try_acquire("a"), lambda: limiter.take("a"), limiter.stats):
        with pytest.raises(
            bide.StoreError, match="no such file" if what == "nothing" else "restart this process"
        ):
            call()


# Reboots ---------------------------------------------------------------------------------------------------


def test_counters_outlive_a_reboot_and_windows_end_by_the_wall_time_gone_by(
    path: Path, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(file, "boot_of_this_machine", lambda: 1_234)
        opened(path).take("a", 4)
    unix_ms = file.unix_ms
    monkeypatch.setattr(file, "unix_ms", lambda: unix_ms() + 600_000)
    outcome = opened(path).take("a")
    assert outcome.remaining == 5
    assert outcome.reset_after == pytest.approx(3_000.0, abs=2.0), "ten minutes were gone while it was off"
    monkeypatch.setattr(file, "unix_ms", lambda: unix_ms() + 9 * HOUR_MS)
    assert opened(path).take("a").remaining == 4, "in one boot the wall clock is nothing to it"


def test_a_wall_clock_that_was_set_back_over_a_reboot_turns_nothing_back(
    path: Path, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(file, "boot_of_this_machine", lambda: 1_234)
        opened(path).take("a", 4)
        time.sleep(0.01)
        opened(path)
    monkeypatch.setattr(file, "unix_ms", lambda: 0)
    outcome = opened(path).peek("a")
    assert outcome.remaining == 6
    assert 3_590.0 < outcome.reset_after < 3_600.0


def test_of_several_first_openers_after_a_reboot_one_sets_the_clock(
    path: Path, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(file, "boot_of_this_machine", lambda: 1_234)
        opened(path).take("a", 4)
    begin = time.monotonic() + 0.2
    unix_ms = file.unix_ms
    children = []
    for number in range(5):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            # Their wall clocks differ by minutes, so that two settings would show.
            monkeypatch.setattr(file, "unix_ms", lambda number=number: unix_ms() + 60_000 * number)
            time.sleep(max(0.0, begin - time.monotonic()))
            limiter = opened(path)
            base_ns = getattr(limiter.store, "_base_ns")  # noqa: B009  # the store's own business, but for this test
            os.write(writing, f"{base_ns} {limiter.take('a').remaining}".encode())
            os._exit(0)
        os.close(writing)
        children.append((child, reading))
    bases, remaining = set(), []
    for child, reading in children:
        with open(reading, encoding="ascii") as pipe:
            base, left = pipe.read().split()
        bases.add(base)
        remaining.append(int(left))
        assert os.waitpid(child, 0)[1] == 0
    assert len(bases) == 1
    assert sorted(remaining) == [1, 2, 3, 4, 5]


def test_a_first_opener_after_a_reboot_that_is_killed_at_any_step_is_followed_by_another(
    path: Path, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0

    def check(number: int) -> None:
        nonlocal taken
        taken += 1
        outcome = opened(path, "1000/hour").take("a")
        assert outcome.remaining == 1000 - taken
        assert 3_500.0 < outcome.reset_after <= 3_600.0
        monkeypatch.setattr(file, "boot_of_this_machine", lambda now=number + 2_000: now)

    monkeypatch.setattr(file, "boot_of_this_machine", lambda: 1_234)
    opened(path, "1000/hour")
    monkeypatch.setattr(file, "boot_of_this_machine", lambda: 1_235)
    assert killed_everywhere(file.__file__, lambda: opened(path, "1000/hour"), check, step=3) > 50


def test_a_reset_that_a_reboot_cut_short_is_finished_on_the_new_clock(
    path: Path, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(file, "boot_of_this_machine", lambda: 1_234)
        opened(path).take("a", 4)

        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        before.setattr(os, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            file.reset(str(path))
    limiter = opened(path)
    assert limiter.take("a").remaining == 9
    assert 3_590.0 < limiter.peek("a").reset_after <= 3_600.0
    assert opened(path).peek("a").remaining == 9


def test_another_kernel_that_takes_it_over_is_told_to_those_who_use_it(
    path: Path, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = opened(path)
    limiter.take("a")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(file, "boot_of_this_machine", lambda: 1_234)
        opened(path)
    with pytest.raises(bide.StoreError, match=r"another kernel .* has taken it over"):
        limiter.take("a")


def test_a_store_whose_clock_has_run_out_says_so_and_a_reset_helps(
    path: Path, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(file, "boot_of_this_machine", lambda: 1_234)
        opened(path).take("a", 10)
    unix_ms = file.unix_ms
    with monkeypatch.context() as later:
        later.setattr(file, "unix_ms", lambda: unix_ms() + 9 * 366 * 24 * HOUR_MS)
        with pytest.raises(bide.StoreError, match=r"its clock has run out.*bide store reset"):
            opened(path)
    file.reset(str(path))
    assert opened(path).take("a").reset_after == pytest.approx(3_600.0, abs=1.0)


def test_without_a_boot_id_it_says_what_is_missing(
    path: Path, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "BOOT_ID", "/proc/none")
    with pytest.raises(bide.StoreError, match="mount /proc"):
        opened(path)


# Time namespaces -------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare here")
@pytest.mark.parametrize("offset", [100_000, -1_000])
def test_a_container_with_another_clock_shares_the_windows(path: Path, offset: int) -> None:
    program = (
        "import bide, json, time\n"
        f"limiter = bide.Limiter('10/hour', store='file://{path}', max_keys=100)\n"
        "outcome = limiter.take('a')\n"
        "limiter.sync('b', bide.Quota(remaining=1, reset_after=100.0))\n"
        "print(json.dumps([time.monotonic(), outcome.remaining, outcome.reset_after]))\n"
    )
    command = ["unshare", "--time", "--monotonic", str(offset), "--fork", sys.executable, "-c", program]
    if os.geteuid() != 0:
        command.insert(1, "--map-root-user")
    limiter = opened(path)
    limiter.take("a")
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0 and "unshare" in ran.stderr:
        pytest.skip(f"no time namespace can be had here: {ran.stderr.strip()}")
    assert ran.returncode == 0, ran.stderr
    clock, remaining, reset_after = json.loads(ran.stdout)
    assert clock == pytest.approx(time.monotonic() + offset, abs=30.0), "it was another clock"
    assert remaining == 8
    mine = limiter.take("a")
    assert mine.remaining == 7
    assert mine.reset_after == pytest.approx(reset_after, abs=30.0)
    assert limiter.peek("b").remaining == 1
    assert limiter.peek("b").reset_after == pytest.approx(100.0, abs=30.0)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare here")
def test_a_store_that_is_made_in_a_container_with_another_clock_is_one_outside(path: Path) -> None:
    program = f"import bide; bide.Limiter('10/hour', store='file://{path}', max_keys=100).take('a')\n"
    command = ["unshare", "--time", "--monotonic", "5000", "--fork", sys.executable, "-c", program]
    if os.geteuid() != 0:
        command.insert(1, "--map-root-user")
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0 and "unshare" in ran.stderr:
        pytest.skip(f"no time namespace can be had here: {ran.stderr.strip()}")
    assert ran.returncode == 0, ran.stderr
    outcome = opened(path).take("a")
    assert outcome.remaining == 8
    assert 3_500.0 < outcome.reset_after <= 3_600.0


def test_a_process_between_two_time_namespaces_is_told_to_open_it_in_a_child(
    path: Path, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.path.exists(file.TIME_OFFSETS):
        pytest.skip("this kernel has no time namespaces")
    monkeypatch.setattr(os, "readlink", lambda path: f"time:[{path}]")
    with pytest.raises(bide.StoreError, match="open the store in a child"):
        opened(path)


# Forks -----------------------------------------------------------------------------------------------------


def test_a_forked_worker_shares_it_and_moves_over_by_itself(path: Path, file: Any) -> None:
    limiter = opened(path)
    limiter.take("a")
    assert in_child(lambda: limiter.take("a").remaining) == "8"
    assert in_child(lambda: (file.reset(str(path)), limiter.take("a").remaining)) == "(None, 9)"
    assert limiter.take("a").remaining == 8
    assert in_child(lambda: limiter.take("a").remaining) == "7"


def test_a_child_of_a_process_that_was_moving_over_can_move_over(path: Path, file: Any) -> None:
    limiter = opened(path)
    with file._following:
        file.reset(str(path))
        holder = threading.Thread(target=lambda: None)
        holder.start()
        holder.join()
        assert in_child(lambda: limiter.take("a").remaining) == "9"
    held = threading.Event()
    release = threading.Event()

    def hold() -> None:
        with file._following:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    file.reset(str(path))
    try:
        assert in_child(lambda: limiter.take("a").remaining) == "9"
    finally:
        release.set()
        thread.join()
