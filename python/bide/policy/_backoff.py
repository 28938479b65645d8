"""Backoff: how long to wait when the server does not say.

Rules of this file: pure arithmetic; the random number is an argument. The cap is applied before the power is
taken, so any attempt number is safe.

The strategies are those of the AWS Architecture Blog, "Exponential Backoff and Jitter" (2015), and
``spread``, which never waits less than the plain exponential. With v = min(cap, base * 2**(attempt - 1)):

    none           v
    full           draw * v
    equal          v/2 + draw * v/2
    spread         v + draw * v/4
    decorrelated   min(cap, base + draw * (3 * previous - base))
"""

from __future__ import annotations

from math import inf

from bide.policy._types import Record, make

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

__all__ = ["Backoff"]

SHARES = {"none": (1.0, 0.0), "full": (0.0, 1.0), "equal": (0.5, 0.5), "spread": (1.0, 0.25)}
"""Jitter -> the share of the exponential wait that is sure, and the share that the draw decides."""

JITTERS = (*SHARES, "decorrelated")


class Backoff(Record):
    """A doubling wait with jitter, as a value.

    Attributes:
        base: seconds after the first failed attempt, a nanosecond at least.
        cap: seconds that no wait exceeds before jitter is added, at least ``base``.
        jitter: "none", "full", "equal", "decorrelated" or "spread".

    Raises:
        TypeError, ValueError: at construction, for a value out of these ranges.

    Source:
        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    >>> [Backoff(base=1.0, cap=30.0, jitter="none").wait(attempt) for attempt in (1, 2, 3, 6, 10**9)]
    [1.0, 2.0, 4.0, 30.0, 30.0]
    """

    __slots__ = ()
    base: float = 0.5
    cap: float = 30.0
    jitter: str = "full"

    def _check(self) -> Self:
        for name in ("base", "cap"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise TypeError(f"Backoff.{name} is a number of seconds, got {value!r}")
        if not 1e-9 <= self.base <= self.cap < 1e9:
            raise ValueError(
                f"Backoff needs 0 < base <= cap < 1e9 seconds (and 1e-9 at least), got {self.base!r}, {self.cap!r}"
            )
        if self.jitter not in JITTERS:
            raise ValueError(f"Backoff.jitter is one of {', '.join(JITTERS)}; got {self.jitter!r}")
        return make(type(self), (float(self.base), float(self.cap), self.jitter))

    def wait(self, attempt: int, draw: float = 0.0, previous: float | None = None) -> float:
        """Seconds to wait after attempt number ``attempt`` failed.

        Args:
            attempt: 1 for the first try; any size.
            draw: a number in [0, 1).
            previous: seconds of the wait before this one, for "decorrelated"; None takes the exponential one.

        Returns:
            Seconds, 0.0 or more; at most ``cap``, for "spread" a quarter more.

        Raises:
            ValueError: an attempt below 1, or a draw outside [0, 1).

        >>> Backoff(base=1.0, cap=16.0, jitter="spread").wait(3, draw=0.5)
        4.5
        """
        if attempt < 1:
            raise ValueError(f"attempt is 1 for the first try, got {attempt!r}")
        if not 0.0 <= draw < 1.0:
            raise ValueError(f"draw is a number in [0, 1), got {draw!r}")
        if self.jitter == "decorrelated" and previous is not None:
            return min(self.cap, self.base + draw * max(0.0, 3.0 * previous - self.base))
        return self.steps().wait(attempt, draw)

    def steps(self) -> Steps:
        """The same waits as a table."""
        return Steps(self.base, self.cap, self.jitter)


class Steps:
    """A compiled backoff: for each attempt the least wait and how far above it a draw may lead.

    Every strategy is linear in the draw, so nothing but the table's length depends on the attempt.
    """

    __slots__ = ("ceiling", "last", "table")

    table: tuple[tuple[float, float], ...]

    def __init__(self, base: float, cap: float, jitter: str) -> None:
        # A base is 1e-9 seconds at least and a cap below 1e9: 61 waits at most.
        waits = [base]
        while waits[-1] < cap:
            waits.append(min(cap, waits[-1] * 2.0))
        if jitter == "decorrelated":
            self.table = tuple((base, 3.0 * before - base) for before in (base, *waits))
        else:
            least, above = SHARES[jitter]
            self.table = tuple((least * wait, above * wait) for wait in waits)
        self.last: tuple[float, float] = self.table[-1]
        # The shares of the others keep them below their caps.
        self.ceiling: float = cap if jitter == "decorrelated" else inf

    def wait(self, attempt: int, draw: float) -> float:
        """The wait after an attempt, both checked before."""
        try:
            least, above = self.table[attempt - 1]
        except IndexError:
            least, above = self.last
        wait = least + draw * above
        return min(self.ceiling, wait)
