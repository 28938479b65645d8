"""Where the pure limiter keeps its words: tables in dicts under one lock, bounded, and safe to fork.

Theory of operation: each limit is a table of window words (``_window``) in a dict. A table is bounded as the native
one is: two slots for each of ``max_keys``, of which a key may use those of its home line and of the seven lines that
follow. A new key takes a vacant slot or one whose window has ended, looking at no more than these 32; if all of them
are live it counts in its home line's overflow word, where it may be refused early and never passes beyond the limit.
While an overflow window runs, no key enters a slot from its line.

Rules of this file: it moves words and does not read the clock. Nothing here is to be called without the lock, but to
make a store.
"""

from __future__ import annotations

import os
import time
import warnings
import weakref
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from bide.limiter import _window
from bide.limiter._arguments import nanoseconds_of
from bide.limiter._limit import LocalStore, Settings
from bide.limiter._waiting import Clock
from bide.limiter._window import EMPTY, FULL, LATEST_MS

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Place", "Store", "Table", "Take"]

SLOTS_OF_A_LINE = 4
LINES_OF_A_RUN = 8

Place = tuple[dict[int, int], int]
"""Where a word is: the dict and its index there."""


class Take(NamedTuple):
    """Where, and in which window, a cost was taken."""

    words: dict[int, int]
    place: int
    end: int


class Table:
    """The counters of one limit."""

    __slots__ = ("lines", "overflow", "owners", "window_ms", "words")

    def __init__(self, window_ms: int, lines: int) -> None:
        self.window_ms: int = window_ms
        self.lines: int = lines
        self.words: dict[int, int] = {}
        """Fingerprint -> window word."""
        self.owners: dict[int, int] = {}
        """Slot -> the fingerprint that was given it last."""
        self.overflow: dict[int, int] = {}
        """Home line -> window word of the keys that found no slot."""

    def place(self, mark: int, now: int) -> Place:
        """Where the word of a key is, or would be written."""
        if self.overflow and mark not in self.words:
            line = mark % self.lines
            if _window.is_live(self.overflow.get(line, EMPTY), now):
                return self.overflow, line
        return self.words, mark

    def raised(self, word: int, new: int, now: int) -> int:
        """What one key is told of a word that others share: it is only raised, for a window at most."""
        running = word if _window.is_live(word, now) and _window.count_of(word) <= FULL else EMPTY
        end = max(min(_window.end_of(new), now + self.window_ms), _window.end_of(running))
        return _window.pack(end, max(_window.count_of(new), _window.count_of(running)))

    def claim(self, mark: int, now: int) -> bool | None:
        """A slot for a new key: None when there is none, else whether it had another owner before."""
        first = mark % self.lines * SLOTS_OF_A_LINE
        slots = self.lines * SLOTS_OF_A_LINE
        for slot in range(first, first + min(slots, LINES_OF_A_RUN * SLOTS_OF_A_LINE)):
            owner = self.owners.get(slot % slots)
            if owner is None or not _window.is_live(self.words.get(owner, EMPTY), now):
                self.owners[slot % slots] = mark
                return self.words.pop(owner, None) is not None if owner is not None else False
        return None


class Store(LocalStore):
    """The tables, and what counts for all of them. ``lock`` guards everything but the constants."""

    __slots__ = (
        "__weakref__",
        "clock",
        "created_ns",
        "denied",
        "lock",
        "max_keys",
        "overflowed",
        "reused",
        "tables",
        "windows_ms",
    )

    def __init__(self, given: Settings, clock: Clock | None) -> None:
        lines = -(-2 * given.max_keys // SLOTS_OF_A_LINE)
        self.tables: list[Table] = [Table(limit.window_ms, lines) for limit in given.limits]
        self.max_keys: int = given.max_keys
        self.windows_ms: tuple[int, ...] = tuple(table.window_ms for table in self.tables)
        self.clock: Clock | None = clock
        self.created_ns: int = time.monotonic_ns() if clock is None else nanoseconds_of(clock())
        self.lock: Lock | _WarnsOnce = Lock()
        self.reused: int = 0
        self.overflowed: int = 0
        self.denied: int = 0
        _stores.add(self)

    def __str__(self) -> str:
        return "memory"

    def milliseconds(self, reading: float) -> int:
        """Whole milliseconds since the store was made, of a reading of its clock."""
        return min(LATEST_MS, max(0, (nanoseconds_of(reading) - self.created_ns) // 1_000_000))

    def enter(self, table: Table, place: Place, now: int) -> Place:
        """Where a word is to be written: a new key is given a slot, or its line's overflow."""
        words, index = place
        if words is table.words and index not in words:
            had_owner = table.claim(index, now)
            if had_owner is None:
                words, index = place = table.overflow, index % table.lines
            else:
                self.reused += had_owner
        self.overflowed += words is table.overflow
        return place

    def change(self, table: Table, mark: int, now: int, decide: Callable[[int], int | None]) -> None:
        """Changes the word of a key as ``decide`` says, which is given the word; None leaves it."""
        place = words, index = table.place(mark, now)
        if decide(words.get(index, EMPTY)) is None:
            return
        words, index = self.enter(table, place, now)
        word = words.get(index, EMPTY)
        new = decide(word)
        assert new is not None, "an ended word, wherever it is, is changed as an empty one"
        words[index] = new if words is table.words else table.raised(word, new, now)


# Fork: the locks are held across it, so that a child finds no half-made change and no lock of a lost thread.

_stores: weakref.WeakSet[Store] = weakref.WeakSet()
_held: list[Lock] = []


class _WarnsOnce:
    """Stands in for the lock of a store in a forked child, until it is first used there."""

    __slots__ = ("_store", "inner")

    def __init__(self, store: Store, inner: Lock) -> None:
        self._store = weakref.proxy(store)
        self.inner: Lock = inner

    def __enter__(self) -> None:
        self._store.lock = self.inner
        warnings.warn(
            "this pure-Python limiter was made before a fork and now counts for this process alone: to share"
            ' one limit, use the native extension, or store="file:///run/app/limits.bide"',
            RuntimeWarning,
            stacklevel=4,
        )
        self.inner.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.inner.release()


def _before_fork() -> None:
    for store in sorted(_stores, key=id):
        lock = store.lock.inner if isinstance(store.lock, _WarnsOnce) else store.lock
        lock.acquire()
        _held.append(lock)


def _after_fork() -> None:
    while _held:
        _held.pop().release()


def _after_fork_in_child() -> None:
    _after_fork()
    for store in sorted(_stores, key=id):
        if not isinstance(store.lock, _WarnsOnce):
            store.lock = _WarnsOnce(store, store.lock)


if hasattr(os, "register_at_fork"):  # pragma: no branch  # no system under test lacks it
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
