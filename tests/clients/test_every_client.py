"""What holds for every client: over a real socket, counted by the server."""

from __future__ import annotations

import gzip
import io
import logging
import os
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import trustme

import bide
from bide.testing import FakeClock, ScriptedServer, answer_bytes

PATH = "/v3.0/students"
STALL = b""
"""An answer that does not come."""


def test_the_final_response_carries_its_decision(client: Any) -> None:
    with ScriptedServer([answer_bytes(200, body=b"[]")]) as server:
        result = client(server.url + PATH)
    assert (result.status, result.body) == (200, b"[]")
    assert result.decision.action is bide.Action.PROCESS
    assert server.requests[0].line == f"GET {PATH} HTTP/1.1"


def test_a_failing_api_is_asked_again_with_the_documented_waits(client: Any) -> None:
    clock = FakeClock()
    answers = [
        answer_bytes(503, body=b"down"),
        answer_bytes(500),
        answer_bytes(502),
        answer_bytes(200, body=b"[]"),
    ]
    with ScriptedServer(answers) as server:
        result = client(server.url + PATH, clock=clock)
        assert len(server.requests) == 4
        # urllib opens a connection for each request, whatever comes back.
        assert server.connections == (4 if client.name == "urllib" else 1)
    assert (result.status, result.body) == (200, b"[]")
    for seconds, documented in zip(clock.slept, (1, 2, 4), strict=True):
        assert documented <= seconds <= documented * 1.25


# httpx leaves the iterators of a body that is not read to its end to the garbage collector; trio tells of it.
LEFT_TO_THE_COLLECTOR = [
    pytest.mark.filterwarnings("ignore:.*garbage collected before it had been exhausted:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LARGE_CHUNKS = b"".join(b"8000\r\n%b\r\n" % (b"x" * 0x8000) for _ in range(90)) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    "large",
    [
        pytest.param(answer_bytes(500, body=b"x" * 3_000_000), id="of a stated length"),
        pytest.param(
            b"HTTP/1.1 500 Server Error\r\nTransfer-Encoding: chunked\r\n\r\n" + LARGE_CHUNKS,
            id="in chunks",
            marks=LEFT_TO_THE_COLLECTOR,
        ),
    ],
)
def test_a_large_body_that_nobody_wants_costs_its_connection_and_not_its_reading(
    client: Any, large: bytes
) -> None:
    with ScriptedServer([large, answer_bytes(200)]) as server:
        assert client(server.url + PATH).status == 200
        assert len(server.requests) == 2
        # urllib3 itself reads what its caller asked it to preload.
        assert server.connections == (1 if client.name == "urllib3" else 2)


def test_a_failure_for_good_is_returned_with_the_advice(client: Any) -> None:
    with ScriptedServer([answer_bytes(404, body=b"{}")]) as server:
        result = client(server.url + PATH)
        assert len(server.requests) == 1
    assert (result.status, result.body) == (404, b"{}")
    assert result.decision.action is bide.Action.FAIL
    assert "token" in result.decision.advice


def test_an_outage_is_deferred_after_five_retries_as_an_exception_of_both_libraries(client: Any) -> None:
    with ScriptedServer([answer_bytes(503, body=b"see the status page")]) as server:
        with pytest.raises(bide.Deferred) as caught:
            client(server.url + PATH)
        assert len(server.requests) == 6
    error = caught.value
    assert isinstance(error, client.base_error)
    assert isinstance(error, client.status_error)
    assert client.status_of(error) == 503
    assert error.decision.action is bide.Action.DEFER
    assert error.decision.resume_at is not None
    assert str(error) == error.decision.advice
    response: Any = error.response
    assert 503 in (getattr(response, "status", None), getattr(response, "status_code", None))


def test_a_success_that_is_a_refusal_is_deferred_as_no_error_of_its_status(client: Any) -> None:
    refused = answer_bytes(
        200, {"Content-Type": "application/json"}, b'{"error": ["EAPI:Rate limit exceeded"]}'
    )
    policy = bide.policies.load("kraken").replace(retries=0)
    with ScriptedServer([refused]) as server, pytest.raises(bide.Deferred) as caught:
        client(server.url + PATH, policy=policy)
    assert isinstance(caught.value, client.base_error)
    assert client.library == "urllib3" or not isinstance(caught.value, client.status_error)


def test_an_outage_can_be_returned_instead(client: Any) -> None:
    with ScriptedServer([answer_bytes(503, body=b"down")]) as server:
        result = client(server.url + PATH, on_defer="return")
    assert (result.status, result.body) == (503, b"down")
    assert result.decision.action is bide.Action.DEFER


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\nConnection: close\r\n\r\n", id="not HTTP"),
        pytest.param(None, id="closed without a word"),
    ],
)
def test_a_broken_answer_is_asked_for_again(client: Any, broken: bytes | None) -> None:
    with ScriptedServer([broken, broken, answer_bytes(200, body=b"[]")]) as server:
        result = client(server.url + PATH)
        assert len(server.requests) == 3
    assert (result.status, result.body) == (200, b"[]")


