"""The httpx transports against a real socket server: what goes over the wire, and what the caller gets."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator

import anyio
import httpx
import pytest

import bide
from bide.testing import FakeClock, ScriptedServer, answer_bytes

Call = Callable[..., httpx.Response]
"""``call(server, method, path, transport options, **request arguments)``: one request, sync or async."""


def call_sync(
    server: ScriptedServer, method: str = "GET", *, transport: dict[str, object], **arguments: object
) -> httpx.Response:
    clock = FakeClock()
    options = {"clock": clock, "sleep": clock.sleep, "limiter": False, **transport}
    with httpx.Client(transport=bide.httpx.Transport(bide.CLEVER, **options)) as client:  # type: ignore[arg-type]  # a table's row
        return client.request(method, f"{server.url}/v3.0/students", **arguments)  # type: ignore[arg-type]  # a table's row


def call_async(
    server: ScriptedServer, method: str = "GET", *, transport: dict[str, object], **arguments: object
) -> httpx.Response:
    clock = FakeClock()
    options = {"clock": clock, "sleep": clock.sleep_async, "limiter": False, **transport}

    async def call() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=bide.httpx.AsyncTransport(bide.CLEVER, **options)  # type: ignore[arg-type]  # a table's row
        ) as client:
            return await client.request(method, f"{server.url}/v3.0/students", **arguments)  # type: ignore[arg-type]  # a table's row

    return anyio.run(call)


@pytest.fixture(params=[call_sync, call_async], ids=["Transport", "AsyncTransport"])
def call(request: pytest.FixtureRequest) -> Call:
    return request.param  # type: ignore[no-any-return]  # one of the two above


def test_the_final_response_carries_its_decision(call: Call) -> None:
    with ScriptedServer([answer_bytes(200, body=b"[]")]) as server:
        response = call(server, transport={})
    assert response.json() == []
    assert response.extensions["bide"].action is bide.Action.PROCESS


def test_a_failing_api_is_asked_again_over_the_same_connection(call: Call) -> None:
    answers = [
        answer_bytes(503, body=b"down for a moment"),
        answer_bytes(500, body=b"x" * 200_000),
        answer_bytes(502),
        answer_bytes(200, body=b"[]"),
    ]
    with ScriptedServer(answers) as server:
        response = call(server, transport={})
    assert response.status_code == 200
    assert len(server.requests) == 4
    # The one body that is too large to be read for nothing costs its connection.
    assert server.connections == 2


def test_a_failure_for_good_is_returned_with_the_advice(call: Call) -> None:
    with ScriptedServer([answer_bytes(404)]) as server:
        response = call(server, transport={})
    assert response.status_code == 404
    assert response.extensions["bide"].action is bide.Action.FAIL
    assert "token" in response.extensions["bide"].advice
    assert len(server.requests) == 1


def test_an_outage_is_deferred_after_five_retries(call: Call) -> None:
    with ScriptedServer([answer_bytes(503, body=b"the status page knows more")]) as server:
        with pytest.raises(bide.Deferred) as caught:
            call(server, transport={})
        assert len(server.requests) == 6
        assert server.connections == 1
    error = caught.value
    assert isinstance(error, httpx.HTTPError)
    assert error.request.method == "GET"
    assert isinstance(error.response, httpx.Response)
    assert error.response.text == "the status page knows more"
    assert error.decision.resume_at is not None


def test_an_outage_can_be_returned_instead(call: Call) -> None:
    with ScriptedServer([answer_bytes(503, body=b"down")]) as server:
        response = call(server, transport={"on_defer": "return"})
    assert response.status_code == 503
    assert response.text == "down"
    assert response.extensions["bide"].action is bide.Action.DEFER


def test_a_dropped_connection_is_tried_again(call: Call) -> None:
    with ScriptedServer([None, None, answer_bytes(200)]) as server:
        response = call(server, transport={})
    assert response.status_code == 200
    assert server.connections == 3


def test_dropped_connections_without_end_are_deferred_as_the_clients_own_failure(call: Call) -> None:
    with ScriptedServer([None]) as server, pytest.raises(bide.Deferred) as caught:
        call(server, transport={})
    assert isinstance(caught.value, httpx.RemoteProtocolError)
    assert isinstance(caught.value.__cause__, httpx.RemoteProtocolError)


def test_a_post_that_the_server_may_have_acted_on_is_not_sent_twice(call: Call) -> None:
    with ScriptedServer([None]) as server, pytest.raises(httpx.RemoteProtocolError) as caught:
        call(server, "POST", transport={}, content=b"one")
    assert not isinstance(caught.value, bide.Deferred)
    assert len(server.requests) == 1


def test_a_refused_connection_is_tried_again_even_for_a_post(call: Call) -> None:
    with ScriptedServer([answer_bytes(200)]) as server:
        pass
    with pytest.raises(bide.Deferred) as caught:
        call(server, "POST", transport={}, content=b"one")
    assert isinstance(caught.value, httpx.ConnectError)


class OneShot(io.BytesIO):
    """A body like a pipe's: it cannot be brought back to its beginning."""

    def seekable(self) -> bool:
        return False


BODIES: list[tuple[str, Callable[[], dict[str, object]]]] = [
    ("bytes", lambda: {"content": b"body"}),
    ("json", lambda: {"json": {"a": 1}}),
    ("a form", lambda: {"data": {"a": "1"}}),
    ("files from memory", lambda: {"files": {"a": io.BytesIO(b"file")}}),
]


