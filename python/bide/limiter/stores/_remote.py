"""A limiter whose counters lie in a server: what each call asks, and what it comes to without an answer.

Theory of operation. Each call is a generator that yields the trips to make and is sent their replies; one driver makes
them where waiting blocks, another one in an event loop. What needs no trip is answered from memory (``_recall``).

Rules of this file: no I/O, no clock but the memory's. Arguments are checked before anything is asked; what ``_pure``
says of each call holds here. A key is handed to the fingerprints and to the memory, and kept nowhere.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Generator, Iterable
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar, cast

from bide.errors import StoreError
from bide.limiter._arguments import (
    Key,
    fingerprint,
    milliseconds_of,
    milliseconds_up,
    nanoseconds_of,
    stated,
    whole_cost,
)
from bide.limiter._limit import Limit, Settings, Stats
from bide.limiter._outcome import Outcome, Standing
from bide.limiter._window import FULL, MAX_WINDOW_MS
from bide.limiter.stores._recall import Answer, Recall, RemoteOutcome, answer_of, table_of
from bide.limiter.stores._scripts import PEEK, PENALIZE, RESET, SETTLE, SYNC, TAKE, Script, Trip, packed

if TYPE_CHECKING:
    from bide.limiter._waiting import Clock
    from bide.limiter.stores.redis import RedisStore

__all__ = ["make"]

TRIPS_AT_ONCE = 500
"""Of ``try_acquire_many``: as many share a round trip and its deadline."""

Result = TypeVar("Result")
Flow = Generator[tuple[Trip, ...], list[bytes], Result]


class Remote:
    """The calls of a limiter whose store is remote; ``make`` puts it before a limiter class."""

    limits: tuple[Limit, ...]
    store: RedisStore
    implementation: str
    _base: Any
    _clock: Clock | None
    _first: tuple[int | str, ...]
    _first_packed: str
    _leases: bool
    _recall: Recall
    _salt: bytes
    _settings: Settings
    _stand_in_made: Any

    def __init__(self, *_: object, **__: object) -> None:
        """All is done by ``make``."""

    def __repr__(self) -> str:
        name = f", name={self._settings.name.decode(errors='surrogatepass')!r}" if self._settings.name else ""
        return f"<bide.Limiter {self._settings.text}{name}, store='{self.store}', {self.implementation}>"

    # The calls, where waiting blocks -------------------------------------------------------------------------

    def try_acquire(self, key: Key, cost: int = 1) -> bool:
        recall = self._recall
        if type(cost) is int and 0 < cost <= recall.most:
            if self._leases:
                held = recall.spend(key, cost + cost)
                if held.allowed and not held.probing:
                    recall.cached += 1
                    return True
            else:
                held = recall.look(key)
            if not held.allowed and not held.remaining and not held.probing:
                recall.cached += 1
                recall.denied += 1
                return False
        return self._run(self._take(key, cost, None)).allowed

    def take(self, key: Key, cost: int = 1) -> Outcome:
        held = self._recall.held(key, cost)
        return self._run(self._take(key, cost, None)) if held is None else held

    def contact(self, key: Key, cost: int = 1, probe_timeout: float = 30.0) -> Outcome:
        return self._run(self._contact(key, cost, probe_timeout))

    def peek(self, key: Key) -> Outcome:
        return self._run(self._peek(key))

    def try_acquire_many(self, keys: Iterable[Key], cost: int = 1) -> list[bool]:
        return self._run(self._many(keys, cost))

    def refund(self, key: Key, outcome: Outcome) -> bool:
        return self._run(self._settle(key, outcome, 0))

    def settle(self, key: Key, outcome: Outcome, actual: int) -> bool:
        return self._run(self._settle(key, outcome, actual))

    def sync(self, key: Key, quota: object, now: float | None = None, outcome: Outcome | None = None) -> None:
        self._run(self._sync(key, quota, now, outcome))

    def penalize(self, key: Key, seconds: float) -> None:
        self._run(self._penalize(key, seconds))

    def reset(self, key: Key) -> None:
        self._run(self._reset(key))

    def stats(self) -> Stats:
        recall = self._recall
        return Stats(recall.live(), self._settings.max_keys, 0, recall.overflowed, recall.denied)

    # The calls, in an event loop -----------------------------------------------------------------------------

    async def try_acquire_async(self, key: Key, cost: int = 1) -> bool:
        return (await self.take_async(key, cost)).allowed

    async def take_async(self, key: Key, cost: int = 1) -> Outcome:
        held = self._recall.held(key, cost)
        return await self._run_async(self._take(key, cost, None)) if held is None else held

    async def contact_async(self, key: Key, cost: int = 1, probe_timeout: float = 30.0) -> Outcome:
        return await self._run_async(self._contact(key, cost, probe_timeout))

    async def peek_async(self, key: Key) -> Outcome:
        return await self._run_async(self._peek(key))

    async def try_acquire_many_async(self, keys: Iterable[Key], cost: int = 1) -> list[bool]:
        return await self._run_async(self._many(keys, cost))

    async def settle_async(self, key: Key, outcome: Outcome, actual: int) -> bool:
        return await self._run_async(self._settle(key, outcome, actual))

    async def sync_async(
        self, key: Key, quota: object, now: float | None = None, outcome: Outcome | None = None
    ) -> None:
        await self._run_async(self._sync(key, quota, now, outcome))

    async def penalize_async(self, key: Key, seconds: float) -> None:
        await self._run_async(self._penalize(key, seconds))

    async def reset_async(self, key: Key) -> None:
        await self._run_async(self._reset(key))

    # The two drivers -----------------------------------------------------------------------------------------

    def _run(self, flow: Flow[Result]) -> Result:
        try:
            trips = next(flow)
            while True:
                try:
                    replies = self.store.call(trips)
                except StoreError as error:
                    trips = flow.throw(error)
                else:
                    trips = flow.send(replies)
        except StopIteration as done:
            return cast("Result", done.value)
        finally:
            flow.close()

    async def _run_async(self, flow: Flow[Result]) -> Result:
        try:
            trips = next(flow)
            while True:
                try:
                    replies = await self.store.call_async(trips)
                except StoreError as error:
                    trips = flow.throw(error)
                else:
                    trips = flow.send(replies)
        except StopIteration as done:
            return cast("Result", done.value)
        finally:
            flow.close()

    # What each call asks -------------------------------------------------------------------------------------

    def _trip(self, script: Script, key: Key, mark: int, *rest: int) -> Trip:
        words = self._recall.seen(mark)
        octets = key if isinstance(key, bytes) else key.encode()
        name = self.store.name_of(octets, self._salt)
        if words is None:
            seen: tuple[int, ...] = (0, 0) * len(self.limits)
        else:
            seen = words[0] if len(words) == 1 else tuple(number for word in words for number in word)
        return Trip(script, name, self._first, self._first_packed, (*seen, *rest))

    def _ask(self, script: Script, key: Key, mark: int, *rest: int) -> Flow[Answer]:
        """One trip, once the secret is sure."""
        if self.store.must_agree():
            yield from self.store.agree()
        trip = self._trip(script, key, mark, *rest)
        sent_at = self._recall.monotonic()
        (reply,) = yield (trip,)
        if self.store.must_agree():
            with suppress(
                StoreError
            ):  # The server did not know the script: it may have lost the secret as well.
                yield from self.store.agree()
        return self._answer(reply, sent_at)

    def _answer(self, reply: bytes, sent_at: float) -> Answer:
        try:
            return answer_of(reply, sent_at, len(self.limits))
        except ValueError:
            raise self.store.misunderstood() from None

    def _take(self, key: Key, cost: int, probe_ms: int | None) -> Flow[Outcome]:
        mark, cost, recall = fingerprint(key), whole_cost(cost), self._recall
        leads = self._leases and cost <= recall.most and recall.leads(mark)
        try:
            wanted = recall.wanted(mark) if leads else 0
            answer = yield from self._ask(TAKE, key, mark, cost, wanted, -1 if probe_ms is None else probe_ms)
            self.store.leased += answer.granted
            return recall.taken(key, mark, cost, answer)
        except StoreError as error:
            return self._without(error, key, cost, probe_ms)
        finally:
            if leads:
                recall.follows(mark)

    def _contact(self, key: Key, cost: int, probe_timeout: float) -> Flow[Outcome]:
        probe_ms = milliseconds_of(probe_timeout, "probe_timeout")
        held = self._recall.held(key, cost)
        if held is not None:
            return held
        return (yield from self._take(key, cost, probe_ms))

    def _many(self, keys: Iterable[Key], cost: int) -> Flow[list[bool]]:
        if isinstance(keys, str | bytes):
            raise TypeError(f"keys must be a list of keys, not one {type(keys).__name__}")
        cost = whole_cost(cost)
        keys = list(keys)
        marks = [fingerprint(key) for key in keys]
        held = [self._recall.held(key, cost) for key in keys]
        answers = [outcome is not None and outcome.allowed for outcome in held]
        asked = [n for n, outcome in enumerate(held) if outcome is None]
        for first in range(0, len(asked), TRIPS_AT_ONCE):
            some = asked[first : first + TRIPS_AT_ONCE]
            try:
                if self.store.must_agree():
                    yield from self.store.agree()
                trips = tuple(self._trip(TAKE, keys[n], marks[n], cost, 0, -1) for n in some)
                sent_at = self._recall.monotonic()
                replies = yield trips
                told = [self._answer(reply, sent_at) for reply in replies]
            except StoreError as error:
                for n in some:
                    answers[n] = self._without(error, keys[n], cost, None).allowed
            else:
                for n, answer in zip(some, told, strict=True):
                    answers[n] = self._recall.taken(keys[n], marks[n], cost, answer).allowed
        return answers

    def _peek(self, key: Key) -> Flow[Outcome]:
        mark = fingerprint(key)
        refused = self._recall.refused(key)
        if refused is not None:
            return refused
        try:
            answer = yield from self._ask(PEEK, key, mark)
        except StoreError as error:
            return self._without(error, key, 1, None, looks=True)
        self._recall.remember(key, mark, answer)
        leased = self._recall.leased(key)
        words = tuple((stop, count - leased if count <= FULL else count) for stop, count in answer.words)
        return self._recall.outcome(mark, 1, None, answer.now_ms, words)

    def _settle(self, key: Key, outcome: Outcome, actual: int) -> Flow[bool]:
        mark = fingerprint(key)
        actual = whole_cost(actual, least=0, name="actual")
        if not isinstance(outcome, RemoteOutcome):
            settled: bool = self._stand_in_of(outcome).settle(key, outcome, actual)
            return settled
        if outcome._spent or outcome._mark != mark or outcome._owner is not self._recall:
            return False
        outcome._spent = True
        stops = [stop for stop, _ in outcome._words]
        try:
            answer = yield from self._ask(SETTLE, key, mark, outcome._cost, actual, *stops)
        except StoreError as error:
            return self._left_undone(error)
        self._recall.reopen(key)
        self._recall.learn(key, mark, answer)
        return bool(answer.done)

    def _sync(self, key: Key, quota: object, now: float | None, outcome: Outcome | None) -> Flow[None]:
        mark = fingerprint(key)
        if outcome is not None and not isinstance(outcome, RemoteOutcome):
            self._stand_in_of(outcome).sync(key, quota, now, outcome)
            return
        age_ms = 0
        if now is not None:
            age_ms = (nanoseconds_of(self._recall.monotonic()) - nanoseconds_of(now)) // 1_000_000
        remaining, reset, window = (stated(quota, name) for name in ("remaining", "reset_after", "window"))
        if reset is not None and reset * 1_000 > MAX_WINDOW_MS:
            reset = None
        chosen = table_of([limit.window for limit in self.limits], reset, window)
        left = None if remaining is None else min(int(remaining), FULL)
        reset_ms = None if reset is None else milliseconds_up(reset)
        cost, taken_end = 1, None
        if outcome is not None:
            cost = outcome._cost
            taken_end = outcome._words[chosen][0] if outcome.allowed and outcome._words else None
        if not age_ms and self._recall.tells_nothing(mark, chosen, left, reset_ms, taken_end):
            return
        left, reset_ms, taken_end = (-1 if value is None else value for value in (left, reset_ms, taken_end))
        try:
            answer = yield from self._ask(
                SYNC, key, mark, chosen + 1, left, reset_ms, age_ms, cost, taken_end
            )
        except StoreError as error:
            self._left_undone(error)
            if self.store.on_error == "local":
                self._stand_in().sync(key, quota, now)
            return
        self._recall.learn(key, mark, answer)

    def _penalize(self, key: Key, seconds: float) -> Flow[None]:
        mark = fingerprint(key)
        for_ms = milliseconds_of(seconds, "seconds")
        try:
            answer = yield from self._ask(PENALIZE, key, mark, for_ms)
        except StoreError as error:
            self._recall.hold(key, seconds)
            if self.store.on_error == "local":
                self._stand_in().penalize(key, seconds)
            self._left_undone(error)
            return
        self._recall.learn(key, mark, answer)

    def _reset(self, key: Key) -> Flow[None]:
        mark = fingerprint(key)
        self._recall.forget(key, mark)
        if self._stand_in_made is not None:
            self._stand_in_made.reset(key)
        try:
            yield from self._ask(RESET, key, mark)
        except StoreError as error:
            self._left_undone(error)

    # Without an answer ---------------------------------------------------------------------------------------

    def _without(
        self, error: StoreError, key: Key, cost: int, probe_ms: int | None, looks: bool = False
    ) -> Outcome:
        """What a call comes to while the store does not answer."""
        self._left_undone(error)
        if self.store.on_error == "local":
            stand_in = self._stand_in()
            if looks:
                found: Outcome = stand_in.peek(key)
            elif probe_ms is None:
                found = stand_in.take(key, cost)
            else:
                found = stand_in.contact(key, cost, probe_ms / 1_000)
            self._recall.denied += not (looks or found.allowed)
            return found
        admitted = self.store.on_error == "allow"
        self._recall.denied += not (looks or admitted)
        limit = min(limit.limit for limit in self.limits)
        wait = 0.0 if admitted else self.store.wait
        outcome = self._recall.outcome(0, cost, admitted, 0, ())
        outcome._found = Standing(admitted, limit, limit if admitted else 0, wait, wait, False)
        outcome._spent = True
        return outcome

    def _left_undone(self, error: StoreError) -> bool:
        if self.store.on_error == "raise":
            raise error
        self.store.unanswered += 1
        return False

    def _stand_in(self) -> Any:
        """Counts in this process, within the stated share of each limit."""
        if self._stand_in_made is None:
            share = self.store.share or 1.0
            limits = [Limit(max(1, int(limit.limit * share)), limit.window) for limit in self.limits]
            anchor = "grid" if self._settings.grid else "first"
            self._stand_in_made = self._base(
                *limits, max_keys=self._settings.max_keys, anchor=anchor, clock=self._clock
            )
        return self._stand_in_made

    def _stand_in_of(self, outcome: object) -> Any:
        """What counted in place of the store when it gave this outcome."""
        stand_in = self._stand_in_made
        if stand_in is None or not isinstance(outcome, type(stand_in.peek(b""))):
            raise TypeError(f"outcome must be what take() returned, not {type(outcome).__name__}")
        return stand_in

    def _begin(self) -> None:
        """With an empty memory: a forked child's too, for what the parent leased is the parent's."""
        self._recall = Recall(self._base, self._settings, self.store.lease, self._clock)
        self._stand_in_made = None


@functools.cache
def kind_of(base: Any) -> Any:
    """A limiter class, native or pure, with the calls of a remote store before its own."""
    return type("Limiter", (Remote, base), {"__module__": base.__module__})


def make(base: Any, given: Settings, store: RedisStore, clock: Clock | None) -> Any:
    """A limiter of a class, native or pure, on a remote store."""
    if store.on_error == "local" and given.learn:
        raise ValueError('on_error="local" needs limits to share: a learning limiter has none of its own')
    # It is a limiter of that class, so that isinstance says so; what it inherits is overlaid, or waits.
    options: dict[str, Any] = {"learn": given.limits[0].window, "max_keys": 1, "clock": clock}
    self: Any = base.__new__(kind_of(base), **options)
    if base.__init__ is not object.__init__:
        base.__init__(self, **options)
    self.limits = given.limits
    self.store = store
    self._settings = given
    self._clock = clock
    self._base = base
    self._leases = store.lease > 0
    numbers = [number for limit in given.limits for number in (limit.limit, limit.window_ms)]
    self._first = (given.grid + 2 * given.learn, len(given.limits), *numbers)
    self._first_packed = packed(*self._first)
    self._salt = blake2b(given.name, digest_size=16).digest() if given.name else b""
    self._begin()
    _limiters.add(self)
    return self


_limiters: weakref.WeakSet[Any] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for limiter in list(_limiters):
        limiter._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
