"""What the middlewares send, bide's own clients read: through real servers, in whole and in parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import bide

Serve = Callable[..., str]


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


@pytest.fixture(params=["asgi", "wsgi"])
def limited(request: pytest.FixtureRequest, serve: Serve) -> Callable[..., str]:
    """Serves an application behind ``RateLimit(*limits, **options)``; returns its address."""

    def start(*limits: str, **options: Any) -> str:
        if request.param == "asgi":
            return serve(bide.asgi.RateLimit(Starlette(routes=[Route("/", hello)]), *limits, **options))
        app = flask.Flask("hello")
        app.add_url_rule("/", view_func=lambda: "hello")
        return serve(bide.wsgi.RateLimit(app.wsgi_app, *limits, **options), "wsgi")

    return start


CLEVER_ROW = (bide.asgi.X_RATELIMIT, bide.CLEVER)
HTTP_ROW = (bide.asgi.RATELIMIT, bide.HTTP)
READ = [
    # the fields sent, the policy that reads them
    CLEVER_ROW,
    HTTP_ROW,
    (bide.asgi.FIELDS, bide.CLEVER),
    ((*bide.asgi.RATELIMIT, "Retry-After"), bide.HTTP),
    (bide.asgi.FIELDS, bide.HTTP),
]


@pytest.mark.parametrize(("fields", "policy"), READ)
def test_a_decision_knows_the_limit_what_remains_and_when_it_ends(
    limited: Callable[..., str], fields: tuple[str, ...], policy: bide.Policy
) -> None:
    url = limited("2/minute", fields=fields, name="a bucket")
    decisions = [bide.decide(httpx.get(url), policy, draw=0.0) for _ in range(3)]
    assert [decision.action for decision in decisions] == ["process", "process", "retry"]
    for decision, remaining in zip(decisions, (1, 0, 0), strict=True):
        quota = decision.quota
        assert quota is not None
        assert (quota.limit, quota.remaining) == (2, remaining)
        assert "a bucket" in {stated.bucket for stated in decision.quotas}
        assert quota.reset_after is not None
        # Whole seconds: the reset is rounded up, the server's Date down, and some renew it once a second.
        assert 50.0 <= quota.reset_after <= 63.0
    assert decisions[2].reason == "rate_limited"
    assert 50.0 <= decisions[2].wait <= 64.0


@pytest.mark.parametrize(("fields", "policy"), [CLEVER_ROW, HTTP_ROW])
def test_a_client_of_bide_is_never_refused_and_waits_no_longer_than_windows_last(
    limited: Callable[..., str], fields: tuple[str, ...], policy: bide.Policy
) -> None:
    refused: list[bide.Outcome] = []
    url = limited("5/second", fields=fields, on_refused=lambda request, outcome: refused.append(outcome))
    waits: list[float] = []
    transport = bide.httpx.Transport(policy, on_wait=lambda sleep: waits.append(sleep.seconds))
    with httpx.Client(transport=transport) as client:
        assert [client.get(url).status_code for _ in range(12)] == [200] * 12
    assert not refused
    # A second is stated as up to three: the reset is rounded up, the server's Date down, and some renew that once a
    # second, or later when they are busy.
    assert max(waits, default=0.0) <= 4.0


def test_several_limits_are_read_as_several_windows(limited: Callable[..., str]) -> None:
    url = limited("5/minute", "100/hour", fields=bide.asgi.RATELIMIT)
    decision = bide.decide(httpx.get(url), bide.HTTP)
    assert decision.quota is not None
    assert (decision.quota.limit, decision.quota.remaining, decision.quota.window) == (5, 4, 60.0)
