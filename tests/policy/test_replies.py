"""Replies made by hand, every client's own response, and the exceptions that stand for one."""

import asyncio
import http.client
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import httpcore
import httpx
import pytest
import requests
import urllib3
from aiohttp.client_reqrep import ConnectionKey

from bide.policy import CLEVER, HTTP, Action, Decision, Failure, Reason, Reply, decide, failure_of
from bide.policy._reply import method_of, sent_idempotency_key

NOW = 1700000000.0
LINES = [
    ("Date", "Tue, 14 Nov 2023 22:13:20 GMT"),
    ("X-RateLimit-Limit", "1200"),
    ("x-ratelimit-remaining", "0"),
    ("X-RATELIMIT-RESET", "1700000030"),
    ("X-RateLimit-Bucket", "abc"),
    ("Retry-After", "5"),
    ("retry-after", "10"),
    ("Content-Length", "0"),
]


class Handler(BaseHTTPRequestHandler):
    """Answers every request with one status and these lines, whatever the headers' letter case."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response_only(429)
        for name, value in LINES:
            self.send_header(name, value)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to log."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/"
        listening.shutdown()
        thread.join()


def decided(response: object) -> Decision:
    return decide(response, CLEVER, now=NOW, draw=0.0)


EXPECTED = decide(Reply(429, LINES), CLEVER, now=NOW, draw=0.0)


def test_the_expected_decision_is_that_of_both_retry_after_lines() -> None:
    assert (EXPECTED.action, EXPECTED.wait, EXPECTED.source) == (Action.RETRY, 10.0, "retry-after")
    assert EXPECTED.quota is not None
    assert EXPECTED.quota.bucket == "abc"


def test_httpx_gives_the_same_decision(server: str) -> None:
    with httpx.Client() as client:
        assert decided(client.get(server)) == EXPECTED


def test_requests_gives_the_same_decision(server: str) -> None:
    with requests.Session() as session:
        assert decided(session.get(server)) == EXPECTED


def test_urllib3_gives_the_same_decision(server: str) -> None:
    with urllib3.PoolManager(retries=False) as pool:
        assert decided(pool.request("GET", server)) == EXPECTED


def test_aiohttp_gives_the_same_decision(server: str) -> None:
    async def get() -> Decision:
        async with aiohttp.ClientSession() as session, session.get(server) as response:
            return decided(response)

    assert asyncio.run(get()) == EXPECTED


def test_http_client_gives_the_same_decision(server: str) -> None:
    connection = http.client.HTTPConnection(server.removeprefix("http://").rstrip("/"))
    connection.request("GET", "/")
    try:
        assert decided(connection.getresponse()) == EXPECTED
    finally:
        connection.close()


def test_urllib_request_gives_the_same_decision_in_its_exception(server: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(server)
    with raised.value:
        assert decided(raised.value) == EXPECTED


def test_a_response_inside_a_clients_exception_gives_the_same_decision(server: str) -> None:
    with httpx.Client() as client:
        response = client.get(server)
        with pytest.raises(httpx.HTTPStatusError) as raised:
            response.raise_for_status()
        assert decided(raised.value) == EXPECTED
    with pytest.raises(requests.HTTPError) as other:
        requests.get(server).raise_for_status()
    assert decided(other.value) == EXPECTED


@pytest.mark.parametrize(
    "headers",
    [
        LINES,
        tuple(LINES),
        dict(LINES[:-2]) | {"retry-after": "10"},
        urllib3.HTTPHeaderDict(LINES),
        httpx.Headers(LINES),
    ],
    ids=["list", "tuple", "dict", "urllib3", "httpx"],
)
def test_any_listing_of_headers_will_do(headers: object) -> None:
    class Response:
        status_code = 429

    response = Response()
    response.headers = headers  # type: ignore[attr-defined]  # a foreign response
    assert decided(response) == EXPECTED


def test_what_is_not_text_is_dropped_from_a_foreign_response_and_never_raises() -> None:
    class Response:
        code = 429

    response = Response()
    response.headers = {"Retry-After": 5, None: "x", 7: "y", b"RETRY-AFTER": b"3", "X-RateLimit-Limit": None}  # type: ignore[attr-defined]  # a foreign response
    assert decided(response).wait == 3.0


def test_a_foreign_response_without_headers_is_a_status_alone() -> None:
    class Response:
        status = 429
        headers = None

    assert decided(Response()).wait == 60.0


@pytest.mark.parametrize(
    ("url_method", "action"), [("GET", Action.RETRY), ("POST", Action.FAIL), ("DELETE", Action.RETRY)]
)
def test_a_foreign_response_tells_the_method_of_its_request(url_method: str, action: Action) -> None:
    request = httpx.Request(url_method, "http://a/")
    assert decide(httpx.Response(500, request=request)).action is action
    prepared = requests.Request(url_method, "http://a/").prepare()
    response = requests.Response()
    response.status_code, response.request = 500, prepared
    assert decide(response).action is action


def test_a_response_from_a_connection_tells_its_method(server: str) -> None:
    with urllib3.PoolManager(retries=False) as pool:
        assert method_of(pool.request("POST", server)) == "POST"
    connection = http.client.HTTPConnection(server.removeprefix("http://").rstrip("/"))
    connection.request("POST", "/")
    try:
        assert method_of(connection.getresponse()) == "POST"
    finally:
        connection.close()

    async def post() -> str | None:
        async with aiohttp.ClientSession() as session, session.post(server) as response:
            return method_of(response)

    assert asyncio.run(post()) == "POST"


def test_a_response_that_knows_no_request_counts_as_not_idempotent() -> None:
    for response in (httpx.Response(500), requests.Response(), urllib3.HTTPResponse(status=500)):
        if isinstance(response, requests.Response):
            response.status_code = 500
        assert decide(response).reason is Reason.NOT_REPEATABLE
        assert decide(response, CLEVER).action is Action.RETRY


def test_an_idempotency_key_that_was_sent_makes_a_post_repeatable() -> None:
    request = httpx.Request("POST", "http://a/", headers={"Idempotency-Key": "1"})
    assert decide(httpx.Response(500, request=request)).action is Action.RETRY
    prepared = requests.Request("POST", "http://a/", headers={"idempotency-key": "1"}).prepare()
    response = requests.Response()
    response.status_code, response.request = 500, prepared
    assert decide(response).action is Action.RETRY


# Exceptions ------------------------------------------------------------------------------------------------


def refused_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts connections into its backlog and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield int(listening.getsockname()[1])


@pytest.fixture
def breaking() -> Iterator[int]:
    """A port that accepts a connection, reads the request and hangs up."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        stop = False

        def serve() -> None:
            while True:
                connection, _ = listening.accept()
                with connection:
                    if stop:
                        return
                    connection.recv(65536)

        thread = threading.Thread(target=serve)
        thread.start()
        port = int(listening.getsockname()[1])
        yield port
        stop = True
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()


