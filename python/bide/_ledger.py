"""What a driver knows beyond one reply: its own requests under way, and a server that truncates its resets.

Two corrections to what a reply states, before the limiter learns it:

- Somebody else uses the same quota: a reply states less than our own requests account for. From then on those
  that we have under way, which a reply cannot have counted all, come on top, and as many as the other one was
  seen to take between two replies: at a window's end each would be a 429.
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


class Account:
    """What is known of one key while requests of it are under way."""

    __slots__ = ("others", "under_way")

    def __init__(self) -> None:
        self.under_way = 0
        self.others = 0.0
        """Requests to leave to whoever else uses the quota; 0 while nobody was seen to."""


class Ledger:
    """The requests under way of each key, and whether the server truncates."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[int, Account] = {}
        self._truncates = False

    def begin(self, key: str | bytes) -> None:
        """A request of this key is being sent."""
        with self._lock:
            self._accounts.setdefault(hash(key), Account()).under_way += 1

    def end(self, key: str | bytes) -> None:
        """Its answer has come, or none will."""
        mark = hash(key)
        with self._lock:
            account = self._accounts.get(mark)
            if account is not None:
                account.under_way -= 1
                if account.under_way <= 0:
                    del self._accounts[mark]

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
        account = self._accounts.get(hash(key))
        if remaining and account is not None:
            missing = (admission or limiter.peek(key)).remaining - remaining
            if missing > 0:
                account.others = min(account.others + missing, account.under_way)
            if account.others:
                quota = quota.replace(remaining=max(remaining - account.under_way - account.others, 0))
        return quota
