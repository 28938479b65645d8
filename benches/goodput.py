"""Goodput: how much of a real server's quota eight workers use, how many 429s it costs, what the caller saw.

The server is ``bide serve`` in a process of its own: a fixed window of unknown phase, the reset in whole
seconds, rounded up, an empty 429. Every contender is run alone for the same number of windows, by eight
threads or tasks that want as much as they can get. Counted is what the server answered, in whole windows after
the first.

    python benches/goodput.py [--windows 5] [--latency 0.02] [--failures 0] [--clock-offset 0]
                              [--foreign 0] [--restart] [--only NAME ...] [--json FILE]
                              [--processes 1 --store URL]

With --processes the workers are spread over so many processes of their own, and bide's contenders keep their
counters in the store: "file:///...", "redis://...", "valkey://..."; with "memory" each process counts for itself.

Rules of this file: a contender is written as its own documents advise, in the fewest lines; none is helped or
hindered. A contender whose library is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import platform
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import date
from itertools import chain
from statistics import fmean

LIMIT, WINDOW = 600, 6.0
WORKERS = 8
TOKEN = "north-token"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}

Get = Callable[[], int]
"""One request; gives the status that the caller saw."""

STORE = "memory"
"""Where bide's contenders keep their counters (--store); set before one is made."""


# Contenders ------------------------------------------------------------------------------------------------


def bide_policy():
    import bide

    backoff = bide.Backoff(base=0.5, cap=30.0, jitter="full")
    return bide.CLEVER.replace(limits=(f"{LIMIT}/{WINDOW:.0f}s",), window=WINDOW, backoff=backoff)


def bide_httpx(url: str) -> Get:
    import httpx

    import bide

    client = httpx.Client(transport=bide.httpx.Transport(bide_policy(), store=STORE), headers=HEADERS)
    return lambda: client.get(url).status_code


def bide_httpx_room(url: str) -> Get:
    import httpx

    import bide

    limiter = bide.Limiter(f"{LIMIT}/{WINDOW:.0f}s", "110/second", store=STORE)
    client = httpx.Client(transport=bide.httpx.Transport(bide_policy(), limiter=limiter), headers=HEADERS)
    return lambda: client.get(url).status_code


def bide_learning(url: str) -> Get:
    import httpx

    import bide

    limiter = bide.Limiter(learn=f"{WINDOW:.0f} s", store=STORE)
    client = httpx.Client(transport=bide.httpx.Transport(bide_policy(), limiter=limiter), headers=HEADERS)
    return lambda: client.get(url).status_code


def bide_requests(url: str) -> Get:
    import requests

    import bide

    session = requests.Session()
    session.headers.update(HEADERS)
    bide.requests.mount(session, bide_policy(), store=STORE)
    return lambda: session.get(url).status_code


def bide_httpx_async(url: str) -> Callable[[], Awaitable[int]]:
    import httpx

    import bide

    transport = bide.httpx.AsyncTransport(bide_policy(), store=STORE)
    client = httpx.AsyncClient(transport=transport, headers=HEADERS)

    async def get() -> int:
        return (await client.get(url)).status_code

    return get


def bide_aiohttp(url: str) -> Callable[[], Awaitable[int]]:
    import aiohttp

    import bide

    middleware = bide.aiohttp.middleware(bide_policy(), store=STORE)
    session = aiohttp.ClientSession(headers=HEADERS, middlewares=(middleware,))

    async def get() -> int:
        async with session.get(url) as response:
            await response.read()
            return response.status

    return get


def urllib3_retry(url: str) -> Get:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    session = requests.Session()
    session.headers.update(HEADERS)
    retry = Retry(total=5, backoff_factor=1, status_forcelist=[429, 500, 502, 503], raise_on_status=False)
    session.mount("http://", HTTPAdapter(max_retries=retry, pool_maxsize=WORKERS))
    return lambda: session.get(url).status_code


def tenacity_retry(url: str) -> Get:
    import requests
    from tenacity import retry, retry_if_result, stop_after_attempt, wait_random_exponential

    session = requests.Session()
    session.headers.update(HEADERS)

    @retry(
        stop=stop_after_attempt(6),
        wait=wait_random_exponential(max=60),
        retry=retry_if_result(lambda status: status in (429, 500, 502, 503)),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
    )
    def get() -> int:
        return session.get(url).status_code

    return get


