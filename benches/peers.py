"""bide's limiter against every other one for Python, on this machine: `make bench-peers`.

Rules of this file
- One process for each number of keys; in it every limiter is asked in turn, round after round, so that whatever
  the machine does meanwhile falls on all of them. Keys come in random order. The loop's own cost is included, and
  shown as "an empty loop".
- Everybody is asked by the cheapest call that says yes or no and is told to keep one window of an hour. What has
  no fixed window uses what it has. Every answer is checked.
- Before a round everybody is asked as many other keys, untimed: what the one before left in the caches is not its cost.
- The mean is that of the best round (what the code costs when nobody interrupts it); percentiles are of single
  calls, all rounds together, the timer's own cost included.
- It writes `results-limiter.json` and judges nothing; `report.py` makes the table and the charts.
"""

import argparse
import asyncio
import gc
import importlib.metadata
import json
import os
import platform
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

SIZES = [1, 1_000, 100_000, 1_000_000]
CALLS = 2_000
"""Calls of one round: few, because a short slice finds a quiet moment of a shared machine sooner than a long one."""
ROUNDS = 60
SINGLE_CALLS = 40_000
"""Calls that are timed one by one, over all rounds."""
FOR_EVER = 60_000_000
HOUR = 3600.0
RESULTS = Path(__file__).with_name("results-limiter.json")

Ask = Callable[[str], object]


class Peer(NamedTuple):
    """A limiter to ask: ``make(limit, keys)`` gives the call; ``yes(answer)`` reads what it said."""

    name: str
    package: str | None
    make: Callable[[int, int], Ask]
    yes: Callable[[object], bool] = bool
    many: Callable[[int, int], Callable[[list[str]], list[bool]]] | None = None
    can_refuse: bool = True


def bide_native(limit: int, keys: int) -> Ask:
    from bide.limiter._compiled import Limiter

    return Limiter(f"{limit}/hour", max_keys=max(keys, 1_000)).try_acquire


def bide_native_take(limit: int, keys: int) -> Ask:
    from bide.limiter._compiled import Limiter

    return Limiter(f"{limit}/hour", max_keys=max(keys, 1_000)).take


def bide_native_many(limit: int, keys: int) -> Callable[[list[str]], list[bool]]:
    from bide.limiter._compiled import Limiter

    return Limiter(f"{limit}/hour", max_keys=max(keys, 1_000)).try_acquire_many


def bide_pure(limit: int, keys: int) -> Ask:
    from bide.limiter._pure import Limiter

    return Limiter(f"{limit}/hour", max_keys=max(keys, 1_000)).try_acquire


def bide_pure_many(limit: int, keys: int) -> Callable[[list[str]], list[bool]]:
    from bide.limiter._pure import Limiter

    return Limiter(f"{limit}/hour", max_keys=max(keys, 1_000)).try_acquire_many


def floodgate(limit: int, keys: int) -> Ask:
    from floodgate import FixedMapping

    return FixedMapping(limit, timedelta(hours=1)).trigger


def rust_py_rate_limit(limit: int, keys: int) -> Ask:
    from rust_py_rate_limit import RateLimiter

    return RateLimiter(limit=limit, window_seconds=3600, max_keys=keys + 1).allow


def limits(limit: int, keys: int) -> Ask:
    from limits import RateLimitItemPerHour
    from limits.storage import MemoryStorage
    from limits.strategies import FixedWindowRateLimiter

    hit, item = FixedWindowRateLimiter(MemoryStorage()).hit, RateLimitItemPerHour(limit)
    return lambda key: hit(item, key)


def throttled(limit: int, keys: int) -> Ask:
    from throttled import MemoryStore, Throttled, per_hour

    store = MemoryStore(options={"MAX_SIZE": keys + 1})
    return Throttled(using="fixed_window", quota=per_hour(limit), store=store).limit


