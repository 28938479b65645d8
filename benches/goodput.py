"""Goodput: how much of a real server's quota eight workers use, how many 429s it costs, what the caller saw.

The server is ``bide serve`` in a process of its own: a fixed window of unknown phase, the reset in whole
seconds, rounded up, an empty 429. Every contender is run alone for the same number of windows, by eight
threads or tasks that want as much as they can get. Counted is what the server answered, in whole windows after
the first.

    python benches/goodput.py [--windows 5] [--latency 0.02] [--failures 0] [--clock-offset 0]
                              [--foreign 0 [--burst 1]] [--restart] [--only NAME ...] [--at-once 1]
                              [--record] [--processes 1 --store URL]
    python benches/goodput.py --simulate 2000    # the same driver in virtual time, so many windows of each case

With --processes the workers are spread over so many processes of their own, and bide's contenders keep their
counters in the store: "file:///...", "redis://...", "valkey://..."; with "memory" each process counts for itself.

With --restart the contender is killed in the middle of its first whole window, whose quota it has used up, and begun
anew. --record keeps the rows in results-goodput.json and writes the tables of README.md from all that is kept.

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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import date
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import fmean

LIMIT, WINDOW = 600, 6.0
WORKERS = 8
TOKEN = "north-token"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}

Get = Callable[[], int]
"""One request; gives the status that the caller saw."""

AsyncGet = Callable[[], Awaitable[int]]

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


@asynccontextmanager
async def bide_httpx_async(url: str) -> AsyncIterator[AsyncGet]:
    import httpx

    import bide

    transport = bide.httpx.AsyncTransport(bide_policy(), store=STORE)
    async with httpx.AsyncClient(transport=transport, headers=HEADERS) as client:

        async def get() -> int:
            return (await client.get(url)).status_code

        yield get


@asynccontextmanager
async def bide_aiohttp(url: str) -> AsyncIterator[AsyncGet]:
    import aiohttp

    import bide

    middleware = bide.aiohttp.middleware(bide_policy(), store=STORE)
    async with aiohttp.ClientSession(headers=HEADERS, middlewares=(middleware,)) as session:

        async def get() -> int:
            async with session.get(url) as response:
                await response.read()
                return response.status

        yield get


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


@asynccontextmanager
async def aiolimiter_bucket(url: str) -> AsyncIterator[AsyncGet]:
    import httpx
    from aiolimiter import AsyncLimiter

    limiter = AsyncLimiter(LIMIT, WINDOW)
    async with httpx.AsyncClient(headers=HEADERS) as client:

        async def get() -> int:
            async with limiter:
                return (await client.get(url)).status_code

        yield get


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


def refusals(answered: dict) -> int:
    return sum(window["answers"].get("429", 0) for window in answered["districts"]["north"]["windows"])


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
    contender: AbstractAsyncContextManager[AsyncGet], end: float, seen: list[int | str], workers: int
) -> None:
    async with contender as get:

        async def work() -> None:
            while time.monotonic() < end:
                try:
                    seen.append(await get())
                except Exception as error:
                    seen.append(type(error).__name__)

        tasks = [asyncio.create_task(work()) for _ in range(workers)]
        await asyncio.wait(tasks, timeout=end + 2 * WINDOW - time.monotonic())


def run_contender(name: str, url: str, end: float, workers: int, store: str) -> list[int | str]:
    """Runs it in this process until ``end``, a reading of the monotonic clock; what its callers saw."""
    global STORE
    STORE = store
    contender = CONTENDERS[name]
    seen: list[int | str] = []
    if contender in ASYNC:
        asyncio.run(run_tasks(contender(url), end, seen, workers))  # type: ignore[arg-type]  # an async contender
    else:
        run_threads(contender(url), end, seen, workers)  # type: ignore[arg-type]  # a contender of threads
    return seen


def run_killed(name: str, url: str, end: float, workers: int, store: str) -> None:
    """Runs it in a process of its own, which is killed at ``end``."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=run_contender, args=(name, url, end + WINDOW, workers, store))
    process.start()
    process.join(end - time.monotonic())
    process.kill()
    process.join()


def foreign(url: str, share: float, burst: int, end: float, seen: list[int]) -> None:
    """Somebody else's client of the same token: evenly, or so many requests at a time."""
    import httpx

    pause = WINDOW * burst / (LIMIT * share)
    with httpx.Client(headers=HEADERS) as client, ThreadPoolExecutor(min(burst, WORKERS)) as threads:
        due = time.monotonic()
        while due < end:
            seen.extend(threads.map(lambda _: client.get(url).status_code, range(burst)))
            due += pause
            time.sleep(max(0.0, due - time.monotonic()))


