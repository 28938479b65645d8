"""The limiter in pure Python: the twin of the native one, for platforms without it and for the doubtful.

Rules of this file: the same answers as the native limiter, by the same tests; its docstrings are the contract of
both, and what type checkers see. One lock, held for dict operations and arithmetic alone: the clock, which may be
a caller's, is read outside it, and a late reading joins the newer window or is refused. Not for signal handlers and
finalizers: one that interrupts a call and makes another would wait for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, Self, cast

from bide.limiter import _window
from bide.limiter._arguments import (
    BUILTIN_HASH,
    Key,
    fingerprint,
    fingerprint_of_octets,
    milliseconds_of,
    milliseconds_up,
    nanoseconds_of,
    stated,
    whole_cost,
)
from bide.limiter._limit import Anchor, Limit, Stats, remote_store, settings, store_to_share
from bide.limiter._outcome import Outcome, outcome_of, standing
from bide.limiter._tables import Place, Store, Take
from bide.limiter._waiting import Clock, Waiting
from bide.limiter._window import COUNT_BITS, COUNT_MASK, EMPTY, ENDED, MAX_WINDOW_MS, Reply, Rule

if TYPE_CHECKING:
    from bide.limiter.stores.file import FileStore
    from bide.limiter.stores.redis import RedisStore

__all__ = ["IMPLEMENTATION", "Limiter", "Outcome"]

IMPLEMENTATION: Literal["native", "pure"] = "pure"


class Limiter(Waiting[Outcome]):
    """Keeps every key inside its limits: so many in each fixed window, all limits or nothing.

    Args:
        limits: one or more ("1200/minute", "10 per second", ``bide.Limit(1200, 60.0)``), of different
            windows.
        store: "memory": this process and, with the native implementation, the workers that it forks. Another
            limiter's ``store`` shares its counters: same windows, and ``name`` tells the two apart.
            "file:///run/app/limits.bide" (or a ``bide.FileStore``): all processes of this machine that write the same;
            native only. "redis://...", "valkey://...": all hosts that write the same. See docs/stores.md.
        max_keys: how many keys may be live at once, from 1; memory is bounded by it (two slots each).
        name: sets this limiter's keys apart from those of another one on the same store.
        anchor: a key's windows begin at its first use ("first"), or on the grid of Unix time ("grid").
        learn: instead of limits: the server's window ("1 hour", or seconds). Each window begins with one
            request, whose reply (``sync``) tells how many may follow.
        clock: monotonic seconds when called; None is the system's. See ``bide.testing.FakeClock``.

    Raises:
        TypeError, ValueError: an argument of another kind or outside its range; says what to write.
        bide.StoreError: the store cannot be opened; says why and what to do.

    Keys are ``str`` or ``bytes``, kept as keyed fingerprints only; both of the same octets are one key.
    Any thread may call any method at any time.

    >>> import bide
    >>> limiter = bide.Limiter("2/minute")
    >>> [limiter.try_acquire("a key") for _ in range(3)]
    [True, True, False]
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_hot",
        "_longest",
        "_now",
        "_rules",
        "_salt",
        "_settings",
        "_store",
        "limits",
        "store",
    )

    implementation = IMPLEMENTATION

    def __new__(
        cls,
        *limits: str | Limit,
        store: str | Store | FileStore | RedisStore = "memory",
        max_keys: int = 65_536,
        name: str = "",
        anchor: Anchor = "first",
        learn: str | float | None = None,
        clock: Clock | None = None,
    ) -> Self:
        remote = remote_store(store)
        if remote is None:
            return super().__new__(cls)
        from bide.limiter.stores._remote import make

        given = settings(limits, max_keys, name, anchor, learn, clock)
        return cast("Self", make(Limiter, given, remote, clock))

    def __init__(
        self,
        *limits: str | Limit,
        store: str | Store | FileStore | RedisStore = "memory",
        max_keys: int = 65_536,
        name: str = "",
        anchor: Anchor = "first",
        learn: str | float | None = None,
        clock: Clock | None = None,
    ) -> None:
        given = settings(limits, max_keys, name, anchor, learn, clock)
        shared = store_to_share(store, Store, given, clock) or Store(given, clock)
        self.limits: tuple[Limit, ...] = given.limits
        self.store: Store | FileStore | RedisStore = shared
        self._store = shared
        self._settings = given
        self._clock = clock
        self._salt = fingerprint_of_octets(given.name) if given.name else 0
        self._rules = tuple(
            Rule(limit.limit, limit.window_ms, given.grid, given.learn) for limit in given.limits
        )
        self._longest = max(range(len(given.limits)), key=lambda index: given.limits[index].window_ms)
        self._now = self._reader(shared)
        # What try_acquire needs, by one look-up. Several tables: words that stay empty: it goes the long way.
        words = shared.tables[0].words if len(given.limits) == 1 else {}
        self._hot = (words, given.limits[0].limit, shared, self._now, self._salt)

    @staticmethod
    def _reader(store: Store) -> Callable[[], int]:
        clock, created_ns = store.clock, store.created_ns
        if clock is not None:
            return lambda: store.milliseconds(clock())
        monotonic_ns = time.monotonic_ns
        return lambda: (monotonic_ns() - created_ns) // 1_000_000

    def _mark(self, key: Key) -> int:
        return fingerprint(key) ^ self._salt

    def _offset_at(self, now: int) -> Callable[[], int]:
        """Reads Unix time minus ``now``, in milliseconds: anew at each roll, because it may be set."""
        if not self._settings.grid:
            return int  # never asked; it would say 0
        wall: Callable[[], float] = getattr(self._clock, "time", time.time)
        return lambda: nanoseconds_of(wall()) // 1_000_000 - now

    def try_acquire(self, key: Key, cost: int = 1) -> bool:
        """Takes ``cost`` if every limit has room for it: the fast call.

        Args:
            key: who is counted, ``str`` or ``bytes``.
            cost: how much this call counts, from 1 to 67,000,000.

        Returns:
            Whether it was taken. A refusal takes nothing and writes nothing.

        Raises:
            TypeError, ValueError: an argument of another kind or outside its range; a key is never shown.
        """
        words, limit, store, clock, salt = self._hot
        mark = (
            hash(key) ^ salt
            if BUILTIN_HASH and type(key) is str and key.isascii()
            else fingerprint(key) ^ salt
        )
        if type(cost) is not int or not 0 < cost <= limit:
            cost = whole_cost(cost)
        now = clock()
        # The window of a known key that runs, decided here: the calls that this saves are most of the cost.
        with store.lock:
            word = words.get(mark, EMPTY)
            if word >> COUNT_BITS > now:
                if (word & COUNT_MASK) + cost <= limit:
                    words[mark] = word + cost
                    return True
                store.denied += 1
                return False
        return self._take(mark, now, cost, None).allowed

    def take(self, key: Key, cost: int = 1) -> Outcome:
        """Takes ``cost`` if every limit has room for it, and tells how things stand.

        Args:
            key: who is counted, ``str`` or ``bytes``.
            cost: how much this call counts, from 1 to 67,000,000.

        Returns:
            The outcome, true when it was taken. A refusal takes nothing and writes nothing.

        Raises:
            TypeError, ValueError: an argument of another kind or outside its range; a key is never shown.

        >>> import bide
        >>> outcome = bide.Limiter("2/minute").take("a key", cost=2)
        >>> outcome.allowed, outcome.remaining, outcome.reset_after
        (True, 0, 60.0)
        """
        return self._take(self._mark(key), self._now(), whole_cost(cost), None)

    def contact(self, key: Key, cost: int = 1, probe_timeout: float = 30.0) -> Outcome:
        """Takes as ``take`` does, but lets a key that no reply has aligned yet through alone.

        So a program that starts in the middle of a server's window sends one request for each key, learns
        from its reply (``sync``) how much is left and when the window ends, and only then sends the others.

        Args:
            key: who is counted, ``str`` or ``bytes``.
            cost: how much this call counts, from 1 to 67,000,000.
            probe_timeout: seconds after which another one is let through if no reply has been told; above 0.

        Returns:
            The outcome; ``probing`` is true for the one let through alone, and for those refused meanwhile.

        Raises:
            TypeError, ValueError: an argument of another kind or outside its range; a key is never shown.

        >>> import bide
        >>> limiter = bide.Limiter("1200/minute")
        >>> limiter.contact("a key").probing, limiter.contact("a key").allowed
        (True, False)
        >>> limiter.sync("a key", bide.Quota(remaining=2, reset_after=30.0))
        >>> limiter.contact("a key").remaining
        1
        """
        probe = milliseconds_of(probe_timeout, "probe_timeout")
        return self._take(self._mark(key), self._now(), whole_cost(cost), probe)

    def peek(self, key: Key) -> Outcome:
        """How a key stands; takes nothing.

        Args:
            key: who is counted, ``str`` or ``bytes``.

        Returns:
            The outcome; ``allowed`` tells whether a call of cost 1 would pass now.

        Raises:
            TypeError, ValueError: the key is of another kind, or cannot be encoded; it is never shown.
        """
        mark, now = self._mark(key), self._now()
        found = []
        with self._store.lock:
            for table, rule in zip(self._store.tables, self._rules, strict=True):
                words, index = table.place(mark, now)
                found.append(standing(words.get(index, EMPTY), now, rule, 1))
        return outcome_of(found)

    def try_acquire_many(self, keys: Iterable[Key], cost: int = 1) -> list[bool]:
        """Takes ``cost`` for each of many keys, at one instant.

        Args:
            keys: the keys, in order; one that occurs twice is counted twice.
            cost: how much each counts, from 1 to 67,000,000.

        Returns:
            For each key whether it was taken.

        Raises:
            TypeError, ValueError: an argument or one of the keys is of another kind; then nothing was taken.

        >>> import bide
        >>> bide.Limiter("1/minute").try_acquire_many(["a", "b", "a"])
        [True, True, False]
        """
        if isinstance(keys, str | bytes):
            raise TypeError(f"keys must be a list of keys, not one {type(keys).__name__}")
        cost = whole_cost(cost)
        words, limit, store, clock, salt = self._hot
        marks = [fingerprint(key) ^ salt for key in keys]
        now = clock()
        answers = []
        with store.lock:
            for mark in marks:
                word = words.get(mark, EMPTY)
                if word >> COUNT_BITS <= now:
                    answers.append(self._take_locked(mark, now, cost, None).allowed)
                elif (word & COUNT_MASK) + cost <= limit:
                    words[mark] = word + cost
                    answers.append(True)
                else:
                    store.denied += 1
                    answers.append(False)
        return answers

    def _take(self, mark: int, now: int, cost: int, probe_ms: int | None) -> Outcome:
        with self._store.lock:
            return self._take_locked(mark, now, cost, probe_ms)

    def _take_locked(self, mark: int, now: int, cost: int, probe_ms: int | None) -> Outcome:
        store, rules = self._store, self._rules
        looked: list[tuple[Place, int | None]] = []
        found = []
        for n, (table, rule) in enumerate(zip(store.tables, rules, strict=True)):
            place = table.place(mark, now)
            word, new = self._next(n, place, now, cost, probe_ms)
            looked.append((place, new))
            found.append(
                standing(word, now, rule, cost) if new is None else standing(new, now, rule, cost, True)
            )
        outcome = outcome_of(found)
        if not outcome.allowed:
            store.denied += 1
            return outcome
        takes = []
        for n, (place, new) in enumerate(looked):
            entered = store.enter(store.tables[n], place, now)
            if entered is not place:
                # No slot: the overflow, which has room, since it was looked at if its window runs.
                _, new = self._next(n, entered, now, cost, probe_ms)
                found[n] = standing(new or EMPTY, now, rules[n], cost, True)
                outcome = outcome_of(found)
            words, index = entered
            words[index] = word = new or EMPTY
            takes.append(Take(words, index, word >> COUNT_BITS))
        outcome._store, outcome._mark, outcome._cost, outcome._spent = store, mark, cost, False
        outcome._takes = tuple(takes)
        return outcome

    def _next(
        self, position: int, place: Place, now: int, cost: int, probe_ms: int | None
    ) -> tuple[int, int | None]:
        """The word in a place, and what a take would make of it; None refuses."""
        words, index = place
        word = words.get(index, EMPTY)
        rule, offset = self._rules[position], self._offset_at(now)
        # A start in the middle of a window hurts most in the longest one: only there the first goes alone.
        if probe_ms is None or position != self._longest or words is not self._store.tables[position].words:
            return word, _window.take(word, now, rule, cost, offset)
        return word, _window.contact(word, now, rule, cost, probe_ms, offset)

    def refund(self, key: Key, outcome: Outcome) -> bool:
        """Gives back what ``outcome`` took, once, into the windows it came from, as far as they still run.

        Args:
            key: the key that it was taken for.
            outcome: what ``take`` (``contact``, ``acquire``) returned.

        Returns:
            Whether anything was given back: False for a second time, for a refused outcome, for another key,
            and when the windows have ended or were moved or held meanwhile (``sync``, ``penalize``,
            ``reset``).

        Raises:
            TypeError, ValueError: an argument of another kind; a key is never shown.

        >>> import bide
        >>> limiter = bide.Limiter("1/minute")
        >>> outcome = limiter.take("a key")
        >>> limiter.refund("a key", outcome), limiter.refund("a key", outcome)
        (True, False)
        """
        return self.settle(key, outcome, 0)

    def settle(self, key: Key, outcome: Outcome, actual: int) -> bool:
        """Corrects what ``outcome`` took to what it really cost, once: for a cost known only afterwards.

        Args:
            key: the key that it was taken for.
            outcome: what ``take`` (``contact``, ``acquire``) returned for the estimate.
            actual: the true cost, from 0 to 67,000,000: what was too much is given back, what was too little
                is charged, above the limit too.

        Returns:
            Whether it was corrected; False in the cases that ``refund`` names.

        Raises:
            TypeError, ValueError: an argument of another kind or outside its range; a key is never shown.

        >>> import bide
        >>> limiter = bide.Limiter("1000/minute")
        >>> outcome = limiter.take("a key", cost=100)
        >>> limiter.settle("a key", outcome, 940), limiter.peek("a key").remaining
        (True, 60)
        """
        mark, now = self._mark(key), self._now()
        actual = whole_cost(actual, least=0, name="actual")
        if not isinstance(outcome, Outcome):
            raise TypeError(f"outcome must be what take() returned, not {type(outcome).__name__}")
        settled = False
        with self._store.lock:
            if outcome._spent or outcome._mark != mark or outcome._store is not self._store:
                return False
            outcome._spent = True
            for words, index, end in outcome._takes:
                new = _window.settle(words.get(index, EMPTY), now, end, outcome._cost, actual)
                if new is not None:
                    words[index] = new
                    settled = True
        return settled

    def sync(self, key: Key, quota: object, now: float | None = None, outcome: Outcome | None = None) -> None:
        """Aligns a key to what the server said: how much remains, and when its window ends.

        It opens a probe, moves the window's end to the server's, and raises the count to what the server has
        counted; within one window it never lowers it, because replies come late and out of order.

        Args:
            key: the key that the request was sent for.
            quota: what the reply stated: an object with ``remaining``, ``reset_after`` (seconds) and
                ``window`` (seconds), each of which may be None, such as a ``bide.Quota``. What is unusable
                counts as None.
            now: the reading of this limiter's clock, in seconds, when the reply came; None reads it.
            outcome: what was taken for that request, so that one sent before the edge of a window and counted
                after it is counted here too.

        Raises:
            TypeError, ValueError: an argument of another kind; a key is never shown. Nothing that a server
                states raises.
        """
        mark = self._mark(key)
        if outcome is not None and not isinstance(outcome, Outcome):
            raise TypeError(f"outcome must be what take() returned, not {type(outcome).__name__}")
        now_ms = self._now()
        received_ms = now_ms if now is None else self._store.milliseconds(now)
        remaining, reset, window = (stated(quota, name) for name in ("remaining", "reset_after", "window"))
        if reset is not None and reset * 1_000 > MAX_WINDOW_MS:
            reset = None
        chosen = self._table_of(reset, window)
        told = Reply(
            None if remaining is None else int(remaining),
            None if reset is None else received_ms + milliseconds_up(reset),
            1 if outcome is None else outcome._cost,
        )
        offset = self._offset_at(now_ms)
        with self._store.lock:
            for position, (table, rule) in enumerate(zip(self._store.tables, self._rules, strict=True)):
                words, index = table.place(mark, now_ms)
                reply = Reply(cost=told.cost)  # a probe is over, whatever window its reply spoke of
                if position == chosen:
                    takes = () if outcome is None else outcome._takes
                    taken_end = takes[position].end if position < len(takes) else None
                    reply = told._replace(taken_end=taken_end)
                elif not _window.view(words.get(index, EMPTY), now_ms, rule).probing:
                    continue

                def decide(word: int, rule: Rule = rule, reply: Reply = reply) -> int | None:
                    return _window.sync(word, now_ms, rule, reply, offset)

                self._store.change(table, mark, now_ms, decide)

    def _table_of(self, reset: float | None, window: float | None) -> int:
        """Which limit a reply speaks of: its window's, else the shortest that the reset fits into."""
        positions = range(len(self.limits))
        if window is not None:
            for position in positions:
                if abs(self.limits[position].window - window) <= window / 100:
                    return position
        fitting = [
            position for position in positions if reset is not None and self.limits[position].window >= reset
        ]
        return min(fitting, key=lambda position: self.limits[position].window, default=self._longest)

    def penalize(self, key: Key, seconds: float) -> None:
        """Lets nobody pass with this key for so long, nor before its running window ends.

        Args:
            key: who is held.
            seconds: how long, above 0, at most 366 days. (A key without room of its own, see
                ``Stats.overflowed``, is held for one window at most.)

        Raises:
            TypeError, ValueError: an argument of another kind or outside its range; a key is never shown.

        >>> import bide
        >>> limiter = bide.Limiter("1200/minute")
        >>> limiter.penalize("a key", 90)
        >>> limiter.peek("a key").retry_after
        90.0
        """
        mark, now = self._mark(key), self._now()
        until = now + milliseconds_of(seconds, "seconds")
        table = self._store.tables[self._longest]
        with self._store.lock:
            self._store.change(table, mark, now, lambda word: _window.penalize(word, now, until))

    def reset(self, key: Key) -> None:
        """Forgets a key: as if it had never been seen. (What it shared in the overflow stays.)

        Raises:
            TypeError, ValueError: the key is of another kind, or cannot be encoded; it is never shown.
        """
        mark = self._mark(key)
        with self._store.lock:
            for table in self._store.tables:
                if mark in table.words:
                    table.words[mark] = ENDED

    def stats(self) -> Stats:
        """The counters at this instant; looks at every key.

        >>> import bide
        >>> limiter = bide.Limiter("1200/minute", max_keys=1000)
        >>> limiter.try_acquire("a key")
        True
        >>> limiter.stats()
        Stats(live=1, capacity=1000, reused=0, overflowed=0, denied=0)
        """
        now = self._now()
        store = self._store
        with store.lock:
            live = sum(_window.is_live(word, now) for word in store.tables[self._longest].words.values())
            return Stats(live, store.max_keys, store.reused, store.overflowed, store.denied)
