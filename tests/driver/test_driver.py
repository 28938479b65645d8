"""The retry loop, fed with scripted answers in virtual time: nothing here sleeps or opens a socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

import bide
from bide._driver import (
    MOST_HOSTS,
    Cause,
    Discard,
    Driver,
    Exchange,
    Flow,
    Look,
    Send,
    Sleep,
    Verdict,
    deferred,
    drive,
)
from bide._flow import Ask
from bide.testing import FakeClock

GET = Exchange(method="GET", host="api.example", request=None, authorization="Bearer ABCD")
START_AT = 1_394_506_214.0
FOUR_FIELDS = {
    "X-RateLimit-Limit": "1200",
    "X-RateLimit-Remaining": "1199",
    "X-RateLimit-Reset": str(int(START_AT) + 60),
    "X-RateLimit-Bucket": "abc123",
}


def fields(remaining: int, reset_at: float) -> dict[str, str]:
    return FOUR_FIELDS | {"X-RateLimit-Remaining": str(remaining), "X-RateLimit-Reset": str(int(reset_at))}


def clock() -> FakeClock:
    return FakeClock(unix=START_AT)


def play(flow: Flow, answers: Iterable[object], time: FakeClock) -> tuple[list[object], Verdict]:
    """Performs a flow against scripted answers, in virtual time; returns what it asked for, and its end."""
    remaining = iter(answers)
    done: list[object] = []

    def send(attempt: int) -> object:
        done.append(Send(attempt))
        answer = next(remaining)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def sleep(seconds: float) -> None:
        done.append(round(seconds, 3))
        time.sleep(seconds)

    def look(response: object) -> bytes:
        done.append(Look(response))
        return response.body  # type: ignore[attr-defined]  # a Response of these tests

    return done, drive(flow, send, sleep, lambda *given: done.append(Discard(*given)), look)


def clever(time: FakeClock, **options: object) -> Driver:
    policy = bide.CLEVER.replace(backoff=bide.CLEVER.backoff.replace(jitter="none"))
    return Driver(policy, clock=time, **{"limiter": False, **options})  # type: ignore[arg-type]  # a table's row


def test_a_good_answer_is_the_end() -> None:
    time = clock()
    answer = bide.Reply(200, FOUR_FIELDS)
    done, verdict = play(clever(time).flow(GET), [answer], time)
    assert done == [Send(1)]
    assert verdict.answer is answer
    assert verdict.decision.action is bide.Action.PROCESS


def test_a_failing_api_is_asked_six_times_with_the_documented_waits_and_then_deferred() -> None:
    time = clock()
    done, verdict = play(clever(time).flow(GET), itertools.repeat(bide.Reply(503, {})), time)
    assert [step for step in done if isinstance(step, Send)] == [Send(attempt) for attempt in range(1, 7)]
    assert [step for step in done if isinstance(step, float)] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert verdict.decision.action is bide.Action.DEFER
    assert verdict.decision.resume_at == pytest.approx(START_AT + 31.0 + 900.0)


def test_every_response_that_nobody_will_see_is_discarded_before_the_wait() -> None:
    time = clock()
    failure, success = bide.Reply(500, {}), bide.Reply(200, {})
    done, _ = play(clever(time).flow(GET), [failure, success], time)
    assert done == [Send(1), Discard(failure), 1.0, Send(2)]


@pytest.mark.parametrize("status", [400, 401, 404, 413, 501])
def test_what_cannot_succeed_is_not_repeated(status: int) -> None:
    time = clock()
    done, verdict = play(clever(time).flow(GET), [bide.Reply(status, {})], time)
    assert done == [Send(1)]
    assert verdict.decision.action is bide.Action.FAIL


def test_a_429_waits_until_the_reset_that_it_states() -> None:
    time = clock()
    refused = bide.Reply(429, fields(0, START_AT + 7))
    done, verdict = play(clever(time).flow(GET), [refused, bide.Reply(200, {})], time)
    waits = [step for step in done if isinstance(step, float)]
    assert sum(waits) == pytest.approx(7.0, abs=1.8)
    assert sum(waits) >= 7.0
    assert verdict.decision.action is bide.Action.PROCESS


def test_a_failure_that_is_not_the_clients_own_is_raised_as_it_came() -> None:
    time = clock()
    with pytest.raises(ZeroDivisionError):
        play(clever(time).flow(GET), [ZeroDivisionError()], time)


def test_a_refused_connection_is_repeated_and_at_last_raised_as_deferred_and_as_itself() -> None:
    time = clock()
    done, verdict = play(
        clever(time).flow(GET), itertools.repeat(ConnectionRefusedError(111, "refused")), time
    )
    assert len([step for step in done if isinstance(step, Send)]) == 6
    error = deferred(verdict, lambda _, advice: Exception(advice))
    assert isinstance(error, bide.Deferred)
    assert isinstance(error, ConnectionRefusedError)
    assert error.errno == 111
    assert error.decision.action is bide.Action.DEFER


def test_a_request_whose_body_is_gone_is_not_repeated_and_the_decision_says_so() -> None:
    time = clock()
    done, verdict = play(clever(time).flow(GET._replace(repeatable=False)), [bide.Reply(503, {})], time)
    assert done == [Send(1)]
    assert verdict.decision.action is bide.Action.FAIL
    assert "body" in verdict.decision.advice


def test_a_post_is_not_repeated_after_a_500_unless_the_caller_vouches_for_it() -> None:
    post = GET._replace(method="POST")
    for driver_options, exchange, sends in [
        ({}, post, 1),
        ({"idempotent": True}, post, 2),
        ({}, post._replace(idempotent=True), 2),
    ]:
        time = clock()
        flow = clever(time, **driver_options).flow(exchange)
        done, _ = play(flow, [bide.Reply(500, {}), bide.Reply(200, {})], time)
        assert len([step for step in done if isinstance(step, Send)]) == sends


def test_no_try_begins_after_the_deadline() -> None:
    time = clock()
    flow = clever(time, deadline=5.0).flow(GET)
    done, verdict = play(flow, itertools.repeat(bide.Reply(503, {})), time)
    assert [step for step in done if isinstance(step, float)] == [1.0, 2.0]
    assert verdict.decision.action is bide.Action.DEFER


def test_a_wait_longer_than_max_wait_defers_with_the_uncapped_time() -> None:
    time = clock()
    flow = clever(time, max_wait=30.0).flow(GET)
    done, verdict = play(flow, [bide.Reply(429, fields(0, START_AT + 50))], time)
    assert done[0] == Send(1)
    assert not [step for step in done if isinstance(step, float)]
    assert verdict.decision.resume_at is not None
    assert verdict.decision.resume_at >= START_AT + 50


def test_decisions_and_waits_are_told_in_order() -> None:
    time = clock()
    heard: list[object] = []
    driver = clever(
        time,
        on_decision=lambda decision: heard.append(decision.action.value),
        on_wait=lambda sleep: heard.append((sleep.cause.value, sleep.seconds)),
    )
    play(driver.flow(GET), [bide.Reply(502, {}), bide.Reply(200, {})], time)
    assert heard == ["retry", ("retry", 1.0), "process"]


def paced(time: FakeClock, *limits: str, **options: object) -> Driver:
    return clever(time, limiter=bide.Limiter(*limits, clock=time), **options)


def test_the_limiter_holds_a_request_that_the_window_has_no_room_for() -> None:
    time = clock()
    driver = paced(time, "2/minute")
    heard: list[Sleep] = []
    driver._on_wait = heard.append
    for remaining in (1, 0):
        answer = bide.Reply(200, fields(remaining, START_AT + 60))
        play(driver.flow(GET), [answer], time)
    time.advance(10.0)
    done, _ = play(driver.flow(GET), [bide.Reply(200, fields(1, START_AT + 120))], time)
    waits = [step for step in done if isinstance(step, float)]
    assert sum(waits) == pytest.approx(50.0, abs=1.1)
    assert heard[0].cause is Cause.WINDOW
    assert heard[0].why.startswith("window used up, ")


def test_the_first_request_of_a_key_goes_alone_until_its_reply_has_told_where_the_window_stands() -> None:
    time = clock()
    driver = paced(time, "1200/minute")
    first, second = driver.flow(GET), driver.flow(GET)
    assert isinstance(next(first), Send)
    waiting = next(second)
    assert isinstance(waiting, Sleep)
    assert waiting.cause is Cause.FIRST_REPLY
    with pytest.raises(StopIteration):
        first.send(bide.Reply(200, fields(1199, START_AT + 30)))
    assert second.send(None) == Send(1)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda flow: flow.close(), id="cancelled"),
        pytest.param(lambda flow: flow.send(bide.Reply(200, {})), id="a reply without a word of limits"),
        pytest.param(lambda flow: flow.send(ZeroDivisionError()), id="a failure of another kind"),
        pytest.param(lambda flow: flow.send(bide.Reply(404, {})), id="a refusal for ever"),
    ],
)
def test_a_probe_that_brings_no_news_blocks_nobody(end) -> None:  # type: ignore[no-untyped-def]  # a table's column
    time = clock()
    driver = paced(time, "1200/minute")
    first, second = driver.flow(GET), driver.flow(GET)
    next(first)
    assert isinstance(next(second), Sleep)
    with contextlib.suppress(StopIteration, ZeroDivisionError):
        end(first)
    assert second.send(None) == Send(1)


def test_a_429_holds_back_everybody_who_shares_the_key_and_nobody_else() -> None:
    time = clock()
    driver = paced(time, "1200/minute")
    flow = driver.flow(GET)
    next(flow)
    flow.send(bide.Reply(429, fields(0, START_AT + 20)))
    same, other = driver.flow(GET), driver.flow(GET._replace(authorization="Bearer EFGH"))
    held = next(same)
    assert isinstance(held, Sleep)
    assert held.seconds >= 20.0
    assert isinstance(next(other), Send)


def test_a_window_without_room_that_is_longer_than_max_wait_defers_before_anything_is_sent() -> None:
    time = clock()
    driver = paced(time, "1/hour", max_wait=60.0)
    play(driver.flow(GET), [bide.Reply(200, {})], time)
    done, verdict = play(driver.flow(GET), [], time)
    assert done == []
    assert verdict.answer is None
    assert verdict.decision.action is bide.Action.DEFER
    assert verdict.decision.source == "limiter"
    assert verdict.decision.resume_at == pytest.approx(START_AT + 3600.0, abs=2.0)


def test_the_key_is_the_host_and_token_unless_the_caller_says_otherwise() -> None:
    time = clock()
    assert clever(time).key_of(GET) == "api.example Bearer ABCD"
    assert clever(time).key_of(GET._replace(authorization=None)) == "api.example"
    assert clever(time, key="account 7").key_of(GET) == "account 7"
    assert clever(time, key=lambda request: request).key_of(GET._replace(request=b"mine")) == b"mine"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"policy": "clever"}, TypeError, "policy must be a bide.Policy such as bide.CLEVER"),
        ({"on_defer": "ignore"}, ValueError, 'on_defer must be "raise" or "return"'),
        ({"limiter": True}, TypeError, "limiter must be a bide.Limiter"),
        ({"budget": 3}, TypeError, "budget must be a bide.Budget"),
        ({"key": 7}, TypeError, "key must be str, bytes, or a function"),
        ({"limiter": bide.Limiter("1/minute"), "store": "file:///x"}, ValueError, "the one or the other"),
        ({"store": "nowhere"}, ValueError, "store"),
        ({"max_wait": -1.0}, ValueError, "max_wait"),
        ({"deadline": float("nan")}, ValueError, "deadline"),
        ({"pace": 3}, TypeError, "pace"),
    ],
)
def test_a_wrong_option_is_refused_with_what_to_write(
    options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Driver(**options)  # type: ignore[arg-type]  # the mistakes under test


def test_an_outage_is_not_multiplied_once_the_hosts_budget_is_spent() -> None:
    time = clock()
    driver = clever(time, budget=bide.Budget(ratio=0.0, floor=2, period=600.0))
    done, verdict = play(driver.flow(GET), itertools.repeat(bide.Reply(503, {})), time)
    assert [step for step in done if isinstance(step, Send)] == [Send(1), Send(2), Send(3)]
    assert verdict.decision.action is bide.Action.DEFER
    assert "Too many" in verdict.decision.advice
    assert verdict.decision.resume_at == pytest.approx(time.time() + 900.0)
    elsewhere = GET._replace(host="another.example")
    done, _ = play(driver.flow(elsewhere), [bide.Reply(503, {}), bide.Reply(200, {})], time)
    assert len([step for step in done if isinstance(step, Send)]) == 2


def test_without_a_budget_every_request_has_all_its_retries() -> None:
    time = clock()
    driver = clever(time, budget=False)
    for _ in range(30):
        done, _ = play(driver.flow(GET), itertools.repeat(bide.Reply(503, {})), time)
        assert len([step for step in done if isinstance(step, Send)]) == 6


def test_the_budgets_of_a_thousand_hosts_are_remembered_and_no_more() -> None:
    time = clock()
    driver = clever(time)
    for number in range(MOST_HOSTS + 100):
        play(driver.flow(GET._replace(host=f"{number}.example")), [bide.Reply(200, {})], time)
    assert len(driver._budgets) == MOST_HOSTS


def test_a_client_that_is_closed_while_the_limiter_holds_a_request_sends_it_no_more() -> None:
    time = clock()
    driver = paced(time, "1/minute")
    play(driver.flow(GET), [bide.Reply(200, {})], time)
    closing = threading.Event()
    flow = driver.flow(GET, closing)
    held = next(flow)
    assert isinstance(held, Sleep)
    assert held.cause is Cause.WINDOW
    closing.set()
    with pytest.raises(StopIteration) as ended:
        flow.send(None)
    verdict: Verdict = ended.value.value
    assert verdict.answer is None
    assert verdict.decision.action is bide.Action.DEFER
    assert "closed" in verdict.decision.advice


def test_a_refusal_that_states_its_wait_costs_no_budget() -> None:
    time = clock()
    driver = clever(time, budget=bide.Budget(ratio=0.0, floor=0))
    refused = bide.Reply(429, fields(0, START_AT + 7))
    done, verdict = play(driver.flow(GET), [refused, bide.Reply(200, {})], time)
    assert len([step for step in done if isinstance(step, Send)]) == 2
    assert verdict.decision.action is bide.Action.PROCESS


class Response:
    """A client's response whose body is still to be read."""

    def __init__(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.status = status
        self.headers = {"Content-Type": kind}
        self.body = body


REFUSED_IN_THE_BODY = bide.policies.load("kraken").replace(retries=1)
NO_ERROR = b'{"error": []}'


def test_a_body_that_a_rule_looks_into_is_read_before_the_decision() -> None:
    time = clock()
    refused = Response(200, b'{"error": ["EAPI:Rate limit exceeded"]}')
    done, verdict = play(
        Driver(REFUSED_IN_THE_BODY, limiter=False, clock=time).flow(GET),
        [refused, last := Response(200, NO_ERROR)],
        time,
    )
    assert [type(step).__name__ for step in done] == ["Send", "Look", "Discard", "float", "Send", "Look"]
    assert verdict.answer is last
    assert verdict.decision.action is bide.Action.PROCESS


@pytest.mark.parametrize(
    ("policy", "response"),
    [
        pytest.param(bide.CLEVER, Response(429, NO_ERROR), id="no rule about bodies"),
        pytest.param(bide.policies.load("canvas"), Response(400, NO_ERROR), id="no rule about this status"),
        pytest.param(REFUSED_IN_THE_BODY, Response(200, b"", "text/event-stream"), id="a success, no JSON"),
    ],
)
def test_a_body_that_no_rule_asks_for_is_left_alone(policy: bide.Policy, response: Response) -> None:
    time = clock()
    driver = Driver(policy.replace(retries=0), limiter=False, clock=time)
    done, _ = play(driver.flow(GET), [response], time)
    assert not any(isinstance(step, Look) for step in done)


class CountedElsewhere:
    """A limiter whose calls take a round trip."""

    class store:
        is_remote = True

    def __init__(self, limiter: bide.Limiter) -> None:
        self._limiter = limiter
        self.calls: list[str] = []


class BlockingRemoteLimiter(CountedElsewhere):
    """For who may block."""

    def __getattr__(self, name: str) -> Any:
        assert not name.endswith("_async")
        self.calls.append(name)
        return getattr(self._limiter, name)


def test_an_interrupted_first_request_gives_a_key_that_is_counted_elsewhere_back_at_once() -> None:
    time = clock()
    limiter = BlockingRemoteLimiter(bide.Limiter("1200/minute", clock=time))
    driver = clever(time, limiter=limiter)

    def interrupted(_: int) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        driver.run(GET, interrupted, lambda *_: None, lambda _: None, time.sleep)
    assert limiter.calls[-2:] == ["contact", "sync"]
    assert limiter.contact(driver.key_of(GET)).allowed


class RemoteLimiter(CountedElsewhere):
    """On an event loop only the twins of its calls may be used."""

    def __getattr__(self, name: str) -> Any:
        if name == "contact":
            return self._limiter.contact
        assert name.endswith("_async"), f"{name} would hold up the event loop"

        async def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            await asyncio.sleep(0)
            return getattr(self._limiter, name.removesuffix("_async"))(*arguments, **named)

        return call


async def discard(_: object, drains: bool, keeps: bool) -> None: ...


async def look(_: object) -> None: ...


async def unbroken(call: Awaitable[object]) -> None:
    await call


async def aside(call: Callable[[str], object], host: str) -> None:
    call(host)


UNUSED = (discard, look)


def test_a_limiter_that_is_elsewhere_is_asked_without_holding_up_the_event_loop() -> None:
    time = clock()
    limiter = RemoteLimiter(bide.Limiter("1200/minute", clock=time))
    driver = clever(time, limiter=limiter)
    answers = iter([bide.Reply(429, fields(0, START_AT + 3)), bide.Reply(200, fields(1199, START_AT + 63))])

    async def send(_: int) -> object:
        return next(answers)

    verdict = asyncio.run(driver.run_async(GET, send, *UNUSED, time.sleep_async, unbroken, aside))
    assert verdict.decision.action is bide.Action.PROCESS
    assert limiter.calls[:3] == ["contact_async", "sync_async", "penalize_async"]
    assert limiter.calls[-2:] == ["contact_async", "sync_async"]


def test_a_store_that_is_down_is_told_to_the_caller_and_the_response_given_back() -> None:
    time = clock()
    limiter = RemoteLimiter(bide.Limiter("1200/minute", clock=time))
    flow = clever(time, limiter=limiter).flow(GET)
    assert isinstance(next(flow), Ask)
    assert isinstance(flow.send(limiter.contact("key")), Send)
    assert isinstance(flow.send(reply := bide.Reply(200, fields(7, START_AT + 60))), Ask)
    assert flow.throw(bide.StoreError("down")) == Discard(reply)
    with pytest.raises(bide.StoreError):
        flow.send(None)


def test_a_cancelled_first_request_gives_a_key_that_is_counted_elsewhere_back_at_once() -> None:
    time = clock()
    limiter = RemoteLimiter(bide.Limiter("1200/minute", clock=time))
    driver = clever(time, limiter=limiter)

    async def scenario() -> None:
        sent = asyncio.Event()

        async def send(_: int) -> object:
            sent.set()
            await asyncio.Event().wait()

        request = asyncio.ensure_future(
            driver.run_async(GET, send, *UNUSED, time.sleep_async, unbroken, aside)
        )
        await sent.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(scenario())
    assert limiter.calls == ["contact_async", "sync_async"]
    assert limiter.contact(driver.key_of(GET)).allowed


INTERRUPTIONS = [KeyboardInterrupt, asyncio.CancelledError, ZeroDivisionError]


def remote_flow(time: FakeClock) -> Flow:
    """A flow whose first request has just been sent, with a limiter that is elsewhere."""
    limiter = RemoteLimiter(bide.Limiter("1200/minute", clock=time))
    flow = Driver(REFUSED_IN_THE_BODY, limiter=limiter, clock=time).flow(GET)  # type: ignore[arg-type]  # stands in
    assert isinstance(next(flow), Ask)
    assert isinstance(flow.send(limiter.contact("key")), Send)
    return flow


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
@pytest.mark.parametrize("is_down", [False, True], ids=["told", "the store is down"])
def test_what_interrupts_a_request_is_passed_on_when_the_limiter_has_been_told(
    interruption: type[BaseException], is_down: bool
) -> None:
    flow = remote_flow(clock())
    told = flow.throw(interruption())
    assert isinstance(told, Ask)
    assert (told.call, told.tells) == ("sync", True)
    with pytest.raises(interruption):
        flow.throw(bide.StoreError("down")) if is_down else flow.send(None)


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_what_interrupts_a_look_into_a_body_gives_the_key_and_the_connection_back(
    interruption: type[BaseException],
) -> None:
    flow = remote_flow(clock())
    response = Response(200, NO_ERROR)
    assert flow.send(response) == Look(response)
    assert isinstance(flow.throw(interruption()), Ask)
    # Nobody waits for the rest of a body when the task was cancelled.
    assert flow.send(None) == Discard(response, drains=interruption is ZeroDivisionError)
    with pytest.raises(interruption):
        flow.send(None)


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_what_interrupts_the_limiters_lesson_gives_the_connection_back(
    interruption: type[BaseException],
) -> None:
    flow = remote_flow(clock())
    response = Response(200, NO_ERROR)
    flow.send(response)
    assert isinstance(flow.send(NO_ERROR), Ask)
    assert flow.throw(interruption()) == Discard(response, drains=interruption is ZeroDivisionError)
    with pytest.raises(interruption):
        flow.send(None)


def test_a_flow_that_is_thrown_away_asks_for_nothing_more() -> None:
    remote_flow(clock()).close()
    flow = remote_flow(clock())
    flow.send(Response(200, NO_ERROR))
    flow.close()


def test_nobody_waits_longer_for_the_first_reply_of_a_key_than_for_anything_else() -> None:
    time = clock()
    driver = paced(time, "1200/minute", max_wait=5.0)
    first = driver.flow(GET)
    next(first)
    done, verdict = play(driver.flow(GET), [], time)
    assert sum(step for step in done if isinstance(step, float)) == pytest.approx(5.0)
    assert verdict.decision.action is bide.Action.DEFER
    assert "no reply yet" in verdict.decision.advice
    first.close()


def test_a_request_that_is_a_part_of_a_first_one_does_not_wait_for_its_reply() -> None:
    """A generator of the body, or a middleware, asks the same API for what it needs."""
    time = clock()
    driver = paced(time, "1200/minute")
    parts: list[Verdict] = []

    def send(_: int) -> object:
        done, verdict = play(driver.flow(GET), [bide.Reply(200, {})], time)
        assert done == [Send(1)]
        parts.append(verdict)
        return bide.Reply(200, fields(1199, START_AT + 60))

    sleeps: list[float] = []
    verdict = drive(driver.flow(GET), send, sleeps.append, lambda *_: None, lambda _: None)
    assert [part.decision.action for part in (*parts, verdict)] == [bide.Action.PROCESS] * 2
    assert sleeps == []
    # With the end of the sending that is over: who begins now waits as anybody.
    limiter = driver.lane_of(GET.host).limiter
    assert limiter is not None
    limiter.reset(driver.key_of(GET))
    first = driver.flow(GET)
    assert isinstance(next(first), Send)
    assert isinstance(next(driver.flow(GET)), Sleep)
    first.close()
