"""The comparison of backoffs by which jitter became known: clients contend for one row, in virtual time.

Every client reads the row's version and writes it back; a write succeeds if nobody else has written between.
Who fails backs off and begins anew. Counted are the writes that the server must serve, and how long it takes
until the last client is done.

The model is that of the AWS Architecture Blog, "Exponential Backoff and Jitter" (2015): delays on the wire are
normal, 10 ms with a deviation of 2 ms, the backoff doubles from 10 ms up to 2 s.

Rules of this file: no clock, no sleep; the seed determines all. The waits are ``bide.Backoff``'s own.
"""

from __future__ import annotations

import heapq
from random import Random
from typing import NamedTuple

from bide.policy import Backoff

__all__ = ["STRATEGIES", "Contention", "contend"]

WIRE_SECONDS, WIRE_DEVIATION = 0.010, 0.002
CAP_SECONDS = 2.0

STRATEGIES: dict[str, Backoff | None] = {
    "no backoff": None,
    "exponential, no jitter": Backoff(base=0.010, cap=CAP_SECONDS, jitter="none"),
    "equal jitter": Backoff(base=0.010, cap=CAP_SECONDS, jitter="equal"),
    "full jitter": Backoff(base=0.010, cap=CAP_SECONDS, jitter="full"),
    # Its first wait is drawn from one to three times the base.
    "decorrelated jitter": Backoff(base=0.005, cap=CAP_SECONDS, jitter="decorrelated"),
}


class Contention(NamedTuple):
    """What one run came to, on average."""

    writes: float
    """That the server had to serve until everybody was done."""
    seconds: float
    """Until the last client was done."""


def contend(clients: int, backoff: Backoff | None, *, runs: int = 20, seed: int = 0) -> Contention:
    """Lets so many clients contend, ``runs`` times, and gives the mean.

    >>> contend(1, None, runs=1).writes
    1.0
    """
    writes, seconds = 0, 0.0
    for run in range(runs):
        more, took = _once(clients, backoff, Random(f"{seed}/{run}"))
        writes += more
        seconds += took
    return Contention(writes / runs, seconds / runs)


def _once(clients: int, backoff: Backoff | None, random: Random) -> tuple[int, float]:
    def delay() -> float:
        return abs(random.normalvariate(WIRE_SECONDS, WIRE_DEVIATION))

    version, writes, now = 0, 0, 0.0
    attempts = [0] * clients
    previous = [0.0 if backoff is None else backoff.base] * clients
    # (when it arrives at the server, client, the version it writes back; None: it reads)
    arriving: list[tuple[float, int, int | None]] = [(delay(), client, None) for client in range(clients)]
    heapq.heapify(arriving)
    end = 0.0
    while arriving:
        now, client, read = heapq.heappop(arriving)
        if read is None:
            heapq.heappush(arriving, (now + delay() + delay(), client, version))
            continue
        writes += 1
        answered = now + delay()
        if read == version:
            version += 1
            end = max(end, answered)
            continue
        attempts[client] += 1
        wait = 0.0
        if backoff is not None:
            wait = backoff.wait(attempts[client], random.random(), previous[client])
            previous[client] = wait
        heapq.heappush(arriving, (answered + wait + delay(), client, None))
    return writes, end
