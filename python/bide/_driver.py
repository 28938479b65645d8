"""The one retry loop: asks the limiter, sends, decides, teaches the limiter, waits, repeats or defers.

An adapter turns its client's request into an Exchange, lets a Driver ``run`` it with the client's own ways to
send, to look into a body, to discard and to sleep, and hands out what ``conclude`` makes of the Verdict.

Rules of this file: no I/O and no import of a client. For each try: a permit of the limiter first (a wait of
its own, counted as no attempt), one ``decide`` for each answer, one ``sync`` of the limiter for each answer.
Whatever ends a flow, a probe that it has begun is closed, so that nobody waits for a reply that cannot come.
A key is handed to the limiter and to nothing else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypedDict, TypeVar

from bide._buckets import Buckets
from bide._flow import (
    Ask,
    Cause,
    Discard,
    Exchange,
    Failed,
    Flow,
    Look,
    Send,
    Sleep,
    Verdict,
    drive,
    drive_async,
    goes_with,
)
from bide._foreign import deferred, status_of
from bide._ledger import Ledger
from bide.errors import Deferred, StoreError
from bide.policy import Action, Budget, Decision, Policy, Quota, Reason, Reply, decide, failure_of

if TYPE_CHECKING:
    from bide.limiter import Limiter, Outcome

__all__ = [
    "Cause",
    "Closing",
    "Discard",
    "Driver",
    "Exchange",
    "Failed",
    "Flow",
    "Look",
    "Options",
    "Send",
    "Sleep",
    "Verdict",
    "deferred",
    "drive",
    "drive_async",
    "is_asked",
    "observers",
]

PROBE_TIMEOUT_SECONDS = 30.0
"""How long the first request of a key may be out before another one is let through alone."""

POLL_SECONDS = 0.02
"""How often one looks again whether the first reply of a key has come: it may come at any moment."""

SHORTEST_SLEEP_SECONDS = 0.001
"""The limiter's coarse clock lags by up to 4 ms: a wait of less than this would only spin."""

UNKNOWN_LIMIT = "67000000/minute"
"""For a policy whose vendor publishes no limit: bounds nothing by itself, but remembers, for every caller
that shares it, what the server's replies state and how long it has refused a key."""

MOST_HOSTS = 1_024
"""Hosts whose retry budgets are remembered."""

OVERSPENT = (
    "Too many of this host's requests have failed to repeat this one as well: cease now and resume later."
)
CLOSED = "The client was closed while this request waited: make it again, not before the time given."

logger = logging.getLogger("bide")


class Clock(Protocol):
    """What a driver reads the time from: ``bide.testing.FakeClock`` is one."""

    def __call__(self) -> float: ...
    def time(self) -> float: ...


class Closing(Protocol):
    """Tells whether the client was closed: a ``threading.Event`` is one."""

    def is_set(self) -> bool: ...


class Options(TypedDict, total=False):
    """The options of every adapter; see ``Driver`` for what each one means."""

    limiter: Limiter | Literal[False] | None
    store: Any
    key: str | bytes | Callable[[object], str | bytes] | None
    deadline: float | None
    max_wait: float | None
    idempotent: bool
    on_decision: Callable[[Decision], object] | None
    on_wait: Callable[[Sleep], object] | None
    on_defer: Literal["raise", "return"]
    budget: Budget | Literal[False] | None
    clock: Clock | None


class Observer(Protocol):
    """Hears of every decision and wait of every driver: ``bide.otel`` is one."""

    def decided(self, decision: Decision, status: int | None) -> None: ...
    def waits(self, sleep: Sleep) -> None: ...


observers: list[Observer] = []


class Lane(NamedTuple):
    """What one API needs: its policy, and the limiter that all requests to it share."""

    policy: Policy
    limiter: Limiter | None
    names_buckets: bool
    """The server names the counter of each request."""
    reads_bodies: bool
    """The policy has rules that look into bodies."""
    is_remote: bool
    """The limiter's counters are elsewhere: a call takes a round trip, and has a twin for event loops."""


