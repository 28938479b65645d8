"""A real fork: the native limiter goes on being one, the twin says that it cannot; no lock stays held."""

import os
import signal
import threading
import warnings
from collections.abc import Callable
from types import ModuleType

import pytest

from bide.limiter import Limiter

Make = Callable[..., Limiter]

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork"),
    pytest.mark.thread_unsafe,  # a child is forked from one thread, and warnings are the whole process'
]


def in_child(function: Callable[[], str]) -> str:
    """What ``function`` returns in a forked child; fails when that hangs for two minutes."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn of a fork beside threads: to stand that is what is tested here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(120)
        try:
            os.write(writing, function().encode())
        except BaseException as error:  # whatever it is, the parent shows it
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read().decode()
    assert os.waitpid(child, 0)[1] == 0, "the child hung"
    return told


def use_in_child(limiter: Limiter) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        passed = [limiter.try_acquire("a") for _ in range(10)].count(True)
        limiter.take("b")
    return f"{passed} passed, {[str(warning.message) for warning in caught]}"


def test_a_forked_worker_shares_the_native_counters_and_the_twin_says_once_that_it_cannot(
    make: Make, implementation: ModuleType
) -> None:
    limiter = make("10/minute", clock=None)
    assert all(limiter.try_acquire("a") for _ in range(3))
    told = in_child(lambda: use_in_child(limiter))
    if implementation.IMPLEMENTATION == "native":
        assert told == "7 passed, []"
        assert limiter.peek("a").remaining == 0
        assert limiter.peek("b").remaining == 9
    else:
        assert told.startswith("7 passed, ['this pure-Python limiter was made before a fork")
        assert told.count("fork") == 1
        assert 'store="file:///run/app/limits.bide"' in told
        assert limiter.peek("a").remaining == 7


def test_a_limiter_made_in_the_child_warns_of_nothing(make: Make) -> None:
    assert in_child(lambda: use_in_child(make("10/minute", clock=None))) == "10 passed, []"


def test_many_workers_share_one_limit(make: Make, implementation: ModuleType) -> None:
    if implementation.IMPLEMENTATION == "pure":
        pytest.skip("the twin cannot share; the test above holds that it says so")
    limiter = make("100/hour", clock=None)
    tolds = [
        in_child(lambda: str([limiter.try_acquire("a") for _ in range(30)].count(True))) for _ in range(5)
    ]
    assert tolds == ["30", "30", "30", "10", "0"]
    children = [in_child(lambda n=n: str(limiter.try_acquire(f"worker {n}"))) for n in range(3)]
    assert children == ["True"] * 3
    assert limiter.stats().live == 4


def test_a_fork_in_the_midst_of_other_threads_calls_leaves_no_lock_held(make: Make) -> None:
    limiter = make("67000000/hour", clock=None)
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            limiter.try_acquire_many(["another key"] * 50)

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            assert in_child(lambda: use_in_child(limiter)).startswith("10 passed")
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_child_of_a_child_is_warned_too_and_no_lock_is_lost(make: Make, implementation: ModuleType) -> None:
    limiter = make("10/minute", clock=None)

    def grandchild() -> str:
        return in_child(lambda: use_in_child(limiter))

    assert in_child(grandchild).startswith("10 passed")
    assert limiter.try_acquire("a") == (implementation.IMPLEMENTATION == "pure")
