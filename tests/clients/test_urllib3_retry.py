"""``bide.urllib3.Retry`` wherever urllib3 and requests take a ``Retry``: over a real socket, waits taken down."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import requests
import urllib3
from urllib3.exceptions import MaxRetryError, ReadTimeoutError

import bide
from bide.testing import FakeClock, ScriptedServer, answer_bytes
from bide.urllib3 import Retry

Get = Callable[..., Any]


def get_urllib3(url: str, retry: Retry, method: str = "GET", **arguments: Any) -> tuple[int, bytes]:
    with urllib3.PoolManager() as manager:
        response = manager.request(method, url, retries=retry, timeout=5.0, **arguments)
    return response.status, response.data


def get_requests(url: str, retry: Retry, method: str = "GET", **arguments: Any) -> tuple[int, bytes]:
    if "body" in arguments:
        arguments["data"] = arguments.pop("body")
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
        response = session.request(method, url, timeout=5.0, **arguments)
    return response.status_code, response.content


@pytest.fixture(params=[get_urllib3, get_requests], ids=["urllib3", "requests"])
def get(request: pytest.FixtureRequest) -> Get:
    return request.param  # type: ignore[no-any-return]  # one of the two above


@pytest.fixture
def waits() -> list[float]:
    return []


def test_what_may_be_repeated_is_repeated_with_the_policys_waits(get: Get, waits: list[float]) -> None:
    answers = [
        answer_bytes(500),
        None,
        answer_bytes(429, {"Retry-After": "30"}),
        answer_bytes(200, body=b"[]"),
    ]
    with ScriptedServer(answers) as server:
        assert get(server.url, Retry(policy=bide.CLEVER, sleep=waits.append)) == (200, b"[]")
        assert (len(server.requests), server.connections) == (4, 2)
    for wait, stated in zip(waits, (1, 2, 30), strict=True):
        assert stated <= wait <= stated * 1.25


def test_a_policy_may_stand_first(get: Get, waits: list[float]) -> None:
    with ScriptedServer([answer_bytes(502), answer_bytes(200)]) as server:
        assert get(server.url, Retry(bide.CLEVER, sleep=waits.append))[0] == 200


@pytest.mark.parametrize("status", [400, 401, 404, 413, 501])
def test_what_cannot_succeed_is_handed_out_at_once(get: Get, waits: list[float], status: int) -> None:
    with ScriptedServer([answer_bytes(status, body=b"why")]) as server:
        assert get(server.url, Retry(policy=bide.CLEVER, sleep=waits.append)) == (status, b"why")
        assert len(server.requests) == 1
    assert waits == []


def test_an_outage_ends_as_urllib3s_own_error_and_as_deferred(waits: list[float]) -> None:
    with ScriptedServer([answer_bytes(503)]) as server:
        with pytest.raises(MaxRetryError) as caught:
            get_urllib3(server.url, Retry(policy=bide.CLEVER, sleep=waits.append))
        assert len(server.requests) == 6
    assert str(caught.value.reason) == "too many 503 error responses"
    error: Any = caught.value
    assert isinstance(error, bide.Deferred)
    assert error.decision.resume_at is not None


def test_an_outage_ends_as_requests_own_error_which_carries_the_deferred(waits: list[float]) -> None:
    with ScriptedServer([answer_bytes(503)]) as server:
        with pytest.raises(requests.exceptions.RetryError) as caught:
            get_requests(server.url, Retry(policy=bide.CLEVER, sleep=waits.append))
        assert len(server.requests) == 6
    assert isinstance(caught.value.args[0], bide.Deferred)


def test_a_number_of_retries_that_is_given_is_the_policys_too(get: Get, waits: list[float]) -> None:
    with ScriptedServer([answer_bytes(503)]) as server:
        with pytest.raises((MaxRetryError, requests.exceptions.RetryError)):
            get(server.url, Retry(2, policy=bide.CLEVER, sleep=waits.append))
        assert len(server.requests) == 3


def test_no_retries_means_none(get: Get, waits: list[float]) -> None:
    with ScriptedServer([answer_bytes(503)]) as server:
        assert get(server.url, Retry(0, policy=bide.CLEVER, sleep=waits.append))[0] == 503
        assert len(server.requests) == 1


def test_raise_on_status_false_hands_out_the_last_response(get: Get, waits: list[float]) -> None:
    with ScriptedServer([answer_bytes(503, body=b"down")]) as server:
        retry = Retry(policy=bide.CLEVER, raise_on_status=False, sleep=waits.append)
        assert get(server.url, retry) == (503, b"down")
        assert len(server.requests) == 6


def test_a_wait_beyond_max_wait_is_deferred_at_once(waits: list[float]) -> None:
    with ScriptedServer([answer_bytes(429, {"Retry-After": "3600"})]) as server:
        with pytest.raises(bide.Deferred) as caught:
            get_urllib3(server.url, Retry(policy=bide.CLEVER, max_wait=60.0, sleep=waits.append))
        assert len(server.requests) == 1
    assert caught.value.decision.wait >= 3600
    assert waits == []


def test_a_post_that_was_refused_is_sent_again_and_one_that_may_have_been_acted_on_is_not(
    get: Get, waits: list[float]
) -> None:
    with ScriptedServer([answer_bytes(429, {"Retry-After": "1"}), answer_bytes(500, body=b"?")]) as server:
        assert get(server.url, Retry(policy=bide.HTTP, sleep=waits.append), "POST", body=b"one") == (
            500,
            b"?",
        )
        assert [request.body for request in server.requests] == [b"one", b"one"]


@pytest.mark.parametrize(
    "promise", [{"idempotent": True}, {"allowed_methods": ["POST"]}, {"allowed_methods": None}]
)
def test_a_callers_promise_makes_a_post_repeatable(
    get: Get, waits: list[float], promise: dict[str, Any]
) -> None:
    with ScriptedServer([answer_bytes(500), answer_bytes(200)]) as server:
        retry = Retry(policy=bide.HTTP, sleep=waits.append, **promise)
        assert get(server.url, retry, "POST", body=b"one")[0] == 200


def test_a_refusal_that_only_its_headers_tell_is_repeated_and_its_plain_sister_is_handed_out(
    get: Get, waits: list[float]
) -> None:
    """urllib3 asks about the status before it shows the headers: GitHub's 403 may be either."""
    policy = bide.policies.load("github").replace(retries=2)
    refused = answer_bytes(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Limit": "60", "Retry-After": "5"})
    with ScriptedServer([refused, answer_bytes(200)]) as server:
        assert get(server.url, Retry(policy=policy, sleep=waits.append))[0] == 200
    assert waits[0] >= 5.0
    with ScriptedServer([answer_bytes(403, body=b"forbidden")]) as server:
        assert get(server.url, Retry(policy=policy, sleep=waits.append)) == (403, b"forbidden")
        assert len(server.requests) == 1


KRAKEN = bide.policies.load("kraken")


def test_a_refusal_that_only_a_success_s_body_tells_is_repeated_and_any_other_success_is_handed_out(
    get: Get, waits: list[float]
) -> None:
    json = {"Content-Type": "application/json"}
    answers = [
        answer_bytes(200, json, b'{"error": ["EAPI:Rate limit exceeded"]}'),
        answer_bytes(200, json, b'{"error": [], "result": 1}'),
    ]
    with ScriptedServer(answers) as server:
        retry = Retry(policy=KRAKEN, sleep=waits.append)
        assert get(server.url, retry) == (200, b'{"error": [], "result": 1}')
        assert len(server.requests) == 2
    assert len(waits) == 1


def test_redirects_are_counted_as_urllib3_counts_them(waits: list[float]) -> None:
    answers = [
        answer_bytes(302, {"Location": "/a"}),
        answer_bytes(503),
        answer_bytes(302, {"Location": "/b"}),
    ]
    with ScriptedServer(answers) as server:
        with pytest.raises(MaxRetryError, match="too many redirects"):
            get_urllib3(server.url, Retry(redirect=1, policy=bide.CLEVER, sleep=waits.append))
        assert [request.line.split()[1] for request in server.requests] == ["/", "/a", "/a"]


@pytest.mark.parametrize("value", ["soon", "1.5e", "9" * 5000, "31 Feb", "٣".encode().decode("latin-1")])
def test_garbage_from_a_server_never_raises(get: Get, waits: list[float], value: str) -> None:
    fields = {"Retry-After": value}
    answers = [answer_bytes(302, fields | {"Location": "/a"}), answer_bytes(429, fields), answer_bytes(200)]
    with ScriptedServer(answers) as server:
        assert get(server.url, Retry(policy=bide.CLEVER, sleep=waits.append))[0] == 200


def test_a_status_that_the_caller_lists_is_repeated_whatever_the_policy_says(
    get: Get, waits: list[float]
) -> None:
    with ScriptedServer([answer_bytes(404), answer_bytes(200)]) as server:
        assert (
            get(server.url, Retry(policy=bide.CLEVER, status_forcelist=[404], sleep=waits.append))[0] == 200
        )


def test_decisions_are_told_and_history_is_kept(waits: list[float]) -> None:
    heard: list[bide.Decision] = []
    with ScriptedServer([answer_bytes(500), answer_bytes(200)]) as server, urllib3.PoolManager() as manager:
        retry = Retry(policy=bide.CLEVER, on_decision=heard.append, sleep=waits.append)
        response: Any = manager.request("GET", server.url, retries=retry)
    assert [decision.reason for decision in heard] == [bide.Reason.SERVER_ERROR]
    assert [entry.status for entry in response.retries.history] == [500]
    assert retry.history == ()


def test_the_deadline_ends_it_before_the_wait_that_would_not_fit(waits: list[float]) -> None:
    with ScriptedServer([answer_bytes(429, {"Retry-After": "30"})]) as server:
        with pytest.raises(bide.Deferred):
            get_urllib3(server.url, Retry(policy=bide.CLEVER, deadline=10.0, sleep=waits.append))
        assert len(server.requests) == 1


def test_a_failure_for_good_ends_as_urllib3s_own_error_does() -> None:
    """A closed port is asked again; what never will work is not."""
    failure = ReadTimeoutError(None, "/", "read timed out")  # type: ignore[arg-type]  # as urllib3's tests make it
    with pytest.raises(ReadTimeoutError):
        Retry(policy=bide.HTTP).increment("POST", "/", error=failure)


def test_it_is_pickled_with_a_session_of_requests() -> None:
    retry = pickle.loads(pickle.dumps(Retry(policy=bide.CLEVER, max_wait=7.0)))
    assert retry.is_retry("GET", 503)
    assert not retry.is_retry("GET", 404)


def test_a_limiter_learns_from_failures_and_its_next_repetition_waits_for_it(
    get: Get, waits: list[float]
) -> None:
    clock = FakeClock()
    limiter = bide.Limiter("1/minute", clock=clock)

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.sleep(seconds)

    answers = [
        answer_bytes(429, {"Retry-After": "20"}),
        answer_bytes(200),
        answer_bytes(500),
        answer_bytes(200),
    ]
    with ScriptedServer(answers) as server:
        retry = Retry(bide.CLEVER, limiter=limiter, key="account 7", sleep=sleep)
        assert get(server.url, retry)[0] == 200
        assert 20.0 <= sum(waits) <= 25.1
        waits.clear()
        assert get(server.url, retry)[0] == 200
    assert sum(waits) == pytest.approx(60.0, abs=0.1)
    assert not limiter.take("account 7")


def test_a_repetition_that_the_limiter_has_no_room_for_is_deferred(waits: list[float]) -> None:
    limiter = bide.Limiter("1/hour")
    limiter.take("127.0.0.1")
    with ScriptedServer([answer_bytes(500)]) as server:
        with pytest.raises(bide.Deferred) as caught:
            get_urllib3(server.url, Retry(bide.CLEVER, limiter=limiter, sleep=waits.append))
        assert len(server.requests) == 1
    assert isinstance(caught.value, urllib3.exceptions.HTTPError)
    assert caught.value.decision.source == "limiter"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"policy": "clever"}, TypeError, "policy must be a bide.Policy such as bide.CLEVER"),
        ({"limiter": True}, TypeError, "limiter must be a bide.Limiter"),
        ({"key": "mine"}, ValueError, "give limiter or store, too"),
        ({"store": "memory://", "limiter": bide.Limiter("1/minute")}, ValueError, "the one or the other"),
        ({"max_wait": -1.0}, ValueError, "max_wait"),
        ({"tries": 3}, TypeError, "tries"),
    ],
)
def test_a_wrong_option_is_refused_with_what_to_write(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Retry(**arguments)


@pytest.mark.usefixtures("everywhere")
def test_without_a_policy_the_host_tells_what_a_403_is(get: Get, waits: list[float]) -> None:
    refused = answer_bytes(
        403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Limit": "60", "Retry-After": "5"}, b"why"
    )
    with ScriptedServer([refused, answer_bytes(200), refused]) as server:
        port = server.url.rpartition(":")[2]
        assert get(f"http://api.github.com:{port}/user", Retry(sleep=waits.append))[0] == 200
        assert waits[0] >= 5.0
        assert get(f"http://api.example.com:{port}/user", Retry(sleep=waits.append)) == (403, b"why")
        assert len(server.requests) == 3


def test_a_proxy_is_not_taken_for_the_api_that_it_leads_to(waits: list[float]) -> None:
    """It is told the whole URL."""
    refused = answer_bytes(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Limit": "60", "Retry-After": "5"})
    with ScriptedServer([refused, answer_bytes(200)]) as server:
        with urllib3.ProxyManager(server.url, retries=Retry(sleep=waits.append)) as proxy:
            assert proxy.request("GET", "http://api.github.com/user").status == 200
        assert server.requests[0].line == "GET http://api.github.com/user HTTP/1.1"
    assert sum(waits) >= 5.0


def test_a_proxy_is_not_counted_for_the_api_that_it_leads_to() -> None:
    limiter = bide.Limiter("100/minute")
    fields = {"Authorization": "Bearer T"}
    with ScriptedServer([answer_bytes(200)]) as server:
        inner = urllib3.ProxyManager(server.url)
        with bide.urllib3.PoolManager(bide.CLEVER, inner=inner, limiter=limiter) as manager:
            manager.request("GET", "http://api.clever.com/v3.0/students", headers=fields)
    assert limiter.peek("api.clever.com Bearer T").remaining == 99


def test_a_first_repetition_whose_answer_nobody_tells_the_limiter_of_keeps_nobody_waiting(
    waits: list[float],
) -> None:
    """A ``Retry`` is told of failures alone: a success opens no key."""
    limiter = bide.Limiter("100/minute")
    with ScriptedServer([answer_bytes(500), answer_bytes(200)]) as server:
        retry = Retry(bide.CLEVER, limiter=limiter, key="account 7", sleep=waits.append)
        assert get_urllib3(server.url, retry)[0] == 200
    assert limiter.contact("account 7").allowed


def test_a_caller_who_respects_no_retry_after_gets_urllib3s_own_waits(waits: list[float]) -> None:
    refused = answer_bytes(429, {"Retry-After": "30"})
    with ScriptedServer([refused, answer_bytes(200)]) as server:
        retry = Retry(bide.CLEVER, respect_retry_after_header=False, backoff_factor=0.0, sleep=waits.append)
        assert get_urllib3(server.url, retry)[0] == 200
    assert waits == []
