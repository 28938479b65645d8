"""The one retry loop: asks the limiter, sends, decides, teaches the limiter, waits, repeats or defers.

It is a generator that does nothing itself. It yields what is to be done and is sent what came of it:

    yields               is sent back
    Send(attempt)        the client's own response, or the exception that it raised
    Sleep(seconds, ...)  nothing, when the time has passed
    Discard(response)    nothing, when the response's connection has been given back

and returns a Verdict. An adapter turns its client's request into an Exchange and performs these three in its
client's way; ``drive`` and ``drive_async`` are the loops that let it.

Rules of this file: no I/O and no import of a client. For each try: a permit of the limiter first (a wait of
its own, counted as no attempt), one ``decide`` for each answer, one ``sync`` of the limiter for each answer.
Whatever ends a flow, a probe that it has begun is closed, so that nobody waits for a reply that cannot come.
A key is handed to the limiter and to nothing else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypedDict

from bide.errors import Deferred
from bide.policy import HTTP, Action, Decision, Policy, Quota, Reason, decide, failure_of

if TYPE_CHECKING:
    from bide.limiter import Limiter, Outcome

__all__ = [
    "Cause",
    "Discard",
    "Driver",
    "Exchange",
    "Options",
    "Send",
    "Sleep",
    "Verdict",
    "drive",
    "drive_async",
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

logger = logging.getLogger("bide")


class Cause(StrEnum):
    """Why a flow waits."""

    WINDOW = "window"
    """The key's window is used up: the limiter's wait, no request has been refused."""
    FIRST_REPLY = "first-reply"
    """Another request is the first of this key; its reply will tell where the server's window stands."""
    RETRY = "retry"
    """An answer said so, or asks for backoff: the decision's wait."""


class Send(NamedTuple):
    """Send the request now."""

    attempt: int


class Sleep(NamedTuple):
    """Wait before going on; what ``on_wait`` is called with.

    ``why`` is a sentence for a person; ``decision`` is the one that asked for the wait, None when the limiter
    did.
    """

    seconds: float
    cause: Cause
    why: str
    decision: Decision | None = None


class Discard(NamedTuple):
    """Give back the connection of a response that nobody will see."""

    response: object


class Verdict(NamedTuple):
    """How it ended: the last answer (the client's response, or the exception it raised; None when nothing
    was sent) and the decision about it."""

    answer: object
    decision: Decision


Flow = Generator[Send | Sleep | Discard, object, Verdict]


class Exchange(NamedTuple):
    """What the driver needs to know of a request: the adapter makes one for each."""

    method: str
    host: str
    request: object
    """The client's own request, for a caller's ``key`` function."""
    authorization: str | bytes | None = None
    idempotent: bool = False
    """The request carries an Idempotency-Key."""
    repeatable: bool = True
    """The body can be sent again from its beginning."""


class Clock(Protocol):
    """What a driver reads the time from: ``bide.testing.FakeClock`` is one."""

    def __call__(self) -> float: ...
    def time(self) -> float: ...


class Options(TypedDict, total=False):
    """The options of every adapter; see ``Driver`` for what each one means."""

    limiter: Limiter | Literal[False] | None
    store: str
    key: str | bytes | Callable[[object], str | bytes] | None
    deadline: float | None
    max_wait: float | None
    idempotent: bool
    on_decision: Callable[[Decision], object] | None
    on_wait: Callable[[Sleep], object] | None
    on_defer: Literal["raise", "return"]
    clock: Clock | None


