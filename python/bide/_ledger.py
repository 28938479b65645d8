"""What a driver knows beyond one reply: its own requests under way, and a server that truncates its resets.

Two corrections to what a reply states, before the limiter learns it:

- Somebody else uses the same quota: the reply states less than our own requests account for. Then those that
  we have under way, which it cannot have counted all, come on top: at a window's end each would be a 429.
- A refusal whose reset has already passed: this server cuts off the fraction of a second, so its windows end
  up to a second later than it says. From then on that second is added.

Rules of this file: keys are held as hashes only, and only while a request of theirs is under way. Threads may
share it: a lost update makes a correction too small or too large by one request, once.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bide.limiter import Limiter, Outcome
    from bide.policy import Decision, Quota

__all__ = ["Ledger"]

FRACTION_SECONDS = 1.0
"""What a server cuts off by stating whole seconds, at most."""


class Ledger:
    """The requests under way of each key, and whether the server truncates."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[int, int] = {}
        self._truncates = False

    def begin(self, key: str | bytes) -> None:
        """A request of this key is being sent."""
        mark = hash(key)
        with self._lock:
            self._under_way[mark] = self._under_way.get(mark, 0) + 1

    def end(self, key: str | bytes) -> None:
        """Its answer has come, or none will."""
        mark = hash(key)
        with self._lock:
            left = self._under_way.get(mark, 0) - 1
            if left > 0:
                self._under_way[mark] = left
            else:
                self._under_way.pop(mark, None)

    def corrected(
        self, limiter: Limiter, key: str | bytes, decision: Decision, admission: Outcome | None = None
    ) -> Quota | None:
        """The governing quota of a decision, as the limiter should learn it. What it believes itself is asked of it, or
        stands in ``admission``, where asking takes a round trip.

        The end of a stated wait alone is no window: it must not move the one that the limiter counts in.
        """
        quota = decision.quota
        if quota is None or not decision.quotas:
            return None
        reset_after, remaining = quota.reset_after, quota.remaining
        if reset_after is not None and quota.window is not None:
            if (
                remaining == 0
                and -FRACTION_SECONDS < reset_after <= 0.0
                and decision.reason == "rate_limited"
            ):
                self._truncates = True
            if self._truncates:
                quota = quota.replace(reset_after=reset_after + FRACTION_SECONDS)
        under_way = self._under_way.get(hash(key), 0)
        if remaining and under_way and remaining < (admission or limiter.peek(key)).remaining:
            quota = quota.replace(remaining=max(remaining - under_way, 0))
        return quota
