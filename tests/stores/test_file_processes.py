"""Processes that share a file store: killed at random while they hammer it, started by real servers, and watched for
system calls.

BIDE_KILLS sets how many are killed (100 by default; `make proof`: 1,200).
"""

import itertools
import mmap
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

import bide
from bide._driver import Closing, Driver
from bide._flow import Exchange, Flow
from bide._simulation import ModelServer, World, run

pytestmark = [
    pytest.mark.skipif(bide.IMPLEMENTATION != "native", reason="the twin has no file store"),
    pytest.mark.skipif(sys.platform == "win32", reason="the file store is for POSIX systems"),
    pytest.mark.thread_unsafe,  # it forks
]

KILLS = int(os.environ.get("BIDE_KILLS", "100"))
WORKERS = 8
LIMIT, WINDOW_MS = 50, 20
WINDOWS = 300
KEYS = 13
SECONDS = 60.0 + KILLS / 2
"""How long it may take on a machine that has much else to do; as a rule a tenth of that."""


class ReadClock:
    """The system's monotonic clock, remembering what was read."""

    def __init__(self) -> None:
        self.last = 0.0

    def __call__(self) -> float:
        self.last = time.monotonic()
        return self.last


class Log:
    """What each worker was admitted in the window ending at each millisecond, for each key, in memory that all share.

    A worker writes into rows of its own, so that what one leaves when it is killed stays true.
    """

    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds
        self.admitted = mmap.mmap(-1, WORKERS * KEYS * milliseconds)
        self.refused = mmap.mmap(-1, WORKERS * milliseconds)

    def row(self, worker: int, key: int) -> int:
        return (worker * KEYS + key) * self.milliseconds

    def totals(self, key: int, until: int) -> dict[int, int]:
        """The millisecond that a window ended at -> what all workers were admitted in it."""
        rows = [
            self.admitted[self.row(worker, key) : self.row(worker, key) + until] for worker in range(WORKERS)
        ]
        return {end: sum(counts) for end, counts in enumerate(zip(*rows, strict=True)) if any(counts)}

    def ends_refused(self, until: int) -> set[int]:
        rows = [self.refused[worker * self.milliseconds :][:until] for worker in range(WORKERS)]
        return {end for end, marks in enumerate(zip(*rows, strict=True)) if any(marks)}


def hammer(worker: int, url: str, began: float, log: Log, end: float) -> None:
    """One worker, until ``end``: mostly the one key that all want, now and then one of many in a small table."""
    clock = ReadClock()
    limiter = bide.Limiter(f"{LIMIT}/{WINDOW_MS}ms", store=url, max_keys=4, clock=clock)
    dice = random.Random(os.getpid())
    began_ns = round(began * 1e9)
    while time.monotonic() < end:
        key = 0 if dice.random() < 0.8 else dice.randrange(1, KEYS)
        outcome = limiter.take(f"key {key}")
        window_end = (round(clock.last * 1e9) - began_ns) // 1_000_000 + round(outcome.reset_after * 1_000)
        if window_end >= log.milliseconds:
            return
        if outcome:
            log.admitted[log.row(worker, key) + window_end] += 1
        elif key == 0:
            log.refused[worker * log.milliseconds + window_end] = 1


