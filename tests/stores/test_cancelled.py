"""A request that is cancelled on its way gives its key back at once, to whoever shares the store on another host."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import anyio
import httpx
import httpx2
import pytest

import bide
from bide.testing import ScriptedServer, answer_bytes

SOON_SECONDS = 10.0
"""Less than the 30 s after which another request of the key would be let through."""

STALL = b""


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_first_request_of_httpx_that_is_cancelled_keeps_nobody_waiting(
    url: str, library: Any, backend: str
) -> None:
    async def scenario(api: str) -> int:
        transport = bide.httpx.AsyncTransport(bide.HTTP, store=url)
        another = bide.httpx.AsyncTransport(bide.HTTP, store=url)
        async with library.AsyncClient(transport=transport) as client:
            with anyio.fail_after(SOON_SECONDS):
                async with anyio.create_task_group() as group:
                    group.start_soon(client.get, api)
                    while not server.requests:
                        await anyio.sleep(0.01)
                    group.cancel_scope.cancel()
                async with library.AsyncClient(transport=another) as client:
                    return int((await client.get(api)).status_code)

    with ScriptedServer([STALL, answer_bytes(200)]) as server:
        assert anyio.run(scenario, server.url, backend=backend) == 200


def test_a_first_request_of_aiohttp_that_is_cancelled_keeps_nobody_waiting(url: str) -> None:
    async def scenario(api: str) -> int:
        paced = bide.aiohttp.middleware(bide.HTTP, store=url)
        another = bide.aiohttp.middleware(bide.HTTP, store=url)
        async with aiohttp.ClientSession() as session, asyncio.timeout(SOON_SECONDS):
            request = asyncio.ensure_future(session.get(api, middlewares=[paced]).__aenter__())
            while not server.requests:
                await asyncio.sleep(0.01)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            async with session.get(api, middlewares=[another]) as response:
                return response.status

    with ScriptedServer([STALL, answer_bytes(200)]) as server:
        assert asyncio.run(scenario(server.url)) == 200
