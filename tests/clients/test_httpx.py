"""What only httpx has: its ways to give a body, and its response and request on a ``Deferred``."""

from __future__ import annotations

import io
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
