"""Native, pure and an oracle that is obviously right, in step, through anything that a caller and a clock may
do.

The oracle keeps, for each key and limit, the list of what was admitted and when its window ends: no packing,
no marks, no table. It knows nothing of servers; where replies come in, native and pure are compared with each
other, and no window may admit more than its limit.
"""

import importlib
import math
import os
from collections import Counter
from types import SimpleNamespace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bide import Limit
from bide.limiter import Limiter
from bide.testing import FakeClock

FORCED_PURE = os.environ.get("BIDE_PURE", "0") not in ("", "0")
MODULES = ["bide.limiter._pure"] if FORCED_PURE else ["bide.limiter._native", "bide.limiter._pure"]
KEYS = st.sampled_from(["a", b"a", "b", "Zoë"])
COSTS = st.integers(1, 6)
STEPS = st.one_of(
    st.sampled_from([0.001, 0.5, 0.999, 1.0, 2.5, 60.0, 3600.0]),
    st.floats(0.0, 20.0),
    st.floats(-20.0, 0.0),
)
LIMITS = st.lists(
    st.sampled_from(["3/second", "5/2500ms", "8/10s", "20/minute", "6/hour"]),
    min_size=1,
    max_size=3,
    unique=True,
)


class Oracle:
    """One key under one limit."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit.limit
        self.window_ms = limit.window_ms
        self.end: int | None = None
        self.held = False
        self.admitted: list[tuple[int, int]] = []

    def runs(self, now: int) -> bool:
        return self.end is not None and now < self.end

    def used(self, now: int) -> int:
        if not self.runs(now):
            return 0
        return math.inf if self.held else sum(cost for _, cost in self.admitted)  # type: ignore[return-value]
        # inf

    def remaining(self, now: int) -> int:
        return max(0, int(max(-1, self.limit - self.used(now))))

    def has_room(self, now: int, cost: int) -> bool:
        return self.used(now) + cost <= self.limit

    def admit(self, now: int, cost: int) -> None:
        if not self.runs(now):
            if self.end is None:
                self.end = now + self.window_ms
            while self.end <= now:
                self.end += self.window_ms
            self.held, self.admitted = False, []
        self.admitted.append((now, cost))

    def hold(self, until: int, now: int) -> None:
        self.end = max(until, self.end if self.end is not None and self.runs(now) else 0)
        self.held = True

    def seconds_left(self, now: int) -> float:
        return (self.end - now) / 1000 if self.end is not None and self.runs(now) else 0.0


class InStep(RuleBasedStateMachine):
    """Calls all limiters alike and compares what they say."""

    limiters: list[Limiter]

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.outcomes: list[tuple[str | bytes, list[Any], int]] = []

    def make(self, *limits: str, **options: Any) -> None:
        modules = [importlib.import_module(name.replace("_native", "_compiled")) for name in MODULES]
        self.limiters = [module.Limiter(*limits, clock=self.clock, **options) for module in modules]

    def all_say(self, call: str, *arguments: Any, **named: Any) -> Any:
        """What every limiter says; they must agree, to the last digit and letter."""
        answers = [getattr(limiter, call)(*arguments, **named) for limiter in self.limiters]
        assert len({repr(answer) for answer in answers}) == 1, (call, answers)
        return answers[0]

    def all_take(self, call: str, key: str | bytes, cost: int, **named: Any) -> Any:
        answers = [getattr(limiter, call)(key, cost, **named) for limiter in self.limiters]
        assert len({repr(answer) for answer in answers}) == 1, (call, answers)
        self.outcomes.append((key, answers, cost))
        return answers[0]

    @property
    def now(self) -> int:
        return max(0, round((self.clock() - 1000.0) * 1e9) // 1_000_000)

    @rule(seconds=STEPS)
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)


class AgainstTheOracle(InStep):
    """No server: every answer is foretold."""

    @initialize(limits=LIMITS)
    def start(self, limits: list[str]) -> None:
        self.make(*limits)
        self.limits = [Limit.parse(limit) for limit in limits]
        self.longest = max(range(len(limits)), key=lambda index: self.limits[index].window_ms)
        self.keys: dict[bytes, list[Oracle]] = {}
        self.taken: list[tuple[list[tuple[Oracle, int | None, int]], int]] = []

    def of(self, key: str | bytes) -> list[Oracle]:
        octets = key.encode() if isinstance(key, str) else key
        return self.keys.setdefault(octets, [Oracle(limit) for limit in self.limits])

    def foretell(self, key: str | bytes, cost: int) -> bool:
        """Whether it is admitted; then it is."""
        now, oracles = self.now, self.of(key)
        if not all(oracle.has_room(now, cost) for oracle in oracles):
            return False
        for oracle in oracles:
            oracle.admit(now, cost)
        return True

    @rule(key=KEYS, cost=COSTS)
    def try_acquire(self, key: str | bytes, cost: int) -> None:
        assert self.all_say("try_acquire", key, cost) == self.foretell(key, cost)

    @rule(keys=st.lists(KEYS, max_size=8), cost=COSTS)
    def try_acquire_many(self, keys: list[str | bytes], cost: int) -> None:
        assert self.all_say("try_acquire_many", keys, cost) == [self.foretell(key, cost) for key in keys]

    @rule(key=KEYS, cost=COSTS)
    def take(self, key: str | bytes, cost: int) -> None:
        admitted = self.foretell(key, cost)
        outcome = self.all_take("take", key, cost)
        self.compare(outcome, key, cost, admitted)
        oracles = self.of(key)
        self.taken.append(([(oracle, oracle.end, len(oracle.admitted) - 1) for oracle in oracles], admitted))

    @rule(key=KEYS)
    def peek(self, key: str | bytes) -> None:
        self.compare(self.all_say("peek", key), key, 1, all(o.has_room(self.now, 1) for o in self.of(key)))

    def compare(self, outcome: Any, key: str | bytes, cost: int, admitted: bool) -> None:
        now, oracles = self.now, self.of(key)
        assert bool(outcome) == outcome.allowed == admitted
        if admitted:
            tightest = min(oracles, key=lambda oracle: oracle.remaining(now))
            assert outcome.retry_after == 0.0
        else:
            waits = [math.inf if cost > o.limit else o.seconds_left(now) for o in oracles]
            refusing = [n for n, oracle in enumerate(oracles) if not oracle.has_room(now, cost)]
            first = max(refusing, key=lambda n: waits[n])
            tightest = oracles[first]
            assert outcome.retry_after == waits[first]
        assert outcome.limit == tightest.limit
        assert outcome.remaining == tightest.remaining(now)
        assert outcome.reset_after == tightest.seconds_left(now)

    @rule(which=st.integers(0, 30), actual=st.integers(0, 9))
    def settle(self, which: int, actual: int) -> None:
        if not self.outcomes:
            return
        which %= len(self.outcomes)
        key, answers, _ = self.outcomes[which]
        places, admitted = self.taken[which]
        said = [
            limiter.settle(key, answer, actual)
            for limiter, answer in zip(self.limiters, answers, strict=True)
        ]
        settled = False
        for oracle, end, position in places if admitted else []:
            if oracle.end == end and oracle.runs(self.now) and not oracle.held:
                at, _ = oracle.admitted[position]
                oracle.admitted[position] = (at, actual)
                settled = True
        assert said == [settled] * len(said)
        self.taken[which] = ([], admitted)

    @rule(key=KEYS, seconds=st.sampled_from([0.001, 0.5, 5.0, 90.0]))
    def penalize(self, key: str | bytes, seconds: float) -> None:
        self.all_say("penalize", key, seconds)
        self.of(key)[self.longest].hold(self.now + math.ceil(seconds * 1000), self.now)


class WithAServer(InStep):
    """Replies of any kind: native and pure agree, and no window admits more than its limit."""

    @initialize(
        limits=LIMITS,
        learn=st.sampled_from([None, None, None, "10s", "1 hour"]),
        anchor=st.sampled_from(["first", "first", "grid"]),
    )
    def start(self, limits: list[str], learn: str | None, anchor: str) -> None:
        if learn is None:
            self.make(*limits, anchor=anchor)
        else:
            self.make(learn=learn, anchor=anchor)
        self.alone = len(self.limiters[0].limits) == 1
        self.admitted: Counter[tuple[bytes, int]] = Counter()

    def note(self, key: str | bytes, outcome: Any, cost: int) -> None:
        if outcome and not outcome.probing and self.alone:
            octets = key.encode() if isinstance(key, str) else key
            end = self.now + round(outcome.reset_after * 1000)
            self.admitted[octets, end] += cost
            assert self.admitted[octets, end] <= outcome.limit

    @rule(key=KEYS, cost=COSTS)
    def take(self, key: str | bytes, cost: int) -> None:
        self.note(key, self.all_take("take", key, cost), cost)

    @rule(key=KEYS, cost=COSTS, seconds=st.sampled_from([0.001, 1.0, 30.0, 3600.0]))
    def contact(self, key: str | bytes, cost: int, seconds: float) -> None:
        self.note(key, self.all_take("contact", key, cost, probe_timeout=seconds), cost)

    @rule(key=KEYS, cost=COSTS)
    def try_acquire(self, key: str | bytes, cost: int) -> None:
        outcome = self.limiters[0].peek(key)
        if self.all_say("try_acquire", key, cost) and outcome.reset_after:
            self.note(key, outcome, cost)

    @rule(key=KEYS)
    def peek(self, key: str | bytes) -> None:
        self.all_say("peek", key)

    @rule(
        key=KEYS,
        remaining=st.one_of(st.none(), st.integers(0, 30), st.sampled_from(["?", -1, math.nan, 1e300, 2.9])),
        reset_after=st.one_of(
            st.none(), st.floats(0.0, 100.0), st.sampled_from([0, 1, 10, 59.2, 3600, -4, math.inf, "soon"])
        ),
        window=st.sampled_from([None, 1.0, 10.0, 60.4, 3600.0, "x"]),
        lag=st.sampled_from([None, 0.0, 0.3, 7.0]),
        which=st.one_of(st.none(), st.integers(0, 30)),
    )
    def sync(
        self,
        key: str | bytes,
        remaining: object,
        reset_after: object,
        window: object,
        lag: float | None,
        which: int | None,
    ) -> None:
        quota = SimpleNamespace(remaining=remaining, reset_after=reset_after, window=window)
        now = None if lag is None else self.clock() - lag
        answers = [None] * len(self.limiters)
        if which is not None and self.outcomes:
            _, answers, _ = self.outcomes[which % len(self.outcomes)]
        for limiter, answer in zip(self.limiters, answers, strict=True):
            limiter.sync(key, quota, now, answer)
        self.all_say("peek", key)

    @rule(key=KEYS, seconds=st.sampled_from([0.001, 0.5, 5.0, 90.0]))
    def penalize(self, key: str | bytes, seconds: float) -> None:
        self.all_say("penalize", key, seconds)
        assert self.all_say("peek", key).retry_after >= seconds

    @rule(key=KEYS)
    def reset(self, key: str | bytes) -> None:
        self.all_say("reset", key)
        self.admitted.clear()
        assert self.all_say("peek", key).allowed

    @rule(which=st.integers(0, 30), actual=st.integers(0, 9))
    def settle(self, which: int, actual: int) -> None:
        if self.outcomes:
            key, answers, _ = self.outcomes[which % len(self.outcomes)]
            said = [limiter.settle(key, a, actual) for limiter, a in zip(self.limiters, answers, strict=True)]
            assert len(set(said)) == 1
            self.admitted.clear()
            self.all_say("peek", key)

    @invariant()
    def the_counters_agree(self) -> None:
        if hasattr(self, "limiters"):
            self.all_say("stats")


TestAgainstTheOracle = AgainstTheOracle.TestCase
TestAgainstTheOracle.settings = settings(max_examples=150, stateful_step_count=40)
TestWithAServer = WithAServer.TestCase
TestWithAServer.settings = settings(max_examples=150, stateful_step_count=40)
