"""A web server's limit whose counters are in Redis or Valkey: shared by its workers, and no event loop waits for it."""

import asyncio
from typing import Any

import pytest

import bide.asgi
import bide.wsgi

HELLO = {"type": "http.response.start", "status": 200, "headers": []}


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send(HELLO)
    await send({"type": "http.response.body", "body": b"hello"})


def scope() -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("192.0.2.1", 1)}


async def status_of(app: Any) -> int:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope(), None, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize("chosen", [False, True], ids=["one limit", "a function of the scope"])
def test_workers_share_one_limit(url: str, chosen: bool) -> None:
    limits: Any = (lambda _scope: "3/minute") if chosen else "3/minute"

    async def ask() -> list[int]:
        workers = [bide.asgi.RateLimit(hello, limits, store=url, name="shared") for _ in range(2)]
        return [await status_of(workers[number % 2]) for number in range(4)]

    assert asyncio.run(ask()) == [200, 200, 200, 429]


def test_a_store_that_does_not_answer_holds_up_no_event_loop(mortal: Any) -> None:
    app = bide.asgi.RateLimit(hello, "3/minute", store=f"{mortal.url}?timeout=0.5&on_error=deny")

    async def ask() -> tuple[int, int]:
        assert await status_of(app) == 200
        mortal.pause()
        task = asyncio.create_task(status_of(app))
        ticks = 0
        while not task.done():
            await asyncio.sleep(0.001)
            ticks += 1
        return await task, ticks

    status, ticks = asyncio.run(ask())
    mortal.resume()
    assert status == 429
    assert ticks > 3  # one, were the loop held up until the deadline


def test_a_synchronous_server_shares_it_too(url: str) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"hello"]

    app = bide.wsgi.RateLimit(application, "1/minute", store=url, name="shared")
    seen: list[str] = []

    def ask() -> None:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "REMOTE_ADDR": "192.0.2.1"}
        list(app(environ, lambda status, headers, *_: seen.append(status)))

    ask()
    ask()
    assert [status[:3] for status in seen] == ["200", "429"]
