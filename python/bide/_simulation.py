"""Goodput in virtual time: the real driver, policy and limiter against a model of a fixed-window server.

A run is a heap of events and a clock that jumps from one to the next: thousands of windows take seconds, and
the same seed gives the same run, so that a result does not hang on one machine's mood.

Rules of this file: nothing here reads the real time or sleeps, and nothing of bide is modelled. The flows are
``_driver.Driver``'s own; only the wire, the server and the clock are stand-ins.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import NamedTuple

from bide._driver import Discard, Driver, Exchange, Flow, Send, Sleep
from bide._flow import Ask, Look
from bide.policy import Reply

__all__ = ["ModelServer", "Report", "State", "World", "run"]

UNIX_AT_START = 1_700_000_000.0


class World:
    """The clock of a run, and what is to happen when; events of one instant happen in the order of making.

    >>> world = World()
    >>> world.after(2.0, lambda: print(world()))
    >>> world.run_until(5.0)
    2.0
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], object]]] = []

    def __call__(self) -> float:
        """Monotonic seconds since the start."""
        return self._now

    def time(self) -> float:
        """The client's wall clock, Unix seconds."""
        return UNIX_AT_START + self._now

    def after(self, seconds: float, event: Callable[[], object]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._order), event))

    def run_until(self, end: float) -> None:
        while self._events and self._events[0][0] <= end:
            self._now, _, event = heapq.heappop(self._events)
            event()
        self._now = end


class State(NamedTuple):
    """What a server says of its window in an answer, on its own clock."""

    limit: int
    remaining: int
    reset_at: float
    """Unix time of the window's end."""
    now: float
    refused: bool


Writer = Callable[[State], dict[str, str]]
"""How an API writes that in fields."""


@dataclass(slots=True)
class ModelServer:
    """Fixed windows of unknown phase, the four fields, an empty 429; it counts what it answered.

    Args:
        limit: requests in a window of ``window`` seconds.
        phase: where its windows begin, in seconds after the run's start.
        clock_offset: how far its wall clock is ahead of the client's, in seconds.
        failures: the share of requests that are counted and answered 503.
        rounding: what it does with the fraction of the reset: ``math.ceil`` or ``math.floor``.
        sends_date: whether it sends ``Date``, in whole seconds of its clock as HTTP has it.
        write: how it writes its window; None writes the ``X-RateLimit-*`` fields.
    """

    limit: int
    window: float
    phase: float = 0.0
    clock_offset: float = 0.0
    failures: float = 0.0
    rounding: Callable[[float], int] = math.ceil
    sends_date: bool = True
    write: Writer | None = None
    random: Random = field(default_factory=lambda: Random(1))
    admitted: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)

    def index(self, now: float) -> int:
        return math.floor((now - self.phase) / self.window)

    def answer(self, now: float) -> Reply:
        index = self.index(now)
        unix = UNIX_AT_START + self.clock_offset
        refused = self.admitted[index] >= self.limit
        (self.refused if refused else self.admitted)[index] += 1
        state = State(
            self.limit,
            self.limit - self.admitted[index],
            unix + self.phase + (index + 1) * self.window,
            unix + now,
            refused,
        )
        fields = self._usual(state) if self.write is None else self.write(state)
        if self.sends_date:
            fields["Date"] = http_date(unix + now)
        if refused:
            return Reply(429, fields)
        return Reply(503 if self.random.random() < self.failures else 200, fields)

    def _usual(self, state: State) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(state.limit),
            "X-RateLimit-Remaining": str(state.remaining),
            "X-RateLimit-Reset": str(self.rounding(state.reset_at)),
            "X-RateLimit-Bucket": "simulated",
        }


def http_date(unix: float) -> str:
    """An IMF-fixdate (RFC 9110 section 5.6.7)."""
    from email.utils import formatdate

    return formatdate(math.floor(unix), usegmt=True)


