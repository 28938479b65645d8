"""Native against pure: ``try_acquire``, ``take``, ``try_acquire_many``; 1, 1,000 and 100,000 keys in random order.

A round is a thousand calls, so that its microseconds read as nanoseconds a call (the loop's own included). Every
round checks its answers: a bench that measures a wrong answer measures nothing.
"""

import importlib
import random
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import pytest

from bide.limiter import Limiter

MODULES = {"native": "bide.limiter._compiled", "pure": "bide.limiter._pure"}
CALLS = 1_000
ROUNDS = 200


@pytest.fixture(params=["native", "pure"])
def implementation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[1, 1_000, 100_000], ids=lambda count: f"{count:,} keys")
def keys(request: pytest.FixtureRequest) -> list[str]:
    keys = [f"Bearer {number:016x}" for number in range(request.param)]
    random.Random(request.param).shuffle(keys)
    return keys


def limiter_for(implementation: str, keys: list[str], limit: str) -> Limiter:
    module = importlib.import_module(MODULES[implementation])
    limiter: Limiter = module.Limiter(limit, max_keys=max(len(keys), 1_000))
    limiter.try_acquire_many(keys)
    return limiter


def batches(keys: list[str]) -> Iterator[list[str]]:
    endless = cycle(keys)
    while True:
        yield list(islice(endless, CALLS))


def measure(benchmark: Any, group: str, keys: list[str], run: Any) -> None:
    benchmark.group = f"{group}, {len(keys):,} keys: µs for {CALLS:,} calls"
    batch = batches(keys)
    benchmark.pedantic(run, setup=lambda: ((next(batch),), {}), rounds=ROUNDS, warmup_rounds=5)


def test_try_acquire(benchmark: Any, implementation: str, keys: list[str]) -> None:
    limiter = limiter_for(implementation, keys, "67000000/hour")

    def run(batch: list[str]) -> None:
        try_acquire = limiter.try_acquire
        for key in batch:
            try_acquire(key)

    measure(benchmark, "try_acquire", keys, run)
    assert limiter.stats().denied == 0


def test_try_acquire_denied(benchmark: Any, implementation: str, keys: list[str]) -> None:
    limiter = limiter_for(implementation, keys, "1/hour")

    def run(batch: list[str]) -> None:
        try_acquire = limiter.try_acquire
        for key in batch:
            try_acquire(key)

    measure(benchmark, "try_acquire denied", keys, run)
    assert limiter.stats().denied >= ROUNDS * CALLS


def test_take(benchmark: Any, implementation: str, keys: list[str]) -> None:
    limiter = limiter_for(implementation, keys, "67000000/hour")

    def run(batch: list[str]) -> None:
        take = limiter.take
        for key in batch:
            take(key)

    measure(benchmark, "take", keys, run)
    assert limiter.stats().denied == 0


def test_try_acquire_many(benchmark: Any, implementation: str, keys: list[str]) -> None:
    limiter = limiter_for(implementation, keys, "67000000/hour")
    measure(benchmark, "try_acquire_many", keys, limiter.try_acquire_many)
    assert limiter.stats().denied == 0
