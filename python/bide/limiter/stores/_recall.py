"""What a process remembers of keys whose counters lie in a server: so that it need not ask again.

Theory of operation. What replies told is kept in two places:

- ``_known``: of each key's windows the end and the count as they were seen last. They go with the next trip, so that a
  server that has forgotten them (a failover to an empty replica, an eviction) is reminded.
- ``_local``: a learning limiter on the memory store, whose words admit nothing by themselves. A key that the server
  refuses is full there until its window ends, and costs no trip until then. A lease lies there as permits, two units
  each, and one unit more that is never spent: so a lease that is used up (one unit is left: ask the server) differs
  from a key that is refused (nothing is left).

A leased permit was counted by the server before it is spent here, and its lease ends before its window does: a
little earlier by this process' clock, for what clocks and their readings may differ. So no lease lets more pass than
the limit.

Rules of this file: no I/O; one lock, so that of two answers the higher count is kept, which a signal handler may enter
again. A key is handed to ``_local``, and kept nowhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bide.limiter import _window
from bide.limiter._arguments import Key, fingerprint
from bide.limiter._limit import MAX_KEYS, Settings
from bide.limiter._outcome import Outcome, Standing, outcome_of, standing
from bide.limiter._window import ENDED, FULL, Rule

if TYPE_CHECKING:
    from bide.limiter._waiting import Clock

__all__ = ["Answer", "Recall", "RemoteOutcome", "answer_of"]

LEASE_SECONDS = 0.1
"""How long a lease should last: it is what this process used in as long before."""

READING_SECONDS = 0.01
"""How far a coarse clock may lag."""

DRIFT = 0.001
"""How much of a time two clocks may differ over it: twice what clock discipline may slew."""

SWEEP_SECONDS = 1.0

Words = tuple[tuple[int, int], ...]
"""For each limit the window's end, in Unix milliseconds of the server, and the count."""


class Answer(NamedTuple):
    """A script's reply, and when its trip began by this process' clock."""

    done: int
    granted: int
    now_ms: int
    words: Words
    sent_at: float


MOST_OCTETS = 300
"""Of a reply: eight limits and the time, each a number that a float can hold."""