def test_workers_that_are_killed_at_any_moment_never_pass_beyond_the_limit_and_leave_no_key_stuck(
    tmp_path: Path,
) -> None:
    url = f"file://{tmp_path}/limits.bide"
    clock = ReadClock()
    limiter = bide.Limiter(f"{LIMIT}/{WINDOW_MS}ms", store=url, max_keys=4, clock=clock)
    began, dice = clock.last, random.Random(1)
    log = Log(int((SECONDS + 5.0) * 1_000))
    end = began + SECONDS

    def start(worker: int) -> int:
        child = os.fork()
        if child == 0:
            try:
                hammer(worker, url, began, log, end)
                os._exit(0)
            except BaseException as error:  # whatever it is, the parent shows it
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        return child

    children = [start(worker) for worker in range(WORKERS)]
    kills, codes = 0, []
    try:
        while kills < KILLS or time.monotonic() < began + WINDOWS * WINDOW_MS / 1_000:
            assert time.monotonic() < end, f"only {kills} of {KILLS} kills in {SECONDS} s"
            time.sleep(dice.random() * 0.004 if kills < KILLS else 0.05)
            victim = dice.randrange(WORKERS)
            os.kill(children[victim], signal.SIGKILL)
            codes.append(os.waitpid(children[victim], 0)[1])
            children[victim] = start(victim)
            kills += 1
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    until = int((time.monotonic() - began + 1.0) * 1_000)

    assert set(codes) == {signal.SIGKILL}, "no worker ended by itself"
    for key in range(KEYS):
        assert max(log.totals(key, until).values()) <= LIMIT, key
    common, refused = log.totals(0, until), log.ends_refused(until)
    assert len(common) >= WINDOWS / 2
    assert len(refused) >= WINDOWS / 4, "the limit was met"
    # What a killed worker took and did not write down: one at most for each kill, whatever window it was in.
    assert sum(LIMIT - common.get(window_end, 0) for window_end in refused) <= kills + WORKERS
    time.sleep(2 * WINDOW_MS / 1_000)
    assert [limiter.take(f"key {key}").remaining for key in (0, 1)] == [LIMIT - 1] * 2, "no key is stuck"
    assert bide.Limiter(f"{LIMIT}/{WINDOW_MS}ms", store=url, max_keys=4, clock=clock).stats().live >= 2


# Servers and multiprocessing -------------------------------------------------------------------------------


def take_many(url: str, times: int) -> int:
    limiter = bide.Limiter("100/hour", store=url)
    return sum(limiter.try_acquire("a") for _ in range(times))


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_processes_of_multiprocessing_share_the_quota(tmp_path: Path, method: str) -> None:
    url = f"file://{tmp_path}/limits.bide"
    with multiprocessing.get_context(method).Pool(3) as pool:
        # A pool waits for ever for what its workers cannot import.
        assert sum(pool.starmap_async(take_many, [(url, 60)] * 3, chunksize=1).get(timeout=120)) == 100


WSGI = """
import os
import bide

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

application = bide.wsgi.RateLimit(
    application, "300/hour", key=lambda environ: "everybody", store={url!r}, paths={{"/ready": None}}
)
"""

ASGI = """
import os
import bide

async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": str(os.getpid()).encode()}})

application = bide.asgi.RateLimit(
    application, "300/hour", key=lambda scope: "everybody", store={url!r}, paths={{"/ready": None}}
)
"""

GUNICORN = ["gunicorn", "--workers=4", "--bind=fd://{fd}", "--graceful-timeout=1", "application:application"]
UVICORN = [
    "uvicorn",
    "--workers=4",
    "--fd={fd}",
    "--log-level=warning",
    "--lifespan=off",
    "application:application",
]
SERVERS = {
    "gunicorn": (WSGI, GUNICORN),
    "gunicorn, preloaded": (WSGI, [*GUNICORN, "--preload"]),
    "uvicorn": (ASGI, UVICORN),
}


