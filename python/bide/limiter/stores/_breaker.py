"""Whether a remote store counts as up: so that an outage does not cost every call its deadline.

Theory of operation: a few failures in a row open the breaker. While it is open no call goes out, but one now and then
that tries again: after a quarter of a second first, doubling to five. The first answer closes it. Each change of state
is one line of the log, and a number in the store's statistics.

Rules of this file: no I/O. Times are monotonic seconds.
"""

from __future__ import annotations

import logging
import threading
import time

__all__ = ["Breaker"]

FAILURES_IN_A_ROW = 3
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0

logger = logging.getLogger("bide")


class Breaker:
    """Counts failures, and says whether a call may go out.

    Args:
        name: the store's, without any secret.
        meanwhile: what is done without it, for the log.

    Attributes:
        outages: how often it has opened.
        failures: calls that failed, in all.
    """

    def __init__(self, name: str, meanwhile: str) -> None:
        self._name = name
        self._meanwhile = meanwhile
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._pause = 0.0
        self._opened_at = 0.0
        self._next_try = 0.0
        self.outages = 0
        self.failures = 0

    @property
    def is_open(self) -> bool:
        return self._pause > 0.0

    @property
    def wait(self) -> float:
        """Seconds until it is worth asking again."""
        left = self._next_try - time.monotonic() if self._pause else 0.0
        return max(left, 0.05)

    def admits(self) -> bool:
        """Whether this call may go out; while open, one in each pause, which is the try."""
        if not self._pause:
            return True
        with self._lock:
            now = time.monotonic()
            if self._pause and now < self._next_try:
                return False
            self._next_try = now + self._pause
            return True

    def failed(self, why: str) -> None:
        with self._lock:
            self.failures += 1
            self._in_a_row += 1
            now = time.monotonic()
            if self._pause:
                self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            elif self._in_a_row >= FAILURES_IN_A_ROW:
                self._pause, self._opened_at = FIRST_PAUSE_SECONDS, now
                self.outages += 1
                logger.warning("store %s is down (%s): %s", self._name, why, self._meanwhile)
            self._next_try = now + self._pause

    def succeeded(self) -> None:
        if not self._in_a_row:
            return
        with self._lock:
            if self._pause:
                seconds = time.monotonic() - self._opened_at
                logger.warning("store %s is back after %.1f s", self._name, seconds)
            self._in_a_row, self._pause = 0, 0.0
