"""What a server's rate limit counts, refuses and says; each test through ASGI and through WSGI."""

from __future__ import annotations

import ipaddress
import logging
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bide
from bide._gate import address_key, bearer_key, forwarded_address
from bide.testing import FakeClock

Service = Any
"""``conftest.Service``; a conftest is not for importing."""

Make = Callable[..., Service]

ALL_FIELDS = {field.lower() for field in bide.asgi.FIELDS}


def on_a_clock(*limits: str) -> tuple[bide.Limiter, FakeClock]:
    clock = FakeClock()
    return bide.Limiter(*limits, clock=clock), clock


# What is counted -----------------------------------------------------------------------------------------


def test_requests_inside_the_limit_pass_and_the_others_get_an_empty_429(service: Make) -> None:
    hello = service("2/minute")
    answers = [hello.get() for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert [answer.body for answer in answers] == [b"hello", b"hello", b"", b""]
    assert answers[2].headers["content-length"] == "0"
    assert len(hello.reached) == 2


def test_the_next_window_has_room_again(service: Make) -> None:
    limiter, clock = on_a_clock("2/minute")
    hello = service(limiter=limiter)
    statuses = [hello.get().status for _ in range(3)]
    clock.advance(60.0)
    assert [*statuses, hello.get().status] == [200, 200, 429, 200]


SAME = [
    ("a token, however its scheme is written", {"authorization": "Bearer t"}, {"authorization": "bEARER  t"}),
    (
        "a token, from wherever it comes",
        {"authorization": "Bearer t", "address": "192.0.2.1"},
        {"authorization": "Bearer t", "address": "192.0.2.2"},
    ),
    (
        "an address, when the scheme is another",
        {"authorization": "Basic YTpi"},
        {"authorization": "Basic Yzpk"},
    ),
    ("an address, when the token is empty", {"authorization": "Bearer "}, {}),
    ("one /64 of IPv6", {"address": "2001:db8:1:2::1"}, {"address": "2001:db8:1:2:ffff::9"}),
    ("IPv4 written as IPv6", {"address": "192.0.2.1"}, {"address": "::ffff:192.0.2.1"}),
    ("a link-local address, on any interface", {"address": "fe80::1%eth0"}, {"address": "fe80::1%eth1"}),
    ("clients of a Unix socket", {"address": None}, {"address": None}),
    ("an address, whatever it says to be forwarded for", {}, {"forwarded": "198.51.100.7"}),
]

DIFFERENT = [
    ("two tokens", {"authorization": "Bearer t"}, {"authorization": "Bearer T"}),
    ("two addresses", {"address": "192.0.2.1"}, {"address": "192.0.2.2"}),
    ("two networks of IPv6", {"address": "2001:db8:1:2::1"}, {"address": "2001:db8:1:3::1"}),
    (
        "two addresses of IPv4 written as IPv6",
        {"address": "::ffff:192.0.2.1"},
        {"address": "::ffff:192.0.2.2"},
    ),
    (
        "a token and the address that it is a copy of",
        {"authorization": "Bearer 192.0.2.1", "address": "192.0.2.9"},
        {"address": "192.0.2.1"},
    ),
]


@pytest.mark.parametrize(("first", "second"), [row[1:] for row in SAME], ids=[row[0] for row in SAME])
def test_counted_as_one_is(service: Make, first: dict[str, Any], second: dict[str, Any]) -> None:
    hello = service("1/minute")
    assert [hello.get(**first).status, hello.get(**second).status] == [200, 429]


@pytest.mark.parametrize(
    ("first", "second"), [row[1:] for row in DIFFERENT], ids=[row[0] for row in DIFFERENT]
)
def test_counted_apart_are(service: Make, first: dict[str, Any], second: dict[str, Any]) -> None:
    hello = service("1/minute")
    assert [hello.get(**first).status, hello.get(**second).status] == [200, 200]


FORWARDED = [
    # trusted hops, X-Forwarded-For, the address that is counted; the peer is 10.0.0.1
    (1, "192.0.2.1", "192.0.2.1"),
    (1, "198.51.100.1, 192.0.2.1", "192.0.2.1"),
    (1, "203.0.113.1, 198.51.100.1,198.51.100.2 , 192.0.2.1", "192.0.2.1"),
    (2, "198.51.100.1, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
    (2, "192.0.2.1", "10.0.0.1"),
    (3, "192.0.2.1, 10.0.0.2", "10.0.0.1"),
    (1, "", "10.0.0.1"),
    (1, "192.0.2.1,", "10.0.0.1"),
    (1, "unknown", "10.0.0.1"),
    (1, "192.0.2.1:4711", "192.0.2.1"),
    (1, "[2001:db8:1:2::7]:4711", "2001:db8:1:2::/64"),
    (1, "[2001:db8:1:2::7]", "2001:db8:1:2::/64"),
    (1, "2001:db8:1:2::7", "2001:db8:1:2::/64"),
    (1, "::ffff:192.0.2.1", "192.0.2.1"),
    (1, "192.0.2.1; drop table", "10.0.0.1"),
    (1, "[::1", "::/64"),
    (1, "\xff\xfe", "10.0.0.1"),
]


@pytest.mark.parametrize(("hops", "forwarded", "address"), FORWARDED)
def test_the_address_is_the_one_that_the_outermost_trusted_proxy_saw(
    hops: int, forwarded: str, address: str
) -> None:
    octets = forwarded.encode("latin-1")
    scope = {"client": ("10.0.0.1", 5), "headers": [(b"x-forwarded-for", octets)] if octets else []}
    environ = {"REMOTE_ADDR": "10.0.0.1", **({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {})}
    assert bide.asgi.client_address(scope, hops) == address
    assert bide.wsgi.client_address(environ, hops) == address


def test_several_lines_of_the_forwarded_field_are_one_list() -> None:
    lines = [b"invented", b"192.0.2.1", b"10.0.0.2"]
    scope = {"client": ("10.0.0.1", 5), "headers": [(b"x-forwarded-for", line) for line in lines]}
    assert bide.asgi.client_address(scope, 2) == "192.0.2.1"


def test_a_client_cannot_choose_its_key_by_adding_entries(service: Make) -> None:
    hello = service("1/minute", trusted_hops=1)
    statuses = [hello.get(forwarded=f"198.51.100.{number}, 192.0.2.1").status for number in range(3)]
    assert statuses == [200, 429, 429]


@given(st.text(), st.integers(1, 32))
def test_no_forwarded_field_makes_an_error(forwarded: str, hops: int) -> None:
    assert forwarded_address(forwarded, hops, "10.0.0.1")


@given(st.ip_addresses(v=6).map(str), st.binary(min_size=8, max_size=8))
def test_all_addresses_of_a_network_of_ipv6_have_one_key(address: str, host: bytes) -> None:
    network = ipaddress.ip_network((address, 64), strict=False)
    other = str(network[int.from_bytes(host, "big")])
    mapped = ipaddress.IPv6Address(address).ipv4_mapped or ipaddress.IPv6Address(other).ipv4_mapped
    assert mapped or address_key(address) == address_key(other) == str(network)


@given(st.binary(max_size=40))
def test_a_bearer_key_is_never_an_address_and_keeps_the_token(value: bytes) -> None:
    key = bearer_key(b"bearer " + value)
    assert key == (b"Bearer " + value.strip() if value.strip() else None)


def test_a_key_function_decides(service: Make) -> None:
    hello = service("1/minute", key=lambda request: "everybody")
    assert [hello.get(address="192.0.2.1").status, hello.get(address="192.0.2.2").status] == [200, 429]


def test_a_limiter_can_be_shared(service: Make) -> None:
    limiter = bide.Limiter("2/minute")
    first, second = service(limiter=limiter), service(limiter=limiter)
    assert [first.get().status, second.get().status, first.get().status] == [200, 200, 429]
    assert not limiter.try_acquire("192.0.2.1")


@pytest.mark.parametrize("request_", [{"authorization": "Bearer t\xfcr"}, {"address": "2001:db8::1"}, {}])
def test_asgi_and_wsgi_give_a_client_the_same_key(
    both_services: Callable[..., list[Service]], request_: dict[str, str]
) -> None:
    services = both_services(limiter=bide.Limiter("1/minute"))
    assert [hello.get(**request_).status for hello in services] == [200, 429]


# Exempt keys ---------------------------------------------------------------------------------------------

EXEMPT = [
    ({"192.0.2.1"}, {"address": "192.0.2.1"}, True),
    ({"192.0.2.1"}, {"address": "::ffff:192.0.2.1"}, True),
    ({"192.0.2.1"}, {"address": "192.0.2.2"}, False),
    (["2001:db8:1:2::1"], {"address": "2001:db8:1:2::5"}, True),
    (["2001:db8:1:2::/64"], {"address": "2001:db8:1:2::5"}, True),
    ({"a-token"}, {"authorization": "Bearer a-token"}, True),
    ({b"a-token"}, {"authorization": "Bearer a-token"}, True),
    ({"bearer a-token"}, {"authorization": "Bearer a-token"}, True),
    ({"a-token"}, {"authorization": "Bearer another"}, False),
    # A client that sends an exempt address as its token is not exempt.
    ({"192.0.2.1"}, {"address": "192.0.2.9", "authorization": "Bearer 192.0.2.1"}, False),
    (lambda key: key == "192.0.2.1", {"address": "192.0.2.1"}, True),
    (lambda key: key == "192.0.2.1", {"address": "192.0.2.2"}, False),
    ((), {}, False),
]


@pytest.mark.parametrize(("exempt", "request_", "is_exempt"), EXEMPT)
def test_exempt_keys_pass_and_are_told_nothing(
    service: Make, exempt: Any, request_: dict[str, Any], is_exempt: bool
) -> None:
    hello = service("1/minute", exempt=exempt)
    answers = [hello.get(**request_) for _ in range(3)]
    assert [answer.status for answer in answers] == ([200] * 3 if is_exempt else [200, 429, 429])
    assert bool(ALL_FIELDS & answers[0].headers.keys()) is not is_exempt


def test_exempt_keys_are_those_of_the_key_function(service: Make) -> None:
    hello = service("1/minute", key=lambda request: b"monitor", exempt={"monitor"})
    assert [hello.get().status for _ in range(3)] == [200] * 3


# Limits by path and by function --------------------------------------------------------------------------

PATHS: dict[str, Any] = {
    "/login": "1/minute",
    "/api/*": "2/minute",
    "/api/export/*": ["3/minute", "1000/hour"],
    "/api/export/all": "4/minute",
    "/health": None,
    "/static/*": None,
    "/caf\xe9": "5/minute",
}
BY_PATH = [
    ("/login", "/login", 1),
    ("/login/", "/login", 1),
    ("/login/more", "default", 9),
    ("/logins", "default", 9),
    ("/", "default", 9),
    ("/api", "/api/*", 2),
    ("/api/", "/api/*", 2),
    ("/api/users", "/api/*", 2),
    ("/api/users/export", "/api/*", 2),
    ("/apiary", "default", 9),
    ("/api/export", "/api/export/*", 3),
    ("/api/export/some", "/api/export/*", 3),
    ("/api/export/all", "/api/export/all", 4),
    ("/health", None, None),
    ("/static/logo.png", None, None),
]


@pytest.mark.parametrize(("path", "bucket", "limit"), BY_PATH)
def test_the_longest_path_that_matches_gives_the_limit(
    service: Make, path: str, bucket: str | None, limit: int | None
) -> None:
    headers = service("9/minute", paths=PATHS).get(path).headers
    assert headers.get("x-ratelimit-bucket") == bucket
    assert headers.get("x-ratelimit-limit") == (None if limit is None else str(limit))


def test_a_path_that_is_not_ascii_names_its_bucket_in_ascii(service: Make) -> None:
    hello = service("9/minute", paths=PATHS)
    assert hello.get("/caf\xe9").headers["x-ratelimit-bucket"] == "/caf%C3%A9"


def test_each_path_is_a_bucket_of_its_own(service: Make) -> None:
    hello = service("1/minute", paths={"/a": "1/minute", "/b/*": "1/minute"})
    assert [hello.get(path).status for path in ("/", "/a", "/b/1", "/b/2", "/a", "/c")] == [
        200, 200, 200, 429, 429, 429,
    ]  # fmt: skip


def test_paths_alone_leave_the_others_unlimited(service: Make) -> None:
    hello = service(paths={"/login": "1/minute"})
    assert [hello.get(path).status for path in ("/login", "/login", "/", "/")] == [200, 429, 200, 200]


def test_a_path_can_have_a_limiter_of_its_own(service: Make) -> None:
    limiter = bide.Limiter("1/minute")
    hello = service("9/minute", paths={"/login": limiter})
    assert [hello.get("/login").status for _ in range(2)] == [200, 429]


def test_the_path_of_a_mounted_application_is_the_whole_one(service: Make) -> None:
    hello = service("9/minute", paths={"/shop/login": "1/minute"})
    if hello.interface == "wsgi":
        environ = {"SCRIPT_NAME": "/shop", "PATH_INFO": "/login"}
        assert bide.wsgi.path_of(environ) == "/shop/login"
    else:  # ASGI: the path holds the root path
        assert hello.get("/shop/login").headers["x-ratelimit-bucket"] == "/shop/login"


def test_a_function_of_the_request_gives_the_limit(service: Make) -> None:
    plans: dict[str, Any] = {
        "/free": "1/minute",
        "/paid": bide.Limit(3, 60.0),
        "/both": ["2/second", "100/minute"],
        "/internal": None,
    }
    hello = service(
        lambda request: plans[request.get("path") or request["PATH_INFO"]], key=lambda request: "one key"
    )
    sent = [hello.get(path).headers for path in ("/free", "/paid", "/paid", "/both", "/internal")]
    assert [headers.get("x-ratelimit-limit") for headers in sent] == ["1", "3", "3", "2", None]
    assert [headers.get("x-ratelimit-remaining") for headers in sent] == ["0", "2", "1", "1", None]
    assert [headers.get("x-ratelimit-bucket") for headers in sent] == [
        "default-1/60s", "default-3/60s", "default-3/60s", "default-2/1s-100/60s", None,
    ]  # fmt: skip


def test_a_function_that_returns_ever_new_limits_is_stopped(service: Make) -> None:
    numbers = iter(range(1, 1000))
    hello = service(lambda request: bide.Limit(next(numbers), 1.0), max_keys=1)
    assert {hello.get().status for _ in range(256)} == {200}
    with pytest.raises(ValueError, match="the function returned more than 256 different ones"):
        hello.get()


# What is said --------------------------------------------------------------------------------------------


def test_every_answer_says_how_things_stand_all_of_one_instant(service: Make) -> None:
    limiter, clock = on_a_clock("2/minute")
    hello = service(limiter=limiter)
    started_at = clock.time()
    hello.get()
    clock.advance(20.25)
    reset = str(math.ceil(started_at + 60.0))
    expected = {
        "x-ratelimit-limit": "2",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": reset,
        "x-ratelimit-bucket": "default",
        "ratelimit": '"default";r=0;t=40',
        "ratelimit-policy": '"default";q=2;w=60',
    }
    allowed, refused = hello.get(), hello.get()
    assert {name: value for name, value in allowed.headers.items() if name in ALL_FIELDS} == expected
    assert {name: value for name, value in refused.headers.items() if name in ALL_FIELDS} == {
        **expected,
        "retry-after": "40",
    }


def test_times_are_rounded_up_so_that_nobody_comes_back_too_early(service: Make) -> None:
    limiter, clock = on_a_clock("1/minute")
    clock.advance(math.ceil(clock.time()) + 0.5 - clock.time())
    hello = service(limiter=limiter)
    hello.get()
    clock.advance(59.999)
    headers = hello.get().headers
    end_at = clock.time() + 0.001
    assert int(headers["x-ratelimit-reset"]) == math.ceil(end_at)
    assert headers["ratelimit"] == '"default";r=0;t=1'
    assert headers["retry-after"] == "1"
    clock.advance(1.0)
    assert hello.get().status == 200


def test_several_limits_hold_at_once_and_the_tightest_one_is_told(service: Make) -> None:
    limiter, clock = on_a_clock("3/second", "4/minute")
    hello = service(limiter=limiter, name="api")
    sent = [hello.get() for _ in range(4)]
    assert [answer.status for answer in sent] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit"] for answer in sent] == [
        '"api-1s";r=2;t=1', '"api-1s";r=1;t=1', '"api-1s";r=0;t=1', '"api-1s";r=0;t=1',
    ]  # fmt: skip
    clock.advance(1.0)
    sent += [hello.get(), hello.get()]
    assert [answer.status for answer in sent[4:]] == [200, 429]
    assert [answer.headers["ratelimit"] for answer in sent[4:]] == ['"api-60s";r=0;t=59'] * 2
    assert [answer.headers["x-ratelimit-limit"] for answer in sent] == ["3", "3", "3", "3", "4", "4"]
    assert sent[5].headers["retry-after"] == "59"
    assert {answer.headers["ratelimit-policy"] for answer in sent} == {'"api-1s";q=3;w=1, "api-60s";q=4;w=60'}
    assert {answer.headers["x-ratelimit-bucket"] for answer in sent} == {"api"}


def test_limits_of_one_number_are_told_apart_by_their_windows(service: Make) -> None:
    limiter, clock = on_a_clock("2/second", "2/minute")
    hello = service(limiter=limiter)
    clock.advance(5.0)
    sent = [hello.get().headers["ratelimit"] for _ in range(2)]
    assert sent == ['"default-1s";r=1;t=1', '"default-1s";r=0;t=1']
    clock.advance(1.0)
    assert hello.get().headers["ratelimit"] == '"default-60s";r=0;t=59'


def test_a_window_of_no_whole_seconds_is_left_out_of_the_policy(service: Make) -> None:
    headers = service("2/1500ms").get().headers
    assert headers["ratelimit-policy"] == '"default";q=2'
    assert headers["ratelimit"] == '"default";r=1;t=2'


def test_a_name_with_quotes_and_percent_signs_is_a_string_of_structured_fields(service: Make) -> None:
    headers = service("2/minute", name='a "50%d" \\ name').get().headers
    assert headers["ratelimit"] == '"a \\"50%d\\" \\\\ name";r=1;t=60'
    assert headers["x-ratelimit-bucket"] == 'a "50%d" \\ name'


FIELDS = [
    (bide.asgi.FIELDS, ALL_FIELDS),
    ((), set()),
    (bide.asgi.X_RATELIMIT, {field.lower() for field in bide.asgi.X_RATELIMIT}),
    (bide.asgi.RATELIMIT, {"ratelimit", "ratelimit-policy"}),
    ({"Retry-After"}, {"retry-after"}),
    *(([field], {field.lower()}) for field in bide.asgi.FIELDS),
    (["x-ratelimit-reset", "RETRY-AFTER"], {"x-ratelimit-reset", "retry-after"}),
]


@pytest.mark.parametrize(("fields", "sent"), FIELDS)
def test_each_field_can_be_switched(service: Make, fields: Any, sent: set[str]) -> None:
    hello = service("1/minute", fields=fields)
    assert ALL_FIELDS & hello.get().headers.keys() == sent - {"retry-after"}
    assert ALL_FIELDS & hello.get().headers.keys() == sent


def test_an_applications_own_message_is_not_changed(service: Make) -> None:
    hello = service("5/minute")
    hello.get()
    headers = hello.get().headers  # the fixture checks that no field stands there twice
    assert headers["x-ratelimit-remaining"] == "3"


def test_the_tighter_of_two_nested_limits_is_told_once(service: Make) -> None:
    inner, outer = bide.Limiter("2/minute"), bide.Limiter("3/minute")
    hello = service(limiter=inner, name="inner")
    wrap = bide.asgi.RateLimit if hello.interface == "asgi" else bide.wsgi.RateLimit
    hello.app = wrap(hello.app, limiter=outer, name="outer")
    answers = [hello.get() for _ in range(4)]
    told = [(a.status, a.headers["x-ratelimit-bucket"], a.headers["x-ratelimit-remaining"]) for a in answers]
    assert told == [(200, "inner", "1"), (200, "inner", "0"), (429, "inner", "0"), (429, "outer", "0")]
    assert "retry-after" in answers[2].headers


def test_the_outer_limit_is_told_when_it_is_the_tighter_one(service: Make) -> None:
    hello = service("5/minute", name="inner")
    wrap = bide.asgi.RateLimit if hello.interface == "asgi" else bide.wsgi.RateLimit
    hello.app = wrap(hello.app, "3/minute", name="outer")
    assert [hello.get().headers["x-ratelimit-bucket"] for _ in range(3)] == ["outer"] * 3


# Only reporting ------------------------------------------------------------------------------------------


def test_a_limit_that_only_reports_lets_everything_pass_and_tells(
    service: Make, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes: list[bide.Outcome] = []
    hello = service(
        "1/minute", report_only=True, name="api", on_refused=lambda request, outcome: outcomes.append(outcome)
    )
    with caplog.at_level(logging.WARNING, logger="bide"):
        answers = [hello.get(authorization="Bearer a-secret") for _ in range(4)]
    assert [answer.status for answer in answers] == [200] * 4
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["0"] * 4
    assert not any("retry-after" in answer.headers for answer in answers)
    assert [bool(outcome) for outcome in outcomes] == [False] * 3
    assert caplog.messages == ["rate limit 'api' would have refused requests: 1 since this was last said"]


def test_refusals_are_told_to_a_function_and_at_most_every_ten_seconds_to_the_log(
    service: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("bide._gate.time.monotonic", lambda: now)
    told: list[Any] = []
    hello = service("1/minute", on_refused=lambda request, outcome: told.append(outcome.retry_after))
    with caplog.at_level(logging.WARNING, logger="bide"):
        for _ in range(101):
            hello.get()
        now = 1010.0
        hello.get()
    assert len(told) == 101
    assert caplog.messages == [
        "rate limit 'default' refused requests: 1 since this was last said",
        "rate limit 'default' refused requests: 100 since this was last said",
    ]


def test_no_key_stands_in_a_field_a_log_line_or_an_error(
    service: Make, caplog: pytest.LogCaptureFixture
) -> None:
    hello = service("1/minute")
    with caplog.at_level(logging.DEBUG):
        answers = [hello.get(authorization="Bearer s3cr3t", address="203.0.113.77") for _ in range(3)]
    shown = repr([(answer.headers, answer.body) for answer in answers]) + caplog.text + repr(hello.app)
    assert "s3cr3t" not in shown
    assert "203.0.113.77" not in shown
    broken = service("1/minute", key=lambda request: ["s3cr3t"])
    with pytest.raises(TypeError, match="key must be str or bytes, not list") as caught:
        broken.get()
    assert "s3cr3t" not in str(caught.value)


# Mistakes ------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ((), {}, TypeError, 'a limit is missing, such as "100/second"'),
    ((), {"paths": {}}, TypeError, "a limit is missing"),
    (("100/fortnight",), {}, ValueError, "'100/fortnight'"),
    ((100,), {}, TypeError, 'a limit must be text, such as "100/second", or a bide.Limit, not 100'),
    (([100],), {}, TypeError, "a limit must be text or a bide.Limit, not int"),
    (("1/second", "2/second"), {}, ValueError, "have the same window"),
    (("1/second",), {"limter": 1}, TypeError, "'limter' is no option of a rate limit; these are: exempt, "),
    (("1/second",), {"limiter": bide.Limiter("1/second")}, ValueError, "limiter: it has limits of its own"),
    ((), {"limiter": "1/second"}, TypeError, "limiter must be a bide.Limiter, not str"),
    ((), {"limiter": bide.Limiter(learn="1 hour")}, ValueError, "a learning one has no number of its own"),
    (("1/second",), {"key": "ip"}, TypeError, "key must be a function of a request, not str"),
    (("1/second",), {"trusted_hops": -1}, ValueError, "trusted_hops must be from 0"),
    (("1/second",), {"trusted_hops": True}, TypeError, "trusted_hops must be a number of proxies"),
    (("1/second",), {"trusted_hops": 1, "key": len}, ValueError, "trusted_hops is for the default key"),
    (("1/second",), {"exempt": "192.0.2.1"}, TypeError, "exempt must be a collection of keys"),
    (("1/second",), {"exempt": [1]}, TypeError, "exempt: a key must be str or bytes, not int"),
    (("1/second",), {"exempt": ["10.0.0.0/8"]}, ValueError, "exempt: '10.0.0.0/8' is a network"),
    (("1/second",), {"fields": "RateLimit"}, TypeError, "fields must be a collection of names"),
    (
        ("1/second",),
        {"fields": ["X-Rate-Limit"]},
        ValueError,
        "fields: 'X-Rate-Limit' is not among X-RateLimit-",
    ),
    (("1/second",), {"report_only": "yes"}, TypeError, "report_only must be True or False, not 'yes'"),
    (
        ("1/second",),
        {"on_refused": 1},
        TypeError,
        "on_refused must be a function of a request and an outcome",
    ),
    (("1/second",), {"name": ""}, ValueError, "name must be 1 to 200 printable ASCII characters, not ''"),
    (("1/second",), {"name": "a\r\nb"}, ValueError, "name must be 1 to 200 printable ASCII characters"),
    (("1/second",), {"name": 5}, TypeError, "name must be text, not int"),
    (("1/second",), {"store": "nowhere"}, ValueError, "store"),
    (("1/second",), {"max_keys": 0}, ValueError, "max_keys must be from 1"),
    ((), {"paths": ["/a"]}, TypeError, "paths must be a mapping"),
    ((), {"paths": {"login": "1/second"}}, ValueError, "paths: 'login' is no path"),
    ((), {"paths": {"/a/*/b": "1/second"}}, ValueError, "paths: '/a/*/b' is no path"),
    ((), {"paths": {"/a*": "1/second"}}, ValueError, "paths: '/a*' is no path"),
    ((), {"paths": {"/a": "soon"}}, ValueError, "'soon' is not a limit"),
]


@pytest.mark.parametrize(("limits", "options", "error", "text"), MISTAKES)
def test_a_mistake_in_an_option_is_told_in_one_line(
    service: Make, limits: tuple[Any, ...], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        service(*limits, **options)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("middleware", [bide.asgi.RateLimit, bide.wsgi.RateLimit])
def test_the_application_comes_first(middleware: Any) -> None:
    with pytest.raises(TypeError, match="the application comes first"):
        middleware("100/second")
