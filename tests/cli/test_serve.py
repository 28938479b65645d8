"""``bide serve`` over real sockets: it answers as Clever documents, and misbehaves as its script says."""

import json
import math
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

RATE_LIMIT_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-bucket")
NORTH = "north-token"


@pytest.fixture(scope="module")
def one_for_all(stand_in: Callable[..., Any]) -> Any:
    return stand_in("--students", "2")


@pytest.fixture
def shared(one_for_all: Any) -> Any:
    """A service that misbehaves in no way, for tests that leave no trace in it."""
    one_for_all.change_script(faults="", outage_after=None)
    return one_for_all


STATUS_TABLE = [
    # method, target, token, status
    ("GET", "/v3.0/students", NORTH, 200),
    ("GET", "/v3.0/students?limit=1", NORTH, 200),
    ("GET", "/v3.0/students?limit=10000", NORTH, 200),
    ("GET", "/v3.0/students?limit=0001", NORTH, 200),
    ("GET", "/v3.0/students?starting_after=000000010000000000000001", NORTH, 200),
    ("GET", "/v3.0/students/000000010000000000000001", NORTH, 200),
    ("GET", "/v3.0/students?limit=0", NORTH, 400),
    ("GET", "/v3.0/students?limit=-1", NORTH, 400),
    ("GET", "/v3.0/students?limit=many", NORTH, 400),
    ("GET", "/v3.0/students?limit=", NORTH, 400),
    ("GET", "/v3.0/students?limit=%D9%A3", NORTH, 400),
    ("GET", "/v3.0/students?limit=1&limit=2", NORTH, 400),
    ("GET", "/v3.0/students?order=name", NORTH, 400),
    ("GET", "/v3.0/students?starting_after=", NORTH, 400),
    ("GET", "/v3.0/students?starting_after=000000020000000000000001", NORTH, 400),
    ("GET", "/v3.0/students?starting_after=00000001-000000000000001", NORTH, 400),
    ("GET", "/v3.0/students?starting_after=00000001ffffffffffffffff", NORTH, 400),
    ("GET", "/v3.0/students", "", 401),
    ("GET", "/v3.0/students", "unknown-token", 401),
    ("GET", "/v3.0/students/000000020000000000000001", NORTH, 404),
    ("GET", "/v3.0/students/", NORTH, 404),
    ("GET", "/v3.0/teachers", NORTH, 404),
    ("GET", "/", NORTH, 404),
    ("GET", "/v3.0/students?limit=10001", NORTH, 413),
    ("GET", "/v3.0/students?limit=" + "9" * 5000, NORTH, 413),
    ("POST", "/v3.0/students", NORTH, 501),
    ("DELETE", "/v3.0/students/000000010000000000000001", NORTH, 501),
    ("HEAD", "/v3.0/students", NORTH, 501),
    ("GET", "/-/anything", "", 404),
]


@pytest.mark.parametrize("clock_offset", ["0", "-86400"])
def test_every_status_is_answered_as_documented_with_the_four_headers_when_a_bucket_counts_it(
    stand_in: Callable[..., Any], clock_offset: str
) -> None:
    server = stand_in("--students", "3", "--clock-offset", clock_offset)
    remaining = 1200
    for method, target, token, expected in STATUS_TABLE:
        status, headers, body = server.request(method, target, token)
        assert status == expected, target[:80]
        counted = token == NORTH
        remaining -= counted
        assert [name in headers for name in RATE_LIMIT_HEADERS] == [counted] * 4, target[:80]
        if counted:
            assert headers["x-ratelimit-limit"] == "1200"
            assert headers["x-ratelimit-remaining"] == str(remaining)
            reset_after = (
                int(headers["x-ratelimit-reset"]) - parsedate_to_datetime(headers["date"]).timestamp()
            )
            assert 0 < reset_after <= 62
        assert body == b"" or isinstance(json.loads(body), dict)


def test_pages_lead_to_every_student_once_and_the_last_page_has_no_next(
    stand_in: Callable[..., Any],
) -> None:
    server = stand_in("--students", "25", "--districts", "north,south")
    identifiers = []
    target = "/v3.0/students?limit=10"
    pages = 0
    while target:
        page = json.loads(server.request("GET", target, "south-token")[2])
        assert page["links"][0] == {"rel": "self", "uri": target}
        assert all(item["uri"] == f"/v3.0/students/{item['data']['id']}" for item in page["data"])
        identifiers += [item["data"]["id"] for item in page["data"]]
        target = next((link["uri"] for link in page["links"] if link["rel"] == "next"), None)
        pages += 1
    assert pages == 3
    assert len(identifiers) == 25
    assert identifiers == sorted(set(identifiers))
    single = json.loads(server.request("GET", f"/v3.0/students/{identifiers[7]}", "south-token")[2])
    assert single["data"]["id"] == identifiers[7]
    counts = server.counts()["districts"]
    assert counts["south"]["answers"] == {"200": 4}
    assert counts["south"]["repeated_pages"] == 0
    assert counts["north"]["answers"] == {}