def test_connections_that_break_without_end_are_deferred_as_the_clients_own_failure(client: Any) -> None:
    with ScriptedServer([None]) as server:
        with pytest.raises(bide.Deferred) as caught:
            client(server.url + PATH)
        assert len(server.requests) == 6
    assert isinstance(caught.value, client.base_error)
    assert isinstance(caught.value.__cause__, Exception)
    assert caught.value.decision.reason is bide.Reason.PROTOCOL_ERROR


def test_a_post_that_the_server_may_have_acted_on_is_not_sent_twice(client: Any) -> None:
    with ScriptedServer([None, answer_bytes(200)]) as server:
        with pytest.raises(client.base_error) as caught:
            client(server.url + PATH, "POST", body=b"one")
        assert not isinstance(caught.value, bide.Deferred)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "vouch", [{"headers": {"Idempotency-Key": "7"}}, {"idempotent": True}], ids=["a key", "the caller"]
)
def test_a_post_that_is_vouched_for_is_sent_again(client: Any, vouch: dict[str, Any]) -> None:
    with ScriptedServer([None, answer_bytes(500), answer_bytes(200)]) as server:
        assert client(server.url + PATH, "POST", body=b"one", **vouch).status == 200
        assert [request.body for request in server.requests] == [b"one"] * 3


def test_a_refused_connection_is_tried_again_even_for_a_post(client: Any) -> None:
    with ScriptedServer([answer_bytes(200)]) as server:
        url = server.url
    clock = FakeClock()
    with pytest.raises(bide.Deferred) as caught:
        client(url + PATH, "POST", body=b"one", clock=clock)
    assert isinstance(caught.value, client.base_error)
    assert caught.value.decision.reason is bide.Reason.CONNECT_FAILED
    assert len(clock.slept) == 5


def test_an_answer_that_does_not_come_in_time_is_asked_for_again(client: Any) -> None:
    with ScriptedServer([STALL, answer_bytes(200)]) as server:
        assert client(server.url + PATH, timeout=0.2).status == 200
        # On a slow machine the second one may be late, too.
        assert len(server.requests) == server.connections >= 2


def test_a_post_without_an_answer_in_time_is_not_sent_again(client: Any) -> None:
    with ScriptedServer([STALL, answer_bytes(200)]) as server:
        with pytest.raises((client.base_error, TimeoutError)) as caught:
            client(server.url + PATH, "POST", body=b"one", timeout=0.2)
        assert not isinstance(caught.value, bide.Deferred)
        assert len(server.requests) == 1


def test_every_hop_of_a_redirect_is_a_request_of_its_own(client: Any) -> None:
    heard: list[bide.Reason] = []
    answers = [
        answer_bytes(302, {"Location": "/elsewhere"}),
        answer_bytes(503),
        answer_bytes(200, body=b"[]"),
    ]
    with ScriptedServer(answers) as server:
        result = client(server.url + PATH, on_decision=lambda decision: heard.append(decision.reason))
        lines = [request.line for request in server.requests]
    assert (result.status, result.body) == (200, b"[]")
    assert lines == [f"GET {PATH} HTTP/1.1"] + ["GET /elsewhere HTTP/1.1"] * 2
    assert heard == [bide.Reason.REDIRECT, bide.Reason.SERVER_ERROR, bide.Reason.OK]


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_a_body_is_passed_on(client: Any, status: int) -> None:
    with ScriptedServer([answer_bytes(status)]) as server:
        result = client(server.url + PATH)
    assert (result.status, result.body) == (status, b"")


