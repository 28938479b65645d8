"""Every client under one signature: ``client(url, method, ...)`` makes one request through bide's adapter.

``CLIENTS`` is the list: one line for each way to send a request. All of them talk to a real socket. Time is a
FakeClock's unless a test gives its own ``sleep``.
"""

from __future__ import annotations

import functools
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from inspect import isgenerator
from typing import Any, NamedTuple

import aiohttp
import anyio
import httpx
import httpx2
import pytest
import requests
import urllib3

import bide
from bide.testing import FakeClock


@functools.cache
def trust() -> ssl.SSLContext:
    """This machine's authorities, read once: each client would read them again, which takes longer than a test."""
    return ssl.create_default_context()


class Result(NamedTuple):
    """What the caller of a client got."""

    status: int
    body: bytes
    decision: bide.Decision
    response: Any


class Options(NamedTuple):
    """What is the same for all clients."""

    policy: bide.Policy | None
    adapter: dict[str, Any]
    method: str
    body: Any
    headers: dict[str, str]
    timeout: float
    tls: ssl.SSLContext


def call_httpx(library: Any, url: str, options: Options) -> Result:
    inner = library.HTTPTransport(verify=options.tls)
    transport = bide.httpx.Transport(options.policy, inner=inner, **options.adapter)
    with library.Client(transport=transport, timeout=options.timeout, follow_redirects=True) as client:
        response = client.request(options.method, url, content=options.body, headers=options.headers)
    return Result(response.status_code, response.content, response.extensions["bide"], response)


def call_httpx_async(library: Any, backend: str, url: str, options: Options) -> Result:
    async def call() -> Result:
        inner = library.AsyncHTTPTransport(verify=options.tls)
        transport = bide.httpx.AsyncTransport(options.policy, inner=inner, **options.adapter)
        body = chunks(options.body) if isgenerator(options.body) else options.body
        async with library.AsyncClient(
            transport=transport, timeout=options.timeout, follow_redirects=True
        ) as client:
            response = await client.request(options.method, url, content=body, headers=options.headers)
        return Result(response.status_code, response.content, response.extensions["bide"], response)

    return anyio.run(call, backend=backend)


async def chunks(body: Any) -> AsyncIterator[bytes]:
    for chunk in body:
        yield chunk


def call_requests(url: str, options: Options) -> Result:
    class Inner(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
            super().init_poolmanager(*arguments, **named, ssl_context=options.tls)

    with requests.Session() as session:
        session.trust_env = False
        bide.requests.mount(session, options.policy, inner=Inner(), **options.adapter)
        response = session.request(
            options.method, url, data=options.body, headers=options.headers, timeout=options.timeout
        )
    return Result(response.status_code, response.content, response.bide, response)  # type: ignore[attr-defined]  # the adapter's


def call_urllib3(url: str, options: Options) -> Result:
    inner = urllib3.PoolManager(ssl_context=options.tls)
    with bide.urllib3.PoolManager(options.policy, inner=inner, **options.adapter) as manager:
        response: Any = manager.request(
            options.method, url, body=options.body, headers=options.headers, timeout=options.timeout
        )
    return Result(response.status, response.data, response.bide, response)


def call_aiohttp(url: str, options: Options) -> Result:
    async def call() -> Result:
        middleware = bide.aiohttp.middleware(options.policy, **options.adapter)
        body = chunks(options.body) if isgenerator(options.body) else options.body
        timeout = aiohttp.ClientTimeout(sock_connect=options.timeout, sock_read=options.timeout)
        connector = aiohttp.TCPConnector(ssl=options.tls)
        async with (
            aiohttp.ClientSession(middlewares=[middleware], timeout=timeout, connector=connector) as session,
            session.request(options.method, url, data=body, headers=options.headers) as response,
        ):
            content = await response.read()
        return Result(response.status, content, response.bide, response)  # type: ignore[attr-defined]  # the middleware's

    return anyio.run(call)


def call_urllib(url: str, options: Options) -> Result:
    handler = bide.urllib.Handler(options.policy, context=options.tls, **options.adapter)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)
    request = urllib.request.Request(url, options.body, options.headers, method=options.method)
    if hasattr(options.body, "__next__"):
        request.add_header("Transfer-encoding", "chunked")
    try:
        response: Any = opener.open(request, timeout=options.timeout)
    except bide.Deferred:
        raise
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return Result(response.status, response.read(), response.bide, response)


