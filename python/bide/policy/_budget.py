"""A retry budget: how many repetitions are too many, as a value.

When an API is down every request fails, and repeating each of them some times multiplies the load just then. A
budget bounds repetitions to a share of the requests, with a floor that lets quiet clients repeat.

Rules of this file: pure arithmetic; the time is an argument; a budget is never changed, its methods give the one
that follows. Who keeps it (an adapter keeps one for each host) need not lock: a lost update allows one
repetition more, or one fewer, once.
"""

from __future__ import annotations

from bide.policy._types import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

__all__ = ["Budget"]


class Budget(Record):
    """How many of the requests of one period may be repetitions.

    Attributes:
        ratio: repetitions for each request, 0.0 or more.
        floor: repetitions that every period allows, whatever was requested, 0 or more.
        period: length of a period in seconds, above 0.
        since: when the running period began, in seconds of the caller's clock; None: none has begun.
        requests: requests in it, not counting repetitions.
        retries: repetitions in it.

    Raises:
        ValueError: at construction, for a value out of range.

    Source:
        The ratio and floor are those of Finagle's RetryBudget: 20 %, and ten a second over ten seconds.

    >>> budget = Budget(ratio=0.5, floor=1)
    >>> budget = budget.after_request(now=0.0).after_request(now=0.1)
    >>> budget.allows(now=0.2), budget.after_retry(now=0.2).allows(now=0.3)
    (True, False)
    """

    __slots__ = ()
    ratio: float = 0.2
    floor: int = 100
    period: float = 10.0
    since: float | None = None
    requests: int = 0
    retries: int = 0

    def _check(self) -> Self:
        if not 0.0 <= self.ratio <= 100.0:
            raise ValueError(f"Budget.ratio is 0.0 to 100.0 repetitions for each request, got {self.ratio!r}")
        if not 0 <= self.floor <= 1_000_000:
            raise ValueError(f"Budget.floor is 0 to 1,000,000 repetitions, got {self.floor!r}")
        if not 0.0 < self.period <= 86_400.0:
            raise ValueError(f"Budget.period is above 0 and at most 86400 seconds, got {self.period!r}")
        return self

    def allows(self, now: float) -> bool:
        """Whether one more repetition fits.

        Args:
            now: seconds of the caller's monotonic clock.
        """
        budget = self._at(now)
        return budget.retries + 1 <= max(budget.floor, budget.ratio * budget.requests)

    def after_request(self, now: float) -> Self:
        """The budget after a request that is no repetition was sent at ``now``."""
        budget = self._at(now)
        return budget.replace(requests=budget.requests + 1)

    def after_retry(self, now: float) -> Self:
        """The budget after a repetition was sent at ``now``."""
        budget = self._at(now)
        return budget.replace(retries=budget.retries + 1)

    def _at(self, now: float) -> Self:
        if self.since is not None and 0.0 <= now - self.since < self.period:
            return self
        return self.replace(since=now, requests=0, retries=0)