def httpx_retries(url: str) -> Get:
    import httpx
    from httpx_retries import Retry, RetryTransport

    transport = RetryTransport(retry=Retry(total=5, backoff_factor=0.5))
    client = httpx.Client(transport=transport, headers=HEADERS)
    return lambda: client.get(url).status_code


def requests_ratelimiter(url: str) -> Get:
    from requests_ratelimiter import LimiterSession

    session = LimiterSession(per_second=LIMIT / WINDOW)
    session.headers.update(HEADERS)
    return lambda: session.get(url).status_code


def limits_fixed_window(url: str) -> Get:
    import requests
    from limits import RateLimitItemPerSecond
    from limits.storage import MemoryStorage
    from limits.strategies import FixedWindowRateLimiter

    limiter = FixedWindowRateLimiter(MemoryStorage())
    item = RateLimitItemPerSecond(LIMIT, int(WINDOW))
    session = requests.Session()
    session.headers.update(HEADERS)

    def get() -> int:
        while not limiter.hit(item, TOKEN):
            reset_at, _ = limiter.get_window_stats(item, TOKEN)
            time.sleep(max(0.01, reset_at - time.time()))
        return session.get(url).status_code

    return get


def aiolimiter_bucket(url: str) -> Callable[[], Awaitable[int]]:
    import httpx
    from aiolimiter import AsyncLimiter

    client = httpx.AsyncClient(headers=HEADERS)
    limiter = AsyncLimiter(LIMIT, WINDOW)

    async def get() -> int:
        async with limiter:
            return (await client.get(url)).status_code

    return get


def loop_of_15_lines(url: str) -> Get:
    import httpx

    client = httpx.Client(headers=HEADERS)

    def get() -> int:
        response = client.get(url)
        for attempt in range(5):
            if response.status_code == 429:
                reset_at = int(response.headers["X-RateLimit-Reset"])
                time.sleep(max(0.0, reset_at - time.time()))
            elif response.status_code >= 500:
                time.sleep(2**attempt)
            else:
                break
            response = client.get(url)
        return response.status_code

    return get


CONTENDERS: dict[str, Callable[[str], object]] = {
    "bide, httpx": bide_httpx,
    "bide, httpx, async": bide_httpx_async,
    "bide, requests": bide_requests,
    "bide, aiohttp": bide_aiohttp,
    "bide, httpx, learning": bide_learning,
    "bide, httpx, with 110/second": bide_httpx_room,
    "requests + urllib3 Retry": urllib3_retry,
    "tenacity": tenacity_retry,
    "httpx-retries": httpx_retries,
    "requests-ratelimiter": requests_ratelimiter,
    "limits, fixed window": limits_fixed_window,
    "aiolimiter": aiolimiter_bucket,
    "a loop of 15 lines": loop_of_15_lines,
}


# Runs ------------------------------------------------------------------------------------------------------


@contextmanager
def server(arguments: argparse.Namespace) -> Iterator[str]:
    faults = {"503": arguments.failures, "slow": 100.0 - arguments.failures if arguments.latency else 0.0}
    command = [sys.executable, "-m", "bide.cli", "serve", "--limit", str(LIMIT), "--window", str(WINDOW)]
    command += ["--students", "1000", "--seed", str(arguments.seed), "--while-stdin-is-open"]
    command += ["--clock-offset", str(arguments.clock_offset), "--slow-seconds", str(arguments.latency)]
    if any(faults.values()):
        command += ["--faults", ",".join(f"{kind}={share}" for kind, share in faults.items() if share)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[0].rstrip("/")
        process.terminate()


def counts(url: str) -> dict:
    with urllib.request.urlopen(f"{url}/-/counts") as response:
        return json.load(response)


def run_threads(get: Get, end: float, seen: list[int | str], workers: int) -> None:
    def work() -> None:
        while time.monotonic() < end:
            try:
                seen.append(get())
            except Exception as error:
                seen.append(type(error).__name__)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end + 2 * WINDOW - time.monotonic()))