def measure(name: str, arguments: argparse.Namespace) -> dict[str, object]:
    seen: list[int | str] = []
    others: list[int] = []
    with server(arguments) as base:
        url = f"{base}/v3.0/students?limit=1"
        end = time.monotonic() + (arguments.windows + 1.2) * WINDOW
        theirs = (url, arguments.foreign, arguments.burst, end, others)
        rival = threading.Thread(target=foreign, args=theirs, daemon=True)
        if arguments.foreign:
            rival.start()
        workers = -(-WORKERS // arguments.processes)
        before = 0
        if arguments.restart:
            run_killed(name, url, time.monotonic() + 1.5 * WINDOW, workers, arguments.store)
            before = refusals(counts(base))
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
        if arguments.foreign:
            rival.join()
        answered = counts(base)
    if arguments.restart:
        return {"contender": name, "429s after the restart": refusals(answered) - before}
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
        # Of all windows, also the first and the last: the other client cannot tell in which one it was refused.
        "its own 429s": refusals(answered) - others.count(429),
        "successes": seen.count(200),
        "the other client's 429s": others.count(429),
        "the other client's requests": len(others),
    }


ASYNC = {bide_httpx_async, bide_aiohttp, aiolimiter_bucket}


def attempt(name: str, arguments: argparse.Namespace) -> dict[str, object] | None:
    """The contender's row; None where its library is not installed."""
    try:
        return measure(name, arguments)
    except ImportError as error:
        print(f"{name}: left out, {error}")
        return None


# Telling ---------------------------------------------------------------------------------------------------

HERE = Path(__file__).resolve().parent
KEPT = HERE / "results-goodput.json"
README = HERE / "README.md"
BEGIN, END = "<!-- goodput: begin (make goodput ARGS=--record writes this) -->", "<!-- goodput: end -->"
VARIANT = {
    "latency": 0.02,
    "failures": 0.0,
    "clock_offset": 0.0,
    "foreign": 0.0,
    "burst": 1,
    "restart": False,
    "processes": 1,
    "store": "memory",
}
"""The arguments that make a run another one, as they are in the usual case."""


def record_of(rows: list[dict[str, object]], arguments: argparse.Namespace) -> dict[str, object]:
    record: dict[str, object] = {"date": date.today().isoformat(), "python": platform.python_version()}
    record.update((name, getattr(arguments, name)) for name in ("windows", *VARIANT))
    record["rows"] = rows
    return record


def keep(record: dict) -> None:
    """Puts the rows in the place of older ones of the same kind, and writes the tables."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else []
    for old in kept:
        if all(old[name] == record[name] for name in VARIANT):
            fresh = {row["contender"] for row in record["rows"]}
            record["rows"] = [row for row in old["rows"] if row["contender"] not in fresh] + record["rows"]
            kept.remove(old)
            break
    kept.append(record)
    kept.sort(key=lambda one: (len(given(one)), given(one)))
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    text = "\n".join(map(table, kept))
    README.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def given(record: dict) -> list[str]:
    """What makes a record's run another one than the usual case, as arguments."""
    differs = [name for name, usual in VARIANT.items() if record[name] != usual]
    return [f"--{name.replace('_', '-')} {record[name]}".removesuffix(" True") for name in differs]


SHARED = ("its own 429s", "successes", "the other client's 429s", "the other client's requests")
"""Columns that say something where another client uses the same quota ..."""
ALONE = ("429s", "429s in the first window")
"""... and those that would mix the two."""