def test_head_is_repeated_like_get(client: Any) -> None:
    with ScriptedServer([answer_bytes(503, body=b"down", head=True), answer_bytes(200, head=True)]) as server:
        assert client(server.url + PATH, "HEAD").status == 200
        assert len(server.requests) == 2
        assert server.connections == (2 if client.name == "urllib" else 1)


def test_a_head_that_states_the_length_of_a_large_body_costs_no_connection(client: Any) -> None:
    failed = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3000000\r\n\r\n"
    with ScriptedServer([failed, answer_bytes(200, head=True)]) as server:
        assert client(server.url + PATH, "HEAD").status == 200
        assert server.connections == (2 if client.name == "urllib" else 1)


def test_a_compressed_body_arrives_as_without_bide(client: Any) -> None:
    encoded = gzip.compress(b"[1, 2, 3]")
    fields = {"Content-Encoding": "gzip"}
    with ScriptedServer([answer_bytes(503, fields, encoded), answer_bytes(200, fields, encoded)]) as server:
        result = client(server.url + PATH)
        assert server.connections == (2 if client.name == "urllib" else 1)
    # urllib hands out what came over the wire.
    assert result.body == (encoded if client.name == "urllib" else b"[1, 2, 3]")


# httpx leaves the iterators of a body that it cannot decode to the garbage collector; trio tells of it.
@pytest.mark.filterwarnings("ignore:.*garbage collected before it had been exhausted:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_discarded_body_that_is_not_what_it_says_does_no_harm(client: Any) -> None:
    fields = {"Content-Encoding": "gzip"}
    with ScriptedServer([answer_bytes(503, fields, b"not gzip"), answer_bytes(200)]) as server:
        assert client(server.url + PATH).status == 200
        assert len(server.requests) == 2


BOMB = gzip.compress(bytes(40_000_000))
"""Little enough to be read to its end, where nobody decodes it."""


# httpx leaves the iterators of a body that is not read to its end to the garbage collector; trio tells of it.
@pytest.mark.filterwarnings("ignore:.*garbage collected before it had been exhausted:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_body_that_is_thrown_away_is_not_decoded(client: Any) -> None:
    if client.name == "urllib3":
        pytest.skip("urllib3 itself reads and decodes what its caller asked it to preload")
    assert len(BOMB) < 65_536
    tracemalloc.start()
    try:
        with ScriptedServer(
            [answer_bytes(503, {"Content-Encoding": "gzip"}, BOMB), answer_bytes(200)]
        ) as server:
            assert client(server.url + PATH).status == 200
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_chunked_body_that_is_thrown_away_gives_its_connection_back(client: Any) -> None:
    head = b"HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n"
    with ScriptedServer([head + b"4\r\ndown\r\n0\r\n\r\n", answer_bytes(200)]) as server:
        assert client(server.url + PATH).status == 200
        assert server.connections == (2 if client.name == "urllib" else 1)


def test_a_body_of_bytes_is_sent_whole_each_time(client: Any) -> None:
    with ScriptedServer([answer_bytes(503), None, answer_bytes(200)]) as server:
        assert client(server.url + PATH, "PUT", body=b"body").status == 200
        assert [request.body for request in server.requests] == [b"body"] * 3


def test_an_open_file_is_sent_whole_each_time(client: Any) -> None:
    if not client.reads_files:
        pytest.skip("this client takes no files")
    with ScriptedServer([answer_bytes(503), None, answer_bytes(200)]) as server:
        assert client(server.url + PATH, "PUT", body=io.BytesIO(b"body")).status == 200
        assert [request.body for request in server.requests] == [b"body"] * 3


def test_an_open_file_is_sent_from_where_it_stood(client: Any) -> None:
    if not client.reads_files or client.name == "httpx":
        pytest.skip("this client takes no files, or states the length of the whole file")
    file = io.BytesIO(b"skipped|body")
    file.seek(8)
    with ScriptedServer([answer_bytes(503), answer_bytes(200)]) as server:
        assert client(server.url + PATH, "PUT", body=file).status == 200
        assert [request.body for request in server.requests] == [b"body"] * 2


class HastyServer(ScriptedServer):
    """Refuses the first request when it has seen its head, and reads no more of it."""

    def _serve(self, connection: socket.socket) -> None:
        if self.connections > 1:
            super()._serve(connection)
            return
        with connection, connection.makefile("rb") as incoming:
            while incoming.readline().strip():
                pass
            connection.sendall(answer_bytes(429, {"Retry-After": "3", "Connection": "close"}))


@pytest.mark.parametrize("kind", [bytes, io.BytesIO])
@pytest.mark.filterwarnings(
    "ignore:Sending a large body directly:ResourceWarning"
)  # aiohttp would rather have a file
# httpx leaves the iterator of a body that was not sent to its end to the garbage collector; trio tells of it.
@pytest.mark.filterwarnings("ignore:.*garbage collected before it had been exhausted:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_body_whose_sending_was_broken_off_is_sent_whole_the_next_time(
    client: Any, kind: Callable[[bytes], Any]
) -> None:
    """Whether the client reads the refusal, or learns only that the connection broke."""
    if kind is io.BytesIO and not client.reads_files:
        pytest.skip("this client takes no files")
    large = os.urandom(5_000_000)
    with HastyServer([answer_bytes(200)]) as server:
        assert client(server.url + PATH, "PUT", body=kind(large)).status == 200
        assert [request.body == large for request in server.requests] == [True]
        assert server.connections == 2


def pipe() -> io.BufferedIOBase:
    """A file that cannot be brought back to its beginning."""
    reading, writing = os.pipe()
    os.write(writing, b"once")
    os.close(writing)
    return open(reading, "rb")


def generator() -> Iterator[bytes]:
    yield b"on"
    yield b"ce"


@pytest.mark.parametrize("body", [generator, pipe], ids=["generator", "pipe"])
def test_a_body_that_is_gone_is_never_sent_again_and_the_decision_says_so(
    client: Any, body: Callable[[], Any]
) -> None:
    if body is pipe and (not client.reads_files or client.library in ("httpx", "httpx2")):
        pytest.skip("this client takes no files, or asks them for their length")
    with closing(body()) as content, ScriptedServer([answer_bytes(503), answer_bytes(200)]) as server:
        result = client(server.url + PATH, "PUT", body=content)
        assert [request.body for request in server.requests] == [b"once"]
    assert result.status == 503
    assert result.decision.action is bide.Action.FAIL
    assert "body" in result.decision.advice


def test_what_the_server_saw_is_the_same_each_time(client: Any) -> None:
    with ScriptedServer([answer_bytes(503), answer_bytes(200)]) as server:
        client(server.url + PATH, "PUT", body=b"{}", headers={"Authorization": "Bearer T", "X-One": "1"})
    first, second = server.requests
    assert first == second
    assert first.line == f"PUT {PATH} HTTP/1.1"
    assert {("authorization", "Bearer T"), ("x-one", "1")} <= set(first.fields)


class TLSServer(ScriptedServer):
    """The scripted server behind TLS; it counts the handshakes that were begun."""

    def __init__(self, answers: list[bytes | None], context: ssl.SSLContext) -> None:
        super().__init__(answers)
        self._context = context
        self.url = self.url.replace("http:", "https:").replace("127.0.0.1", "localhost")

    def _serve(self, connection: socket.socket) -> None:
        try:
            wrapped = self._context.wrap_socket(connection, server_side=True)
        except OSError:
            connection.close()
            return
        super()._serve(wrapped)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_of(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_a_good_certificate_is_no_obstacle(client: Any, authority: trustme.CA) -> None:
    with TLSServer([answer_bytes(503), answer_bytes(200)], tls_of(authority, "localhost")) as server:
        assert client(server.url + PATH, tls=trusting(authority)).status == 200


@pytest.mark.parametrize(
    "name", ["localhost", "elsewhere.example"], ids=["unknown authority", "another name"]
)
def test_a_wrong_certificate_is_not_tried_again(client: Any, authority: trustme.CA, name: str) -> None:
    heard: list[object] = []
    tls = trusting(trustme.CA() if name == "localhost" else authority)
    with TLSServer([answer_bytes(200)], tls_of(authority, name)) as server:
        with pytest.raises(client.base_error) as caught:
            client(server.url + PATH, tls=tls, on_wait=heard.append)
        assert not isinstance(caught.value, bide.Deferred)
        assert (server.connections, len(server.requests), heard) == (1, 0, [])


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """No host name resolves; the error of the next look-up is the first number, each look-up adds one."""
    asked = [socket.EAI_NONAME]

    def getaddrinfo(
        host: Any, port: Any, family: int = 0, kind: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        asked.append(asked[0])
        raise socket.gaierror(asked[0], "no address")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_a_host_name_that_does_not_resolve_is_not_tried_again(client: Any, lookups: list[int]) -> None:
    clock = FakeClock()
    with pytest.raises(client.base_error) as caught:
        client("http://no-such-host.invalid/", clock=clock)
    assert not isinstance(caught.value, bide.Deferred)
    assert (len(lookups) - 1, clock.slept) == (1, [])


def test_a_name_server_that_says_try_again_is_asked_again(client: Any, lookups: list[int]) -> None:
    lookups[0] = socket.EAI_AGAIN
    with pytest.raises(bide.Deferred):
        client("http://busy-name-server.invalid/")
    assert len(lookups) - 1 == 6


def test_the_limiter_paces_each_token_by_itself(client: Any) -> None:
    clock = FakeClock()
    limiter = bide.Limiter("2/minute", clock=clock)
    with ScriptedServer([answer_bytes(200)]) as server:
        for token in "AABB":
            client(server.url, clock=clock, limiter=limiter, headers={"Authorization": f"Bearer {token}"})
        assert clock.slept == []
        client(server.url, clock=clock, limiter=limiter, headers={"Authorization": "Bearer A"})
    assert sum(clock.slept) == pytest.approx(60.0, abs=0.1)


class IPv6Server(ScriptedServer):
    """The scripted server at ``[::1]``."""

    def __init__(self, answers: list[bytes | None]) -> None:
        super().__init__(answers)
        self._listener.close()
        self._listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        self.url = f"http://[::1]:{self._listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("kind", "written", "host"),
    [
        pytest.param(ScriptedServer, "127.0.0.1", "127.0.0.1", id="IPv4"),
        pytest.param(ScriptedServer, "LocalHost", "localhost", id="a name in capitals"),
        pytest.param(IPv6Server, "[::1]", "::1", id="IPv6"),
    ],
)
def test_the_key_is_the_same_through_every_client(
    client: Any, kind: type[ScriptedServer], written: str, host: str
) -> None:
    clock = FakeClock()
    limiter = bide.Limiter("100/minute", clock=clock)
    with kind([answer_bytes(200)]) as server:
        url = server.url.replace("127.0.0.1", written)
        client(url, clock=clock, limiter=limiter, headers={"authorization": "Bearer T"})
        client(url, clock=clock, limiter=limiter)
    assert limiter.peek(f"{host} Bearer T").remaining == 99
    assert limiter.peek(host).remaining == 99


def test_a_key_that_the_caller_gives_is_what_is_counted_by(client: Any) -> None:
    clock = FakeClock()
    limiter = bide.Limiter("100/minute", clock=clock)
    shown: list[Any] = []

    def key(request: Any) -> str:
        shown.append(request)
        return "account 7"

    with ScriptedServer([answer_bytes(200)]) as server:
        client(server.url, clock=clock, limiter=limiter, key=key, headers={"X-Account": "7"})
        client(server.url, clock=clock, limiter=limiter, key="account 7")
    assert limiter.peek("account 7").remaining == 98
    request = shown[0]
    fields = request["headers"] if isinstance(request, dict) else request.headers
    assert {name.lower(): value for name, value in fields.items()}["x-account"] == "7"


def test_a_redirect_to_another_host_is_counted_there_by_what_is_sent_there(client: Any) -> None:
    clock = FakeClock()
    limiter = bide.Limiter("100/minute", clock=clock)
    with ScriptedServer([answer_bytes(200)]) as there:
        away = answer_bytes(302, {"Location": there.url.replace("127.0.0.1", "localhost") + PATH})
        with ScriptedServer([away]) as here:
            result = client(here.url, clock=clock, limiter=limiter, headers={"Authorization": "Bearer T"})
    assert result.status == 200
    assert limiter.peek("127.0.0.1 Bearer T").remaining == 99
    token = dict(there.requests[0].fields).get("authorization")
    # urllib alone sends the token to whom it is redirected.
    assert token == ("Bearer T" if client.name == "urllib" else None)
    assert limiter.peek(f"localhost {token}" if token else "localhost").remaining == 99


@pytest.mark.usefixtures("everywhere")
def test_the_host_chooses_the_policy_where_none_is_given(client: Any) -> None:
    """A 403 is a refusal in GitHub's words, and nothing to be repeated from anybody else."""
    refused = answer_bytes(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Limit": "60", "Retry-After": "5"})
    clock = FakeClock()
    with ScriptedServer([refused, answer_bytes(200), refused]) as server:
        port = server.url.rpartition(":")[2]
        assert client(f"http://api.github.com:{port}/user", policy=None, clock=clock).status == 200
        assert sum(clock.slept) >= 5.0
        result = client(f"http://api.example.com:{port}/user", policy=None, clock=clock)
        assert (result.status, len(server.requests)) == (403, 3)
    assert dict(server.requests[0].fields)["host"] == f"api.github.com:{port}"


def test_a_429_holds_back_the_key_for_whoever_shares_the_store(client: Any) -> None:
    """Two limiters that know of each other only what the store tells them."""
    clock = FakeClock()
    policy = bide.CLEVER.replace(limits=("100/minute",))
    shared = {"limiter": None, "store": bide.Limiter("100/minute", clock=clock).store}
    with ScriptedServer([answer_bytes(429, {"Retry-After": "20"}), answer_bytes(200)]) as server:
        with pytest.raises(bide.Deferred):
            client(server.url, policy=policy, clock=clock, max_wait=1.0, **shared)
        assert clock.slept == []
        client(server.url, policy=policy, clock=clock, **shared)
    assert sum(clock.slept) >= 20.0


def test_a_429_holds_back_the_key_for_whoever_shares_the_limiter(client: Any) -> None:
    clock = FakeClock()
    limiter = bide.Limiter("100/minute", clock=clock)
    with ScriptedServer([answer_bytes(429, {"Retry-After": "20"}), answer_bytes(200)]) as server:
        with pytest.raises(bide.Deferred):
            client(server.url, clock=clock, limiter=limiter, max_wait=1.0)
        client(server.url, clock=clock, limiter=limiter)
    assert sum(clock.slept) >= 20.0


def test_store_is_where_the_adapters_own_limiter_counts(client: Any) -> None:
    clock = FakeClock()
    elsewhere = bide.Limiter("2/minute", clock=clock)
    policy = bide.CLEVER.replace(limits=("2/minute",))
    with ScriptedServer([answer_bytes(200)]) as server:
        for _ in range(3):
            client(server.url, policy=policy, clock=clock, limiter=None, store=elsewhere.store)
        assert len(server.requests) == 3
    assert sum(clock.slept) == pytest.approx(60.0, abs=0.1)


def test_a_lowered_limit_is_obeyed_at_once(client: Any) -> None:
    clock = FakeClock()
    limiter = bide.Limiter("100/minute", clock=clock)
    fields = {"X-RateLimit-Limit": "3", "X-RateLimit-Reset": str(int(clock.time()) + 60)}
    answers = [answer_bytes(200, fields | {"X-RateLimit-Remaining": str(left)}) for left in (2, 1, 0)]
    with ScriptedServer(answers) as server:
        for _ in range(3):
            client(server.url, clock=clock, limiter=limiter)
        assert clock.slept == []
        client(server.url, clock=clock, limiter=limiter)
    assert sum(clock.slept) == pytest.approx(60.0, abs=1.1)


def test_a_policy_made_for_a_window_without_a_number_learns_the_number(client: Any) -> None:
    clock = FakeClock()
    policy = bide.CLEVER.replace(limits=())
    shared: dict[str, Any] = {"limiter": None, "store": bide.Limiter(learn=60.0, clock=clock).store}
    fields = {"X-RateLimit-Limit": "2", "X-RateLimit-Reset": str(int(clock.time()) + 30)}
    answers = [answer_bytes(200, fields | {"X-RateLimit-Remaining": str(left)}) for left in (1, 0)]
    with ScriptedServer(answers) as server:
        for _ in range(2):
            client(server.url, clock=clock, policy=policy, **shared)
        assert clock.slept == []
        client(server.url, clock=clock, policy=policy, **shared)
    assert sum(clock.slept) == pytest.approx(30.0, abs=1.1)


def test_nothing_is_sent_when_the_window_is_full_for_longer_than_one_would_wait(client: Any) -> None:
    clock = FakeClock()
    limiter = bide.Limiter("1/hour", clock=clock)
    with ScriptedServer([answer_bytes(200)]) as server:
        client(server.url, clock=clock, limiter=limiter)
        with pytest.raises(bide.Deferred) as caught:
            client(server.url, clock=clock, limiter=limiter)
        assert len(server.requests) == 1
    assert isinstance(caught.value, client.base_error)
    assert caught.value.decision.source == "limiter"
    assert caught.value.decision.resume_at == pytest.approx(clock.time() + 3600, abs=1.1)


def test_decisions_and_waits_are_told_as_they_come(client: Any) -> None:
    heard: list[object] = []
    with ScriptedServer([answer_bytes(429, {"Retry-After": "3"}), answer_bytes(200)]) as server:
        client(
            server.url,
            on_decision=lambda decision: heard.append(decision.reason.value),
            on_wait=lambda sleep: heard.append(round(sleep.seconds)),
        )
    assert heard[0] == "rate_limited"
    assert heard[-1] == "ok"
    assert heard[1] in (3, 4)


def test_the_deadline_ends_it_before_the_wait_that_would_not_fit(client: Any) -> None:
    clock = FakeClock()
    with ScriptedServer([answer_bytes(503)]) as server:
        with pytest.raises(bide.Deferred):
            client(server.url, clock=clock, deadline=4.0)
        assert len(server.requests) == 3
    assert sum(clock.slept) <= 4.0


def test_a_hook_that_fails_is_seen_by_the_caller_and_leaves_nothing_open(client: Any) -> None:
    def hook(_: object) -> None:
        raise ZeroDivisionError

    with ScriptedServer([answer_bytes(200)]) as server, pytest.raises(ZeroDivisionError):
        client(server.url, on_decision=hook)


def test_a_response_that_a_deferred_carries_is_as_usable_as_any(client: Any) -> None:
    answer = answer_bytes(503, body=b"see the status page")
    with ScriptedServer([answer]) as server, pytest.raises(bide.Deferred) as caught:
        client(server.url, policy=bide.CLEVER.replace(retries=0))
    response: Any = caught.value.response
    if hasattr(response, "raise_for_status"):
        with pytest.raises(client.base_error, match="503"):
            response.raise_for_status()
    if hasattr(response, "content") and isinstance(response.content, bytes):
        assert response.content == b"see the status page"
    decision = bide.decide(response, bide.CLEVER.replace(retries=0), now=0.0, draw=0.0)
    assert decision.action is bide.Action.DEFER


def test_no_secret_reaches_a_log_an_error_or_a_repr(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bide")
    with ScriptedServer([answer_bytes(503)]) as server, pytest.raises(bide.Deferred) as caught:
        client(server.url + "?key=s3cret", headers={"Authorization": "Bearer s3cret"})
    told = [record.getMessage() for record in caplog.records if record.name == "bide"]
    assert any("server_error" in line for line in told)
    assert "s3cret" not in "\n".join(told)
    assert "s3cret" not in repr(caught.value) + str(caught.value) + repr(caught.value.decision)


def test_threads_that_share_a_limiter_send_one_request_until_its_reply_has_come(client: Any) -> None:
    """Eight at once on a key that nobody has asked for: the first goes alone, the others follow its reply."""
    limiter = bide.Limiter("100/minute")
    failures: list[BaseException] = []

    def work() -> None:
        try:
            client(server.url, limiter=limiter, clock=None, sleep=client.sleeper(threading.Event().wait))
        except BaseException as error:  # a thread's failure is the test's
            failures.append(error)

    fields = {"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "50", "X-RateLimit-Bucket": "one"}
    with ScriptedServer([answer_bytes(200, fields)]) as server:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(server.requests) == 8