class Driver:
    """The options of one adapter, and the limiters that they lead to.

    Args:
        policy: the API's policy; ``bide.HTTP`` when none is given.
        limiter: paces the requests. None makes one of the limits that the policy's vendor publishes; False
            switches pacing off.
        store: where that limiter keeps its counters ("memory": this process and its forks).
        key: what the server counts by: a value, or a function of the client's own request. None is the
            host with the ``Authorization`` field.
        deadline: seconds from the first try, waits included, after which no further try begins.
        max_wait: the longest single wait in seconds; a longer one is DEFER. None is the policy's.
        idempotent: the caller's promise that every request may be repeated, whatever its method.
        on_decision: called with each Decision.
        on_wait: called with each Sleep before it begins.
        on_defer: "raise" the client's ``Deferred``, or "return" the last response as it is.
        clock: monotonic seconds when called, Unix time by ``.time()``; for tests.

    Raises:
        TypeError, ValueError: an option is not of that kind; says what to pass.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        limiter: Limiter | Literal[False] | None = None,
        store: str = "memory",
        key: str | bytes | Callable[[object], str | bytes] | None = None,
        deadline: float | None = None,
        max_wait: float | None = None,
        idempotent: bool = False,
        on_decision: Callable[[Decision], object] | None = None,
        on_wait: Callable[[Sleep], object] | None = None,
        on_defer: Literal["raise", "return"] = "raise",
        clock: Clock | None = None,
    ) -> None:
        policy = HTTP if policy is None else policy
        if not isinstance(policy, Policy):
            raise TypeError(f"policy must be a bide.Policy such as bide.CLEVER, not {type(policy).__name__}")
        if on_defer not in ("raise", "return"):
            raise ValueError(f'on_defer must be "raise" or "return", not {on_defer!r}')
        if limiter is True:
            raise TypeError("limiter must be a bide.Limiter, None (made of the policy's limits) or False")
        if max_wait is not None:
            policy = policy.replace(max_wait=max_wait)
        if deadline is not None:
            policy = policy.replace(deadline=deadline)
        self.policy = policy
        self.limiter = self._limiter_of(policy, store) if limiter is None else limiter or None
        self.raises_deferred = on_defer == "raise"
        self._key = key
        self._idempotent = idempotent
        self._on_decision = on_decision
        self._on_wait = on_wait
        self._monotonic: Callable[[], float] = time.monotonic if clock is None else clock
        self._unix: Callable[[], float] = time.time if clock is None else clock.time

    @staticmethod
    def _limiter_of(policy: Policy, store: str) -> Limiter:
        from bide.limiter import Limiter

        return Limiter(*(policy.limits or (UNKNOWN_LIMIT,)), store=store)

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

    def flow(self, exchange: Exchange) -> Flow:
        """The retry loop for one request."""
        key = self.key_of(exchange) if self.limiter is not None else b""
        started = self._monotonic()
        attempt = 1
        while True:
            admission = yield from self._admit(key, attempt, started)
            if isinstance(admission, Decision):
                return Verdict(None, admission)
            with self._taught(key, admission) as lesson:
                answer = yield Send(attempt)
                if isinstance(answer, BaseException) and failure_of(answer) is None:
                    raise answer
                decision = decide(
                    answer,
                    self.policy,
                    attempt=attempt,
                    method=exchange.method,
                    elapsed=self._monotonic() - started,
                    now=self._unix(),
                    idempotent=exchange.idempotent or self._idempotent,
                    repeatable=exchange.repeatable,
                )
                lesson.append(decision)
            self._report(decision)
            given_up = decision.action is Action.DEFER and self.raises_deferred
            if (decision.action is Action.RETRY or given_up) and not isinstance(answer, BaseException):
                yield Discard(answer)
            if decision.action is not Action.RETRY:
                return Verdict(answer, decision)
            if decision.wait > 0.0:
                yield self._wait(Sleep(decision.wait, Cause.RETRY, decision.advice, decision))
            attempt += 1

    def _admit(
        self, key: str | bytes, attempt: int, started: float
    ) -> Generator[Sleep, object, Outcome | Decision | None]:
        """Waits for the limiter's permit; a DEFER decision when that takes longer than the caller allows."""
        if self.limiter is None:
            return None
        told = False
        while True:
            outcome = self.limiter.contact(key, probe_timeout=PROBE_TIMEOUT_SECONDS)
            if outcome.allowed:
                return outcome
            wait = max(outcome.retry_after, SHORTEST_SLEEP_SECONDS)
            if outcome.probing:
                sleep = Sleep(min(wait, POLL_SECONDS), Cause.FIRST_REPLY, "waiting for the first reply")
            else:
                sleep = Sleep(wait, Cause.WINDOW, f"window used up, {wait:.1f} s until reset")
            elapsed = self._monotonic() - started
            deadline = self.policy.deadline
            if sleep.seconds > self.policy.max_wait or (
                deadline is not None and elapsed + sleep.seconds > deadline
            ):
                decision = self._no_room(wait, outcome)
                self._report(decision)
                return decision
            if outcome.probing and told:
                yield sleep
            else:
                yield self._wait(sleep)
            told = outcome.probing

    def _no_room(self, wait: float, outcome: Outcome) -> Decision:
        return Decision(
            action=Action.DEFER,
            wait=wait,
            resume_at=self._unix() + wait,
            reason=Reason.RATE_LIMITED,
            advice=f"The quota of this key is used up: cease now and resume in {wait:.0f} s.",
            quota=Quota(limit=outcome.limit, remaining=outcome.remaining, reset_after=outcome.reset_after),
            source="limiter",
        )

    @contextmanager
    def _taught(self, key: str | bytes, outcome: Outcome | None) -> Iterator[list[Decision]]:
        """Tells the limiter what the answer said, or that none came: either way a probe is over."""
        lesson: list[Decision] = []
        try:
            yield lesson
        finally:
            limiter = self.limiter
            if limiter is not None:
                decision = lesson[0] if lesson else None
                quota = decision.quota if decision is not None else None
                if quota is not None:
                    limiter.sync(key, quota, outcome=outcome)
                elif outcome is not None and outcome.probing:
                    limiter.sync(key, Quota())
                if decision is not None and self._is_penalty(decision):
                    limiter.penalize(key, decision.wait)

    @staticmethod
    def _is_penalty(decision: Decision) -> bool:
        """A refusal holds the key for everybody; so does an API that asks for a pause on a success."""
        if decision.wait <= 0.0:
            return False
        if decision.action is Action.PROCESS:
            return decision.quota is None or decision.quota.remaining != 0
        return decision.reason is Reason.RATE_LIMITED

    def _report(self, decision: Decision) -> None:
        if decision.action is not Action.PROCESS:
            logger.info("%s (%s): %s", decision.action, decision.reason, decision.advice)
        if self._on_decision is not None:
            self._on_decision(decision)

    def _wait(self, sleep: Sleep) -> Sleep:
        logger.info("waiting %.3f s (%s)", sleep.seconds, sleep.cause)
        if self._on_wait is not None:
            self._on_wait(sleep)
        return sleep