def by_httpx(port: int) -> None:
    httpx.get(f"http://127.0.0.1:{port}/", timeout=0.2)


def by_httpcore(port: int) -> None:
    timeouts = {"connect": 0.2, "read": 0.2, "write": 0.2, "pool": 0.2}
    with httpcore.ConnectionPool() as pool:
        pool.request("GET", f"http://127.0.0.1:{port}/", extensions={"timeout": timeouts})


def by_requests(port: int) -> None:
    requests.get(f"http://127.0.0.1:{port}/", timeout=0.2)


def by_urllib3(port: int) -> None:
    with urllib3.PoolManager(retries=False) as pool:
        pool.request("GET", f"http://127.0.0.1:{port}/", timeout=0.2)


def by_urllib3_with_its_own_retries(port: int) -> None:
    with urllib3.PoolManager(retries=1) as pool:
        pool.request("GET", f"http://127.0.0.1:{port}/", timeout=0.2)


def by_aiohttp(port: int) -> None:
    async def get() -> None:
        timeout = aiohttp.ClientTimeout(sock_read=0.2)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await session.get(f"http://127.0.0.1:{port}/")

    asyncio.run(get())


def by_http_client(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.2)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    finally:
        connection.close()


def by_urllib_request(port: int) -> None:
    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=0.2)


CLIENTS = [
    by_httpx,
    by_httpcore,
    by_requests,
    by_urllib3,
    by_urllib3_with_its_own_retries,
    by_aiohttp,
    by_http_client,
    by_urllib_request,
]


@pytest.mark.parametrize("get", CLIENTS)
def test_a_refused_connection_is_known_in_every_client(get) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011  # every client has its own
        get(refused_port())
    assert failure_of(raised.value) is Failure.CONNECT
    assert decide(raised.value, method="POST", draw=0.0).action is Action.RETRY


@pytest.mark.parametrize("get", CLIENTS)
def test_a_missing_answer_is_known_in_every_client(get, silent: int) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011  # every client has its own
        get(silent)
    assert failure_of(raised.value) is Failure.TIMEOUT
    assert decide(raised.value, method="POST", draw=0.0).action is Action.FAIL
    assert decide(raised.value, method="GET", draw=0.0).reason is Reason.TIMED_OUT