def test_the_same_seed_makes_the_same_answers(stand_in: Callable[..., Any]) -> None:
    first, second, other = (
        [
            server.request("GET", "/v3.0/students?limit=2", NORTH)[0]
            for _ in range(40)
        ]
        for server in (stand_in("--faults", "503=50", "--seed", seed) for seed in ("1", "1", "2"))
    )  # fmt: skip
    assert first == second
    assert first != other
    assert set(first) == {200, 503}


def test_past_the_limit_a_window_answers_429_with_an_empty_body_until_it_ends(
    stand_in: Callable[..., Any],
) -> None:
    server = stand_in("--limit", "3", "--window", "1.0", "--students", "1")
    seen = []
    while not seen or len(server.counts()["districts"]["north"]["windows"]) < 3:
        status, headers, body = server.request("GET", "/v3.0/students", NORTH)
        seen.append(status)
        assert headers["x-ratelimit-remaining"].isdigit()
        assert set(RATE_LIMIT_HEADERS) <= headers.keys()
        if status == 429:
            assert body == b""
            assert headers["content-length"] == "0"
            assert headers["x-ratelimit-remaining"] == "0"
    counts = server.counts()["districts"]["north"]
    for window, following in zip(counts["windows"], counts["windows"][1:], strict=False):
        assert window["counted"] == 3
        assert window["answers"]["200"] == 3
        assert window["answers"]["429"] > 0
        assert (following["ends_at"] - window["ends_at"]) % 1.0 == pytest.approx(0, abs=1e-6)
    assert counts["answers"]["429"] == seen.count(429)


def test_the_reset_is_rounded_up_and_the_phase_differs_between_districts(
    stand_in: Callable[..., Any],
) -> None:
    server = stand_in("--window", "1000", "--students", "1")
    resets = {
        name: int(server.request("GET", "/v3.0/students", f"{name}-token")[1]["x-ratelimit-reset"])
        for name in ("north", "south", "west")
    }
    ends = {name: d["windows"][0]["ends_at"] for name, d in server.counts()["districts"].items()}
    assert resets == {name: math.ceil(end) for name, end in ends.items()}
    assert len(set(ends.values())) == 3


def test_a_clock_that_is_off_moves_date_and_reset_together(stand_in: Callable[..., Any]) -> None:
    server = stand_in("--clock-offset", "3600", "--window", "100")
    _, headers, _ = server.request("GET", "/v3.0/students?limit=1", NORTH)
    (window,) = server.counts()["districts"]["north"]["windows"]
    assert int(headers["x-ratelimit-reset"]) == math.ceil(window["ends_at"] + 3600)
    ahead = parsedate_to_datetime(headers["date"]).timestamp() - time.time()
    assert 3590 < ahead < 3601


@pytest.mark.parametrize(("fault", "status"), [("500", 500), ("502", 502), ("503", 503)])
def test_an_error_of_the_script_uses_up_the_limit(
    stand_in: Callable[..., Any], fault: str, status: int
) -> None:
    server = stand_in("--faults", f"{fault}=100", "--limit", "2", "--window", "1000")
    statuses = [server.request("GET", "/v3.0/students", NORTH)[0] for _ in range(3)]
    assert statuses == [status, status, 429]


def test_a_dropped_connection_says_nothing_and_a_slow_answer_is_late(stand_in: Callable[..., Any]) -> None:
    server = stand_in("--faults", "drop=100", "--slow-seconds", "0.3")
    with pytest.raises(ConnectionError):
        server.request("GET", "/v3.0/students", NORTH)
    server.change_script(faults="slow=100")
    began = time.monotonic()
    assert server.request("GET", "/v3.0/students", NORTH)[0] == 200
    assert time.monotonic() - began >= 0.3
    assert server.counts()["districts"]["north"]["answers"] == {"200": 1, "dropped": 1, "slow": 1}


def test_an_outage_answers_503_to_everything_from_a_request_on_until_it_is_called_off(
    stand_in: Callable[..., Any],
) -> None:
    server = stand_in("--outage-after", "2", "--students", "1")
    tokens = [NORTH, NORTH, NORTH, "south-token", ""]
    statuses = [server.request("GET", "/v3.0/students", token)[0] for token in tokens]
    assert statuses == [200, 200, 503, 503, 503]
    server.change_script(outage_after=None)
    assert server.request("GET", "/v3.0/students", NORTH)[0] == 200
    assert server.counts()["answers"] == {"200": 3, "503": 3}


def test_an_outage_can_last_for_a_time(stand_in: Callable[..., Any]) -> None:
    server = stand_in("--students", "1")
    server.change_script(outage_after=0, outage_seconds=0.4)
    began = time.monotonic()
    while (status := server.request("GET", "/v3.0/students", NORTH)[0]) == 503:
        pass
    assert status == 200
    assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize(
    "document",
    [
        "", "{", "[]", "7", '{"speed": 1}', '{"faults": "999=1"}', '{"faults": "503=60,500=60"}',
        '{"faults": 1}',
        '{"faults": "503=NaN"}', '{"slow_seconds": -1}', '{"slow_seconds": NaN}', '{"slow_seconds": true}',
        '{"outage_after": 1.5}', '{"outage_after": "soon"}', '{"outage_seconds": -1}', "[" * 60_000,
    ],
)  # fmt: skip
def test_a_script_that_is_wrong_is_refused_in_one_line_and_changes_nothing(
    shared: Any, document: str
) -> None:
    before = shared.request("GET", "/-/script")
    status, _, body = shared.request("PUT", "/-/script", body=document)
    assert status == 400
    assert len(json.loads(body)["error"].splitlines()) == 1
    assert shared.request("GET", "/-/script")[2] == before[2]


