"""Threads that are switched after every few instructions: exactly the limit passes, in every window."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from bide.limiter import Limiter

Make = Callable[..., Limiter]
THREADS = 8


# Threads of its own are what it tests; the interval is the whole interpreter's.
pytestmark = pytest.mark.thread_unsafe


@pytest.fixture(autouse=True)
def tiny_switch_interval() -> Iterator[None]:
    # At the ordinary 5 ms nearly every race stays hidden.
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*functions: Callable[[], None]) -> None:
    """Runs each function in a thread, all released at once; what one raises fails the test."""
    barrier = threading.Barrier(len(functions))
    failures: list[BaseException] = []

    def run(function: Callable[[], None]) -> None:
        try:
            barrier.wait()
            function()
        except BaseException as error:  # handed to the test
            failures.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("call", ["try_acquire", "take", "try_acquire_many"])
def test_exactly_the_limit_passes_on_one_key(make: Make, call: str) -> None:
    limiter = make("1000/hour", clock=None)
    passed: Counter[int] = Counter()

    def hammer(number: int) -> None:
        for _ in range(100):
            if call == "try_acquire_many":
                passed[number] += sum(limiter.try_acquire_many(["a"] * 4))
            else:
                passed[number] += sum(bool(getattr(limiter, call)("a")) for _ in range(4))

    together(*(lambda number=number: hammer(number) for number in range(THREADS)))
    assert passed.total() == 1000
    assert limiter.stats().denied == THREADS * 400 - 1000


def test_exactly_the_limit_passes_on_each_of_many_keys_inserted_at_once(make: Make) -> None:
    limiter = make("5/hour", max_keys=2000, clock=None)
    keys = [f"key {n}" for n in range(300)]
    passed: list[Counter[str]] = [Counter() for _ in range(THREADS)]

    def hammer(mine: Counter[str]) -> None:
        for key in keys:
            mine[key] += limiter.try_acquire(key) + limiter.try_acquire(key)

    together(*(lambda mine=mine: hammer(mine) for mine in passed))
    total = sum(passed, Counter())
    assert {total[key] for key in keys} == {5}


def test_with_several_limits_nothing_is_admitted_beyond_any_of_them(make: Make) -> None:
    limiter = make("300/minute", "500/hour", clock=None)
    passed: Counter[int] = Counter()

    def hammer(number: int) -> None:
        for _ in range(100):
            passed[number] += limiter.try_acquire("a")

    together(*(lambda number=number: hammer(number) for number in range(THREADS)))
    assert 0 < passed.total() <= 300
    assert limiter.try_acquire("a", 300 - passed.total() or 1) == (passed.total() < 300)


def test_a_refund_is_given_once_however_many_threads_ask(make: Make) -> None:
    limiter = make("1000/hour", clock=None)
    outcomes = [limiter.take("a") for _ in range(200)]
    given: Counter[int] = Counter()

    def refund(number: int) -> None:
        for outcome in outcomes:
            given[number] += limiter.refund("a", outcome)

    together(*(lambda number=number: refund(number) for number in range(THREADS)))
    assert given.total() == 200
    assert limiter.peek("a").remaining == 1000


def test_one_prober_at_a_time_however_many_threads_ask(make: Make) -> None:
    limiter = make("1000/hour", clock=None)
    probes: list[int] = []

    def contact() -> None:
        probes.extend(n for n in range(300) if limiter.contact(f"key {n}"))

    together(*[contact] * THREADS)
    assert sorted(probes) == list(range(300))


def test_everything_at_once_never_passes_beyond_the_limit(make: Make) -> None:
    limiter = make("50/second", max_keys=4)
    assert limiter.try_acquire_many(["a", "b"]) == [True, True]
    stop = threading.Event()
    in_window: list[Counter[tuple[str, float]]] = [Counter() for _ in range(4)]

    def take(mine: Counter[tuple[str, float]], key: str) -> None:
        for _ in range(1500):
            outcome = limiter.take(key)
            if outcome:
                mine[key, outcome.reset_after] += 1

    def disturb() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            limiter.peek("a")
            limiter.try_acquire(f"new {n % 50}")
            limiter.stats()

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        together(*(lambda mine=mine, n=n: take(mine, "ab"[n % 2]) for n, mine in enumerate(in_window)))
    finally:
        stop.set()
        disturber.join()
    total = sum(in_window, Counter())
    for key in "ab":
        assert sum(count for (name, _), count in total.items() if name == key) == 49