def pyrate(limit: int, keys: int) -> Ask:
    from pyrate_limiter import BucketFactory, Duration, Limiter, Rate, RateItem, StateBucket

    class OneForEachKey(BucketFactory):
        def __init__(self) -> None:
            self.buckets: dict[str, Any] = {}

        def wrap_item(self, name: str, weight: int = 1) -> Any:
            return RateItem(name, time.monotonic_ns() // 1_000_000, weight=weight)

        def get(self, item: Any) -> Any:
            bucket = self.buckets.get(item.name)
            if bucket is None:
                bucket = self.buckets[item.name] = StateBucket([Rate(limit, Duration.HOUR)])
            return bucket

    try_acquire = Limiter(OneForEachKey()).try_acquire
    return lambda key: try_acquire(key, blocking=False)


def token_bucket(limit: int, keys: int) -> Ask:
    from token_bucket import Limiter, MemoryStorage

    return Limiter(limit / HOUR, limit, MemoryStorage()).consume


def aiolimiter(limit: int, keys: int) -> Ask:
    from aiolimiter import AsyncLimiter

    # A loop that counts as running, so that the coroutine can be stepped without one's cost.
    asyncio._set_running_loop(asyncio.new_event_loop())
    limiters: dict[str, Any] = {}

    def ask(key: str) -> bool:
        limiter = limiters.get(key)
        if limiter is None:
            limiter = limiters[key] = AsyncLimiter(limit, HOUR)
        if not limiter.has_capacity():
            return False
        try:
            limiter.acquire().send(None)
        except StopIteration:
            return True
        raise AssertionError("it waited in spite of its capacity")

    return ask


def dict_and_lock(limit: int, keys: int) -> Ask:
    lock, counts, monotonic = threading.Lock(), {}, time.monotonic

    def ask(key: str) -> bool:
        now = monotonic()
        with lock:
            end, count = counts.get(key, (0.0, 0))
            if now >= end:
                counts[key] = (now + HOUR, 1)
                return True
            if count < limit:
                counts[key] = (end, count + 1)
                return True
            return False

    return ask


def nothing(limit: int, keys: int) -> Ask:
    from noop import Noop

    return Noop().call


PEERS = [
    Peer("a native method that does nothing", None, nothing, can_refuse=False),
    Peer("bide, native", "bide", bide_native, many=bide_native_many),
    Peer("bide, native, take", "bide", bide_native_take),
    Peer("bide, pure", "bide", bide_pure, many=bide_pure_many),
    Peer("floodgate-rs", "floodgate-rs", floodgate, yes=lambda answer: answer is None),
    Peer("rust-py-rate-limit", "rust-py-rate-limit", rust_py_rate_limit),
    Peer("a dict and a lock", None, dict_and_lock),
    Peer("token-bucket", "token-bucket", token_bucket),
    Peer("aiolimiter", "aiolimiter", aiolimiter),
    Peer("limits", "limits", limits),
    Peer(
        "throttled-py",
        "throttled-py",
        throttled,
        yes=lambda answer: not answer.limited,  # type: ignore[attr-defined]  # its result object
    ),
    Peer("pyrate-limiter", "pyrate-limiter", pyrate),
]


def empty_loop(batch: list[str]) -> float:
    began = time.perf_counter_ns()
    for _ in batch:
        pass
    return (time.perf_counter_ns() - began) / len(batch)


def round_of(ask: Ask, batch: list[str]) -> float:
    """Nanoseconds of one call, on average."""
    began = time.perf_counter_ns()
    for key in batch:
        ask(key)
    return (time.perf_counter_ns() - began) / len(batch)


def round_of_many(ask_many: Callable[[list[str]], list[bool]], batch: list[str]) -> float:
    thousands = [batch[first : first + 1_000] for first in range(0, len(batch), 1_000)]
    began = time.perf_counter_ns()
    for keys in thousands:
        ask_many(keys)
    return (time.perf_counter_ns() - began) / len(batch)


def single_calls(ask: Ask, batch: list[str]) -> list[int]:
    clock, found = time.perf_counter_ns, []
    for key in batch:
        began = clock()
        ask(key)
        found.append(clock() - began)
    return found


def percentile(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def measure(size: int, verdict: str, rounds: int) -> list[dict[str, Any]]:
    """Every peer at one number of keys, all admitted or all refused."""
    chance = random.Random(size)
    keys = [f"Bearer {number:016x}" for number in range(size)]
    chance.shuffle(keys)
    limit = FOR_EVER if verdict == "admit" else 1
    asked = []
    for peer in PEERS:
        if verdict == "deny" and not peer.can_refuse:
            continue
        ask = peer.make(limit, size)
        # A table filled to the last key that it was made for may refuse a few in a million early.
        refused = sum(not peer.yes(ask(key)) for key in keys)
        assert refused <= size // 10_000, f"{peer.name} refuses what it should admit"
        many = peer.many(limit, size) if peer.many else None
        if many:
            assert many(keys).count(False) <= size // 10_000
        asked.append((peer, ask, many))
    best: dict[str, float] = {}
    singles: dict[str, list[int]] = {}
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        before, batch = chance.choices(keys, k=CALLS), chance.choices(keys, k=CALLS)
        best["an empty loop"] = min(best.get("an empty loop", 1e9), empty_loop(batch))
        for peer, ask, many in asked:
            expected = verdict == "admit"
            assert all(peer.yes(ask(key)) == expected for key in before), peer.name
            best[peer.name] = min(best.get(peer.name, 1e9), round_of(ask, batch))
            singles.setdefault(peer.name, []).extend(single_calls(ask, batch[: SINGLE_CALLS // rounds]))
            if many:
                name = f"{peer.name}, many"
                assert many(before) == [expected] * CALLS
                best[name] = min(best.get(name, 1e9), round_of_many(many, batch))
    rows = []
    for name, mean in best.items():
        ordered = sorted(singles.get(name, []))
        row: dict[str, Any] = {"name": name, "keys": size, "verdict": verdict, "mean_ns": round(mean, 1)}
        if ordered:
            row |= {f"p{label}_ns": percentile(ordered, share) for label, share in PERCENTILES.items()}
        rows.append(row)
        print(f"  {size:>9,} keys, {verdict}: {name:36} {mean:9.1f} ns", flush=True)
    return rows


PERCENTILES = {"50": 0.50, "99": 0.99, "99_99": 0.9999}


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def machine() -> dict[str, Any]:
    """What was measured on, and which versions."""
    packages = sorted({peer.package for peer in PEERS if peer.package})
    return {
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {package: importlib.metadata.version(package) for package in packages},
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--one", choices=["admit", "deny"], help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        print(json.dumps(measure(given.sizes[0], given.one, given.rounds)), file=sys.stderr)
        return
    rows = []
    for size in given.sizes:
        for verdict in ("admit", "deny"):
            command = [sys.executable, __file__, "--one", verdict, "--sizes", str(size)]
            command += ["--rounds", str(given.rounds)]
            result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
            if result.returncode:
                sys.exit(f"peers: {size:,} keys, {verdict}:\n{result.stderr}")
            rows += json.loads(result.stderr.splitlines()[-1])
    text = json.dumps({"date": date.today().isoformat(), **machine(), "rows": rows}, indent=1)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
