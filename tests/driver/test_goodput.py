"""How much of a server's quota the driver uses and how many 429s that costs, in virtual time.

The driver, the policy and the limiter are the real ones; the server and the wire are a model. Each row is one
kind of bad day; the bars are what a careful person would expect by hand.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest

import bide
from bide._driver import Closing, Driver, Exchange, Flow, Send, Verdict
from bide._simulation import ModelServer, Report, World, run

WINDOWS = 8


def report(server: dict[str, Any], **options: Any) -> Report:
    policy = bide.CLEVER.replace(
        limits=("600/6s",), window=6.0, backoff=bide.Backoff(base=0.5, cap=30.0, jitter="full")
    )

    def driver(world: World) -> Driver:
        return Driver(policy, limiter=bide.Limiter("600/6s", clock=world), clock=world)

    return run(
        driver,
        ModelServer(600, 6.0, **server),
        **{"workers": 8, "latency": 0.02, "windows": WINDOWS, **options},
    )


@pytest.mark.parametrize(
    ("server", "options"),
    [
        pytest.param({"phase": 3.37}, {"latency": 0.02}, id="20 ms"),
        pytest.param({"phase": 3.37}, {"latency": 0.06}, id="60 ms"),
        pytest.param({"phase": 3.37}, {"latency": 0.2}, id="200 ms"),
        pytest.param({"phase": 0.02}, {}, id="the window ends just after the start"),
        pytest.param({"phase": 2.11, "clock_offset": 30.4}, {}, id="the server's clock is ahead"),
        pytest.param({"phase": 2.11, "clock_offset": -30.4}, {}, id="the server's clock is behind"),
        pytest.param({"phase": 2.11, "sends_date": False}, {}, id="no Date"),
        pytest.param({"phase": 3.37, "failures": 0.02}, {}, id="2 % of 503"),
        pytest.param({"phase": 3.37, "failures": 0.05}, {}, id="5 % of 503"),
    ],
)
def test_no_429_after_the_first_window_and_at_least_98_percent_used(
    server: dict[str, Any], options: dict[str, Any]
) -> None:
    result = report(server, **options)
    assert result.first_window_refusals + result.refusals == 0
    assert result.used >= 0.98


@pytest.mark.parametrize("sends_date", [True, False])
def test_a_server_that_truncates_its_reset_is_found_out_in_the_first_window(sends_date: bool) -> None:
    result = report({"phase": 2.11, "rounding": math.floor, "sends_date": sends_date})
    assert result.refusals == 0
    assert result.used >= 0.98


@pytest.mark.parametrize("jitter", [0.0, 0.9])
@pytest.mark.parametrize(
    ("latency", "workers", "share"),
    [(0.02, 8, 0.3), (0.06, 8, 0.3), (0.2, 8, 0.3), (0.06, 32, 0.3), (0.06, 8, 0.6)],
)
def test_beside_a_client_that_is_not_ours_hardly_a_429_and_nothing_left_over(
    latency: float, jitter: float, workers: int, share: float
) -> None:
    result = report(
        {"phase": 3.37}, latency=latency, jitter=jitter, workers=workers, foreign_share=share, windows=20
    )
    assert result.refusals <= 0.001 * result.successes
    mine = 600 * (1 - share)
    carried = workers / latency * 6.0
    assert result.successes >= 0.95 * min(mine, carried) * result.windows


def test_a_restart_in_the_middle_of_a_window_costs_one_429_at_most() -> None:
    server = ModelServer(600, 6.0, phase=3.37)
    server.admitted[server.index(0.0)] = 600
    policy = bide.CLEVER.replace(limits=("600/6s",), window=6.0)
    result = run(
        lambda world: Driver(policy, limiter=bide.Limiter("600/6s", clock=world), clock=world),
        server,
        workers=8,
        latency=0.02,
        windows=3,
    )
    assert result.first_window_refusals <= 1
    assert result.refusals == 0


def test_the_same_seed_gives_the_same_run() -> None:
    assert report({"phase": 3.37, "failures": 0.05}) == report({"phase": 3.37, "failures": 0.05})


class Request(NamedTuple):
    """When a request was sent, and when its reply came; whether it was the first of a window of the limiter's."""

    sent_at: float
    answered_at: float
    is_first: bool


class Watched(Driver):
    """A driver that takes down its requests."""

    requests: list[Request]

    def flow(self, exchange: Exchange, closing: Closing | None = None) -> Flow:
        flow, answer = super().flow(exchange, closing), None
        while True:
            try:
                instruction = flow.send(answer)
            except StopIteration as stop:
                verdict: Verdict = stop.value
                return verdict
            sent_at = self.monotonic()
            answer = yield instruction
            if isinstance(instruction, Send):
                is_first = instruction.first_of is not None
                self.requests.append(Request(sent_at, self.monotonic(), is_first))


@pytest.mark.parametrize("latency", [0.02, 0.06, 0.2])
@pytest.mark.parametrize("phase", [0.02, 3.37])
def test_a_learning_limiter_sends_one_request_into_a_new_window_until_its_reply_has_come(
    phase: float, latency: float
) -> None:
    """It was told no number; all else is as if it had been."""
    policy = bide.CLEVER.replace(limits=(), window=6.0)
    server = ModelServer(600, 6.0, phase=phase)
    requests: list[Request] = []

    def driver(world: World) -> Driver:
        watched = Watched(policy, limiter=bide.Limiter(learn=6.0, clock=world), clock=world)
        watched.requests = requests
        return watched

    result = run(driver, server, workers=8, latency=latency, windows=WINDOWS)
    assert result.first_window_refusals + result.refusals == 0
    assert result.used >= 0.98

    firsts = [request for request in requests if request.is_first]
    for first in firsts:
        assert [r for r in requests if first.sent_at <= r.sent_at < first.answered_at] == [first]
    # As long as the quota is not used up, the replies on their way tell of the next window. Where it was used up,
    # nothing is under way when the server's next window begins but the first of the limiter's.
    used_up = [index for index, admitted in server.admitted.items() if admitted == server.limit]
    starts = [
        start
        for index in used_up
        if (start := server.phase + (index + 1) * server.window) < requests[-1].sent_at
    ]
    assert len(starts) >= (WINDOWS - 1 if latency < 0.1 else 0)
    for start in starts:
        first = min(r for r in requests if r.answered_at > start)
        assert first.is_first
        assert [r for r in requests if r.answered_at > start and r.sent_at < first.answered_at] == [first]