def drive(
    flow: Flow,
    send: Callable[[int], object],
    sleep: Callable[[float], object],
    discard: Callable[[object], object],
) -> Verdict:
    """Drives a flow where waiting blocks. What ``send`` raises is an answer; what interrupts is not."""
    try:
        instruction = next(flow)
        while True:
            answer: object = None
            if isinstance(instruction, Send):
                try:
                    answer = send(instruction.attempt)
                except Exception as error:
                    answer = error
            elif isinstance(instruction, Sleep):
                sleep(instruction.seconds)
            else:
                discard(instruction.response)
            instruction = flow.send(answer)
    except StopIteration as stop:
        verdict: Verdict = stop.value
        return verdict
    finally:
        flow.close()


async def drive_async(
    flow: Flow,
    send: Callable[[int], Awaitable[object]],
    sleep: Callable[[float], Awaitable[object]],
    discard: Callable[[object], Awaitable[object]],
) -> Verdict:
    """Drives a flow on an event loop: ``drive``, word for word, with ``await``."""
    try:
        instruction = next(flow)
        while True:
            answer: object = None
            if isinstance(instruction, Send):
                try:
                    answer = await send(instruction.attempt)
                except Exception as error:
                    answer = error
            elif isinstance(instruction, Sleep):
                await sleep(instruction.seconds)
            else:
                await discard(instruction.response)
            instruction = flow.send(answer)
    except StopIteration as stop:
        verdict: Verdict = stop.value
        return verdict
    finally:
        flow.close()


_deferred_classes: dict[type[BaseException], type[Deferred]] = {}


def deferred(verdict: Verdict, base: type[Exception]) -> Deferred:
    """The exception for a DEFER: ``bide.Deferred`` and the last failure's class (``base`` after a response).

    It is raised ``from`` the failure and carries the failure's attributes, so that code written for the
    client's own exception finds what it looks for.
    """
    answer = verdict.answer
    failure = answer if isinstance(answer, Exception) else None
    kind = base if failure is None else type(failure)
    made = _deferred_classes.get(kind)
    if made is None:
        made = _deferred_classes[kind] = type("Deferred", (Deferred, kind), {"__module__": "bide"})
    error = made.__new__(made)
    Deferred.__init__(error, verdict.decision, None if failure is not None else answer)
    if failure is not None:
        error.__dict__ = {**failure.__dict__, **error.__dict__}
        error.__cause__ = failure
    return error