@pytest.mark.parametrize("get", CLIENTS)
def test_a_broken_connection_is_known_in_every_client(get, breaking: int) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011  # every client has its own
        get(breaking)
    assert failure_of(raised.value) is Failure.PROTOCOL


def chained(outer: BaseException, cause: BaseException) -> BaseException:
    outer.__cause__ = cause
    return outer


def unresolved(error: OSError, *codes: int) -> BaseException:
    """aiohttp's exception for a host name, which with aiodns has the code of c-ares a good way down."""
    for code in codes:
        kind = type("DNSError", (Exception,), {"__module__": "aiodns.error"})
        chained(error, kind(code, "from c-ares"))
    key = ConnectionKey("api.example", 443, True, True, None, None, None)
    return aiohttp.ClientConnectorDNSError(key, error)


FAILURES = [
    (ConnectionRefusedError(), Failure.CONNECT),
    (ConnectionResetError(), Failure.PROTOCOL),
    (BrokenPipeError(), Failure.PROTOCOL),
    (TimeoutError(), Failure.TIMEOUT),
    (OSError(101, "Network is unreachable"), Failure.CONNECT),
    (OSError(2, "No such file"), None),
    (OSError("no number"), None),
    (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), Failure.CONNECT),
    (socket.gaierror(2, "on macOS: nodename nor servname provided, or not known"), Failure.CONNECT),
    (socket.gaierror(11002, "on Windows: a temporary error of the name server"), Failure.CONNECT),
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), None),
    (ssl.SSLEOFError(), Failure.PROTOCOL),
    (ssl.SSLCertVerificationError(), None),
    (http.client.RemoteDisconnected(), Failure.PROTOCOL),
    (http.client.IncompleteRead(b""), Failure.PROTOCOL),
    (http.client.InvalidURL(), None),
    (http.client.CannotSendRequest(), None),
    (urllib.error.URLError(ConnectionRefusedError()), Failure.CONNECT),
    (urllib.error.URLError(TimeoutError()), Failure.TIMEOUT),
    (urllib.error.URLError("unknown url type"), Failure.PROTOCOL),
    (urllib.error.URLError(OSError(101, "Network is unreachable")), Failure.CONNECT),
    (urllib.error.URLError(ssl.SSLCertVerificationError()), None),
    (httpx.ConnectTimeout(""), Failure.CONNECT),
    (httpx.PoolTimeout(""), Failure.CONNECT),
    (httpx.ReadTimeout(""), Failure.TIMEOUT),
    (httpx.WriteError(""), Failure.PROTOCOL),
    (httpx.RemoteProtocolError(""), Failure.PROTOCOL),
    (httpx.LocalProtocolError(""), None),
    (httpx.UnsupportedProtocol(""), None),
    (httpx.TooManyRedirects(""), None),
    (chained(httpx.ConnectError(""), ssl.SSLCertVerificationError()), None),
    (requests.ConnectTimeout(), Failure.CONNECT),
    (requests.ReadTimeout(), Failure.TIMEOUT),
    (requests.exceptions.ChunkedEncodingError(), Failure.PROTOCOL),
    (requests.exceptions.InvalidURL(), None),
    (requests.ConnectionError("bare"), Failure.PROTOCOL),
    (requests.exceptions.SSLError(urllib3.exceptions.SSLError(ssl.SSLCertVerificationError())), None),
    (requests.exceptions.SSLError(urllib3.exceptions.SSLError("Fingerprints did not match")), None),
    (requests.exceptions.SSLError(urllib3.exceptions.SSLError()), Failure.CONNECT),
    (urllib3.exceptions.SSLError("its", "words", ConnectionRefusedError()), None),
    (requests.ConnectionError("its words", ConnectionRefusedError()), Failure.CONNECT),
    (aiohttp.ServerDisconnectedError(), Failure.PROTOCOL),
    (aiohttp.ServerTimeoutError(), Failure.TIMEOUT),
    (aiohttp.InvalidURL("x"), None),
    (unresolved(socket.gaierror(socket.EAI_NONAME, "Name or service not known")), None),
    (unresolved(socket.gaierror(socket.EAI_AGAIN, "Temporary failure")), Failure.CONNECT),
    (unresolved(OSError(None, "DNS lookup failed")), None),
    (unresolved(OSError(None, "Domain name not found"), 4), None),
    (unresolved(OSError(None, "DNS server returned general failure"), 3), Failure.CONNECT),
    (unresolved(OSError(None, "Could not contact DNS servers"), 11), Failure.CONNECT),
    (unresolved(OSError(None, "Timeout while contacting DNS servers"), 12), Failure.CONNECT),
    (chained(ValueError(), ConnectionRefusedError()), None),
    (KeyboardInterrupt(), None),
    (asyncio.CancelledError(), None),
]