class Driver:
    """The options of one adapter, and the limiters that they lead to.

    Args:
        policy: the API's policy; None chooses it by the request's host, ``bide.HTTP`` for an unknown one.
        limiter: paces the requests. None makes one of the limits that the policy's vendor publishes; False
            switches pacing off.
        store: where that limiter keeps its counters, as ``bide.Limiter`` takes it ("memory": this process and
            its forks).
        key: what the server counts by: a value, or a function of the client's own request. None is the
            host with the ``Authorization`` field.
        deadline: seconds from the first try, waits included, after which no further try begins.
        max_wait: the longest single wait in seconds; a longer one is DEFER. None is the policy's.
        idempotent: the caller's promise that every request may be repeated, whatever its method.
        on_decision: called with each Decision.
        on_wait: called with each Sleep before it begins.
        on_defer: "raise" the client's ``Deferred``, or "return" the last response as it is.
        budget: how many repetitions of failed requests are too many for a host. None is ``bide.Budget()``,
            a fifth of its requests and a hundred in ten seconds at least; False sets no bound.
        clock: monotonic seconds when called, Unix time by ``.time()``; for tests.

    Raises:
        TypeError, ValueError: an option is not of that kind; says what to pass.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        limiter: Limiter | Literal[False] | None = None,
        store: Any = "memory",
        key: str | bytes | Callable[[object], str | bytes] | None = None,
        deadline: float | None = None,
        max_wait: float | None = None,
        idempotent: bool = False,
        on_decision: Callable[[Decision], object] | None = None,
        on_wait: Callable[[Sleep], object] | None = None,
        on_defer: Literal["raise", "return"] = "raise",
        budget: Budget | Literal[False] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if policy is not None and not isinstance(policy, Policy):
            raise TypeError(f"policy must be a bide.Policy such as bide.CLEVER, not {type(policy).__name__}")
        if on_defer not in ("raise", "return"):
            raise ValueError(f'on_defer must be "raise" or "return", not {on_defer!r}')
        if limiter is not None and limiter is not False and not hasattr(limiter, "contact"):
            raise TypeError("limiter must be a bide.Limiter, None (made of the policy's limits) or False")
        if limiter is not None and store != "memory":
            raise ValueError("store: for the limiter that an adapter makes; give the one or the other")
        if budget is not None and budget is not False and not isinstance(budget, Budget):
            raise TypeError("budget must be a bide.Budget, None (the usual one) or False (none)")
        if key is not None and not callable(key) and not isinstance(key, str | bytes):
            raise TypeError(f"key must be str, bytes, or a function of a request, not {type(key).__name__}")
        self.raises_deferred: bool = on_defer == "raise"
        self._limiter = limiter
        self._store = store
        self._patience: dict[str, float] = {}
        if max_wait is not None:
            self._patience["max_wait"] = max_wait
        if deadline is not None:
            self._patience["deadline"] = deadline
        self._key = key
        self._idempotent = idempotent
        self._on_decision = on_decision
        self._on_wait = on_wait
        self._clock = clock
        self.monotonic: Callable[[], float] = time.monotonic if clock is None else clock
        self._unix: Callable[[], float] = time.time if clock is None else clock.time
        self._buckets = Buckets()
        self._ledger = Ledger()
        self._budget = Budget() if budget is None else budget
        self._budgets: dict[str, Budget] = {}
        self._closing = threading.Event()
        # Made now, so that a mistake in an option shows here and not at the first request, and that the table
        # of hosts is not read from its files on somebody's event loop.
        first = policy_of("") if policy is None else policy
        lane = self._lane(first)
        self._lanes = {first.name: lane}
        self._only = None if policy is None else lane

    def _lane(self, policy: Policy) -> Lane:
        policy = policy.replace(**self._patience) if self._patience else policy
        limiter = self._limiter
        if limiter is None:
            from bide.limiter import Limiter

            if policy.limits or policy.window is None:
                limits = policy.limits or (UNKNOWN_LIMIT,)
                limiter = Limiter(*limits, store=self._store, clock=self._clock)
            else:
                limiter = Limiter(learn=policy.window, store=self._store, clock=self._clock)
        names = any(getattr(window, "bucket", None) is not None for window in policy.dialect.windows)
        pacing = None if isinstance(limiter, bool) else limiter
        return Lane(
            policy,
            pacing,
            names,
            policy.program.reads_bodies,
            getattr(getattr(pacing, "store", None), "is_remote", False),
        )

    def lane_of(self, host: str) -> Lane:
        """The policy and the limiter for requests to a host."""
        lane = self._known_lane_of(host)
        if lane is None:
            policy = policy_of(host)
            lane = self._lanes.setdefault(policy.name, self._lane(policy))
        return lane

    def _known_lane_of(self, host: str) -> Lane | None:
        """The lane of a host, if its policy has been read, and its store opened, for a request before."""
        if self._only is not None:
            return self._only
        from bide.policies import name_for

        return self._lanes.get(name_for(host))

    def key_of(self, exchange: Exchange) -> str | bytes:
        """The limiter's key for a request: a secret, for the limiter alone."""
        if callable(self._key):
            return self._key(exchange.request)
        if self._key is not None:
            return self._key
        if exchange.authorization is None:
            return exchange.host
        token = exchange.authorization
        return f"{exchange.host} {token if isinstance(token, str) else token.decode('latin-1')}"

    def close(self) -> None:
        """Wakes every request that waits: it ends as DEFER. Requests that begin later are not concerned."""
        closing, self._closing = self._closing, threading.Event()
        closing.set()

    def run(
        self,
        exchange: Exchange,
        send: Callable[[int], object],
        discard: Callable[[object, bool, bool], object],
        look: Callable[[object], bytes | None],
        sleep: Callable[[float], object] | None = None,
    ) -> Verdict:
        """One request from beginning to end where waiting blocks; None sleeps until ``close``, at most."""
        closing = self._closing
        return drive(self.flow(exchange, closing), send, sleep or closing.wait, discard, look)

    async def run_async(
        self,
        exchange: Exchange,
        send: Callable[[int], Awaitable[object]],
        discard: Callable[[object, bool, bool], Awaitable[object]],
        look: Callable[[object], Awaitable[bytes | None]],
        sleep: Callable[[float], Awaitable[object]],
        unbroken: Callable[[Awaitable[object]], Awaitable[None]],
        aside: Callable[[Callable[[str], object], str], Awaitable[object]],
        closing: Closing | None = None,
    ) -> Verdict:
        """One request from beginning to end on an event loop; ``unbroken``: see ``drive_async``.

        Args:
            aside: calls a function that reads files with one argument, in another thread.
        """
        if self._known_lane_of(exchange.host) is None:
            await aside(self.lane_of, exchange.host)
        return await drive_async(self.flow(exchange, closing), send, sleep, discard, look, unbroken)

    def flow(self, exchange: Exchange, closing: Closing | None = None) -> Flow:
        """The retry loop for one request; ``closing`` tells whether it should wait no more."""
        closing = self._closing if closing is None else closing
        lane = self.lane_of(exchange.host)
        key = self.key_of(exchange) if lane.limiter is not None else b""
        started = self.monotonic()
        attempt = 1
        repeats = False
        while True:
            counter = self._buckets.key(key, exchange.method, exchange.target) if lane.names_buckets else key
            admission = yield from self._admit(lane, counter, exchange, started, closing)
            if isinstance(admission, Decision):
                return Verdict(None, admission)
            self._count(exchange.host, repeats)
            answer: object = None
            try:
                self._ledger.begin(counter)
                try:
                    answer = yield Send(
                        attempt, first_of(lane, counter) if admission and admission.probing else None
                    )
                    reply = answer
                    if isinstance(answer, Failed):
                        answer, failure = answer
                        reply = None if failure is None else Reply(failure=failure)
                    elif isinstance(answer, BaseException):
                        reply = answer if failure_of(answer) and not isinstance(answer, Deferred) else None
                    if reply is None and isinstance(answer, BaseException):
                        raise answer
                    body: object = None
                    if lane.reads_bodies and is_asked(lane.policy, answer):
                        body = yield Look(answer)
                    decision = decide(
                        reply,
                        lane.policy,
                        attempt=attempt,
                        method=exchange.method,
                        elapsed=self.monotonic() - started,
                        now=self._unix(),
                        body=body,
                        idempotent=exchange.idempotent or self._idempotent,
                        repeatable=exchange.repeatable,
                    )
                except BaseException as ended:  # A policy's, the caller's own, or what interrupts: passed on.
                    self._ledger.end(counter)
                    # A coroutine that is thrown away can make no round trip: the probe times out.
                    if not lane.is_remote or not isinstance(ended, GeneratorExit):
                        with suppress(StoreError):
                            yield from self._teach(lane, key, counter, exchange, admission, None)
                    raise
                self._ledger.end(counter)
                yield from self._teach(lane, key, counter, exchange, admission, decision)
                if decision.action is Action.RETRY and self._is_late(exchange, started, decision.wait):
                    decision = self._put_off(
                        decision, "The caller's own time-out leaves no time for another try."
                    )
                repeats = decision.action is Action.RETRY and decision.reason is not Reason.RATE_LIMITED
                if repeats and not self._has_budget(exchange.host):
                    decision = decision.replace(wait=max(decision.wait, lane.policy.resume_after))
                    decision = self._put_off(decision, OVERSPENT)
                self._report(exchange, decision, answer)
            except GeneratorExit:
                raise
            except BaseException as ended:  # A hook's, a store's or the caller's own, or what interrupts.
                if answer is not None and not isinstance(answer, BaseException):
                    yield Discard(answer, drains=isinstance(ended, Exception))
                raise
            given_up = decision.action is Action.DEFER and self.raises_deferred
            if (decision.action is Action.RETRY or given_up) and not isinstance(answer, BaseException):
                yield Discard(answer, keeps=given_up)
            if decision.action is not Action.RETRY:
                return Verdict(answer, decision)
            if decision.wait > 0.0:
                yield self._wait(Sleep(decision.wait, Cause.RETRY, decision.advice, decision))
                if closing.is_set():
                    return Verdict(None, self._put_off(decision, CLOSED))
            attempt += 1

    def hold(self, exchange: Exchange, sleep: Callable[[float], object]) -> Decision | None:
        """Waits for the limiter's permit, for who sends by itself; a DEFER decision where it takes too long."""
        lane, key = self.lane_of(exchange.host), self.key_of(exchange)
        admission = _perform(self._admit(lane, key, exchange, self.monotonic(), self._closing), sleep)
        if isinstance(admission, Decision):
            return admission
        if lane.limiter is not None and admission is not None and admission.probing:
            lane.limiter.sync(key, Quota())  # Nobody will be told what comes of it.
        return None

    def teach(self, exchange: Exchange, decision: Decision) -> None:
        """Tells the limiter what an answer said, for who sends by itself."""
        key = self.key_of(exchange)
        _perform(self._teach(self.lane_of(exchange.host), key, key, exchange, None, decision), time.sleep)

    def _admit(
        self, lane: Lane, key: str | bytes, exchange: Exchange, started: float, closing: Closing
    ) -> Generator[Ask | Sleep, Any, Outcome | Decision | None]:
        """Waits for the limiter's permit; a DEFER decision when that takes longer than the caller allows."""
        policy, limiter = lane.policy, lane.limiter
        if limiter is None:
            return None
        waited_for_first = 0.0
        while True:
            timeout: dict[str, Any] = {"probe_timeout": PROBE_TIMEOUT_SECONDS}
            if lane.is_remote:
                outcome: Outcome = yield Ask(limiter, "contact", (key,), timeout)
            else:
                outcome = limiter.contact(key, **timeout)
            if outcome.allowed:
                return outcome
            if outcome.probing and goes_with(first_of(lane, key)):
                return None
            wait = max(outcome.retry_after, SHORTEST_SLEEP_SECONDS)
            if outcome.probing:
                sleep = Sleep(min(wait, POLL_SECONDS), Cause.FIRST_REPLY, "waiting for the first reply")
            else:
                sleep = Sleep(wait, Cause.WINDOW, f"window used up, {wait:.1f} s until reset")
            late = (
                policy.deadline is not None and self.monotonic() - started + sleep.seconds > policy.deadline
            )
            too_long = waited_for_first + sleep.seconds > policy.max_wait
            if too_long or late or self._is_late(exchange, started, sleep.seconds):
                decision = self._no_room(wait, outcome)
                self._report(exchange, decision, None)
                return decision
            # One wait in many looks: told once.
            yield sleep if outcome.probing and waited_for_first else self._wait(sleep)
            waited_for_first = waited_for_first + sleep.seconds if outcome.probing else 0.0
            if closing.is_set():
                return self._put_off(self._no_room(wait, outcome), CLOSED)

    def _count(self, host: str, repeats: bool) -> None:
        if isinstance(self._budget, Budget):
            budget = self._budgets.get(host, self._budget)
            now = self.monotonic()
            self._budgets[host] = budget.after_retry(now) if repeats else budget.after_request(now)
            if len(self._budgets) > MOST_HOSTS:
                self._budgets.pop(next(iter(self._budgets)), None)

    def _has_budget(self, host: str) -> bool:
        """Whether a failure may be repeated, or too many have been: a refusal states its own pace."""
        budget = self._budgets.get(host)
        return budget is None or budget.allows(self.monotonic())

    def _is_late(self, exchange: Exchange, started: float, wait: float) -> bool:
        return exchange.deadline is not None and self.monotonic() - started + wait > exchange.deadline

    def _put_off(self, decision: Decision, advice: str) -> Decision:
        resume_at = self._unix() + decision.wait
        return decision.replace(action=Action.DEFER, resume_at=resume_at, advice=advice)

    def _no_room(self, wait: float, outcome: Outcome) -> Decision:
        why = (
            "The first request of this key has no reply yet"
            if outcome.probing
            else "The quota of this key is used up"
        )
        return Decision(
            action=Action.DEFER,
            wait=wait,
            resume_at=self._unix() + wait,
            reason=Reason.RATE_LIMITED,
            advice=f"{why}: cease now and resume in {wait:.0f} s.",
            quota=Quota(limit=outcome.limit, remaining=outcome.remaining, reset_after=outcome.reset_after),
            source="limiter",
        )

    def _teach(
        self,
        lane: Lane,
        key: str | bytes,
        counter: str | bytes,
        exchange: Exchange,
        outcome: Outcome | None,
        decision: Decision | None,
    ) -> Generator[Ask, Any, None]:
        """Tells the limiter what the answer said, or that none came: either way a probe is over."""
        limiter = lane.limiter
        if limiter is None:
            return
        quota = decision.quota if decision is not None else None
        counted_in = counter
        if lane.names_buckets and quota is not None and quota.bucket is not None:
            counted_in = self._buckets.learn(key, exchange.method, exchange.target, quota.bucket)
        if decision is not None:
            quota = self._ledger.corrected(limiter, counted_in, decision, outcome if lane.is_remote else None)
        calls: list[Ask] = []
        if quota is not None:
            mine = {"outcome": outcome if counted_in == counter else None}
            calls.append(Ask(limiter, "sync", (counted_in, quota), mine, tells=True))
        if outcome is not None and outcome.probing and (quota is None or counted_in != counter):
            calls.append(Ask(limiter, "sync", (counter, Quota()), {}, tells=True))
        if decision is not None and self._is_penalty(decision):
            calls.append(Ask(limiter, "penalize", (counted_in, decision.wait), {}, tells=True))
        for call in calls:
            if lane.is_remote:
                yield call
            else:
                getattr(limiter, call.call)(*call.arguments, **call.named)

    @staticmethod
    def _is_penalty(decision: Decision) -> bool:
        """A refusal holds the key for everybody; so does an API that asks for a pause on a success."""
        if decision.wait <= 0.0:
            return False
        if decision.action is Action.PROCESS:
            return decision.quota is None or decision.quota.remaining != 0
        return decision.reason is Reason.RATE_LIMITED

    def _report(self, exchange: Exchange, decision: Decision, answer: object) -> None:
        if decision.action is not Action.PROCESS:
            words = (exchange.method, exchange.host, decision.action, decision.reason, decision.advice)
            logger.info("%s %s: %s (%s): %s", *words)
        for observer in observers:
            observer.decided(decision, status_of(answer))
        if self._on_decision is not None:
            self._on_decision(decision)

    def _wait(self, sleep: Sleep) -> Sleep:
        logger.info("waiting %.3f s (%s)", sleep.seconds, sleep.cause)
        for observer in observers:
            observer.waits(sleep)
        if self._on_wait is not None:
            self._on_wait(sleep)
        return sleep

    def conclude(
        self,
        verdict: Verdict,
        own: Callable[[Any, str], Exception],
        kind_of: Callable[[type[Exception]], type[Exception]] | None = None,
    ) -> object:
        """The last response; raises instead what ended the attempt: the arguments are those of ``deferred``."""
        answer, decision = verdict
        failed = answer is None or isinstance(answer, BaseException)
        if decision.action is Action.DEFER and (failed or self.raises_deferred):
            raise deferred(verdict, own, kind_of)
        if isinstance(answer, BaseException):
            raise answer
        return answer


Result = TypeVar("Result")


def _perform(flow: Generator[Ask | Sleep, Any, Result], sleep: Callable[[float], object]) -> Result:
    """Runs a part of a flow where waiting blocks."""
    answer: object = None
    try:
        while True:
            instruction = flow.send(answer)
            answer = instruction.ask() if isinstance(instruction, Ask) else sleep(instruction.seconds)
    except StopIteration as stop:
        result: Result = stop.value
        return result


def first_of(lane: Lane, counter: str | bytes) -> tuple[int, int]:
    """Names a counter of a limiter without its key."""
    return id(lane.limiter), hash(counter)


def is_asked(policy: Policy, answer: object) -> bool:
    """Whether a rule looks into this answer's body. Of a success only JSON is looked at: the beginning of
    anything else, such as a stream of events, could be long in coming."""
    status = None if isinstance(answer, BaseException | Reply) else status_of(answer)
    if status is None or not policy.reads_body(status):
        return False
    headers: Any = getattr(answer, "headers", {})
    return status >= 400 or "json" in str(headers.get("Content-Type")).lower()


def policy_of(host: str) -> Policy:
    """The policy for a host, ``bide.HTTP`` where none is known."""
    from bide.policies import for_host

    return for_host(host)
