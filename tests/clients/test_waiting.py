"""What a caller can do while a client waits: cancel it, close it, stream, let other tasks run, time it out.

Waits here are real: a server asks for a minute, and the test is over as soon as the wait has been ended. Only
one thing is ever waited for: that the client has begun to wait, which ``on_wait`` tells.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import anyio
import httpx
import httpx2
import pytest
import requests
import urllib3

import bide
from bide.testing import FakeClock, ScriptedServer, answer_bytes

MINUTE = answer_bytes(503, {"Retry-After": "60"}, b"down")
BACKENDS = ["asyncio", "trio"]
SOON_SECONDS = 10.0
"""Far less than what the server asks for, far more than a slow machine needs."""


def httpx_case(on_wait: Callable[[object], object]) -> tuple[Callable[[str], object], Callable[[], object]]:
    client = httpx.Client(transport=bide.httpx.Transport(bide.CLEVER, on_wait=on_wait))
    return client.get, client.close


def httpx2_case(on_wait: Callable[[object], object]) -> tuple[Callable[[str], object], Callable[[], object]]:
    client = httpx2.Client(transport=bide.httpx.Transport(bide.CLEVER, on_wait=on_wait))
    return client.get, client.close


def requests_case(
    on_wait: Callable[[object], object],
) -> tuple[Callable[[str], object], Callable[[], object]]:
    session = bide.requests.mount(requests.Session(), bide.CLEVER, on_wait=on_wait)
    session.trust_env = False
    return session.get, session.close


def urllib3_case(on_wait: Callable[[object], object]) -> tuple[Callable[[str], object], Callable[[], object]]:
    manager = bide.urllib3.PoolManager(bide.CLEVER, on_wait=on_wait)
    return lambda url: manager.request("GET", url), manager.clear


def urllib_case(on_wait: Callable[[object], object]) -> tuple[Callable[[str], object], Callable[[], object]]:
    handler = bide.urllib.Handler(bide.CLEVER, on_wait=on_wait)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)
    return opener.open, handler.close


CASES = [httpx_case, httpx2_case, requests_case, urllib3_case, urllib_case]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.removesuffix("_case"))
def test_closing_a_client_ends_its_waits_at_once(case: Any) -> None:
    waits = threading.Event()
    ended: list[BaseException] = []
    get, close = case(lambda _: waits.set())

    def work(url: str) -> None:
        try:
            get(url)
        except BaseException as error:  # a thread's failure is the test's
            ended.append(error)

    began = time.monotonic()
    with ScriptedServer([MINUTE]) as server:
        thread = threading.Thread(target=work, args=(server.url,))
        thread.start()
        assert waits.wait(SOON_SECONDS)
        close()
        thread.join()
        assert len(server.requests) == 1
    assert time.monotonic() - began < SOON_SECONDS
    assert [type(error).__mro__[1] for error in ended] == [bide.Deferred]
    assert "closed" in str(ended[0])
    gc.collect()


def test_a_session_that_was_closed_can_be_used_again_as_requests_lets_it() -> None:
    with ScriptedServer([answer_bytes(503), answer_bytes(200)]) as server:
        clock = FakeClock()
        session = bide.requests.mount(requests.Session(), bide.CLEVER, clock=clock, sleep=clock.sleep)
        session.close()
        assert session.get(server.url).status_code == 200
        session.close()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
def test_closing_an_asynchronous_client_ends_its_waits_at_once(library: Any, backend: str) -> None:
    async def scenario(url: str) -> BaseException | None:
        waits = anyio.Event()
        ended: list[BaseException] = []
        transport = bide.httpx.AsyncTransport(bide.CLEVER, on_wait=lambda _: waits.set())
        client = library.AsyncClient(transport=transport)

        async def work() -> None:
            try:
                await client.get(url)
            except bide.Deferred as error:
                ended.append(error)

        with anyio.fail_after(SOON_SECONDS):
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await waits.wait()
                await client.aclose()
        return ended[0]

    with ScriptedServer([MINUTE]) as server:
        error = anyio.run(scenario, server.url, backend=backend)
        assert len(server.requests) == 1
    assert isinstance(error, library.HTTPError)
    assert "closed" in str(error)


def test_closing_an_aiohttp_session_ends_its_waits() -> None:
    async def scenario(url: str) -> None:
        waits = asyncio.Event()
        middleware = bide.aiohttp.middleware(bide.CLEVER, on_wait=lambda _: waits.set())
        session = aiohttp.ClientSession(middlewares=[middleware])
        request = asyncio.ensure_future(session.get(url).__aenter__())
        await waits.wait()
        await session.close()
        with pytest.raises(aiohttp.ClientConnectionError, match="closed"):
            await asyncio.wait_for(request, SOON_SECONDS)

    with ScriptedServer([MINUTE]) as server:
        asyncio.run(scenario(server.url))
        assert len(server.requests) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cancelled_request_ends_at_once_and_leaves_the_key_free(backend: str) -> None:
    """It is the first of its key: were its probe not closed, the second would wait for it."""
    limiter = bide.Limiter("100/minute")

    async def scenario(url: str) -> int:
        sent = anyio.Event()
        transport = bide.httpx.AsyncTransport(bide.HTTP, limiter=limiter)

        async def tell(_: httpx.Request) -> None:
            sent.set()

        async with httpx.AsyncClient(transport=transport, event_hooks={"request": [tell]}) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(client.get, url)
                await sent.wait()
                while not server.requests:
                    await anyio.sleep(0.01)
                group.cancel_scope.cancel()
            with anyio.fail_after(SOON_SECONDS):
                return (await client.get(url)).status_code

    with ScriptedServer([b"", answer_bytes(200)]) as server:
        assert anyio.run(scenario, server.url, backend=backend) == 200
        # The connection of the cancelled one is not used again: its answer might still come.
        assert (len(server.requests), server.connections) == (2, 2)


def test_a_cancelled_aiohttp_request_ends_at_once_and_leaves_the_key_free() -> None:
    limiter = bide.Limiter("100/minute")

    async def scenario(url: str) -> int:
        middleware = bide.aiohttp.middleware(bide.HTTP, limiter=limiter)
        async with aiohttp.ClientSession(middlewares=[middleware]) as session:
            request = asyncio.ensure_future(session.get(url).__aenter__())
            while not server.requests:
                await asyncio.sleep(0.01)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            async with asyncio.timeout(SOON_SECONDS), session.get(url) as response:
                return response.status

    with ScriptedServer([b"", answer_bytes(200)]) as server:
        assert asyncio.run(scenario(server.url)) == 200
        assert (len(server.requests), server.connections) == (2, 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_wait_is_cancelled_by_the_callers_own_time_out(backend: str) -> None:
    async def scenario(url: str) -> None:
        async with httpx.AsyncClient(transport=bide.httpx.AsyncTransport(bide.CLEVER)) as client:
            with pytest.raises(TimeoutError), anyio.fail_after(1.0):
                await client.get(url)

    began = time.monotonic()
    with ScriptedServer([MINUTE]) as server:
        anyio.run(scenario, server.url, backend=backend)
        assert len(server.requests) == 1
    assert time.monotonic() - began < SOON_SECONDS


@pytest.mark.parametrize("answer", [MINUTE, b""], ids=["while waiting", "while sending"])
def test_a_total_time_out_of_aiohttp_includes_the_waits(answer: bytes) -> None:
    heard: list[bide.Decision] = []

    async def scenario(url: str) -> None:
        middleware = bide.aiohttp.middleware(bide.CLEVER, on_decision=heard.append)
        timeout = aiohttp.ClientTimeout(total=1.0)
        async with aiohttp.ClientSession(middlewares=[middleware], timeout=timeout) as session:
            with pytest.raises(TimeoutError) as caught:
                await session.get(url)
            assert not isinstance(caught.value, bide.Deferred)

    began = time.monotonic()
    with ScriptedServer([answer]) as server:
        asyncio.run(scenario(server.url))
        assert len(server.requests) == 1
    assert time.monotonic() - began < SOON_SECONDS
    assert [decision.action for decision in heard] == ([bide.Action.RETRY] if answer else [])


def test_a_total_time_out_of_urllib3_includes_the_waits() -> None:
    began = time.monotonic()
    with ScriptedServer([MINUTE]) as server, bide.urllib3.PoolManager(bide.CLEVER) as manager:
        with pytest.raises(bide.Deferred, match="time-out") as caught:
            manager.request("GET", server.url, timeout=urllib3.Timeout(total=5.0))
        assert len(server.requests) == 1
    assert time.monotonic() - began < 5.0
    assert caught.value.decision.resume_at is not None
    assert caught.value.decision.resume_at > time.time() + 30


@pytest.mark.parametrize("backend", BACKENDS)
def test_waiting_does_not_block_the_event_loop_and_holds_no_connection(backend: str) -> None:
    """While one request waits a minute, another one goes through the same one-connection pool."""

    async def scenario(url: str) -> int:
        waits = anyio.Event()
        inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1))
        transport = bide.httpx.AsyncTransport(
            bide.HTTP, inner=inner, limiter=False, on_wait=lambda _: waits.set()
        )
        async with httpx.AsyncClient(transport=transport) as client, anyio.create_task_group() as group:
            with anyio.fail_after(SOON_SECONDS):
                group.start_soon(client.get, url)
                await waits.wait()
                status = (await client.get(url)).status_code
                group.cancel_scope.cancel()
        return status

    with ScriptedServer([MINUTE, answer_bytes(200)]) as server:
        assert anyio.run(scenario, server.url, backend=backend) == 200
        assert (len(server.requests), server.connections) == (2, 1)


def test_waiting_does_not_block_the_event_loop_and_holds_no_connection_of_aiohttp() -> None:
    async def scenario(url: str) -> int:
        waits = asyncio.Event()
        middleware = bide.aiohttp.middleware(bide.HTTP, limiter=False, on_wait=lambda _: waits.set())
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(middlewares=[middleware], connector=connector) as session:
            waiting = asyncio.ensure_future(session.get(url).__aenter__())
            async with asyncio.timeout(SOON_SECONDS):
                await waits.wait()
                async with session.get(url) as response:
                    status = response.status
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        return status

    with ScriptedServer([MINUTE, answer_bytes(200)]) as server:
        assert asyncio.run(scenario(server.url)) == 200
        assert (len(server.requests), server.connections) == (2, 1)


LARGE = answer_bytes(200, body=b"a" * 1_000_000)


def test_a_streamed_response_is_left_to_its_caller_with_httpx() -> None:
    clock = FakeClock()
    transport = bide.httpx.Transport(bide.CLEVER, clock=clock, sleep=clock.sleep)
    with ScriptedServer([answer_bytes(503), LARGE]) as server, httpx.Client(transport=transport) as client:
        with client.stream("GET", server.url) as response:
            assert not response.is_stream_consumed
            assert sum(map(len, response.iter_bytes())) == 1_000_000
        assert server.connections == 1


def test_a_streamed_response_is_left_to_its_caller_with_requests() -> None:
    clock = FakeClock()
    with ScriptedServer([answer_bytes(503), LARGE]) as server, requests.Session() as session:
        bide.requests.mount(session, bide.CLEVER, clock=clock, sleep=clock.sleep)
        with session.get(server.url, stream=True) as response:
            assert response.raw.tell() == 0
            assert sum(map(len, response.iter_content(4096))) == 1_000_000
        assert server.connections == 1


def test_a_streamed_response_is_left_to_its_caller_with_urllib3() -> None:
    clock = FakeClock()
    with (
        ScriptedServer(
            [answer_bytes(503, body=b"x" * 200_000), answer_bytes(503, body=b"x"), LARGE]
        ) as server,
        bide.urllib3.PoolManager(bide.CLEVER, clock=clock, sleep=clock.sleep) as manager,
    ):
        response = manager.request("GET", server.url, preload_content=False)
        assert response.tell() == 0
        assert sum(map(len, response.stream(4096))) == 1_000_000
        response.release_conn()
        assert (len(server.requests), server.connections) == (3, 2)


def test_a_streamed_response_is_left_to_its_caller_with_aiohttp() -> None:
    clock = FakeClock()

    async def scenario(url: str) -> int:
        middleware = bide.aiohttp.middleware(bide.CLEVER, clock=clock, sleep=clock.sleep_async)
        async with aiohttp.ClientSession(middlewares=[middleware]) as session, session.get(url) as response:
            return sum([len(chunk) async for chunk in response.content.iter_chunked(4096)])

    with ScriptedServer([answer_bytes(503), LARGE]) as server:
        assert asyncio.run(scenario(server.url)) == 1_000_000
        assert server.connections == 1


def test_aiohttp_does_not_begin_a_deferred_request_once_more_by_itself() -> None:
    """It answers some failures with a second try through all middlewares: six tries each time."""
    clock = FakeClock()

    async def scenario(url: str) -> None:
        middleware = bide.aiohttp.middleware(bide.CLEVER, clock=clock, sleep=clock.sleep_async)
        async with aiohttp.ClientSession(middlewares=[middleware]) as session:
            for _ in range(2):
                with pytest.raises(aiohttp.ServerDisconnectedError) as caught:
                    await session.get(url)
                assert isinstance(caught.value, bide.Deferred)

    with ScriptedServer([None]) as server:
        asyncio.run(scenario(server.url))
        assert len(server.requests) == 12


def test_aiohttp_sends_the_fields_and_files_of_a_form_again() -> None:
    clock = FakeClock()

    async def scenario(url: str) -> int:
        form = aiohttp.FormData()
        form.add_field("name", "value")
        form.add_field("file", b"content", filename="a.txt")
        middleware = bide.aiohttp.middleware(bide.CLEVER, clock=clock, sleep=clock.sleep_async)
        async with (
            aiohttp.ClientSession(middlewares=[middleware]) as session,
            session.put(url, data=form) as response,
        ):
            return response.status

    with ScriptedServer([answer_bytes(503), answer_bytes(200)]) as server:
        assert asyncio.run(scenario(server.url)) == 200
        first, second = server.requests
    assert first.body == second.body
    assert b"content" in first.body


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.removesuffix("_case"))
def test_a_deferred_reaches_another_process(case: Any) -> None:
    closing: list[Callable[[], object]] = []
    get, close = case(lambda _: closing[0]())
    closing.append(close)
    with ScriptedServer([MINUTE]) as server, pytest.raises(bide.Deferred) as caught:
        get(server.url)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is bide.Deferred
    assert copy.decision == caught.value.decision


def test_a_session_of_requests_is_pickled_with_its_adapter() -> None:
    session = bide.requests.mount(requests.Session(), bide.CLEVER, max_wait=5.0)
    copy = pickle.loads(pickle.dumps(session))
    with ScriptedServer([answer_bytes(503, {"Retry-After": "7"})]) as server, pytest.raises(bide.Deferred):
        copy.get(server.url)
    copy.close()
    session.close()


def test_a_middleware_of_aiohttp_that_is_named_as_inner_sees_every_try() -> None:
    signed: list[str] = []

    async def sign(
        request: aiohttp.ClientRequest,
        handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]],
    ) -> aiohttp.ClientResponse:
        signed.append(str(len(signed) + 1))
        request.headers["X-Signature"] = signed[-1]
        return await handler(request)

    async def get(url: str) -> int:
        paced = bide.aiohttp.middleware(bide.CLEVER, limiter=False, inner=sign, sleep=asyncio.sleep)
        async with aiohttp.ClientSession(middlewares=[paced]) as session, session.get(url) as response:
            return response.status

    with ScriptedServer([answer_bytes(429, {"Retry-After": "0"}), answer_bytes(200)]) as server:
        assert asyncio.run(get(server.url)) == 200
        assert [dict(request.fields)["x-signature"] for request in server.requests] == ["1", "2"]


def test_a_handler_of_urllib_that_is_named_as_inner_does_the_sending() -> None:
    class Signing(urllib.request.HTTPHandler):
        tries = 0

        def http_open(self, req: urllib.request.Request) -> Any:
            self.tries += 1
            req.add_unredirected_header("X-Signature", str(self.tries))
            return super().http_open(req)

    handler = bide.urllib.Handler(bide.CLEVER, limiter=False, inner=Signing(), sleep=lambda _: None)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)
    with ScriptedServer([answer_bytes(503), answer_bytes(200)]) as server:
        with opener.open(server.url, timeout=5.0) as response:
            assert response.status == 200
        assert [dict(request.fields)["x-signature"] for request in server.requests] == ["1", "2"]