@dataclass(slots=True)
class Report:
    """What a run came to, over whole windows after the first one."""

    windows: int
    successes: int
    refusals: int
    """429s after the first window."""
    first_window_refusals: int
    foreign_refusals: int
    """429s that the other client got."""
    used: float
    """The share used of the quota that was left to us, or of what the workers could carry."""


def run(
    driver: Driver | Callable[[World], Driver],
    server: ModelServer,
    *,
    workers: int,
    latency: float,
    jitter: float = 0.0,
    windows: int,
    clients: int = 1,
    foreign_share: float = 0.0,
    foreign_burst: int = 1,
    seed: int = 1,
    on_answer: Callable[[float, int], object] | None = None,
) -> Report:
    """Lets ``workers`` ask for as much as they can get, through one driver, for that many windows.

    Args:
        driver: made of the world, whose clock it must use.
        workers: of each client.
        latency: seconds from a request's sending to its reply's arrival; each way takes a random share of it.
        jitter: how much of the latency is left to chance, 0 to 1; its mean stays. Replies then overtake others.
        clients: how many drivers are made, which know nothing of each other.
        foreign_share: the share of the quota that somebody else's client takes, spread evenly.
        foreign_burst: how many requests of that client arrive at a time.
        on_answer: called with the time and the status of each answer to the clients.
    """
    world = World()
    random = Random(seed)
    successes: Counter[int] = Counter()
    ours: Counter[int] = Counter()
    our_refusals: Counter[int] = Counter()
    exchange = Exchange(method="GET", host="simulated", request=None, authorization="Bearer simulated")

    def work(made: Driver) -> None:
        advance(made, made.flow(exchange), None)

    def advance(made: Driver, flow: Flow, answer: object) -> None:
        try:
            instruction = next(flow) if answer is None else flow.send(answer)
            while isinstance(instruction, (Discard, Look, Ask)):
                instruction = flow.send(instruction.ask() if isinstance(instruction, Ask) else None)
        except StopIteration as stop:
            if getattr(stop.value.answer, "status", None) == 200:
                successes[server.index(world())] += 1
            resume_at = stop.value.decision.resume_at
            world.after(max(0.0, (resume_at or 0.0) - world.time()), lambda: work(made))
            return
        if isinstance(instruction, Sleep):
            world.after(instruction.seconds, lambda: advance(made, flow, None))
        else:
            assert isinstance(instruction, Send)
            took = latency * (1.0 - jitter + jitter * random.expovariate(1.0)) if jitter else latency
            there = took * random.uniform(0.2, 0.8)

            def arrive() -> None:
                reply = server.answer(world())
                (our_refusals if reply.status == 429 else ours)[server.index(world())] += 1
                if on_answer is not None:
                    on_answer(world(), reply.code)
                world.after(took - there, lambda: advance(made, flow, reply))

            world.after(there, arrive)

    for _ in range(clients):
        made = driver if isinstance(driver, Driver) else driver(world)
        for _ in range(workers):
            world.after(random.uniform(0.0, latency), partial(work, made))
    if foreign_share:
        pause = server.window * foreign_burst / (server.limit * foreign_share)

        def foreign() -> None:
            for _ in range(foreign_burst):
                server.answer(world())
            world.after(pause, foreign)

        world.after(pause * random.random(), foreign)
    world.run_until(server.phase % server.window + (windows + 1) * server.window)
    first = server.index(0.0)
    counted = range(first + 1, first + 1 + windows)
    room = sum(server.limit - (server.admitted[index] - ours[index]) for index in counted)
    carried = clients * workers / latency * server.window * windows
    refusals = sum(our_refusals[index] for index in counted)
    sent = sum(ours[index] for index in counted)
    return Report(
        windows=windows,
        successes=sum(successes[index] for index in counted),
        refusals=refusals,
        first_window_refusals=our_refusals[first],
        foreign_refusals=sum(server.refused[index] for index in counted) - refusals,
        used=sent / min(room, carried),
    )
