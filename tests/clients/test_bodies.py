"""A policy looks into a body, and whoever reads the response finds all of it, as a stream, too.

``READERS`` is the list: one line for each way to read a response piece by piece. All of it happens on a real
socket. ``STACKEXCHANGE`` asks for the body of every reply, ``CANVAS`` for that of a 403.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import os
import ssl
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
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
from bide.testing import ScriptedServer, answer_bytes

STACKEXCHANGE = bide.policies.load("stackexchange")
CANVAS = bide.policies.load("canvas").replace(retries=0)
JSON = {"Content-Type": "application/json"}
PIECE = 1_000
LONG = b'{"items": "' + os.urandom(200_000).hex().encode() + b'", "backoff": 7}'
"""Longer than what is looked at, and not much shorter when it is compressed."""

Read = Callable[[str, bide.Policy, int], bytes]


@functools.cache
def trust() -> ssl.SSLContext:
    """Read once: it takes longer than a test."""
    return ssl.create_default_context()


@functools.cache
def compressed(body: bytes) -> bytes:
    return gzip.compress(body, 1)


def read_httpx(library: Any, url: str, policy: bide.Policy, times: int) -> bytes:
    inner = library.HTTPTransport(verify=trust())
    transport = bide.httpx.Transport(policy, inner=inner, limiter=False, on_defer="return")
    with library.Client(transport=transport) as client:
        for _ in range(times):
            with client.stream("GET", url) as response:
                body = b"".join(response.iter_bytes(PIECE))
    return body


def read_httpx_async(library: Any, backend: str, url: str, policy: bide.Policy, times: int) -> bytes:
    async def read() -> bytes:
        inner = library.AsyncHTTPTransport(verify=trust())
        transport = bide.httpx.AsyncTransport(policy, inner=inner, limiter=False, on_defer="return")
        async with library.AsyncClient(transport=transport) as client:
            for _ in range(times):
                async with client.stream("GET", url) as response:
                    body = b"".join([chunk async for chunk in response.aiter_bytes(PIECE)])
        return body

    return anyio.run(read, backend=backend)


def read_requests(url: str, policy: bide.Policy, times: int) -> bytes:
    with requests.Session() as session:
        bide.requests.mount(session, policy, limiter=False, on_defer="return")
        for _ in range(times):
            with session.get(url, stream=True) as response:
                body = b"".join(response.iter_content(PIECE))
    return body


def read_requests_raw(url: str, policy: bide.Policy, times: int) -> bytes:
    with requests.Session() as session:
        bide.requests.mount(session, policy, limiter=False, on_defer="return")
        for _ in range(times):
            with session.get(url, stream=True) as response:
                body = b""
                while piece := response.raw.read(PIECE, decode_content=True):
                    body += piece
    return body


def read_urllib3(url: str, policy: bide.Policy, times: int) -> bytes:
    with bide.urllib3.PoolManager(policy, limiter=False, on_defer="return") as http:
        for _ in range(times):
            response = http.request("GET", url, preload_content=False)
            body = b"".join(response.stream(PIECE))
            response.release_conn()
    return body


def read_urllib3_retry(url: str, policy: bide.Policy, times: int) -> bytes:
    with urllib3.PoolManager(retries=bide.urllib3.Retry(policy, raise_on_status=False)) as http:
        for _ in range(times):
            response = http.request("GET", url, preload_content=False)
            body = b"".join(response.stream(PIECE))
            response.release_conn()
    return body


def read_aiohttp(whole: bool, url: str, policy: bide.Policy, times: int) -> bytes:
    async def read() -> bytes:
        middleware = bide.aiohttp.middleware(policy, limiter=False, on_defer="return")
        async with aiohttp.ClientSession(middlewares=[middleware]) as session:
            for _ in range(times):
                async with session.get(url) as response:
                    pieces = (
                        [await response.read()]
                        if whole
                        else [b async for b, _ in response.content.iter_chunks()]
                    )
        return b"".join(pieces)

    return asyncio.run(read())


def read_urllib(url: str, policy: bide.Policy, times: int) -> bytes:
    handler = bide.urllib.Handler(policy, context=trust(), limiter=False, on_defer="return")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)
    for _ in range(times):
        try:
            response: Any = opener.open(url, timeout=5.0)
        except urllib.error.HTTPError as error:
            response = error
        body = b""
        with response:
            while piece := response.read(PIECE):
                body += piece
    return gzip.decompress(body) if response.headers["Content-Encoding"] == "gzip" else body


READERS: dict[str, Read] = {
    "httpx": partial(read_httpx, httpx),
    "httpx async": partial(read_httpx_async, httpx, "asyncio"),
    "httpx trio": partial(read_httpx_async, httpx, "trio"),
    "httpx2": partial(read_httpx, httpx2),
    "httpx2 async": partial(read_httpx_async, httpx2, "asyncio"),
    "requests": read_requests,
    "requests raw": read_requests_raw,
    "urllib3": read_urllib3,
    "urllib3 Retry": read_urllib3_retry,
    "aiohttp": partial(read_aiohttp, True),
    "aiohttp chunks": partial(read_aiohttp, False),
    "urllib": read_urllib,
}


@pytest.fixture(params=list(READERS))
def read(request: pytest.FixtureRequest) -> Read:
    return READERS[request.param]


def chunked(status: int, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status} Chunked\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    pieces = [body[at : at + 3_000] for at in range(0, len(body), 3_000)]
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


@pytest.mark.parametrize("body", [b"{}", LONG], ids=["short", "long"])
@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize("coding", ["plain", "gzip", "chunked"])
def test_a_body_that_was_looked_into_is_read_whole_and_its_connection_is_used_again(
    read: Read, coding: str, status: int, body: bytes
) -> None:
    answer = {
        "plain": answer_bytes(status, JSON, body),
        "gzip": answer_bytes(status, JSON | {"Content-Encoding": "gzip"}, compressed(body)),
        "chunked": chunked(status, body),
    }[coding]
    with ScriptedServer([answer]) as server:
        assert read(server.url, STACKEXCHANGE if status == 200 else CANVAS, 2) == body
        assert server.connections == (2 if read is read_urllib else 1)


@pytest.mark.parametrize("size", [100, len(LONG) - 100], ids=["early", "late"])
def test_a_body_that_breaks_off_breaks_off_for_the_caller_too(read: Read, size: int) -> None:
    broken = answer_bytes(403, {**JSON, "Connection": "close"}, LONG)[: -len(LONG)] + LONG[:size]
    without_bide = read is read_urllib  # http.client takes the end of the connection for the body's.
    with ScriptedServer([broken]) as server:
        if without_bide:
            assert read(server.url, CANVAS, 1) == LONG[:size]
        else:
            with pytest.raises(
                (
                    httpx.HTTPError,
                    httpx2.HTTPError,
                    OSError,
                    urllib3.exceptions.HTTPError,
                    aiohttp.ClientError,
                )
            ):
                read(server.url, CANVAS, 1)
        assert len(server.requests) == 1


# httpx leaves the iterators of a body that it cannot decode to the garbage collector; trio tells of it.
@pytest.mark.filterwarnings("ignore:.*garbage collected before it had been exhausted:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_coded_body_that_cannot_be_read_is_no_reason(read: Read) -> None:
    answer = answer_bytes(403, JSON | {"Content-Encoding": "gzip"}, b"Rate Limit Exceeded")
    errors = (
        httpx.DecodingError,
        httpx2.DecodingError,
        requests.RequestException,
        urllib3.exceptions.DecodeError,
    )
    with ScriptedServer([answer]) as server:
        with pytest.raises((*errors, aiohttp.ClientPayloadError, zlib.error, gzip.BadGzipFile)):
            read(server.url, CANVAS, 1)
        assert len(server.requests) == 1
