"""A pytest plugin for the clients' own test suites: every request of theirs goes through bide.

Loaded by ``run.py`` (``-p everywhere``), outside of bide's own tests. Waits take no time; all else is as a user has it
who gives no policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

CLIENT = os.environ["BIDE_UPSTREAM"]


def no_sleep(_: float) -> None: ...


async def no_sleep_async(_: float) -> None:
    await asyncio.sleep(0)


def patch_requests() -> None:
    import requests

    import bide

    def adapter(**options: Any) -> bide.requests.Adapter:
        return bide.requests.Adapter(inner=requests.adapters.HTTPAdapter(**options), sleep=no_sleep)

    requests.sessions.HTTPAdapter = adapter  # type: ignore[assignment,misc]  # what a session makes its adapters of


def patch_httpx() -> None:
    import httpx

    import bide

    make, make_async = httpx.Client._init_transport, httpx.AsyncClient._init_transport

    def transport(self: httpx.Client, *arguments: Any, **options: Any) -> httpx.BaseTransport:
        return bide.httpx.Transport(inner=make(self, *arguments, **options), sleep=no_sleep)

    def transport_async(self: httpx.AsyncClient, *arguments: Any, **options: Any) -> httpx.AsyncBaseTransport:
        import anyio

        async def sleep(_: float) -> None:
            await anyio.sleep(0)

        return bide.httpx.AsyncTransport(inner=make_async(self, *arguments, **options), sleep=sleep)

    httpx.Client._init_transport = transport  # type: ignore[assignment,method-assign]  # the only place for all
    httpx.AsyncClient._init_transport = transport_async  # type: ignore[assignment,method-assign]  # the same


def patch_aiohttp() -> None:
    import aiohttp

    import bide

    init = aiohttp.ClientSession.__init__

    def with_bide(
        self: aiohttp.ClientSession, *arguments: Any, middlewares: Any = (), **options: Any
    ) -> None:
        paced = bide.aiohttp.middleware(sleep=no_sleep_async)
        init(self, *arguments, middlewares=(paced, *middlewares), **options)

    aiohttp.ClientSession.__init__ = with_bide  # type: ignore[assignment,method-assign]  # the only place for all


def patch_urllib3() -> None:
    import urllib3.connectionpool
    import urllib3.poolmanager
    import urllib3.util.retry

    import bide

    for module in (urllib3, urllib3.util, urllib3.util.retry, urllib3.connectionpool, urllib3.poolmanager):
        with contextlib.suppress(AttributeError):
            module.Retry = bide.urllib3.Retry  # type: ignore[misc,attr-defined]  # a drop-in everywhere


{"requests": patch_requests, "httpx": patch_httpx, "aiohttp": patch_aiohttp, "urllib3": patch_urllib3}[
    CLIENT
]()
