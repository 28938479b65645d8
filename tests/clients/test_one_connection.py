"""Every client with a pool of one connection: whoever keeps it denies it to the next request, which would not end.

``POOLS`` is the list: one line for each client that has a pool. urllib has none.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import aiohttp
import anyio
import anyio.from_thread
import httpx
import httpx2
import pytest
import requests
import urllib3

import bide
from bide.testing import ScriptedServer, answer_bytes

Get = Callable[[str], int]
PATIENCE_SECONDS = 5.0
"""How long a request waits for a connection, or for an answer."""

LONG = b"x" * 40_000
"""More than a client reads with the head of a response, and little enough to be read to its end."""


@contextmanager
def pool_of_httpx(library: Any, policy: bide.Policy, **options: Any) -> Iterator[Get]:
    inner = library.HTTPTransport(verify=False, limits=library.Limits(max_connections=1))
    transport = bide.httpx.Transport(policy, inner=inner, **options)
    with library.Client(transport=transport, timeout=PATIENCE_SECONDS) as client:
        yield lambda url: client.get(url).status_code


@contextmanager
def pool_of_httpx_async(library: Any, backend: str, policy: bide.Policy, **options: Any) -> Iterator[Get]:
    async def open_client() -> Any:
        inner = library.AsyncHTTPTransport(verify=False, limits=library.Limits(max_connections=1))
        transport = bide.httpx.AsyncTransport(policy, inner=inner, **options)
        return library.AsyncClient(transport=transport, timeout=PATIENCE_SECONDS)

    async def get(url: str) -> int:
        return (await client.get(url)).status_code

    with anyio.from_thread.start_blocking_portal(backend) as portal:
        client = portal.call(open_client)
        yield partial(portal.call, get)
        portal.call(client.aclose)


@contextmanager
def pool_of_requests(policy: bide.Policy, **options: Any) -> Iterator[Get]:
    inner = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1, pool_block=True)
    with requests.Session() as session:
        session.trust_env = False
        bide.requests.mount(session, policy, inner=inner, **options)
        yield lambda url: session.get(url, timeout=PATIENCE_SECONDS).status_code


@contextmanager
def pool_of_urllib3(policy: bide.Policy, **options: Any) -> Iterator[Get]:
    inner = urllib3.PoolManager(maxsize=1, block=True, timeout=PATIENCE_SECONDS)
    with bide.urllib3.PoolManager(policy, inner=inner, **options) as manager:
        yield lambda url: manager.request("GET", url, pool_timeout=PATIENCE_SECONDS).status


@contextmanager
def pool_of_aiohttp(policy: bide.Policy, **options: Any) -> Iterator[Get]:
    async def open_session() -> Any:
        middleware = bide.aiohttp.middleware(policy, **options)
        connector = aiohttp.TCPConnector(limit=1)
        timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
        return aiohttp.ClientSession(middlewares=[middleware], connector=connector, timeout=timeout)

    async def get(url: str) -> int:
        async with session.get(url) as response:
            await response.read()
        return int(response.status)

    with anyio.from_thread.start_blocking_portal("asyncio") as portal:
        session = portal.call(open_session)
        yield partial(portal.call, get)
        portal.call(session.close)


POOLS: dict[str, Callable[..., Any]] = {
    "httpx": partial(pool_of_httpx, httpx),
    "httpx async": partial(pool_of_httpx_async, httpx, "asyncio"),
    "httpx trio": partial(pool_of_httpx_async, httpx, "trio"),
    "httpx2": partial(pool_of_httpx, httpx2),
    "httpx2 async": partial(pool_of_httpx_async, httpx2, "asyncio"),
    "httpx2 trio": partial(pool_of_httpx_async, httpx2, "trio"),
    "requests": pool_of_requests,
    "urllib3": pool_of_urllib3,
    "aiohttp": pool_of_aiohttp,
}
"""Name -> a client with one connection: a function that gets a URL and returns the status."""


@pytest.fixture(params=list(POOLS))
def pool(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return POOLS[request.param]


class Hook:
    """Fails the first time that it is called, and never again."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error

    def __call__(self, _: object) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error


@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_hook_that_fails_keeps_no_connection_and_no_key(pool: Callable[..., Any], status: int) -> None:
    """Nor does the key stay closed, whose first request it was."""
    hook = Hook(ZeroDivisionError())
    answers = [answer_bytes(status, body=LONG), answer_bytes(200)]
    with (
        ScriptedServer(answers) as server,
        pool(bide.CLEVER, limiter=bide.Limiter("100/minute"), on_decision=hook) as get,
    ):
        with pytest.raises(ZeroDivisionError):
            get(server.url)
        assert get(server.url) == 200
        assert server.connections == 1


class Interruption(BaseException):
    """As a signal's handler may raise it, wherever the program stands."""


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("name", ["httpx", "httpx2", "requests", "urllib3"])
def test_an_interruption_reads_no_body_and_keeps_no_connection_and_no_key(name: str, status: int) -> None:
    """On an event loop it is a cancellation."""
    hook = Hook(Interruption())
    answers = [answer_bytes(status, body=b"x" * 3_000_000), answer_bytes(200)]
    with (
        ScriptedServer(answers) as server,
        POOLS[name](bide.CLEVER, limiter=bide.Limiter("100/minute"), on_decision=hook) as get,
    ):
        with pytest.raises(Interruption):
            get(server.url)
        assert get(server.url) == 200
        # urllib3 itself reads what its caller asked it to preload.
        assert server.connections == (1 if name == "urllib3" else 2)


