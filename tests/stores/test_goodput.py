"""Three hosts and one quota: how much of a limited server's quota they use together, and at what price in 429s.

The driver, the policy, the limiter and the Redis or Valkey server are the real ones, in virtual time: the limited
server is a model, and the counting one goes by the model's clock.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import bide
from bide._driver import Driver
from bide._simulation import ModelServer, World, run

LIMIT, WINDOW = 600, 6.0


class Following:
    """The world's clock, which takes the counting server's along whenever it is read."""

    def __init__(self, world: World, server: Any) -> None:
        self._world = world
        self._server = server

    def __call__(self) -> float:
        now = self._world()
        self._server.set_time(1_700_000_000.0 + now)
        return now

    def time(self) -> float:
        return self._world.time()


@pytest.mark.parametrize("lease", [0, 10])
@pytest.mark.parametrize("phase", [3.37, 0.02])
def test_three_hosts_get_no_429_after_the_first_window_and_use_97_percent(
    kind: str, counting_servers: Callable[..., Any], lease: int, phase: float
) -> None:
    server = counting_servers(kind, timed=True)
    url = f"{server.url}?prefix=goodput{time.monotonic_ns()}:&timeout=20&lease={lease}"
    policy = bide.CLEVER.replace(
        limits=(f"{LIMIT}/{WINDOW:.0f}s",),
        window=WINDOW,
        backoff=bide.Backoff(base=0.5, cap=30.0, jitter="full"),
    )

    def driver(world: World) -> Driver:
        clock = Following(world, server)
        limiter = bide.Limiter(f"{LIMIT}/{WINDOW:.0f}s", store=url, clock=clock)
        return Driver(policy, limiter=limiter, clock=world)

    result = run(
        driver, ModelServer(LIMIT, WINDOW, phase=phase), workers=8, latency=0.02, windows=4, clients=3
    )
    assert result.refusals == 0
    assert result.used >= 0.97


def test_an_asynchronous_client_is_not_blocked_by_a_slow_store(server: Any, proxy: Any) -> None:
    url = f"{server.kind}://127.0.0.1:{proxy.port}/0?prefix=async{time.monotonic_ns()}:&timeout=5"

    async def use() -> tuple[int, float]:
        inner = httpx.MockTransport(lambda request: httpx.Response(200))
        transport = bide.httpx.AsyncTransport(bide.CLEVER, inner=inner, store=url)
        longest, last, done = 0.0, time.monotonic(), False

        async def tick() -> None:
            nonlocal longest, last
            while not done:
                await asyncio.sleep(0.002)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()

        async with httpx.AsyncClient(transport=transport) as client:
            assert (await client.get("https://api.clever.com/v3.0/users")).status_code == 200
            proxy.delay_seconds = 0.4
            ticking = asyncio.create_task(tick())
            status = (await client.get("https://api.clever.com/v3.0/users")).status_code
            done = True
            await ticking
        return status, longest

    status, longest = asyncio.run(use())
    assert status == 200
    assert longest < 0.35, "each trip takes 0.4 s"
