"""The decision engine beside what others spend on one decision, in one run on the same header objects.

    python benches/decide.py [--rounds 401] [--json FILE]

U is what urllib3 spends on one full decision about a 429: ``is_retry``, ``increment``, ``get_retry_after``. Every
contender is called in turn in each of many short rounds; the best round of each counts, and the spread is the
median over the best. What is measured is checked first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import httpx
import urllib3
from botocore.retries import standard
from httpx_retries import Retry as HttpxRetry

import bide

CALLS = 200
RESET = str(int(time.time()) + 30)
FOUR = {
    "X-RateLimit-Limit": "1200",
    "X-RateLimit-Remaining": "1199",
    "X-RateLimit-Reset": RESET,
    "X-RateLimit-Bucket": "abc123",
}
REFUSED = FOUR | {"X-RateLimit-Remaining": "0", "Retry-After": "30"}
PLAIN = {
    "Date": "Wed, 25 Nov 2026 05:00:00 GMT",
    "Content-Type": "application/json; charset=utf-8",
    "Content-Length": "5120",
    "Connection": "keep-alive",
    "Server": "nginx",
    "Vary": "Accept-Encoding",
}


class Response:
    """The smallest response: what is measured is the decision and the reading of the header object."""

    def __init__(self, status_code: int, headers: object) -> None:
        self.status_code = status_code
        self.headers = headers


HEADERS: dict[str, Callable[[dict[str, str]], object]] = {
    "httpx.Headers": httpx.Headers,
    "HTTPHeaderDict": urllib3.HTTPHeaderDict,
    "dict": dict,
}


def urllib3_decision(status: int, headers: dict[str, str]) -> Callable[[], object]:
    retry = urllib3.Retry(total=10, status_forcelist=[500, 502, 503], backoff_factor=0.5)
    response = urllib3.HTTPResponse(b"", headers=headers, status=status)
    has_retry_after = "Retry-After" in headers

    def decide() -> object:
        retry.is_retry("GET", status, has_retry_after)
        following = retry.increment("GET", "/", response=response)
        return following.get_retry_after(response) or following.get_backoff_time()

    return decide


def httpx_retries_decision(headers: dict[str, str]) -> Callable[[], object]:
    retry, given = HttpxRetry(total=10), httpx.Headers(headers)

    def decide() -> object:
        if not retry.is_retryable_method("GET") or not retry.is_retryable_status_code(429):
            return None
        return retry.increment()._calculate_sleep(given)

    return decide


def botocore_decision(status: int) -> Callable[[], object]:
    conditions = standard.OrRetryChecker([standard.StandardRetryConditions()])
    policy = standard.RetryPolicy(conditions, standard.ExponentialBackoff())
    response = Response(status, {})

    def decide() -> object:
        context = standard.RetryContext(1, parsed_response={"Error": {"Code": "x"}}, http_response=response)
        return policy.should_retry(context) and policy.compute_retry_delay(context)

    return decide


def bide_decision(status: int, headers: object, policy: bide.Policy) -> Callable[[], object]:
    response = Response(status, headers)
    return lambda: bide.decide(response, policy, method="GET")


def contenders() -> dict[str, Callable[[], object]]:
    table: dict[str, Callable[[], object]] = {
        "urllib3: 429": urllib3_decision(429, REFUSED),
        "urllib3: 503": urllib3_decision(503, {}),
        "httpx-retries: 429": httpx_retries_decision(REFUSED),
        "botocore: 503": botocore_decision(503),
    }
    for kind, made in HEADERS.items():
        table[f"bide: 200, four fields, {kind}"] = bide_decision(200, made(FOUR), bide.CLEVER)
        table[f"bide: 429, {kind}"] = bide_decision(429, made(REFUSED), bide.CLEVER)
        table[f"bide: 503, {kind}"] = bide_decision(503, made({}), bide.HTTP)
        table[f"bide: 200, no limit, {kind}"] = bide_decision(200, made(PLAIN), bide.HTTP)
    return table


def measured(rounds: int) -> dict[str, tuple[float, float]]:
    """Name to (best round, median round), in nanoseconds a call."""
    table = contenders()
    seen: dict[str, list[float]] = {name: [] for name in table}
    for _ in range(rounds):
        for name, call in table.items():
            started = time.perf_counter_ns()
            for _ in range(CALLS):
                call()
            seen[name].append((time.perf_counter_ns() - started) / CALLS)
    return {name: (min(times), statistics.median(times)) for name, times in seen.items()}


def import_milliseconds(module: str, rounds: int = 15) -> float:
    """What an import adds to a bare interpreter: the difference of the least times."""

    def least(code: str) -> float:
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - started)
        return min(times)

    return (least(f"import {module}") - least("pass")) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=401)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    assert bide.decide(Response(429, REFUSED), bide.CLEVER).source == "retry-after"
    assert bide.decide(Response(200, FOUR), bide.CLEVER).quota is not None
    times = measured(arguments.rounds)
    unit = times["urllib3: 429"][0]
    print(f"{'':40} {'best ns':>8} {'median':>8} {'of U':>6}")
    for name, (best, median) in times.items():
        print(f"{name:40} {best:8.0f} {median:8.0f} {best / unit:6.2f}")
    aims: list[tuple[str, float, float]] = []
    for kind in HEADERS:
        refused = times[f"bide: 429, {kind}"][0]
        failed = times[f"bide: 503, {kind}"][0]
        aims += [
            (f"200 with four fields / U, {kind}", times[f"bide: 200, four fields, {kind}"][0] / unit, 0.6),
            (f"429 / U, {kind}", refused / unit, 0.5),
            (f"429 / httpx-retries, {kind}", refused / times["httpx-retries: 429"][0], 0.8),
            (f"503 / urllib3's, {kind}", failed / times["urllib3: 503"][0], 0.5),
            (f"503 / botocore's, {kind}", failed / times["botocore: 503"][0], 0.6),
            (f"200 without a limit, µs, {kind}", times[f"bide: 200, no limit, {kind}"][0] / 1e3, 1.5),
        ]
    aims.append(("import bide.policy, ms", import_milliseconds("bide.policy"), 15.0))
    print()
    for name, value, aim in aims:
        print(f"{name:45} {value:7.3f}  aim {aim:5.2f}  {'' if value <= aim else 'missed'}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"nanoseconds": times, "ratios": aims}, file, indent=1)


if __name__ == "__main__":
    main()
