"""The bridges: tenacity's and stamina's own loops, with our answers; and the counters of OpenTelemetry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import httpx
import pytest
import requests
import stamina
import tenacity
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import bide
from bide import _driver
from bide.testing import FakeClock, ScriptedServer, answer_bytes


def retrying(policy: bide.Policy, waits: list[float], **options: Any) -> tenacity.Retrying:
    return tenacity.Retrying(
        retry=bide.tenacity.retry_decision(policy, draw=0.0),
        wait=bide.tenacity.wait_decision(policy, draw=0.0),
        stop=bide.tenacity.stop_decision(policy, draw=0.0),
        sleep=waits.append,
        **options,
    )


def test_tenacity_repeats_what_the_policy_would_and_waits_as_long() -> None:
    waits: list[float] = []
    answers = [answer_bytes(429, {"Retry-After": "7"}), None, answer_bytes(500), answer_bytes(200)]
    with ScriptedServer(answers) as server, httpx.Client() as client:
        response = retrying(bide.CLEVER, waits)(client.get, server.url)
    assert response.status_code == 200
    assert waits == [7.0, 2.0, 4.0]


def test_tenacity_reads_the_response_that_an_exception_carries() -> None:
    waits: list[float] = []

    def get() -> requests.Response:
        response = requests.get(server.url, timeout=5.0)
        response.raise_for_status()
        return response

    with ScriptedServer([answer_bytes(503, {"Retry-After": "3"}), answer_bytes(200)]) as server:
        assert retrying(bide.CLEVER, waits)(get).status_code == 200
    assert waits == [3.0]


def test_tenacity_knows_a_refusal_by_the_body_that_the_client_has_read() -> None:
    waits: list[float] = []
    answers = [answer_bytes(403, body=b"Rate Limit Exceeded"), answer_bytes(403, body=b"not yours")]
    with ScriptedServer(answers) as server:
        last = retrying(bide.policies.load("canvas"), waits)(requests.get, server.url, timeout=5.0)
        assert (last.content, len(server.requests)) == (b"not yours", 2)


def test_tenacity_hands_out_what_is_failed_for_good() -> None:
    waits: list[float] = []
    with ScriptedServer([answer_bytes(404)]) as server, httpx.Client() as client:
        assert retrying(bide.CLEVER, waits)(client.get, server.url).status_code == 404
        assert len(server.requests) == 1


def test_tenacity_gives_up_when_the_policy_would() -> None:
    waits: list[float] = []
    with ScriptedServer([answer_bytes(503)]) as server, httpx.Client() as client:
        with pytest.raises(tenacity.RetryError) as caught:
            retrying(bide.CLEVER, waits)(client.get, server.url)
        assert len(server.requests) == 6
    assert caught.value.last_attempt.result().status_code == 503


def test_tenacity_goes_on_with_results_and_exceptions_that_are_no_clients() -> None:
    waits: list[float] = []
    assert retrying(bide.CLEVER, waits)(lambda: {"status": "ok"}) == {"status": "ok"}

    def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        retrying(bide.CLEVER, waits)(fail)
    assert waits == []


def test_tenacity_repeats_a_coroutine_as_well() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def get(session: aiohttp.ClientSession) -> int:
        async with session.get(server.url) as response:
            return response.status

    async def scenario() -> int:
        again = tenacity.AsyncRetrying(
            retry=bide.tenacity.retry_decision(bide.CLEVER, draw=0.0),
            wait=bide.tenacity.wait_decision(bide.CLEVER, draw=0.0),
            stop=bide.tenacity.stop_decision(bide.CLEVER, draw=0.0),
            sleep=sleep,
        )
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            status: int = await again(get, session)
            return status

    with ScriptedServer([answer_bytes(429, {"Retry-After": "7"}), None, answer_bytes(200)]) as server:
        assert asyncio.run(scenario()) == 200
    # aiohttp itself tries once more after a connection that was closed without a word.
    assert waits == [7.0]


def test_tenacitys_own_strategies_can_be_joined() -> None:
    stop = bide.tenacity.stop_decision(bide.CLEVER) | tenacity.stop_after_attempt(2)
    again = bide.tenacity.retry_decision(bide.CLEVER) | tenacity.retry_if_exception_type(KeyError)
    loop = tenacity.Retrying(stop=stop, retry=again, sleep=lambda _: None, reraise=True)
    with pytest.raises(KeyError):
        loop(dict[str, int]().__getitem__, "absent")
    assert loop.statistics["attempt_number"] == 2


def test_stamina_waits_as_long_as_the_server_says_and_counts_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("stamina._core._smart_sleep", waits.append, raising=False)
    monkeypatch.setattr("time.sleep", waits.append)

    @stamina.retry(on=bide.stamina.hook(bide.CLEVER, draw=0.0), attempts=3, timeout=None)
    def get() -> int:
        return httpx.get(server.url).raise_for_status().status_code

    with ScriptedServer(
        [answer_bytes(429, {"Retry-After": "7"}), answer_bytes(503), answer_bytes(200)]
    ) as server:
        assert get() == 200
    assert waits[0] == 7.0
    assert len(waits) == 2


def test_stamina_repeats_a_coroutine_as_well() -> None:
    @stamina.retry(on=bide.stamina.hook(bide.CLEVER, draw=0.0), attempts=3, timeout=None)
    async def get() -> int:
        async with httpx.AsyncClient() as client:
            return (await client.get(server.url)).raise_for_status().status_code

    with ScriptedServer([answer_bytes(429, {"Retry-After": "0"}), answer_bytes(200)]) as server:
        assert asyncio.run(get()) == 200
        assert len(server.requests) == 2


@pytest.mark.parametrize("status", [400, 404, 501])
def test_stamina_does_not_repeat_what_cannot_succeed(status: int) -> None:
    @stamina.retry(on=bide.stamina.hook(bide.CLEVER), attempts=3)
    def get() -> None:
        httpx.get(server.url).raise_for_status()

    with ScriptedServer([answer_bytes(status)]) as server:
        with pytest.raises(httpx.HTTPStatusError):
            get()
        assert len(server.requests) == 1


def test_the_hook_says_no_to_exceptions_that_are_no_clients_and_to_a_deferred() -> None:
    hook = bide.stamina.hook(bide.CLEVER)
    assert hook(KeyError()) is False
    assert hook(bide.Deferred(bide.decide(bide.Reply(200, {})))) is False


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    before = list(_driver.observers)
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    bide.otel.instrument(provider)
    yield reader
    _driver.observers[:] = before
    provider.shutdown()


def points(reader: InMemoryMetricReader) -> dict[str, list[tuple[dict[str, Any], float]]]:
    data: Any = reader.get_metrics_data()
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    return {
        metric.name: [(dict(point.attributes), point.value) for point in metric.data.data_points]
        for metric in metrics
    }


def test_decisions_waits_and_refusals_are_counted_without_a_key(
    client: Any, reader: InMemoryMetricReader
) -> None:
    clock = FakeClock()
    bearer = {"Authorization": "Bearer s3cret"}
    answers = [answer_bytes(429, {"Retry-After": "7"}), answer_bytes(500), answer_bytes(200)]
    with ScriptedServer(answers) as server:
        client(server.url, clock=clock, headers=bearer)
    counted = points(reader)
    assert sorted(counted) == ["bide.client.decisions", "bide.client.refusals", "bide.client.wait"]
    decisions = {
        (at["bide.action"], at["bide.reason"]): value for at, value in counted["bide.client.decisions"]
    }
    assert decisions == {("retry", "rate_limited"): 1, ("retry", "server_error"): 1, ("process", "ok"): 1}
    assert counted["bide.client.refusals"] == [({}, 1)]
    [(attributes, seconds)] = counted["bide.client.wait"]
    assert attributes == {"bide.cause": "retry"}
    assert seconds == pytest.approx(sum(clock.slept))
    assert "s3cret" not in repr(counted)
    assert "127.0.0.1" not in repr(counted)


def test_instrumenting_twice_counts_once(client: Any, reader: InMemoryMetricReader) -> None:
    bide.otel.instrument(MeterProvider([again := InMemoryMetricReader()]))
    with ScriptedServer([answer_bytes(200)]) as server:
        client(server.url)
    assert points(again)["bide.client.decisions"][0][1] == 1
    assert reader.get_metrics_data() is None
