"""Nanoseconds of a call, of two limiters side by side.

Rules of this file: the rounds of both are interleaved, so that a busy machine is unfair to both alike; of each
the quickest round counts, which is what the call costs when nothing else disturbs it. The loop around the call
is part of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

__all__ = ["least_nanoseconds"]


def least_nanoseconds(calls: Mapping[str, Callable[[], object]], count: int, rounds: int) -> dict[str, float]:
    """The least nanoseconds of a call, by name.

    Args:
        calls: name -> a function without arguments that makes ``count`` calls.
        count: calls in a round.
        rounds: how many rounds of each.

    >>> sorted(least_nanoseconds({"a": lambda: None, "b": lambda: None}, 1, 3))
    ['a', 'b']
    """
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter_ns()
            call()
            least[name] = min(least[name], (time.perf_counter_ns() - began) / count)
    return least