@pytest.mark.parametrize("body", [body for _, body in BODIES], ids=[name for name, _ in BODIES])
def test_a_body_that_can_be_replayed_is_replayed_whole(
    call: Call, body: Callable[[], dict[str, object]]
) -> None:
    with ScriptedServer([answer_bytes(503), answer_bytes(429), answer_bytes(200)]) as server:
        response = call(server, "PUT", transport={}, **body())
    assert response.status_code == 200
    sent = [request.body for request in server.requests]
    assert len(sent) == 3
    assert sent[0]
    assert sent[0] == sent[1] == sent[2]


def test_an_open_file_is_replayed_whole() -> None:
    file = io.BytesIO(b"body")
    with ScriptedServer([answer_bytes(503), answer_bytes(200)]) as server:
        call_sync(server, "PUT", transport={}, content=file)
    assert [request.body for request in server.requests] == [b"body", b"body"]


def one_shot_generator() -> Iterator[bytes]:
    yield b"one"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(one_shot_generator, id="generator"),
        pytest.param(lambda: iter([b"one"]), id="iterator"),
        pytest.param(lambda: OneShot(b"one"), id="pipe"),
    ],
)
def test_a_body_that_is_gone_is_not_sent_again_and_the_decision_says_so(
    content: Callable[[], object],
) -> None:
    with ScriptedServer([answer_bytes(503), answer_bytes(200)]) as server:
        response = call_sync(server, "PUT", transport={}, content=content())
    assert response.status_code == 503
    assert response.extensions["bide"].action is bide.Action.FAIL
    assert "body" in response.extensions["bide"].advice
    assert [request.body for request in server.requests] == [b"one"]


def test_an_async_generator_is_sent_once() -> None:
    async def content() -> object:
        yield b"one"

    with ScriptedServer([answer_bytes(503), answer_bytes(200)]) as server:
        response = call_async(server, "PUT", transport={}, content=content())
    assert response.status_code == 503
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_a_body_is_passed_on(call: Call, status: int) -> None:
    with ScriptedServer([answer_bytes(status)]) as server:
        assert call(server, transport={}).status_code == status


def test_head_is_repeated_like_get(call: Call) -> None:
    with ScriptedServer([answer_bytes(503, head=True), answer_bytes(200, head=True)]) as server:
        assert call(server, "HEAD", transport={}).status_code == 200
    assert server.connections == 1


def test_the_callers_streaming_response_is_not_read_by_the_transport() -> None:
    with ScriptedServer([answer_bytes(503), answer_bytes(200, body=b"a" * 100_000)]) as server:
        clock = FakeClock()
        transport = bide.httpx.Transport(bide.CLEVER, clock=clock, sleep=clock.sleep, limiter=False)
        with httpx.Client(transport=transport) as client, client.stream("GET", server.url) as response:
            assert not response.is_stream_consumed
            assert sum(len(chunk) for chunk in response.iter_bytes()) == 100_000


def test_the_limiter_is_made_of_the_policys_limits_and_paces_each_token() -> None:
    clock = FakeClock()
    policy = bide.CLEVER.replace(limits=("2/minute",))
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.sleep(seconds)

    transport = bide.httpx.Transport(
        policy, clock=clock, sleep=sleep, limiter=bide.Limiter("2/minute", clock=clock)
    )
    with ScriptedServer([answer_bytes(200)]) as server, httpx.Client(transport=transport) as client:
        for token in ("A", "A", "B", "B"):
            client.get(server.url, headers={"Authorization": f"Bearer {token}"})
        assert waits == []
        client.get(server.url, headers={"Authorization": "Bearer A"})
    assert sum(waits) == pytest.approx(60.0, abs=0.1)


def test_cancelling_a_request_that_waits_leaves_the_others_free() -> None:
    clock = FakeClock()
    limiter = bide.Limiter("5/minute", clock=clock)

    async def never(_: float) -> None:
        await anyio.sleep_forever()

    async def scenario(server: ScriptedServer) -> httpx.Response:
        stuck = bide.httpx.AsyncTransport(bide.CLEVER, clock=clock, sleep=never, limiter=limiter)
        free = bide.httpx.AsyncTransport(bide.CLEVER, clock=clock, sleep=clock.sleep_async, limiter=limiter)
        async with httpx.AsyncClient(transport=stuck) as waiting, httpx.AsyncClient(transport=free) as client:
            with anyio.move_on_after(0) as scope:
                await waiting.get(server.url)
            assert scope.cancelled_caught
            return await client.get(server.url)

    with ScriptedServer([answer_bytes(503), answer_bytes(200)]) as server:
        assert anyio.run(scenario, server).status_code == 200


def test_no_secret_reaches_an_error_or_a_repr() -> None:
    with ScriptedServer([answer_bytes(503)]) as server, pytest.raises(bide.Deferred) as caught:
        call_sync(server, transport={}, headers={"Authorization": "Bearer s3cret"})
    assert "s3cret" not in repr(caught.value) + str(caught.value) + repr(caught.value.decision)


def test_what_the_server_saw_is_what_the_client_sent(call: Call) -> None:
    with ScriptedServer([answer_bytes(503), answer_bytes(200)]) as server:
        call(server, "PUT", transport={}, json={"a": 1}, headers={"Authorization": "Bearer T"})
    first, second = server.requests
    assert first == second
    assert first.line == "PUT /v3.0/students HTTP/1.1"
    assert ("authorization", "Bearer T") in first.fields
    assert json.loads(first.body) == {"a": 1}
