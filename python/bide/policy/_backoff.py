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

from bide.policy._types import Record, make

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

__all__ = ["Backoff"]

JITTERS = ("none", "full", "equal", "decorrelated", "spread")


class Backoff(Record):
    """A doubling wait with jitter, as a value.

    Attributes:
        base: seconds after the first failed attempt, above 0.
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
        if not 0 < self.base <= self.cap < 1e9:
            raise ValueError(f"Backoff needs 0 < base <= cap < 1e9 seconds, got {self.base!r}, {self.cap!r}")
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
        return jittered(self.base, self.cap, self.jitter, attempt, draw, previous)


def jittered(
    base: float, cap: float, jitter: str, attempt: int, draw: float, previous: float | None
) -> float:
    """The wait of a checked backoff."""
    if jitter == "decorrelated":
        if previous is None:
            previous = _exponential(base, cap, attempt - 1)
        return min(cap, base + draw * max(0.0, 3.0 * previous - base))
    wait = _exponential(base, cap, attempt)
    if jitter == "spread":
        return wait + draw * wait / 4.0
    if jitter == "full":
        return draw * wait
    if jitter == "equal":
        return wait / 2.0 + draw * wait / 2.0
    return wait


def _exponential(base: float, cap: float, attempt: int) -> float:
    # 2.0**200 is far above any ratio of two waits that matters, and far below overflow.
    if attempt > 200:
        return cap
    return min(cap, base * 2.0 ** (attempt - 1 if attempt > 1 else 0))