@pytest.mark.parametrize(("exception", "failure"), FAILURES, ids=repr)
def test_an_exception_says_whether_the_server_can_have_acted(
    exception: BaseException, failure: Failure | None
) -> None:
    assert failure_of(exception) is failure
    if failure is None:
        with pytest.raises(TypeError, match="decide takes a response"):
            decide(exception)


def test_an_exception_that_carries_itself_ends() -> None:
    loop = requests.ConnectionError()
    loop.__cause__ = loop
    assert failure_of(loop) is Failure.PROTOCOL


@pytest.mark.parametrize(("carriers", "failure"), [(7, Failure.CONNECT), (8, Failure.PROTOCOL)])
def test_what_an_exception_carries_is_looked_at_seven_deep(carriers: int, failure: Failure) -> None:
    exception: BaseException = ConnectionRefusedError()
    for _ in range(carriers):
        exception = chained(requests.ConnectionError(), exception)
    assert failure_of(exception) is failure


@pytest.mark.parametrize("nonsense", ["", "GET /", b"GET", None, 3])
def test_a_method_that_is_no_token_is_looked_for_elsewhere(nonsense: object) -> None:
    request = type("Request", (), {"method": nonsense})()
    response = type("Response", (), {"status": 500, "headers": {}, "request": request, "method": "post"})()
    assert method_of(response) == "POST"
    del type(response).method
    assert method_of(response) is None


def test_the_method_of_an_exception_is_that_of_the_response_that_it_carries() -> None:
    response = type("Response", (), {"method": "PATCH"})()
    assert method_of(type("Failed", (Exception,), {"response": response})()) == "PATCH"
    assert method_of(type("Failed", (Exception,), {"response": None})()) is None
    itself = type("Failed", (Exception,), {})()
    itself.response = itself
    assert method_of(itself) is None


@pytest.mark.parametrize(
    ("headers", "keyed"),
    [
        ({"Idempotency-Key": "a"}, True),
        ({"idempotency-key": "a"}, True),
        ({"Idempotency-Key": ""}, False),
        ({}, False),
        (None, False),
    ],
)
def test_an_idempotency_key_is_found_in_either_letter_case_of_a_plain_mapping(
    headers: object, keyed: bool
) -> None:
    request = type("Request", (), {"headers": headers})()
    assert sent_idempotency_key(type("Response", (), {"request": request})()) is keyed


# Replies made by hand --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "arguments", "words"),
    [
        (TypeError, {"status": "429"}, "int such as 429"),
        (TypeError, {"status": True}, "int such as 429"),
        (TypeError, {"status": 429.0}, "int such as 429"),
        (TypeError, {}, "give failure="),
        (TypeError, {"status": 429, "headers": "Retry-After: 3"}, "mapping or a list of pairs"),
        (TypeError, {"status": 429, "headers": 3}, "mapping or a list of pairs"),
        (TypeError, {"status": 429, "headers": ["Retry-After"]}, "pairs of a name and a value"),
        (TypeError, {"status": 429, "headers": [("Retry-After", "3", "4")]}, "pairs of a name and a value"),
        (TypeError, {"status": 429, "headers": ["ab"]}, "pairs of a name and a value"),
        (TypeError, {"status": 429, "headers": {"Retry-After": 3}}, "write '30', not 30"),
        (TypeError, {"status": 429, "headers": {3: "x"}}, "str or bytes"),
        (TypeError, {"status": 429, "method": b"GET"}, "method is a str"),
        (ValueError, {"status": 429, "method": "GET\r\nX: y"}, "method is a token"),
        (TypeError, {"failure": "timeout"}, "bide.Failure"),
    ],
)
def test_a_reply_of_a_wrong_shape_is_the_callers_mistake(
    error: type[Exception], arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(error, match=words):
        Reply(**arguments)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize("thing", [None, 429, "429", object(), ValueError(), {"status": 429}])
def test_what_is_no_reply_at_all_is_a_type_error_that_says_what_to_pass(thing: object) -> None:
    with pytest.raises(TypeError, match=r"\.status_code.*bide\.Reply.*got"):
        decide(thing, HTTP)


def test_a_reply_is_frozen_and_shows_no_value_of_a_header() -> None:
    reply = Reply(401, {"Authorization": "Bearer secret", "X-Key": "secret"}, method="POST", body="secret")
    assert repr(reply) == "Reply(401, headers=['Authorization', 'X-Key'], method='POST')"
    with pytest.raises(AttributeError, match="frozen"):
        reply.status = 200
    assert not hasattr(reply, "__dict__")
    assert reply.headers == (("Authorization", "Bearer secret"), ("X-Key", "secret"))