@contextmanager
def serving(name: str, directory: Path, url: str) -> Iterator[int]:
    """The port of a real server with four workers."""
    source, command = SERVERS[name]
    (directory / "application.py").write_text(source.format(url=url), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = [sys.executable, "-m", *(word.format(fd=listener.fileno()) for word in command)]
        log = (directory / "log").open("wb")
        with (
            log,
            subprocess.Popen(
                arguments, cwd=directory, stdout=log, stderr=log, pass_fds=[listener.fileno()]
            ) as server,
        ):
            try:
                yield listener.getsockname()[1]
            finally:
                server.terminate()
                try:
                    server.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    server.kill()


def ask(port: int, path: str = "/") -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("name", SERVERS)
def test_the_workers_of_a_server_share_the_quota(tmp_path: Path, name: str) -> None:
    statuses: Counter[int] = Counter()
    workers: set[bytes] = set()
    with serving(name, tmp_path, f"file://{tmp_path}/limits.bide") as port, ThreadPoolExecutor(16) as pool:
        ready: set[bytes] = set()
        while len(ready) < 3:
            ready |= {body for _, body in pool.map(ask, [port] * 30, ["/ready"] * 30)}
        for status, body in pool.map(ask, [port] * 400):
            statuses[status] += 1
            if status == 200:
                workers.add(body)
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert statuses == {200: 300, 429: 100}, log
    assert len(workers) >= 2, "more than one worker admitted some"


def test_a_worker_that_a_server_starts_anew_goes_on_with_the_count(tmp_path: Path) -> None:
    with serving("gunicorn", tmp_path, f"file://{tmp_path}/limits.bide") as port:
        passed, killed = 0, set()
        for _ in range(500):
            try:
                status, body = ask(port)
            except (ConnectionError, TimeoutError):
                continue  # the worker that had accepted it was killed
            if status != 200:
                break
            passed += 1
            if len(killed) < 5 and int(body) not in killed:
                killed.add(int(body))
                os.kill(int(body), signal.SIGKILL)
    assert len(killed) >= 4
    # The answer of a killed worker can be lost; what it took is not given out again.
    assert 300 - len(killed) <= passed <= 300


# System calls ----------------------------------------------------------------------------------------------

CAGED = """
import ctypes, os, sys, time
import bide

limiter = bide.Limiter({limit!r}, store={url!r})
calls = {{
    "admitted": lambda: limiter.try_acquire("a"),
    "refused": lambda: limiter.try_acquire("b"),
    "take": lambda: limiter.take("a"),
    "the clock": time.monotonic,
}}
call = calls[{name!r}]
limiter.try_acquire("b", 2)
times = range(100_000)
for _ in range(1_000):
    call()

# A filter of system calls: load the number; write and exit_group are let through; any other kills the process.
write, exit_group = {{"x86_64": (1, 231), "aarch64": (64, 94)}}[os.uname().machine]
class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32)]
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(Instruction))]
rows = [(0x20, 0, 0, 0), (0x15, 1, 0, write), (0x15, 0, 1, exit_group), (6, 0, 0, 0x7FFF0000), (6, 0, 0, 0x80000000)]
filter = Program(len(rows), (Instruction * len(rows))(*rows))
prctl, reference = ctypes.CDLL(None).prctl, ctypes.byref(filter)
prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
prctl(22, 2, reference, 0, 0)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
for _ in times:
    call()
os._exit(7)
"""


def code_of(program: str) -> int:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode


@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine not in ("x86_64", "aarch64"), reason="seccomp is Linux's"
)
@pytest.mark.parametrize("name", ["admitted", "refused", "take"])
@pytest.mark.parametrize("window", ["hour", "500ms"])
def test_a_hundred_thousand_calls_make_no_system_call(tmp_path: Path, name: str, window: str) -> None:
    limit = f"{2 if name == 'refused' else 67_000_000}/{window}"
    caged = CAGED.format(limit=limit, url=f"file://{tmp_path}/limits.bide", name=name)
    if code_of(caged.replace("calls[", "calls['the clock'] or calls[")) != 7:
        pytest.skip("on this machine reading the clock is a system call of its own")
    assert code_of(caged) == 7
    assert code_of(caged.replace("os._exit(7)", "os.getppid(); os._exit(7)")) == -signal.SIGSYS, (
        "the cage holds"
    )


# Goodput ---------------------------------------------------------------------------------------------------


class TwoProcesses(Driver):
    """Stands for two programs of one machine: each request goes by the driver of the other one in turn."""

    drivers: Iterator[Driver]

    def flow(self, exchange: Exchange, closing: Closing | None = None) -> Flow:
        return next(self.drivers).flow(exchange, closing)


@pytest.mark.parametrize("latency", [0.02, 0.2])
@pytest.mark.parametrize("phase", [0.02, 3.37])
def test_two_processes_use_a_servers_quota_up_without_a_429(
    tmp_path: Path, phase: float, latency: float
) -> None:
    policy = bide.CLEVER.replace(limits=("600/6s",), window=6.0)

    def driver(world: World) -> Driver:
        url = f"file://{tmp_path}/limits.bide"
        limiters = [bide.Limiter("600/6s", store=url, clock=world) for _ in range(2)]
        both = TwoProcesses(policy, limiter=limiters[0], clock=world)
        both.drivers = itertools.cycle([Driver(policy, limiter=limiter, clock=world) for limiter in limiters])
        return both

    report = run(driver, ModelServer(600, 6.0, phase=phase), workers=8, latency=latency, windows=8)
    assert report.first_window_refusals + report.refusals == 0
    assert report.used >= 0.98
