"""What a caller can do while a client waits: cancel it, close it, stream, let other tasks run, time it out.

Waits here are real: a server asks for a minute, and the test is over as soon as the wait has been ended. Only
one thing is ever waited for: that the client has begun to wait, which ``on_wait`` tells.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
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
        with pytest.raises(aiohttp.ClientConnectionError, match="closed") as caught:
            await asyncio.wait_for(request, SOON_SECONDS)
        assert isinstance(caught.value, bide.Deferred)

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


STALLED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n" + b'{"items": ['
"""A body that a policy may ask for, and that does not come to its end."""

READS_BODIES = bide.policies.load("stackexchange")
WHOLE = answer_bytes(200, {"Content-Type": "application/json"}, b"{}")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
def test_cancelling_while_a_body_is_looked_into_leaves_the_key_and_the_only_connection_free(
    library: Any, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = bide.Limiter("100/minute")
    look = bide.httpx._look_async

    async def scenario(url: str) -> int:
        looks = anyio.Event()

        async def witness(response: Any) -> bytes | None:
            looks.set()
            return await look(response)

        monkeypatch.setattr(bide.httpx, "_look_async", witness)
        inner = library.AsyncHTTPTransport(verify=False, limits=library.Limits(max_connections=1))
        transport = bide.httpx.AsyncTransport(READS_BODIES, inner=inner, limiter=limiter)
        async with library.AsyncClient(transport=transport) as client:
            with anyio.fail_after(SOON_SECONDS):
                async with anyio.create_task_group() as group:
                    group.start_soon(client.get, url)
                    await looks.wait()
                    group.cancel_scope.cancel()
                return int((await client.get(url)).status_code)

    with ScriptedServer([STALLED, WHOLE]) as server:
        assert anyio.run(scenario, server.url, backend=backend) == 200
        assert (len(server.requests), server.connections) == (2, 2)


def test_cancelling_aiohttp_while_a_body_is_looked_into_leaves_the_key_and_the_only_connection_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limiter = bide.Limiter("100/minute")
    look = bide.aiohttp._look

    async def scenario(url: str) -> int:
        looks = asyncio.Event()

        async def witness(response: Any) -> bytes | None:
            looks.set()
            return await look(response)

        monkeypatch.setattr(bide.aiohttp, "_look", witness)
        middleware = bide.aiohttp.middleware(READS_BODIES, limiter=limiter)
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(middlewares=[middleware], connector=connector) as session:
            request = asyncio.ensure_future(session.get(url).__aenter__())
            async with asyncio.timeout(SOON_SECONDS):
                await looks.wait()
                request.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await request
                async with session.get(url) as response:
                    return response.status

    with ScriptedServer([STALLED, WHOLE]) as server:
        assert asyncio.run(scenario(server.url)) == 200
        assert (len(server.requests), server.connections) == (2, 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_response_of_any_transport_is_closed_to_the_end_when_its_request_is_cancelled(backend: str) -> None:
    """Closing may take a moment, in a task that may not wait any more."""
    closed: list[bool] = []

    class Stalled(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            looks.set()
            await anyio.sleep_forever()
            yield b""

        async def aclose(self) -> None:
            await anyio.sleep(0)
            closed.append(True)

    class Inner(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, headers={"Content-Type": "application/json"}, stream=Stalled())

    async def scenario() -> None:
        nonlocal looks
        looks = anyio.Event()
        transport = bide.httpx.AsyncTransport(READS_BODIES, inner=Inner(), limiter=False)
        async with httpx.AsyncClient(transport=transport) as client, anyio.create_task_group() as group:
            group.start_soon(client.get, "http://api.example/")
            await looks.wait()
            group.cancel_scope.cancel()

    looks: anyio.Event
    anyio.run(scenario, backend=backend)
    assert closed == [True]


def test_what_aiohttps_middleware_tells_a_store_is_told_to_the_end_in_a_cancelled_task() -> None:
    told: list[bool] = []

    async def scenario() -> None:
        begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def tell() -> None:
            begun.set()
            await go_on.wait()
            told.append(True)
            ended.set()

        task = asyncio.ensure_future(bide.aiohttp._unbroken(tell()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        async with asyncio.timeout(SOON_SECONDS):
            await ended.wait()

    asyncio.run(scenario())
    assert told == [True]


WAITS_UNTIL_INTERRUPTED = """
import signal, sys, urllib.request
import bide, httpx, requests

def tell(_):
    print("waits", flush=True)