def test_a_hook_that_fails_before_a_wait_keeps_no_connection(pool: Callable[..., Any]) -> None:
    hook = Hook(ZeroDivisionError())
    answers = [answer_bytes(503, body=LONG), answer_bytes(200)]
    with ScriptedServer(answers) as server, pool(bide.CLEVER, on_wait=hook) as get:
        with pytest.raises(ZeroDivisionError):
            get(server.url)
        assert get(server.url) == 200
        assert server.connections == 1


def test_a_key_function_that_fails_is_the_callers_to_see(pool: Callable[..., Any]) -> None:
    def key(_: object) -> str:
        hook(_)
        return "account"

    hook = Hook(LookupError("whose is it?"))
    with ScriptedServer([answer_bytes(200)]) as server, pool(bide.CLEVER, key=key) as get:
        with pytest.raises(LookupError, match="whose is it"):
            get(server.url)
        assert get(server.url) == 200
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        pytest.param(answer_bytes(503, {"Retry-After": "3600"}, LONG), 1, id="a response"),
        pytest.param(answer_bytes(503, {"Retry-After": "3600"}, b"x" * 3_000_000), 2, id="a large response"),
        pytest.param(None, 2, id="a broken connection"),
    ],
)
def test_what_is_deferred_keeps_no_connection(
    pool: Callable[..., Any], answer: bytes | None, connections: int
) -> None:
    policy = bide.CLEVER.replace(retries=0)
    with ScriptedServer([answer, answer_bytes(200)]) as server, pool(policy, limiter=False) as get:
        with pytest.raises(bide.Deferred):
            get(server.url)
        assert get(server.url) == 200
        # urllib3 itself reads what its caller asked it to preload.
        assert server.connections in (connections, 1 if pool is pool_of_urllib3 else connections)


@pytest.mark.parametrize("name", ["httpx", "httpx2", "requests", "urllib3"])
def test_waiting_holds_no_connection(name: str) -> None:
    """Where waiting blocks, somebody else asks meanwhile: here it is the hook that is told of the wait."""
    statuses: list[int] = []

    def ask(_: object) -> None:
        statuses.append(get(urllib.parse.urljoin(server.url, "/meanwhile")))

    answers = [answer_bytes(429, {"Retry-After": "7"}, LONG), answer_bytes(200)]
    with (
        ScriptedServer(answers) as server,
        POOLS[name](bide.HTTP, limiter=False, on_wait=ask, sleep=lambda _: None) as get,
    ):
        statuses.append(get(server.url))
        assert [request.line.split()[1] for request in server.requests] == ["/", "/meanwhile", "/"]
        assert server.connections == 1
    assert statuses == [200, 200]


READS_BODIES = bide.policies.load("stackexchange")
JSON = {"Content-Type": "application/json"}
REFUSED_THEN_LONG = [
    answer_bytes(503, JSON | {"Retry-After": "0"}, LONG),
    answer_bytes(200, JSON, b'{"items": []}' + b" " * 200_000),
]
TICKS = [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30, 40, 60]
"""How often others have their turn before a request is cancelled: from before it is sent until after its end."""


async def get_httpx(client: Any, url: str) -> int:
    return int((await client.get(url)).status_code)


async def get_aiohttp(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as response:
        await response.read()
    return response.status


def client_httpx(library: Any, transport_options: dict[str, Any]) -> Any:
    inner = library.AsyncHTTPTransport(verify=False, limits=library.Limits(max_connections=1))
    transport = bide.httpx.AsyncTransport(READS_BODIES, inner=inner, **transport_options)
    return library.AsyncClient(transport=transport, timeout=PATIENCE_SECONDS)


def client_aiohttp(options: dict[str, Any]) -> aiohttp.ClientSession:
    middleware = bide.aiohttp.middleware(READS_BODIES, **options)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    connector = aiohttp.TCPConnector(limit=1)
    return aiohttp.ClientSession(middlewares=[middleware], connector=connector, timeout=timeout)


@pytest.mark.parametrize("ticks", TICKS)
@pytest.mark.parametrize(
    ("backend", "make", "get"),
    [
        pytest.param("asyncio", partial(client_httpx, httpx), get_httpx, id="httpx async"),
        pytest.param("trio", partial(client_httpx, httpx), get_httpx, id="httpx trio"),
        pytest.param("asyncio", partial(client_httpx, httpx2), get_httpx, id="httpx2 async"),
        pytest.param("asyncio", client_aiohttp, get_aiohttp, id="aiohttp"),
    ],
)
def test_wherever_a_request_is_cancelled_the_next_one_finds_the_key_and_the_connection_free(
    backend: str, make: Any, get: Any, ticks: int
) -> None:
    """Before it is sent, while its answer is looked into or thrown away, while it waits, and after its end."""

    async def scenario(url: str) -> int:
        async with make({"limiter": bide.Limiter("100/minute")}) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(get, client, url)
                for _ in range(ticks):
                    await anyio.sleep(0)
                group.cancel_scope.cancel()
            with anyio.fail_after(
                2 * PATIENCE_SECONDS
            ):  # far less than 30 s, after which another first one goes
                status: int = await get(client, url)
            return status

    with ScriptedServer(REFUSED_THEN_LONG) as server:
        assert anyio.run(scenario, server.url, backend=backend) == 200