CLIENTS: dict[str, Callable[[str, Options], Result]] = {
    "httpx": partial(call_httpx, httpx),
    "httpx async": partial(call_httpx_async, httpx, "asyncio"),
    "httpx trio": partial(call_httpx_async, httpx, "trio"),
    "httpx2": partial(call_httpx, httpx2),
    "httpx2 async": partial(call_httpx_async, httpx2, "asyncio"),
    "requests": call_requests,
    "urllib3": call_urllib3,
    "aiohttp": call_aiohttp,
    "urllib": call_urllib,
}
"""Name -> how one request is made through the adapter."""

BASE_ERRORS: dict[str, type[Exception]] = {
    "httpx": httpx.HTTPError,
    "httpx2": httpx2.HTTPError,
    "requests": requests.RequestException,
    "urllib3": urllib3.exceptions.HTTPError,
    "aiohttp": aiohttp.ClientError,
    "urllib": OSError,
}
"""Library -> the class under which its callers catch what goes wrong."""

STATUS_ERRORS: dict[str, tuple[type[Exception], Callable[[Any], int]]] = {
    "httpx": (httpx.HTTPStatusError, lambda error: error.response.status_code),
    "httpx2": (httpx2.HTTPStatusError, lambda error: error.response.status_code),
    "requests": (requests.HTTPError, lambda error: error.response.status_code),
    "urllib3": (urllib3.exceptions.HTTPError, lambda error: error.response.status),
    "aiohttp": (aiohttp.ClientResponseError, lambda error: error.status),
    "urllib": (urllib.error.HTTPError, lambda error: error.code),
}
"""Library -> the class under which its callers catch a status of 400 or more, and what it says that one is."""

CAN_READ_FILES = {"httpx", "httpx2", "requests", "urllib3", "aiohttp", "urllib"}
"""Clients that take an open file as a body: the asynchronous httpx takes bytes and asynchronous iterators."""


class Client:
    """One of ``CLIENTS``, with the defaults of the tests."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.library = name.partition(" ")[0]
        self.base_error = BASE_ERRORS[self.library]
        self.status_error, self.status_of = STATUS_ERRORS[self.library]
        self.is_async = name == "aiohttp" or " " in name
        self.reads_files = name in CAN_READ_FILES

    def __repr__(self) -> str:
        return self.name

    def __call__(
        self,
        url: str,
        method: str = "GET",
        *,
        policy: bide.Policy | None = bide.CLEVER,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 5.0,
        tls: ssl.SSLContext | None = None,
        clock: FakeClock | None = None,
        **adapter: Any,
    ) -> Result:
        clock = FakeClock() if clock is None else clock
        if "sleep" not in adapter:
            adapter["sleep"] = self.sleeper(clock.sleep)
        adapter = {"clock": clock, "limiter": False, **adapter}
        options = Options(policy, adapter, method, body, dict(headers or {}), timeout, tls or trust())
        return CLIENTS[self.name](url, options)

    def sleeper(self, sleep: Callable[[float], object]) -> Callable[[float], object | Awaitable[object]]:
        """That way to sleep, as this client wants it."""
        if not self.is_async:
            return sleep

        async def sleep_async(seconds: float) -> None:
            sleep(seconds)

        return sleep_async


@pytest.fixture
def make_client() -> type[Client]:
    """For a test that is about some of the clients."""
    return Client


@pytest.fixture(params=list(CLIENTS))
def client(request: pytest.FixtureRequest) -> Client:
    return Client(request.param)


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every host name is this machine's."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **named: Any) -> Any:
        is_name = not str(host if isinstance(host, str) else host.decode()).replace(".", "").isdecimal()
        return resolve("127.0.0.1" if is_name else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