url, transport = sys.argv[1], bide.httpx.Transport(bide.CLEVER, on_wait=tell)
session = bide.requests.mount(requests.Session(), bide.CLEVER, on_wait=tell)
manager = bide.urllib3.PoolManager(bide.CLEVER, on_wait=tell)
handler = bide.urllib.Handler(bide.CLEVER, on_wait=tell)
ways = {
    "httpx": lambda: httpx.Client(transport=transport).get(url),
    "requests": lambda: session.get(url),
    "urllib3": lambda: manager.request("GET", url),
    "urllib": lambda: urllib.request.build_opener(handler).open(url),
}
signal.signal(signal.SIGINT, signal.default_int_handler)
for name, get in ways.items():
    try:
        get()
    except KeyboardInterrupt:
        print(name, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no signal for another process there")
def test_an_interrupt_from_the_keyboard_ends_a_wait() -> None:
    with ScriptedServer([MINUTE]) as server:
        command = [sys.executable, "-c", WAITS_UNTIL_INTERRUPTED, server.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            told: list[str] = []
            for line in program.stdout or ():
                told.append(line.strip())
                if told[-1] == "waits":
                    program.send_signal(signal.SIGINT)
        assert program.returncode == 0
        assert len(server.requests) == 4
    assert told == ["waits", "httpx", "waits", "requests", "waits", "urllib3", "waits", "urllib"]


def test_threads_that_begin_with_a_client_at_once_make_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[httpx.HTTPTransport] = []

    class Counted(httpx.HTTPTransport):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(httpx, "HTTPTransport", Counted)
    with (
        ScriptedServer([answer_bytes(200)]) as server,
        httpx.Client(transport=bide.httpx.Transport(bide.HTTP, limiter=False)) as client,
    ):
        threads = [threading.Thread(target=client.get, args=(server.url,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.requests) == 8
    assert len(made) == 1


def test_a_middleware_of_aiohttp_that_asks_the_same_api_does_not_wait_for_the_request_that_it_is_a_part_of() -> (
    None
):
    """It is the first one of its key, which others wait for."""

    async def scenario(url: str) -> int:
        async def sign(
            request: aiohttp.ClientRequest,
            handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]],
        ) -> aiohttp.ClientResponse:
            if request.url.path != "/token":
                async with request.session.get(url + "/token") as token:
                    request.headers["Authorization"] = f"Bearer {await token.text()}"
            return await handler(request)

        paced = bide.aiohttp.middleware(bide.CLEVER)
        async with (
            asyncio.timeout(SOON_SECONDS),
            aiohttp.ClientSession(middlewares=[paced, sign]) as session,
            session.get(url) as response,
        ):
            return response.status

    with ScriptedServer([answer_bytes(200, body=b"T")]) as server:
        assert asyncio.run(scenario(server.url)) == 200
        assert [request.line.split()[1] for request in server.requests] == ["/token", "/"]
        assert dict(server.requests[1].fields)["authorization"] == "Bearer T"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_body_that_asks_the_same_api_does_not_wait_for_the_request_that_it_is_a_part_of(
    backend: str,
) -> None:
    async def scenario(url: str) -> int:
        async def body() -> AsyncIterator[bytes]:
            yield (await client.get(url + "/source")).content

        async with httpx.AsyncClient(transport=bide.httpx.AsyncTransport(bide.CLEVER)) as client:
            with anyio.fail_after(SOON_SECONDS):
                return (await client.put(url, content=body())).status_code

    with ScriptedServer([answer_bytes(200, body=b"content")]) as server:
        assert anyio.run(scenario, server.url, backend=backend) == 200
        assert [request.body for request in server.requests] == [b"", b"content"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_wait_is_cancelled_by_the_callers_own_time_out(backend: str) -> None:
    async def scenario(url: str) -> None:
        def expire(_: object) -> None:
            scope.deadline = anyio.current_time()

        transport = bide.httpx.AsyncTransport(bide.CLEVER, on_wait=expire)
        async with httpx.AsyncClient(transport=transport) as client:
            with pytest.raises(TimeoutError), anyio.fail_after(SOON_SECONDS) as scope:
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


def totals_of_urllib3(url: str, own: bool, clock: FakeClock) -> list[float]:
    """The time-outs of its tries, given with the request or as the pool's own."""
    totals: list[float] = []

    class Pool(urllib3.HTTPConnectionPool):
        def urlopen(self, *arguments: Any, **named: Any) -> Any:
            totals.append(arguments[7].total)
            return super().urlopen(*arguments, **named)

    minute = urllib3.Timeout(total=60.0)
    inner = urllib3.PoolManager(timeout=minute) if own else urllib3.PoolManager()
    inner.pool_classes_by_scheme = {"http": Pool, "https": urllib3.HTTPSConnectionPool}
    given = {} if own else {"timeout": minute}
    with bide.urllib3.PoolManager(bide.CLEVER, inner=inner, clock=clock, sleep=clock.sleep) as manager:
        manager.request("GET", url, **given)
    return totals


def totals_of_requests(url: str, clock: FakeClock) -> list[float]:
    totals: list[float] = []

    class Inner(requests.adapters.HTTPAdapter):
        def send(self, request: Any, stream: Any = False, timeout: Any = None, *more: Any) -> Any:
            totals.append(timeout.total)
            return super().send(request, stream, timeout, *more)

    with requests.Session() as session:
        session.trust_env = False
        bide.requests.mount(session, bide.CLEVER, inner=Inner(), clock=clock, sleep=clock.sleep)
        session.get(url, timeout=urllib3.Timeout(total=60.0))  # type: ignore[arg-type]  # requests passes it on
    return totals


@pytest.mark.parametrize(
    "totals",
    [
        pytest.param(partial(totals_of_urllib3, own=False), id="urllib3"),
        pytest.param(partial(totals_of_urllib3, own=True), id="urllib3, the pool's own"),
        pytest.param(totals_of_requests, id="requests"),
    ],
)
def test_a_try_gets_what_the_waits_have_left_of_a_total_time_out(
    totals: Callable[..., list[float]],
) -> None:
    clock = FakeClock()
    with ScriptedServer([answer_bytes(503, {"Retry-After": "20"}), answer_bytes(200)]) as server:
        first, second = totals(server.url, clock=clock)
    assert first == 60.0
    assert second == pytest.approx(60.0 - sum(clock.slept))
    assert sum(clock.slept) >= 20.0


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


def test_what_code_for_requests_looks_for_in_an_adapter_is_there() -> None:
    with requests.Session() as session:
        bide.requests.mount(session, bide.CLEVER)
        adapter: Any = session.get_adapter("https://api.clever.com/")
        assert adapter.poolmanager is adapter._inner.poolmanager
        with pytest.raises(AttributeError):
            _ = adapter._absent


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