def table(record: dict) -> str:
    arguments = f"`{' '.join(given(record))}`" if given(record) else "The usual case"
    lines = [f"{arguments} ({record['windows']} windows, {record['date']}, CPython {record['python']})", ""]
    hidden = ("contender", "admitted", *(ALONE if record["foreign"] else SHARED))
    columns = [key for key in record["rows"][0] if key not in hidden]
    lines += [f"| client | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    order = {name: place for place, name in enumerate(CONTENDERS)}
    for row in sorted(record["rows"], key=lambda row: order.get(row["contender"], len(order))):
        cells = [f"{row[c] * 100:.1f} %" if c.startswith("share") else f"{row[c]}" for c in columns]
        lines.append(f"| {row['contender']} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


# Virtual time ----------------------------------------------------------------------------------------------


def simulate(windows: int) -> None:
    """The driver against a model of the server, so many windows of each case; prints a table."""
    import bide
    from bide._driver import Driver
    from bide._simulation import ModelServer, World, run

    cases: dict[str, tuple[float, dict, dict]] = {
        "20 ms": (WINDOW, {}, {}),
        "60 ms": (WINDOW, {}, {"latency": 0.06}),
        "200 ms": (WINDOW, {}, {"latency": 0.2}),
        "the server's clock 30 s ahead": (WINDOW, {"clock_offset": 30.4}, {}),
        "the server's clock 30 s behind": (WINDOW, {"clock_offset": -30.4}, {}),
        "2 % of 503": (WINDOW, {"failures": 0.02}, {}),
        "5 % of 503": (WINDOW, {"failures": 0.05}, {}),
        "replies overtake each other": (WINDOW, {}, {"jitter": 0.9}),
        "another client takes 30 %": (WINDOW, {}, {"foreign_share": 0.3}),
        "another client takes 30 %, 60 ms": (WINDOW, {}, {"foreign_share": 0.3, "latency": 0.06}),
        "another client takes 30 %, replies overtake each other": (
            WINDOW,
            {},
            {"foreign_share": 0.3, "jitter": 0.9},
        ),
        "another client takes 30 %, 60 requests at a time": (
            WINDOW,
            {},
            {"foreign_share": 0.3, "foreign_burst": 60},
        ),
        "windows of 60 s": (60.0, {}, {}),
        "windows of 60 s, 5 % of 503": (60.0, {"failures": 0.05}, {}),
    }
    print("| in virtual time | 429s in the first window | 429s after it | for 1,000 successes | share used |")
    print("|---|---:|---:|---:|---:|")
    for learning in (False, True):
        for name, (window, server, options) in cases.items():
            backoff = bide.Backoff(base=0.5, cap=30.0, jitter="full")
            policy = bide.CLEVER.replace(limits=(f"{LIMIT}/{window:.0f}s",), window=window, backoff=backoff)

            learn = window if learning else None

            def driver(world: World, policy: bide.Policy = policy, learn: float | None = learn) -> Driver:
                limiter = None if learn is None else bide.Limiter(learn=learn, clock=world)
                return Driver(policy, limiter=limiter, clock=world)

            model = ModelServer(LIMIT, window, phase=0.56 * window, **server)
            result = run(driver, model, windows=windows, **{"workers": WORKERS, "latency": 0.02, **options})
            label = f"learning, {name}" if learning else name
            per_thousand = 1_000 * result.refusals / max(1, result.successes)
            numbers = f"{result.first_window_refusals} | {result.refusals} | {per_thousand:.2f}"
            print(f"| {label} | {numbers} | {result.used * 100:.1f} % |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--failures", type=float, default=0.0, help="per cent of 503")
    parser.add_argument("--clock-offset", type=float, default=0.0)
    parser.add_argument(
        "--foreign", type=float, default=0.0, help="share of the quota that another client takes"
    )
    parser.add_argument(
        "--burst", type=int, default=1, help="how many requests of that client come at a time"
    )
    parser.add_argument("--restart", action="store_true", help="kill it in the middle of a window")
    parser.add_argument("--processes", type=int, default=1, help="that the eight workers are spread over")
    parser.add_argument("--store", default="memory", help="where bide's contenders keep their counters")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--only", nargs="*", choices=list(CONTENDERS), default=list(CONTENDERS), metavar="NAME"
    )
    parser.add_argument("--at-once", type=int, default=1, help="contenders that run at the same time")
    parser.add_argument(
        "--simulate", type=int, metavar="WINDOWS", help="in virtual time; nothing else counts"
    )
    parser.add_argument("--record", action="store_true", help="keep the rows, and write README.md")
    arguments = parser.parse_args()
    if arguments.simulate:
        simulate(arguments.simulate)
        return
    rows = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.at_once, mp_context=spawn) as pool:
        for row in pool.map(partial(attempt, arguments=arguments), arguments.only):
            if row is not None:
                rows.append(row)
                print("  ".join(f"{key}: {value}" for key, value in row.items()), flush=True)
    if arguments.record and rows:
        keep(record_of(rows, arguments))


if __name__ == "__main__":
    main()