async def run_tasks(
    make: Callable[[], Callable[[], Awaitable[int]]], end: float, seen: list[int | str], workers: int
) -> None:
    get = make()

    async def work() -> None:
        while time.monotonic() < end:
            try:
                seen.append(await get())
            except Exception as error:
                seen.append(type(error).__name__)

    await asyncio.wait(
        [asyncio.create_task(work()) for _ in range(workers)], timeout=end + 2 * WINDOW - time.monotonic()
    )


def run_contender(name: str, url: str, end: float, workers: int, store: str) -> list[int | str]:
    """Runs it in this process until ``end``, a reading of the monotonic clock; what its callers saw."""
    global STORE
    STORE = store
    contender = CONTENDERS[name]
    seen: list[int | str] = []
    if contender in ASYNC:
        asyncio.run(run_tasks(lambda: contender(url), end, seen, workers))  # type: ignore[arg-type]  # an async contender
    else:
        run_threads(contender(url), end, seen, workers)  # type: ignore[arg-type]  # a contender of threads
    return seen


def foreign(url: str, share: float, end: float, seen: list[int]) -> None:
    """Somebody else's client of the same token, evenly."""
    import httpx

    pause = WINDOW / (LIMIT * share)
    with httpx.Client(headers=HEADERS) as client:
        due = time.monotonic()
        while due < end:
            seen.append(client.get(url).status_code)
            due += pause
            time.sleep(max(0.0, due - time.monotonic()))


def measure(name: str, arguments: argparse.Namespace) -> dict[str, object]:
    seen: list[int | str] = []
    others: list[int] = []
    with server(arguments) as base:
        url = f"{base}/v3.0/students?limit=1"
        end = time.monotonic() + (arguments.windows + 1.2) * WINDOW
        rival = threading.Thread(target=foreign, args=(url, arguments.foreign, end, others), daemon=True)
        if arguments.foreign:
            rival.start()
        workers = -(-WORKERS // arguments.processes)
        if arguments.processes == 1:
            seen = run_contender(name, url, end, workers, arguments.store)
        else:
            job = (name, url, end, workers, arguments.store)
            with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
                seen = [
                    *chain.from_iterable(
                        pool.starmap(run_contender, [job] * arguments.processes, chunksize=1)
                    )
                ]
        answered = counts(base)
    by_number = {window["number"]: window["answers"] for window in answered["districts"]["north"]["windows"]}
    first = min(by_number)
    windows = [by_number.get(first + 1 + index, {}) for index in range(arguments.windows)]
    admitted = [window.get("200", 0) + window.get("503", 0) for window in windows]
    return {
        "contender": name,
        "admitted": sum(admitted),
        "429s": sum(window.get("429", 0) for window in windows),
        "429s in the first window": by_number[first].get("429", 0),
        "share of the quota": round(fmean(admitted) / LIMIT, 4),
        "the caller saw 429": seen.count(429),
        "the caller saw 5xx or an error": sum(1 for one in seen if not isinstance(one, int) or one >= 500),
        "the other client's 429s": others.count(429),
    }


ASYNC = {bide_httpx_async, bide_aiohttp, aiolimiter_bucket}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--failures", type=float, default=0.0, help="per cent of 503")
    parser.add_argument("--clock-offset", type=float, default=0.0)
    parser.add_argument(
        "--foreign", type=float, default=0.0, help="share of the quota that another client takes"
    )
    parser.add_argument("--processes", type=int, default=1, help="that the eight workers are spread over")
    parser.add_argument("--store", default="memory", help="where bide's contenders keep their counters")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS))
    parser.add_argument("--json")
    arguments = parser.parse_args()
    results = []
    for name in arguments.only:
        try:
            result = measure(name, arguments)
        except ImportError as error:
            print(f"{name}: left out, {error}")
            continue
        results.append(result)
        print("  ".join(f"{key}: {value}" for key, value in result.items()), flush=True)
    if arguments.json:
        kept = ("windows", "latency", "failures", "clock_offset", "foreign", "processes", "store")
        record = {"date": date.today().isoformat(), "python": platform.python_version()}
        record |= {name: getattr(arguments, name) for name in kept}
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(record | {"rows": results}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
