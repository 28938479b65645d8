"""Threads that hammer one key through many short windows: never more than the limit, and exactly it where refused.

A few hundred windows by default; BIDE_HAMMER_WINDOWS sets another number (`make test-freethreaded`: 10,000).
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from bide.limiter import Limiter

Make = Callable[..., Limiter]
WINDOWS = int(os.environ.get("BIDE_HAMMER_WINDOWS", "300"))
THREADS = 4

pytestmark = pytest.mark.thread_unsafe  # it has threads of its own


class ReadClock:
    """The real clock, which remembers for each thread what it read last."""

    def __init__(self) -> None:
        self.last = threading.local()

    def __call__(self) -> float:
        self.last.reading = time.monotonic()
        reading: float = self.last.reading
        return reading


def hammer(work: Callable[[int], None]) -> None:
    """Runs the work in every thread, all released at once; what one raises fails the test."""
    barrier = threading.Barrier(THREADS)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:  # handed to the test
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize(("limit", "window_ms"), [(7, 1), (40, 2), (100, 10)])
def test_no_window_admits_more_than_its_limit_and_each_that_refuses_has_admitted_it_all(
    make: Make, limit: int, window_ms: int
) -> None:
    clock = ReadClock()
    limiter = make(f"{limit}/{window_ms}ms", clock=clock)
    created_ns = round(clock.last.reading * 1e9)
    windows = WINDOWS // window_ms
    until_ms = windows * window_ms
    admitted: list[Counter[int]] = [Counter() for _ in range(THREADS)]
    refused: list[set[int]] = [set() for _ in range(THREADS)]

    def work(number: int) -> None:
        end = 0
        while end < until_ms:
            outcome: Any = limiter.take("a key")
            reading_ms = (round(clock.last.reading * 1e9) - created_ns) // 1_000_000
            end = reading_ms + round(outcome.reset_after * 1_000)
            if outcome:
                admitted[number][end] += 1
            else:
                refused[number].add(end)

    hammer(work)
    total = sum(admitted, Counter())
    assert max(total.values()) <= limit
    assert {end: total[end] for end in set().union(*refused)} == dict.fromkeys(set().union(*refused), limit)
    assert len(total) >= 2


def test_on_the_systems_own_clock_the_total_is_bounded_by_the_windows_gone_by(make: Make) -> None:
    limiter = make("50/5ms", clock=None)
    passed: Counter[int] = Counter()
    began = time.monotonic()
    until = began + WINDOWS / 1_000

    def work(number: int) -> None:
        while time.monotonic() < until:
            passed[number] += sum(limiter.try_acquire_many(["a key"] * 20))

    hammer(work)
    elapsed_ms = (time.monotonic() - began) * 1_000
    assert 0 < passed.total() <= 50 * (elapsed_ms // 5 + 2)


def test_many_keys_hammered_at_once_each_get_exactly_their_limit(make: Make) -> None:
    limiter = make("11/hour", max_keys=64, clock=None)
    keys = [f"key {number}" for number in range(64)]
    passed: list[Counter[str]] = [Counter() for _ in range(THREADS)]

    def work(number: int) -> None:
        for _ in range(8):
            for key in keys if number % 2 else reversed(keys):
                passed[number][key] += limiter.try_acquire(key)

    hammer(work)
    assert set(sum(passed, Counter()).values()) == {11}
    assert limiter.stats().overflowed == 0
