"""What one decision costs: a 200, a 429 and a 503 from the header objects of three clients."""

from typing import Any

import httpx
import pytest
import urllib3

import bide

FIELDS = {
    "X-RateLimit-Limit": "1200",
    "X-RateLimit-Remaining": "0",
    "X-RateLimit-Reset": "1394506274",
    "X-RateLimit-Bucket": "abc123",
}
NOW = 1_394_506_250.0


class Response:
    """The smallest response, so that the decision is what is measured."""

    def __init__(self, status_code: int, headers: object) -> None:
        self.status_code = status_code
        self.headers = headers


@pytest.mark.parametrize(
    "kind", [dict, httpx.Headers, urllib3.HTTPHeaderDict], ids=lambda kind: kind.__name__
)
@pytest.mark.parametrize(
    ("status", "fields", "wait"),
    [(200, FIELDS | {"X-RateLimit-Remaining": "1199"}, 0.0), (429, FIELDS, 24.0), (503, {}, 1.0)],
    ids=["200", "429", "503"],
)
def test_decide(benchmark: Any, status: int, fields: dict[str, str], wait: float, kind: Any) -> None:
    benchmark.group = f"decide, {status}"
    response = Response(status, kind(fields))
    decision = benchmark(bide.decide, response, bide.CLEVER, now=NOW, draw=0.0)
    assert decision.wait == wait
