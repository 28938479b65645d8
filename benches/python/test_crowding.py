"""Crowded tables: how many of the promised keys find no room of their own, and what a flood of new keys costs others.

The flood: somebody makes up a new key for each call, until no slot is free and long after. The calls of a thousand keys
that were there before are timed in slices, in turn with the flood; before it, and while it goes on.
"""

import importlib
import random
import statistics
import time

import pytest

MODULES = {"native": "bide.limiter._compiled", "pure": "bide.limiter._pure"}
LIMIT = "67000000/hour"
SLICES = 100
CALLS = 2_000


def test_the_promised_number_of_keys(capsys: pytest.CaptureFixture[str]) -> None:
    keys = 1_000_000
    limiter = importlib.import_module(MODULES["native"]).Limiter(LIMIT, max_keys=keys)
    assert all(limiter.try_acquire_many([b"%020d" % number for number in range(keys)]))
    overflowed = limiter.stats().overflowed
    with capsys.disabled():
        print(
            f"\ncrowding: of {keys:,} keys in a table for {keys:,}, {overflowed:,} found no room of their own"
        )


@pytest.mark.parametrize("implementation", ["native", "pure"])
def test_a_flood_of_new_keys(capsys: pytest.CaptureFixture[str], implementation: str) -> None:
    limiter = importlib.import_module(MODULES[implementation]).Limiter(LIMIT, max_keys=10_000)
    keys = [f"Bearer {number:016x}" for number in range(1_000)]
    assert all(limiter.try_acquire_many(keys))
    draw = random.Random(1)

    def a_slice() -> float:
        asked, try_acquire = draw.choices(keys, k=CALLS), limiter.try_acquire
        began = time.perf_counter_ns()
        for key in asked:
            try_acquire(key)
        return (time.perf_counter_ns() - began) / CALLS

    before = [a_slice() for _ in range(SLICES)]
    during, minted, flood = [], 0, []
    for _ in range(SLICES):
        new = [f"minted {number:016x}" for number in range(minted, minted + CALLS)]
        minted += CALLS
        began = time.perf_counter_ns()
        limiter.try_acquire_many(new)
        flood.append((time.perf_counter_ns() - began) / CALLS)
        during.append(a_slice())
    assert limiter.stats().live >= len(keys)
    assert all(limiter.peek(key).remaining < 67_000_000 for key in keys), "a live key was forgotten"
    with capsys.disabled():
        print(
            f"\ncrowding: a thousand keys, {implementation}, ns per call, least (median): "
            f"{min(before):.0f} ({statistics.median(before):.0f}) before the flood, "
            f"{min(during):.0f} ({statistics.median(during):.0f}) while {minted:,} new keys came "
            f"({statistics.median(flood):.0f} each): {min(during) / min(before):.2f} times "
            f"({statistics.median(during) / statistics.median(before):.2f})"
        )
