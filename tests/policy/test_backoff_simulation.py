"""The published backoff simulation: many clients write to one row, and what each strategy costs in time and calls.

The model: a client reads the row's version, then writes with it; a write with a version that is no longer the
row's fails, and the client backs off and reads again. Every hop takes about 10 ms. All clients start
at once, and each stops after one success. Times here are in milliseconds.

Rules of this file: the strategies are written down a second time, from the published formulas, with a
generator of their own; ``Backoff`` must give the same means, and the published conclusions. The published
"Exponential" is ``jitter="none"``, and its count of failures makes the first wait twice the base.

Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from heapq import heappop, heappush
from random import Random
from statistics import fmean, variance

import pytest

from bide.policy import Backoff

BASE, CAP = 5.0, 2000.0
JITTERS = ["none", "equal", "full", "decorrelated"]
CLIENTS = [10, 50]
TRIALS = 30

Strategy = Callable[[int, float, Random], float]
"""Failures so far (from 1), the wait before (at first the base), a generator -> the wait."""


def published(jitter: str) -> Strategy:
    """The strategy as the article has it."""

    def exponential(failures: int) -> float:
        return min(CAP, BASE * 2.0**failures)

    formulas: dict[str, Strategy] = {
        "none": lambda failures, _, random: exponential(failures),
        "equal": lambda failures, _, random: (
            exponential(failures) / 2 + random.uniform(0, exponential(failures) / 2)
        ),
        "full": lambda failures, _, random: random.uniform(0, exponential(failures)),
        "decorrelated": lambda _, before, random: min(CAP, random.uniform(BASE, before * 3)),
    }
    return formulas[jitter]


def of_bide(jitter: str) -> Strategy:
    """The same from ``Backoff``, in seconds, whose first wait is its base."""
    if jitter == "decorrelated":
        backoff = Backoff(base=BASE / 1e3, cap=CAP / 1e3, jitter=jitter)
        return lambda failures, before, random: 1e3 * backoff.wait(failures, random.random(), before / 1e3)
    backoff = Backoff(base=2 * BASE / 1e3, cap=CAP / 1e3, jitter=jitter)
    return lambda failures, _, random: 1e3 * backoff.wait(failures, random.random())


def no_wait(_failures: int, _before: float, _random: Random) -> float:
    return 0.0


def trial(clients: int, strategy: Strategy, random: Random) -> tuple[float, int]:
    """When the last client succeeded, and how many writes that took."""

    def hop() -> float:
        return abs(random.gauss(10.0, 2.0))

    version = calls = 0
    now = 0.0
    failures, before, seen = [0] * clients, [BASE] * clients, [0] * clients
    events: list[tuple[float, int, str]] = []
    for client in range(clients):
        heappush(events, (hop(), client, "read arrives"))
    while events:
        now, client, what = heappop(events)
        match what:
            case "read arrives":
                seen[client] = version
                heappush(events, (now + hop(), client, "version known"))
            case "version known":
                heappush(events, (now + hop(), client, "write arrives"))
            case "write arrives":
                calls += 1
                won = seen[client] == version
                version += won
                heappush(events, (now + hop(), client, "done" if won else "refused"))
            case "refused":
                failures[client] += 1
                before[client] = strategy(failures[client], before[client], random)
                heappush(events, (now + before[client] + hop(), client, "read arrives"))
    return now, calls


Results = tuple[list[float], list[float]]


@cache
def simulation(strategy: str, clients: int, seed: int) -> Results:
    """Completion times and calls of all trials; ``strategy`` is "whose jitter"."""
    whose, _, jitter = strategy.partition(" ")
    waits = no_wait if whose == "nobody" else {"published": published, "bide": of_bide}[whose](jitter)
    random = Random(seed)
    trials = [trial(clients, waits, random) for _ in range(TRIALS)]
    return [time for time, _ in trials], [float(calls) for _, calls in trials]


def standard_error(ours: list[float], theirs: list[float]) -> float:
    """Of the difference of two means."""
    return math.sqrt(variance(ours) / len(ours) + variance(theirs) / len(theirs))


def mean_time(strategy: str, clients: int) -> float:
    return fmean(simulation(strategy, clients, seed=1)[0])


def mean_calls(strategy: str, clients: int) -> float:
    return fmean(simulation(strategy, clients, seed=1)[1])


@pytest.mark.parametrize("clients", CLIENTS)
@pytest.mark.parametrize("jitter", JITTERS)
def test_each_mean_is_within_three_standard_errors_of_the_published_strategy(
    jitter: str, clients: int
) -> None:
    found = simulation(f"bide {jitter}", clients, seed=1)
    expected = simulation(f"published {jitter}", clients, seed=2)
    for ours, theirs in zip(found, expected, strict=True):
        assert abs(fmean(ours) - fmean(theirs)) <= 3 * standard_error(ours, theirs)


@pytest.mark.parametrize("jitter", JITTERS)
def test_with_the_same_draws_every_wait_is_the_published_one(jitter: str) -> None:
    published_wait, wait = published(jitter), of_bide(jitter)
    ours, theirs = Random(3), Random(3)
    if jitter == "none":  # draws that it ignores
        theirs = ours
    before = BASE
    for failures in range(1, 30):
        expected = published_wait(failures, before, theirs)
        assert wait(failures, before, ours) == pytest.approx(expected, rel=1e-12)
        before = expected


@pytest.mark.parametrize("clients", CLIENTS)
def test_without_jitter_the_backoff_loses_in_time_and_in_calls(clients: int) -> None:
    for jitter in ("equal", "full", "decorrelated"):
        assert mean_time("bide none", clients) > 4 * mean_time(f"bide {jitter}", clients)
        assert mean_calls("bide none", clients) > 1.15 * mean_calls(f"bide {jitter}", clients)


def test_full_jitter_almost_halves_the_calls_at_fifty_clients_and_no_wait_costs_the_most() -> None:
    assert mean_calls("bide full", 50) < 0.6 * mean_calls("bide none", 50)
    assert mean_calls("bide full", 50) < 0.6 * mean_calls("nobody", 50)
    assert mean_calls("nobody", 50) > mean_calls("bide none", 50)
    assert mean_time("nobody", 50) < mean_time("bide decorrelated", 50)


def test_equal_jitter_does_slightly_more_work_than_full_jitter_and_takes_much_longer() -> None:
    assert 1.0 < mean_calls("bide equal", 50) / mean_calls("bide full", 50) < 1.15
    assert mean_time("bide equal", 50) > 1.25 * mean_time("bide full", 50)


def test_full_jitter_makes_fewer_calls_than_decorrelated_jitter_and_takes_a_little_longer() -> None:
    assert mean_calls("bide full", 50) < mean_calls("bide decorrelated", 50)
    assert 1.0 < mean_time("bide full", 50) / mean_time("bide decorrelated", 50) < 1.6


@pytest.mark.parametrize("jitter", JITTERS)
def test_no_strategy_changes_that_the_calls_grow_faster_than_the_clients(jitter: str) -> None:
    assert mean_calls(f"bide {jitter}", 50) > 1.3 * 5 * mean_calls(f"bide {jitter}", 10)
