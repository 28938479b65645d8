"""``Outcome``: what a call of the pure limiter came to.

Rules of this file: the public fields are of one instant and make the value (equality, hash, repr); what it was
taken from is private, and names the key by its fingerprint alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from bide.limiter import _window
from bide.limiter._tables import Store, Take
from bide.limiter._window import Rule

__all__ = ["Outcome", "Standing", "outcome_of", "standing"]


class Standing(NamedTuple):
    """What one table says: the public fields of an ``Outcome``."""

    allowed: bool
    limit: int
    remaining: int
    reset_after: float
    retry_after: float
    probing: bool


class Outcome:
    """What one ``take`` or ``peek`` found, all of the same instant; true when allowed. It never changes."""

    __slots__ = ("_cost", "_mark", "_spent", "_standing", "_store", "_takes")

    _standing: Standing
    _store: Store
    _mark: int
    _cost: int
    _takes: tuple[Take, ...]
    _spent: bool

    def __init__(self) -> None:
        raise TypeError("an Outcome is what take(), peek() and acquire() return")

    @property
    def allowed(self) -> bool:
        """Whether the call may go on; for ``peek``, whether one of cost 1 would."""
        return self._standing.allowed

    @property
    def limit(self) -> int:
        """The tightest limit: of those that allow, the one with the least remaining; of those that refuse,
        the one with the longest wait. A learning limiter, which has no number of its own, says 67,000,000."""
        return self._standing.limit

    @property
    def remaining(self) -> int:
        """What is left of that limit in its window, after this call."""
        return self._standing.remaining

    @property
    def reset_after(self) -> float:
        """Seconds until that window ends; 0.0 when none runs."""
        return self._standing.reset_after

    @property
    def retry_after(self) -> float:
        """Seconds until it is worth asking again: 0.0 when allowed, ``inf`` when the cost is above a limit
        and can never pass."""
        return self._standing.retry_after

    @property
    def probing(self) -> bool:
        """This is a key's first request, let through alone (allowed), or that one is still out (refused: look
        again soon, rather than after ``retry_after``)."""
        return self._standing.probing

    def __bool__(self) -> bool:
        return self._standing.allowed

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcome):
            return NotImplemented
        return self._standing == other._standing

    def __hash__(self) -> int:
        return hash(self._standing)

    def __repr__(self) -> str:
        fields = [f"{name}={value!r}" for name, value in self._standing._asdict().items()]
        return f"Outcome({', '.join(fields if self.probing else fields[:-1])})"


def standing(word: int, now: int, rule: Rule, cost: int, taken: bool = False) -> Standing:
    """How a word stands for a call of ``cost``; ``taken``: it is the word after that call."""
    remaining, end, probing = _window.view(word, now, rule)
    seconds = (end - now) / 1_000 if end else 0.0
    if taken or cost <= remaining:
        return Standing(True, rule.limit, remaining, seconds, 0.0, probing)
    if cost > rule.limit:
        return Standing(False, rule.limit, remaining, seconds, math.inf, False)
    return Standing(False, rule.limit, remaining, seconds, seconds, probing)


def outcome_of(found: list[Standing]) -> Outcome:
    """The tightest of what the tables say; the first of them when equal."""
    if len(found) == 1:
        tightest = found[0]
    elif all(one.allowed for one in found):
        tightest = min(found, key=lambda one: one.remaining)
    else:
        tightest = max((one for one in found if not one.allowed), key=lambda one: one.retry_after)
    outcome = Outcome.__new__(Outcome)
    outcome._standing = tightest
    outcome._mark = outcome._cost = 0
    outcome._spent = True
    outcome._takes = ()
    return outcome