def answer_of(reply: bytes, sent_at: float, limits: int) -> Answer:
    """What a script says of so many limits; raises ValueError where it is no such reply."""
    done, granted, seconds, microseconds, *rest = map(int, reply[: MOST_OCTETS + 1].split())
    if len(reply) > MOST_OCTETS or len(rest) != 2 * limits:
        raise ValueError("no reply of a script")
    words = ((rest[0], rest[1]),) if len(rest) == 2 else tuple(zip(rest[::2], rest[1::2], strict=True))
    return Answer(done, granted, seconds * 1_000 + microseconds // 1_000, words, sent_at)


class Told(NamedTuple):
    """What the local limiter is told of a key."""

    remaining: int | None = None
    reset_after: float | None = None
    window: float | None = None


NOTHING = Told()


class Known:
    """A key's windows as they were last seen, and the lease that came with them.

    Attributes:
        words: as the server said.
        now_ms: the server's time in that reply.
        sent_at, received_at: this process' time, before and after.
        lease: the permits that came with it.
        highest: for each window that runs the highest count seen: answers of several threads overtake each other.
    """

    __slots__ = ("highest", "lease", "now_ms", "received_at", "sent_at", "words")

    def __init__(self, answer: Answer, received_at: float, lease: int) -> None:
        self.words = self.highest = answer.words
        self.now_ms = answer.now_ms
        self.sent_at = answer.sent_at
        self.received_at = received_at
        self.lease = lease

    def keep_highest(self, before: Known) -> None:
        pairs = zip(before.highest, self.words, strict=True)
        self.highest = tuple(max(old, new) if old[0] == new[0] else new for old, new in pairs)

    def runs(self, now: float) -> bool:
        """Whether one of the windows may run still."""
        furthest = max(stop for stop, count in self.words if count != ENDED) if self.words else 0
        return self.now_ms + (now - self.received_at) * 1_000 < furthest


class RemoteOutcome(Outcome):
    """What a call came to, as its reply told; the fields are worked out when they are looked at."""

    __slots__ = ("_admitted", "_found", "_now_ms", "_owner", "_rules", "_words")

    _admitted: bool
    _found: Standing | None
    _now_ms: int
    _owner: object
    _rules: tuple[Rule, ...]
    _words: Words

    @property
    def allowed(self) -> bool:
        return self._admitted

    def __bool__(self) -> bool:
        return self._admitted

    @property
    def _standing(self) -> Standing:  # type: ignore[override]  # a value there, worked out here
        if self._found is None:
            each = [
                standing(_window.pack(*word), self._now_ms, rule, self._cost, self._admitted)
                for word, rule in zip(self._words, self._rules, strict=True)
            ]
            self._found = each[0] if len(each) == 1 else outcome_of(each)._standing
        return self._found


class Recall:
    """The memory of one limiter in one process.

    Args:
        base: the limiter class, native or pure, for the local words.
        given: the limiter's arguments.
        lease: the largest lease.
        clock: monotonic seconds; None is the system's.

    Attributes:
        spend, look: the local limiter's ``take`` and ``peek``.
        most: the largest cost that can be answered from here.
        denied, cached, overflowed: calls refused, answered from here, and not remembered for want of room.
    """

    def __init__(self, base: Any, given: Settings, lease: int, clock: Clock | None) -> None:
        # Eight slots for each key that is remembered: so sparse a table never shares a word between keys.
        self._local = base(
            learn=min(limit.window for limit in given.limits),
            max_keys=min(4 * given.max_keys, MAX_KEYS),
            clock=clock,
        )
        self.spend, self.look = self._local.take, self._local.peek
        self.rules = tuple(
            Rule(limit.limit, limit.window_ms, given.grid, given.learn) for limit in given.limits
        )
        self.most = min(FULL // 2, *(limit.limit for limit in given.limits))
        self.monotonic: Any = time.monotonic if clock is None else clock
        self._lease = lease
        self._learning = given.learn
        self._most_known = given.max_keys
        self._known: dict[int, Known] = {}
        self._asking: dict[int, object] = {}
        self._swept_at = 0.0
        self._lock = threading.RLock()
        self.denied = self.cached = self.overflowed = 0

    # Before a trip -------------------------------------------------------------------------------------------

    def held(self, key: Key, cost: int) -> RemoteOutcome | None:
        """The outcome that needs no trip: of a leased permit, or of a key that is refused until its window ends."""
        if type(cost) is not int or not 0 < cost <= self.most:
            return None
        if self._lease:
            held = self.spend(key, cost + cost)
            admitted = held.allowed
        else:
            held, admitted = self.look(key), False
            if held.allowed:
                return None
        if held.probing or (not admitted and held.remaining):
            return None
        outcome = self._remembered(key, cost, admitted, (held.remaining - 1) // 2)
        if outcome is not None:
            self.cached += 1
            self.denied += not admitted
        return outcome

    def refused(self, key: Key) -> RemoteOutcome | None:
        """How a key stands that is refused until its window ends."""
        held = self.look(key)
        if held.allowed or held.remaining or held.probing:
            return None
        return self._remembered(key, 1, False, 0)

    def _remembered(self, key: Key, cost: int, admitted: bool, leased: int) -> RemoteOutcome | None:
        known = self._known.get(fingerprint(key))
        if known is None:
            return None
        now_ms = known.now_ms + int((self.monotonic() - known.sent_at) * 1_000)
        words = known.words
        if admitted:
            words = tuple((stop, count - leased) for stop, count in words)
        outcome = self.outcome(0, cost, admitted, now_ms, words)
        outcome._mark = fingerprint(key)
        return None if not admitted and outcome._standing.allowed else outcome

    def seen(self, mark: int) -> Words | None:
        """A key's words, as the server is to be reminded of them if it has lost them."""
        known = self._known.get(mark)
        return None if known is None else known.highest

    def leads(self, mark: int) -> bool:
        """Whether this call may bring a lease: one of a key at a time."""
        me = object()
        return self._asking.setdefault(mark, me) is me

    def follows(self, mark: int) -> None:
        """The next call of this key may bring a lease."""
        self._asking.pop(mark, None)

    def wanted(self, mark: int) -> int:
        """How large a lease to ask for: what was used in the last tenth of a second, at most twice the last one."""
        known = self._known.get(mark)
        if known is None:
            return 0
        used = (known.lease + 1) * LEASE_SECONDS
        return min(self._lease, 2 * known.lease + 1, int(used / max(self.monotonic() - known.sent_at, 1e-6)))

    def tells_nothing(
        self, mark: int, chosen: int, remaining: int | None, reset_ms: int | None, taken_end: int | None
    ) -> bool:
        """Whether a reply of the limited server would leave the word as it is: then it costs no trip."""
        known = self._known.get(mark)
        if known is None or self._learning or any(count >= FULL for _, count in known.words):
            return False
        stop, count = known.words[chosen]
        rule = self.rules[chosen]
        now = self.monotonic()
        earliest = known.now_ms + (now - known.received_at) * 1_000
        latest = known.now_ms + (now - known.sent_at) * 1_000 + 1
        if latest >= stop or (taken_end is not None and taken_end != stop):
            return False
        if remaining is not None and rule.limit - remaining > count:
            return False
        return reset_ms is None or (stop <= earliest + reset_ms and latest + reset_ms <= stop + rule.blur_ms)

    # After a trip --------------------------------------------------------------------------------------------

    def taken(self, key: Key, mark: int, cost: int, answer: Answer) -> RemoteOutcome:
        """Learns what a take came to."""
        remembered = self.learn(key, mark, answer, lease=answer.granted)
        words = answer.words
        if not answer.done:
            self.denied += 1
        elif answer.granted and remembered:
            self._install(key, answer)
        leased = self.leased(key)
        if leased:
            words = tuple((stop, count - leased) for stop, count in words)
        return self.outcome(mark, cost, bool(answer.done), answer.now_ms, words)

    def learn(self, key: Key, mark: int, answer: Answer, lease: int | None = None) -> bool:
        """Remembers a key's words; one that is used up is refused here until its window ends."""
        before = self._known.get(mark)
        remembered = self.remember(key, mark, answer, lease)
        if (
            before is not None
            and self._lease
            and self._moved(before.words, answer.words)
            and self.leased(key)
        ):
            self._local.reset(key)  # A lease is of a window that the limited server has said to be over.
        if lease:
            return remembered
        if not self._lease and len(answer.words) == 1 and answer.words[0][1] < self.rules[0].limit:
            return remembered  # There is room, as nearly always; what follows would find the same.
        now_ms, refused_until, held = answer.now_ms, 0, False
        for (stop, count), rule in zip(answer.words, self.rules, strict=True):
            if rule.limit <= count <= FULL and now_ms < stop:
                refused_until, held = max(refused_until, stop), held or count == FULL
        if refused_until and remembered and (held or not self.leased(key)):
            if held:
                self._local.reset(key)  # A penalty ends a lease too.
            self._local.sync(key, Told(0, (refused_until - now_ms) / 1_000), answer.sent_at)
        elif self._lease:
            self._local.sync(key, NOTHING)  # What was held open for this call's lease is over.
        return remembered

    def _moved(self, old: Words, new: Words) -> bool:
        return any(
            abs(before[0] - after[0]) > rule.blur_ms
            for before, after, rule in zip(old, new, self.rules, strict=True)
        )

    def remember(self, key: Key, mark: int, answer: Answer, lease: int | None = None) -> bool:
        """Keeps what a reply told, unless as many keys as can be are kept already."""
        before = self._known.get(mark)
        if before is None:
            if len(self._known) >= self._most_known and not self._sweep():
                self.overflowed += 1
                return False
        else:
            if lease is None:
                lease = before.lease
            if self._moved(before.words, answer.words) and self.leased(key):
                self._local.reset(key)  # A lease of a window that is over, as the limited server has said.
        known = Known(answer, self.monotonic(), lease or 0)
        with self._lock:
            latest = self._known.get(mark)
            if latest is not None and latest.highest > known.words:
                known.keep_highest(latest)
            self._known[mark] = known
        return True

    def reopen(self, key: Key) -> None:
        """Something was given back: a key that is refused here asks the server again."""
        held = self.look(key)
        if not held.allowed and not held.remaining and not held.probing:
            self._local.reset(key)

    def hold(self, key: Key, seconds: float) -> None:
        """Refuses a key here, whatever the server may know."""
        self._local.penalize(key, seconds)

    def forget(self, key: Key, mark: int) -> None:
        self._known.pop(mark, None)
        self._local.reset(key)

    def live(self) -> int:
        """How many keys have a window that runs, as far as is known here."""
        now = self.monotonic()
        return sum(known.runs(now) for known in list(self._known.values()))

    def leased(self, key: Key) -> int:
        """The permits of a key that are still to be spent here."""
        if not self._lease:
            return 0
        held = self.look(key)
        return (held.remaining - 1) // 2 if held.reset_after > 0.0 and held.remaining > 1 else 0

    def outcome(
        self, mark: int, cost: int, admitted: bool | None, now_ms: int, words: Words
    ) -> RemoteOutcome:
        """An outcome of this limiter; ``admitted`` None: as the words stand for the cost, and nothing was taken."""
        outcome = RemoteOutcome.__new__(RemoteOutcome)
        outcome._owner = self
        outcome._mark = mark
        outcome._cost = cost
        outcome._now_ms = now_ms
        outcome._words = words
        outcome._rules = self.rules
        outcome._found = None
        outcome._spent = not admitted
        outcome._admitted = bool(admitted)
        if admitted is None:
            outcome._admitted = outcome._standing.allowed
        return outcome

    def _install(self, key: Key, answer: Answer) -> None:
        soonest = min(stop for stop, _ in answer.words)
        lasts = (soonest - answer.now_ms) / 1_000 * (1.0 - DRIFT) - READING_SECONDS
        if lasts <= 0.0:
            return
        held = self.look(key)
        units = 2 * answer.granted + 1
        if held.reset_after > 0.0 and not held.probing:
            if held.remaining > 1:
                rest = self.spend(key, held.remaining - 1)
                if rest.allowed and not rest.probing:
                    units += held.remaining - 1
            self._local.reset(key)
        self._local.sync(key, Told(units, lasts), answer.sent_at)

    def _sweep(self) -> bool:
        """Forgets the keys whose windows have ended; whether there is room now."""
        now = self.monotonic()
        if not self._swept_at <= now < self._swept_at + SWEEP_SECONDS:
            self._swept_at = now
            for mark, known in list(self._known.items()):
                if not known.runs(now):
                    self._known.pop(mark, None)
        return len(self._known) < self._most_known


def table_of(windows: Sequence[float], reset: float | None, window: float | None) -> int:
    """Which limit a reply speaks of: its window's, else the shortest that the reset fits into."""
    positions = range(len(windows))
    if window is not None:
        for position in positions:
            if abs(windows[position] - window) <= window / 100:
                return position
    fitting = [position for position in positions if reset is not None and windows[position] >= reset]
    longest = max(positions, key=lambda position: windows[position])
    return min(fitting, key=lambda position: windows[position], default=longest)
