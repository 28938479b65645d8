"""Without a policy, the host of each request chooses it; nothing here goes out to those hosts."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import httpx2
import pytest

import bide
from bide._buckets import MOST_KEYS, MOST_ROUTES, Buckets
from bide._driver import Driver, Exchange, Send, Sleep
from bide.testing import FakeClock, ScriptedServer, answer_bytes


def policy_chosen_for(url: str, transport: Any) -> str:
    """What the transport decides with, as far as its answer to a wait on the policy's own page shows."""
    lane = transport._driver.lane_of(httpx.URL(url).host)
    return str(lane.policy.name)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.github.com/user", "github"),
        ("https://api.clever.com/v3.0/students", "clever"),
        ("https://example.org/", "http"),
    ],
)
def test_the_host_chooses_the_policy(url: str, name: str) -> None:
    assert policy_chosen_for(url, bide.httpx.Transport()) == name
    assert policy_chosen_for(url, bide.httpx.Transport(bide.CLEVER)) == "clever"


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
def test_a_refusal_in_githubs_own_words_is_waited_out(library: Any) -> None:
    clock = FakeClock()
    fields = {
        "X-RateLimit-Limit": "60",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(1_700_000_040),
    }
    answers = iter([library.Response(403, headers=fields), library.Response(200)])
    inner = library.MockTransport(lambda request: next(answers))
    transport = bide.httpx.Transport(inner=inner, clock=clock, sleep=clock.sleep, limiter=False)
    with library.Client(transport=transport) as client:
        response = client.get("https://api.github.com/user")
    assert response.status_code == 200
    assert type(response) is library.Response
    assert sum(clock.slept) >= 40.0


def test_each_api_has_a_limiter_of_its_own_which_its_requests_share() -> None:
    driver = Driver()
    clever, again = driver.lane_of("api.clever.com"), driver.lane_of("API.clever.com")
    github = driver.lane_of("api.github.com")
    assert clever is again
    assert clever.limiter is not None
    assert clever.limiter is not github.limiter
    assert [str(limit) for limit in clever.limiter.limits] == [str(bide.Limit(1200, 60.0))]


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("name", ["httpx async", "httpx trio", "aiohttp"])
def test_a_policy_that_is_needed_for_the_first_time_is_read_beside_the_event_loop(
    name: str, make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is the store opened; once for all requests to that API."""
    threads: list[str] = []
    make = Driver._lane

    def witness(driver: Driver, policy: bide.Policy) -> Any:
        threads.append(threading.current_thread().name)
        return make(driver, policy)

    monkeypatch.setattr(Driver, "_lane", witness)
    with ScriptedServer([answer_bytes(503), answer_bytes(200)]) as server:
        port = server.url.rpartition(":")[2]
        make_client(name)(f"http://api.github.com:{port}/user", policy=None)
        assert len(server.requests) == 2
    here = threading.current_thread().name
    assert threads[0] == here
    assert len(threads) == 2
    assert threads[1] != here


def test_an_api_whose_limit_depends_on_the_plan_has_it_learned() -> None:
    github = Driver().lane_of("api.github.com")
    assert (github.policy.limits, github.policy.window) == ((), 3_600.0)
    assert repr(github.limiter).startswith("<bide.Limiter learn=3600.0,")


def test_the_patience_that_was_asked_for_holds_whatever_the_policy() -> None:
    driver = Driver(max_wait=7.0, deadline=9.0)
    for host in ("api.clever.com", "api.github.com", "example.org"):
        policy = driver.lane_of(host).policy
        assert (policy.max_wait, policy.deadline) == (7.0, 9.0)


def test_httpx2_gets_a_transport_of_httpx2_without_asking_for_it() -> None:
    with ScriptedServer([answer_bytes(200)]) as server:
        url = server.url
    transport = bide.httpx.Transport(bide.CLEVER.replace(retries=0))
    with httpx2.Client(transport=transport) as client, pytest.raises(httpx2.ConnectError) as caught:
        client.get(url)
    assert isinstance(caught.value, bide.Deferred)
    assert isinstance(transport._inner, httpx2.HTTPTransport)


GET = Exchange(method="GET", host="api.example", request=None, authorization="Bearer A")


def counted(bucket: str, left: int, clock: FakeClock) -> bide.Reply:
    fields = {"X-RateLimit-Limit": "100", "X-RateLimit-Reset": str(int(clock.time()) + 60)}
    return bide.Reply(200, fields | {"X-RateLimit-Remaining": str(left), "X-RateLimit-Bucket": bucket})


def test_a_bucket_that_is_used_up_holds_back_its_own_requests_and_no_others() -> None:
    clock = FakeClock()
    driver = Driver(bide.CLEVER, limiter=bide.Limiter("100/minute", clock=clock), clock=clock)

    def first_instruction(path: str) -> Send | Sleep:
        flow = driver.flow(GET._replace(target=path))
        instruction = next(flow)
        flow.close()
        assert isinstance(instruction, Send | Sleep)
        return instruction

    for path, bucket, left in [
        ("/students/1", "read", 50),
        ("/search", "search", 0),
        ("/students/2", "read", 49),
    ]:
        flow = driver.flow(GET._replace(target=path))
        assert isinstance(next(flow), Send)
        with pytest.raises(StopIteration):
            flow.send(counted(bucket, left, clock))
    assert isinstance(first_instruction("/students/3"), Send)
    held = first_instruction("/search")
    assert isinstance(held, Sleep)
    assert held.seconds == pytest.approx(60.0, abs=1.1)
    clock.advance(61.0)
    assert isinstance(first_instruction("/search"), Send)


def test_a_server_that_names_every_reply_differently_does_not_split_the_key_without_end() -> None:
    clock = FakeClock()
    driver = Driver(bide.CLEVER, limiter=bide.Limiter("100/minute", clock=clock), clock=clock)
    for number in range(99):
        flow = driver.flow(GET._replace(target=f"/{number:x}"))
        while not isinstance(next(flow), Send):
            pass
        with pytest.raises(StopIteration):
            flow.send(counted(f"request {number}", 99 - number, clock))
    assert driver._buckets.key("api.example Bearer A", "GET", "/0") == "api.example Bearer A"


def test_what_a_server_can_make_the_buckets_remember_is_bounded() -> None:
    buckets = Buckets()
    for number in range(MOST_KEYS + 50):
        buckets.learn(f"key {number}", "GET", "/", "one")
    assert len(buckets._splits) == MOST_KEYS
    for number in range(MOST_ROUTES + 50):
        in_letters = str(number).translate(str.maketrans("0123456789", "abcdefghij"))
        buckets.learn("key", "GET", f"/{in_letters}", "one")
    routes = buckets._splits[hash("key")].routes
    assert len(routes) == MOST_ROUTES
    buckets.learn("key", "GET", "/newest", "two")
    assert buckets.key("key", "GET", "/newest") == "key\ntwo"
