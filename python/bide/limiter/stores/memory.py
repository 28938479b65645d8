"""The memory store: one anonymous shared mapping, for this process and for the workers that it forks.

Rules of this file: it only makes the memory, and says for whom. Pages are touched when they are first used,
so that a large ``max_keys`` costs nothing before keys come; the mapping lives as long as a limiter that uses
it.
"""

from __future__ import annotations

import mmap

from bide import _native
from bide.limiter._limit import LocalStore, Settings
from bide.limiter._waiting import Clock

__all__ = ["MemoryStore"]


class MemoryStore(LocalStore):
    """Zeroed memory for a limiter's tables, which a forked child goes on sharing.

    Attributes:
        buffer: the mapping; it has no file, so it never outlives its processes.
        max_keys: how many keys may be live in it at once.
        windows_ms: the windows of its tables.
        clock: what its times are measured by.
    """

    __slots__ = ("buffer", "clock", "max_keys", "windows_ms")

    # No other process can put another one in its place, and its clock is this machine's.
    tenant: int = _native.Header.CALLERS
    clock_offset_ns = 0
    follow = None

    def __init__(self, given: Settings, clock: Clock | None) -> None:
        self.windows_ms: tuple[int, ...] = tuple(limit.window_ms for limit in given.limits)
        self.max_keys: int = given.max_keys
        self.clock: Clock | None = clock
        self.buffer: mmap.mmap = mmap.mmap(-1, _native.buffer_size(given.max_keys, len(given.limits)))

    def __str__(self) -> str:
        return "memory"