def exchange(port: int, octets: bytes) -> bytes:
    """Sends raw bytes and reads until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(octets)
        received = b""
        while more := connection.recv(65536):
            received += more
    return received


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET /v3.0/students\r\n\r\n", 400),
        (b"GET http://other/ HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.0\r\n\r\n", 401),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 401),
    ],
)  # fmt: skip
def test_what_is_no_request_is_answered_once_and_the_connection_closed(
    shared: Any, octets: bytes, status: int
) -> None:
    received = exchange(shared.port, octets)
    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    assert received.count(b"HTTP/1.1") == 1
    assert b"\r\nConnection: close\r\n" in received


def test_requests_of_one_connection_are_answered_in_their_order_even_when_one_is_slow(shared: Any) -> None:
    shared.change_script(faults="slow=100", slow_seconds=0.2)
    slow = b"GET /v3.0/students?limit=1 HTTP/1.1\r\nAuthorization: Bearer north-token\r\n\r\n"
    quick = b"GET /v3.0/students HTTP/1.1\r\nConnection: close\r\n\r\n"
    received = exchange(shared.port, slow + quick)
    assert received.index(b"HTTP/1.1 200 ") < received.index(b"HTTP/1.1 401 ")


def test_what_is_sent_while_an_answer_is_late_is_not_read_into_memory_without_end(shared: Any) -> None:
    shared.change_script(faults="slow=100", slow_seconds=60.0)
    with socket.create_connection(("127.0.0.1", shared.port), timeout=10) as connection:
        connection.sendall(b"GET /v3.0/students HTTP/1.1\r\nAuthorization: Bearer north-token\r\n\r\n")
        connection.setblocking(False)
        taken = 0
        while taken < 2**26 and select.select([], [connection], [], 1.0)[1]:
            taken += connection.send(b"x" * 65536)
    assert taken < 2**26


def test_a_request_may_arrive_byte_by_byte_and_a_connection_is_kept_alive(shared: Any) -> None:
    body = b'{"slow_seconds": 2.0}'
    put = b"PUT /-/script HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with socket.create_connection(("127.0.0.1", shared.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            for index in range(len(put)):
                connection.sendall(put[index : index + 1])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_although_connections_are_open(
    stand_in: Callable[..., Any], number: signal.Signals
) -> None:
    server = stand_in("--faults", "slow=100", "--slow-seconds", "60")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /v3.0/students HTTP/1.1\r\nAuthorization: Bearer north-token\r\n\r\n")
        while not server.counts()["requests"]:
            pass
        server.process.send_signal(number)
        assert server.process.wait(timeout=10) == 0


def test_the_greeting_is_one_line_with_the_address_and_the_tokens(stand_in: Callable[..., Any]) -> None:
    server = stand_in("--limit", "300", "--window", "5", "--districts", "a,b")
    assert server.greeting == (
        f"http://127.0.0.1:{server.port} serves; 300 requests per 5 s; CLEVER_TOKENS='a=a-token b=b-token'\n"
    )


def bide(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bide.cli", *arguments], capture_output=True, text=True, timeout=30
    )


def test_a_port_in_use_is_one_clear_line_and_exit_2(shared: Any) -> None:
    done = bide("serve", "--port", str(shared.port))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"bide serve: port {shared.port} is in use; choose another with --port, "
        f"or leave --port out for a free one\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("serve", "--limit", "0"), "write a whole number from 1"),
        (("serve", "--limit", "many"), "write a whole number from 1"),
        (("serve", "--window", "nan"), "write a number from 0.001"),
        (("serve", "--window", "0"), "write a number from 0.001"),
        (("serve", "--students", "-1"), "write a whole number from 0"),
        (("serve", "--port", "65536"), "write a whole number from 0 to 65535"),
        (("serve", "--faults", "404=1"), "write KIND=PERCENT with KIND one of 500, 502, 503, drop, slow"),
        (("serve", "--faults", "503=101"), "write KIND=PERCENT"),
        (("serve", "--slow-seconds", "forever"), "write a number from 0 to 3600"),
        (("serve", "--districts", "a,a"), "write different names such as north,south,west"),
        (("serve", "--outage-after", "1.5"), "write a whole number from 0"),
        (("serve", "--lmit", "3"), "--limit"),
        (("serv",), "serv"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_line_that_says_what_to_write_and_exit_2(
    arguments: tuple[str, ...], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from bide.cli import main

    assert main(arguments) == 2
    output, errors = capfd.readouterr()
    assert output == ""
    assert errors.startswith("bide")
    assert len(errors.splitlines()) == 1
    assert said in errors
