"""The walk: which rule decides, in which order, and what clamps the outcome."""

import math

import pytest

import bide
from bide.policy import (
    CLEVER,
    HTTP,
    Action,
    Backoff,
    Decision,
    Dialect,
    Failure,
    Field,
    Override,
    Policy,
    Quota,
    Reason,
    Refill,
    Reply,
    When,
    Window,
    decide,
    explain,
)

NOW = 1700000000.0
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"


def http(
    status: int,
    headers: dict[str, str] | list[tuple[str, str]] = (),  # type: ignore[assignment]  # the empty default
    policy: Policy = HTTP,
    *,
    attempt: int = 1,
    method: str = "GET",
    draw: float = 0.0,
    elapsed: float = 0.0,
    body: object = None,
) -> Decision:
    reply = Reply(status, headers, method=method, body=body)
    decision = decide(reply, policy, attempt=attempt, now=NOW, draw=draw, elapsed=elapsed)
    assert explain(reply, policy, attempt=attempt, now=NOW, draw=draw, elapsed=elapsed).decision == decision
    return decision


# Status ----------------------------------------------------------------------------------------------------

CLASSES = {
    Action.PROCESS: [100, 103, 200, 201, 204, 206, 299, 300, 301, 304, 308, 399],
    Action.RETRY: [408, 425, 429, 500, 502, 503, 504, 507, 520, 599, 99, 0, -7, 600, 1000],
    Action.FAIL: [400, 401, 403, 404, 405, 409, 410, 413, 418, 422, 451, 499, 501, 505, 506, 508, 510, 511],
}


@pytest.mark.parametrize(
    ("status", "action"), [(status, action) for action, statuses in CLASSES.items() for status in statuses]
)
def test_http_retries_what_rfc_9110_lets_hope_for(status: int, action: Action) -> None:
    assert http(status).action is action


def test_a_413_is_repeated_only_when_it_says_when() -> None:
    assert http(413).action is Action.FAIL
    decision = http(413, {"Retry-After": "7"})
    assert (decision.action, decision.wait) == (Action.RETRY, 7.0)


@pytest.mark.parametrize("status", [400, 403, 404, 501])
def test_a_retry_after_on_another_failure_is_reported_not_followed(status: int) -> None:
    decision = http(status, {"Retry-After": "7"})
    assert (decision.action, decision.wait, decision.source) == (Action.FAIL, 7.0, "retry-after")


def test_a_retry_after_on_a_success_is_no_wait_but_on_a_redirect_it_is() -> None:
    assert http(200, {"Retry-After": "7"}).wait == 0.0
    assert http(301, {"Retry-After": "7"}).wait == 7.0


# Retry-After -----------------------------------------------------------------------------------------------

RETRY_AFTER = [
    ("120", 120.0, "retry-after"),
    ("0", 0.0, "retry-after"),
    ("  7\t", 7.0, "retry-after"),
    ("1.5", 1.5, "retry-after"),
    ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0, "retry-after"),
    ("Tuesday, 14-Nov-23 22:13:50 GMT", 30.0, "retry-after"),
    ("Tue Nov 14 22:13:50 2023", 30.0, "retry-after"),
    ("5, 10", 10.0, "retry-after"),
    ("0, Tue, 14 Nov 2023 22:13:20 GMT", 0.0, "retry-after"),
    ("10, 5", 10.0, "retry-after"),
    ("5, soon", 5.0, "retry-after"),
    ("Tue, 14 Nov 2023 22:13:50 GMT, 5", 30.0, "retry-after"),
    # The rest states no wait: the backoff of this attempt, 4 s without jitter below.
    ("Tue, 14 Nov 2023 22:13:20 GMT", 4.0, "backoff"),
    ("Tue, 14 Nov 2023 22:13:10 GMT", 4.0, "backoff"),
    ("-5", 4.0, "backoff"),
    ("+5", 4.0, "backoff"),
    ("1e3", 4.0, "backoff"),
    ("1_000", 4.0, "backoff"),
    ("inf", 4.0, "backoff"),
    ("nan", 4.0, "backoff"),
    ("abc", 4.0, "backoff"),
    ("10 seconds", 4.0, "backoff"),
    ("1m0s", 4.0, "backoff"),
    ("2023-11-14T22:13:50Z", 4.0, "backoff"),
    ("", 4.0, "backoff"),
    ("\u0663", 4.0, "backoff"),
    ("\u00b2", 4.0, "backoff"),
    ("Tue, 31 Feb 2023 22:13:50 GMT", 4.0, "backoff"),
    ("Tue, 14 Nov 99999 22:13:50 GMT", 4.0, "backoff"),
    ("Tue, 14 Nov 12345678901 22:13:50 GMT", 4.0, "backoff"),
    ("1700000030", 4.0, "backoff"),
    ("9" * 5000, 4.0, "backoff"),
    ("0" * 5000 + "7", 4.0, "backoff"),
    ("7" + " " * 1_000_000, 7.0, "retry-after"),
    ("x" * 1_000_000, 4.0, "backoff"),
    ("\ud800", 4.0, "backoff"),
    ("7\x00", 4.0, "backoff"),
]


@pytest.mark.parametrize(("text", "wait", "source"), RETRY_AFTER, ids=lambda value: ascii(value)[:24])
@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_is_a_delay_or_a_date_and_anything_else_is_dropped(
    status: int, text: str, wait: float, source: str
) -> None:
    policy = HTTP.replace(backoff=Backoff(base=1.0, jitter="none"), max_wait=None)
    decision = http(status, {"Retry-After": text}, policy, attempt=3)
    assert (decision.action, decision.wait, decision.source) == (Action.RETRY, wait, source)


@pytest.mark.parametrize("seconds", [86400, 172805, 31622400])
def test_a_long_retry_after_defers_to_its_own_time(seconds: int) -> None:
    decision = http(429, {"Retry-After": str(seconds)})
    assert (decision.action, decision.resume_at) == (Action.DEFER, NOW + seconds)


def test_an_unusable_field_never_blocks_the_next_one() -> None:
    headers = {"Retry-After": "soon", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9"}
    decision = http(429, headers)
    assert (decision.wait, decision.source) == (9.0, "x-ratelimit-reset")


@pytest.mark.parametrize(
    "headers",
    [
        [("Retry-After", "5"), ("Retry-After", "10")],
        [("Retry-After", "5, 10")],
        [("retry-after", "5"), ("RETRY-AFTER", "10")],
        [(b"Retry-After", b"5"), (b"Retry-After", b"10")],
        {"Retry-After": ["5", "10"]},
    ],
)
def test_lines_of_one_field_and_joined_ones_are_one_reading(headers: object) -> None:
    assert decide(Reply(429, headers), now=NOW, draw=0.0).wait == 10.0  # type: ignore[arg-type]  # all are headers


# Windows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["X-RateLimit-", "X-Rate-Limit-", "RateLimit-", "x-ratelimit-", "X-RATELIMIT-"]
)
@pytest.mark.parametrize(("reset", "wait"), [("57", 57.0), ("1700000057", 57.0), ("1700000057000", 57.0)])
def test_the_common_trios_are_read_by_the_size_of_their_reset(prefix: str, reset: str, wait: float) -> None:
    headers = {f"{prefix}Limit": "100", f"{prefix}Remaining": "0", f"{prefix}Reset": reset}
    decision = http(429, headers)
    assert decision.wait == wait
    assert decision.quota == Quota(100, 0, wait, NOW + wait)


def test_a_window_with_quota_left_is_never_waited_for() -> None:
    headers = {"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "57"}
    assert http(429, headers).source == "backoff"
    assert http(200, headers).wait == 0.0


def test_a_window_of_unknown_remaining_counts_as_used_up_on_a_refusal_only() -> None:
    headers = {"X-RateLimit-Limit": "100", "X-RateLimit-Reset": "57"}
    assert http(429, headers).wait == http(503, headers).wait == 57.0
    assert http(200, headers).wait == 0.0
    assert http(500, headers).source == "backoff"


def test_a_known_used_up_window_beats_one_of_unknown_remaining() -> None:
    headers = {
        "X-RateLimit-Reset": "57",
        "X-Rate-Limit-Limit": "10",
        "X-Rate-Limit-Remaining": "0",
        "X-Rate-Limit-Reset": "3",
    }
    decision = http(429, headers)
    assert (decision.wait, decision.source) == (3.0, "x-rate-limit-reset")
    assert decision.quota is not None
    assert decision.quota.limit == 10
    assert len(decision.quotas) == 2


def test_of_used_up_windows_the_one_that_ends_last_governs() -> None:
    decision = http(429, {"RateLimit": '"burst";r=0;t=12, "daily";r=0;t=40, "other";r=3;t=90'})
    assert decision.wait == 40.0
    assert decision.quota is not None
    assert decision.quota.bucket == "daily"
    assert [quota.bucket for quota in decision.quotas] == ["burst", "daily", "other"]


def test_with_quota_left_the_window_with_the_smallest_share_governs() -> None:
    headers = {
        "RateLimit": '"a";r=50;t=1, "b";r=5;t=2, "c";r=1;t=3',
        "RateLimit-Policy": '"a";q=100;w=60, "b";q=100;w=3600',
    }
    decision = http(200, headers)
    assert decision.quota == Quota(100, 5, 2.0, NOW + 2.0, 3600, "b")


@pytest.mark.parametrize(
    "policy", ['"a";w=60', '"a";q=-1;w=60', '"a";q=1.5;w=60', "7;q=9;w=60", "(1 2);q=9;w=60", '"b";q=9;w=60']
)
def test_a_policy_of_the_drafts_without_a_name_or_a_quota_says_nothing(policy: str) -> None:
    headers = {"RateLimit": '"a";r=5;t=2', "RateLimit-Policy": policy}
    assert http(200, headers).quota == Quota(None, 5, 2.0, NOW + 2.0, None, "a")
    assert http(200, headers | {"RateLimit-Policy": policy + ', "a";q=9;w=0'}).quota == Quota(
        9, 5, 2.0, NOW + 2.0, None, "a"
    )


def test_no_limit_is_said_by_a_word() -> None:
    headers = {"X-RateLimit-Limit": "unlimited", "X-RateLimit-Remaining": "unlimited"}
    assert http(200, headers).quota is None


@pytest.mark.parametrize(
    "headers",
    [{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "T"}, {"RateLimit": '"a";r=0;t=T'}],
    ids=["the trio", "the structured field"],
)
def test_a_reset_beyond_366_days_is_dropped(headers: dict[str, str]) -> None:
    def told(seconds: int) -> Decision:
        return http(429, {name: value.replace("T", str(seconds)) for name, value in headers.items()})

    decision = told(31_622_401)
    assert decision.source == "backoff"
    assert decision.quota is not None
    assert (decision.quota.reset_after, decision.quota.reset_at) == (None, None)
    assert told(31_622_400).resume_at == NOW + 31_622_400.0


@pytest.mark.parametrize(
    ("left", "reset", "stated"),
    [
        ("1, 2", "5, 6", [(1, 5.0), (2, 6.0)]),
        ("1, 2", "5", [(1, 5.0), (2, None)]),
        ("1", "5, 6", [(1, 5.0), (None, 6.0)]),
    ],
)
def test_windows_in_comma_lists_are_paired_by_position(
    left: str, reset: str, stated: list[tuple[float | None, float | None]]
) -> None:
    policy = made(windows=(Window(remaining=Field("left"), reset=Field("reset", ("seconds",))),))
    quotas = http(200, {"Left": left, "Reset": reset}, policy).quotas
    assert [(quota.remaining, quota.reset_after) for quota in quotas] == stated


def test_a_constant_limit_is_stated_once_where_nothing_is_counted() -> None:
    policy = made(windows=(Window(limit=9.0, bucket=Field("name")),))
    assert http(200, {"Name": "a"}, policy).quotas == (Quota(9.0, bucket="a"),)


def test_a_field_that_is_no_structured_list_is_ignored_alone() -> None:
    headers = {"RateLimit-Remaining": "1 1", "RateLimit-Limit": "9", "RateLimit-Reset": "5"}
    assert http(200, headers).quotas == (Quota(9, None, 5.0, NOW + 5.0),)


def test_one_pattern_names_32_windows_at_most() -> None:
    window = Window(limit=Field("x-everything"), remaining=Field("x-*-left"))
    headers = {"Date": DATE, "X-Everything": "9"} | {f"X-{number}-Left": "1" for number in range(33)}
    quotas = http(200, headers, made(windows=(window,))).quotas
    assert [quota.bucket for quota in quotas] == [str(number) for number in range(32)]


@pytest.mark.parametrize(
    ("length", "window"),
    [("0", None), ("0.5", 0.5), ("31622400", 31_622_400.0), ("31622401", None), ("-1", None), ("long", None)],
)
def test_the_length_of_a_window_is_above_0_seconds_and_at_most_366_days(
    length: str, window: float | None
) -> None:
    policy = made(windows=(Window(remaining=Field("left"), length=Field("length", ("seconds",))),))
    (quota,) = http(200, {"Left": "1", "Length": length}, policy).quotas
    assert quota.window == window


@pytest.mark.parametrize(("reset", "remaining"), [("0.5", 0), ("0", None), ("soon", None)])
def test_a_field_that_only_a_used_up_window_has_says_so_while_its_end_is_ahead(
    reset: str, remaining: int | None
) -> None:
    policy = made(windows=(Window(limit=7.0, reset=Field("until", ("seconds",)), exhausted=True),))
    (quota,) = http(200, {"Until": reset}, policy).quotas
    assert quota.remaining == remaining


# The drafts, by shape --------------------------------------------------------------------------------------

GENERATIONS = [
    (
        {
            "RateLimit-Limit": '10, 10;window=1;name="per-ip"',
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": "1",
        },
        10,
        1,
    ),
    ({"RateLimit-Limit": "100, 100;w=60", "RateLimit-Remaining": "0", "RateLimit-Reset": "50"}, 100, 60),
    (
        {
            "RateLimit-Limit": "100",
            "RateLimit-Policy": "100;w=60",
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": "5",
        },
        100,
        None,
    ),
    ({"RateLimit": "limit=100, remaining=0, reset=5", "RateLimit-Policy": "100;w=10"}, 100, None),
    ({"RateLimit": '"default";r=0;t=30', "RateLimit-Policy": '"default";q=100;w=60'}, 100, 60),
]


@pytest.mark.parametrize(("headers", "limit", "window"), GENERATIONS)
def test_every_generation_of_the_rate_limit_fields_is_read(
    headers: dict[str, str], limit: int, window: float | None
) -> None:
    decision = http(429, headers)
    assert decision.action is Action.RETRY
    assert decision.wait > 0
    assert decision.quota is not None
    assert (decision.quota.limit, decision.quota.remaining) == (limit, 0)
    assert decision.quota.window in (window, 60.0)


@pytest.mark.parametrize(
    "headers",
    [
        {"RateLimit": '"default;r=0;t=5'},
        {"RateLimit": '"default";r=0;t=1234567890123456'},
        {"RateLimit": '"default";R=0;T=5'},
        {"RateLimit": '"default";r;t=5'},
        {"RateLimit": '"default";r=0.0;t=5'},
        {"RateLimit": '"default";r=0;t=5.0'},
        {"RateLimit": "default;r=0;t=5"},
        {"RateLimit": '"default";t=5'},
        {"RateLimit": '"default";r=-1;t=5'},
        {"RateLimit": "limit=100, remaining=0"},
        {"RateLimit": "limit=a, remaining=0, reset=5"},
        {"RateLimit": ""},
        {"RateLimit": '"default";r=0;t=5', "Age": "30"},
        {"RateLimit-Limit": "100", "RateLimit-Remaining": "0,", "RateLimit-Reset": "5,"},
    ],
)
def test_a_malformed_or_cached_field_of_the_drafts_is_ignored_whole(headers: dict[str, str]) -> None:
    assert http(429, headers).source == "backoff"


# Clocks ----------------------------------------------------------------------------------------------------


def test_absolute_times_are_measured_against_the_date_and_age_of_the_reply() -> None:
    headers = {"Date": DATE, "Retry-After": "Tue, 14 Nov 2023 22:13:50 GMT"}
    for now in (0.0, NOW, NOW + 1e6):
        assert decide(Reply(503, headers), now=now, draw=0.0).wait == 30.0
        assert decide(Reply(503, headers | {"Age": "10"}), now=now, draw=0.0).wait == 20.0


@pytest.mark.parametrize("date", ["now", "", "Tue, 14 Nov 2023 22:13:20 PST", "9" * 9000])
def test_an_unusable_date_leaves_the_clients_clock(date: str) -> None:
    headers = {"Date": date, "Retry-After": "Tue, 14 Nov 2023 22:13:50 GMT"}
    assert decide(Reply(503, headers), now=NOW, draw=0.0).wait == 30.0


def test_an_rfc_850_date_of_the_reply_is_read_with_the_clients_century() -> None:
    headers = {"Date": "Tuesday, 14-Nov-23 22:13:20 GMT", "Retry-After": "Tue, 14 Nov 2023 22:13:50 GMT"}
    assert decide(Reply(503, headers), now=NOW + 60, draw=0.0).wait == 30.0


def test_a_dialect_may_prefer_the_clients_clock() -> None:
    policy = HTTP.replace(dialect=HTTP.dialect.replace(clock="local"))
    headers = {"Date": DATE, "Retry-After": "Tue, 14 Nov 2023 22:13:50 GMT"}
    assert decide(Reply(503, headers), policy, now=NOW + 10, draw=0.0).wait == 20.0


# Margin, spread, clamps ------------------------------------------------------------------------------------


def test_a_stated_wait_is_spread_by_a_quarter_and_two_seconds_at_most_and_never_shortened() -> None:
    assert http(429, {"Retry-After": "4"}, draw=0.5).wait == 4.5
    assert http(429, {"Retry-After": "100"}, draw=0.5).wait == 101.0
    assert http(429, {"Retry-After": "0"}, draw=0.5).wait == 0.0


def test_the_margin_of_a_dialect_lengthens_every_stated_wait() -> None:
    policy = HTTP.replace(dialect=HTTP.dialect.replace(margin=1.0))
    assert http(429, {"Retry-After": "4"}, policy).wait == 5.0
    assert http(200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "4"}, policy).wait == 5.0
    assert http(500, {}, policy, draw=0.5).wait == 0.25


def test_http_defers_after_four_retries_for_300_seconds() -> None:
    assert [http(500, attempt=n).action for n in (1, 4, 5)] == [Action.RETRY, Action.RETRY, Action.DEFER]
    assert http(500, attempt=5).resume_at == NOW + 300.0
    assert http(500, attempt=10**20).resume_at == NOW + 300.0


def test_max_wait_defers_and_none_or_infinity_lifts_it() -> None:
    assert http(429, {"Retry-After": "120"}).action is Action.RETRY
    assert http(429, {"Retry-After": "121"}).action is Action.DEFER
    for lifted in (None, math.inf):
        assert http(429, {"Retry-After": "86400"}, HTTP.replace(max_wait=lifted)).action is Action.RETRY


def test_a_wait_that_does_not_fit_into_the_deadline_defers_now() -> None:
    policy = HTTP.replace(deadline=30.0)
    assert http(429, {"Retry-After": "10"}, policy, elapsed=20.0).action is Action.RETRY
    decision = http(429, {"Retry-After": "10"}, policy, elapsed=20.5)
    assert (decision.action, decision.resume_at) == (Action.DEFER, NOW + 10.0)
    assert "deadline" in decision.advice


# Repeating safely ------------------------------------------------------------------------------------------

SAFETY = [
    (Reply(500, method="POST"), Action.FAIL),
    (Reply(500, method="PATCH"), Action.FAIL),
    (Reply(500, method="DELETE"), Action.RETRY),
    (Reply(500, method="POST", idempotent=True), Action.RETRY),
    (Reply(503, method="POST"), Action.FAIL),
    (Reply(503, {"Retry-After": "1"}, method="POST"), Action.RETRY),
    (Reply(502, {"Retry-After": "1"}, method="POST"), Action.FAIL),
    (Reply(429, method="POST"), Action.RETRY),
    (Reply(425, method="POST"), Action.RETRY),
    (Reply(failure=Failure.CONNECT, method="POST"), Action.RETRY),
    (Reply(failure=Failure.TIMEOUT, method="POST"), Action.FAIL),
    (Reply(failure=Failure.PROTOCOL, method="POST"), Action.FAIL),
    (Reply(failure=Failure.TIMEOUT), Action.RETRY),
    (Reply(failure=Failure.PROTOCOL, method="put"), Action.RETRY),
]


@pytest.mark.parametrize(("reply", "action"), SAFETY, ids=repr)
def test_what_the_server_may_have_acted_on_is_repeated_only_if_that_is_safe(
    reply: Reply, action: Action
) -> None:
    decision = decide(reply, now=NOW, draw=0.0)
    assert decision.action is action
    if action is Action.FAIL:
        assert decision.reason is Reason.NOT_REPEATABLE
        assert "Idempotency-Key" in decision.advice


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Failure.CONNECT, Reason.CONNECT_FAILED),
        (Failure.TIMEOUT, Reason.TIMED_OUT),
        (Failure.PROTOCOL, Reason.PROTOCOL_ERROR),
    ],
)
def test_a_failure_without_a_response_says_which_and_backs_off(failure: Failure, reason: Reason) -> None:
    decision = decide(Reply(failure=failure), CLEVER, attempt=2, now=NOW, draw=0.0)
    assert (decision.reason, decision.wait, decision.source) == (reason, 2.0, "backoff")
    assert decide(Reply(failure=failure), CLEVER, attempt=6, now=NOW).resume_at == NOW + 900.0


def test_the_method_comes_from_the_argument_then_the_reply_then_the_policy() -> None:
    class Response:
        status = 500
        headers: dict[str, str] = {}  # noqa: RUF012  # a foreign response

    assert decide(Response(), now=NOW).reason is Reason.NOT_REPEATABLE
    assert "method is not known" in decide(Response(), now=NOW).advice
    assert decide(Response(), method="GET", now=NOW).action is Action.RETRY
    assert decide(Response(), CLEVER, now=NOW).action is Action.RETRY
    assert decide(Response(), CLEVER, method="POST", now=NOW).action is Action.FAIL
    assert decide(Reply(500), method="post", now=NOW).action is Action.FAIL
    assert decide(Reply(500, method="POST"), method="POST", idempotent=True, now=NOW).action is Action.RETRY


def test_a_body_that_cannot_be_sent_again_is_not_repeated_and_the_decision_says_so() -> None:
    decision = decide(Reply(429, {"Retry-After": "3"}), repeatable=False, now=NOW, draw=0.0)
    assert (decision.action, decision.reason) == (Action.FAIL, Reason.NOT_REPEATABLE)
    assert decision.wait == 3.0
    assert "body" in decision.advice
    assert decide(Reply(500), repeatable=False, now=NOW).wait == 0.0


# What a dialect can say ------------------------------------------------------------------------------------


def made(**values: object) -> Policy:
    return Policy("made", Dialect(**values), backoff=Backoff(1.0, 30.0, "none"), max_wait=math.inf)  # type: ignore[arg-type]  # the fields of a Dialect


def test_the_servers_own_word_on_repeating_overrides_every_status() -> None:
    policy = made(override=(Override("should-retry"),))
    assert http(400, {"Should-Retry": "True"}, policy).action is Action.RETRY
    assert http(429, {"Should-Retry": "false"}, policy).action is Action.FAIL
    assert http(500, {"Should-Retry": "true"}, policy).advice == http(500, {}, policy).advice
    assert http(400, {"Should-Retry": "maybe"}, policy).action is Action.FAIL


def test_a_final_reply_is_not_repeated_whatever_else_it_says() -> None:
    policy = made(final=(When(status=(503,), header="x-maintenance-mode"),))
    headers = {"Retry-After": "3", "X-Maintenance-Mode": "all"}
    assert http(503, headers, policy).action is Action.FAIL
    assert http(503, {"Retry-After": "3"}, policy).action is Action.RETRY
    assert http(503, headers | {"X-Maintenance-Mode": ""}, policy).action is Action.RETRY


@pytest.mark.parametrize(("combine", "wait"), [("first", 10.0), ("greatest", 31.0), ("window_first", 31.0)])
@pytest.mark.parametrize("swap", [False, True])
def test_two_stated_times_are_combined_as_the_dialect_says(combine: str, wait: float, swap: bool) -> None:
    policy = HTTP.replace(dialect=HTTP.dialect.replace(combine=combine))
    explicit, reset = ("31", "10") if swap else ("10", "31")
    headers = {"Retry-After": explicit, "RateLimit-Remaining": "0", "RateLimit-Reset": reset}
    expected = wait if not swap else {"first": 31.0, "greatest": 31.0, "window_first": 10.0}[combine]
    assert http(429, headers, policy).wait == expected


REFUSALS = [
    (When(status=(403,), used_up=True), 403, {"X-RateLimit-Remaining": "0"}, None, True),
    (When(status=(403,), used_up=True), 403, {"X-RateLimit-Remaining": "1"}, None, False),
    (When(status=(403,), used_up=True), 401, {"X-RateLimit-Remaining": "0"}, None, False),
    (
        When(status=(400,), body="errors.*.code", values=("RATELIMITED",)),
        400,
        {},
        '{"errors":[{"code":"RATELIMITED"}]}',
        True,
    ),
    (
        When(status=(400,), body="errors.*.code", values=("RATELIMITED",)),
        400,
        {},
        {"errors": [{"code": "RATELIMITED"}]},
        True,
    ),
    (
        When(status=(400,), body="errors.*.code", values=("RATELIMITED",)),
        400,
        {},
        b'{"errors":[{"code":"OTHER"}]}',
        False,
    ),
    (When(body="error.code", values=("17",)), 400, {}, '{"error":{"code":17}}', True),
    (When(body="error"), 200, {}, '{"error":["busy"]}', True),
    (When(body="error"), 200, {}, '{"error":[]}', False),
    (When(body="error"), 200, {}, "{", False),
    (When(body="0.error"), 200, {}, '[{"error":1}]', True),
    (When(text=("slow down", "busy")), 400, {}, "the server is busy", True),
    (When(text=("slow down", "busy")), 400, {}, b"\xff busy", True),
    (When(text=("slow down", "busy")), 400, {}, {"a": "busy"}, False),
    (When(header="x-problem", values=("concurrent",)), 403, {"X-Problem": "Concurrent"}, None, True),
    (When(header="x-problem", values=("concurrent",)), 403, {"X-Problem": "daily"}, None, False),
    (
        When(status=(202,), header="retry-after", reason=Reason.NOT_READY),
        202,
        {"Retry-After": "3"},
        None,
        True,
    ),
]


@pytest.mark.parametrize(("when", "status", "headers", "body", "refused"), REFUSALS)
def test_a_refusal_is_what_the_dialect_says(
    when: When, status: int, headers: dict[str, str], body: object, refused: bool
) -> None:
    window = Window(remaining=Field("x-ratelimit-remaining"))
    decision = http(status, headers, made(windows=(window,), refused_when=(when,)), body=body)
    assert (decision.action is Action.RETRY) is refused
    if refused:
        assert decision.reason is when.reason


def test_of_two_conditions_that_hold_the_first_says_why() -> None:
    refused = tuple(
        When(header=name, reason=reason) for name, reason in [("a", Reason.NOT_READY), ("b", Reason.CONFLICT)]
    )
    policy = made(refused_when=refused)
    assert http(200, {"A": "1", "B": "1"}, policy).reason is Reason.NOT_READY
    assert http(200, {"B": "1"}, policy).reason is Reason.CONFLICT


def test_a_default_wait_follows_a_refusal_that_states_no_time() -> None:
    policy = HTTP.replace(default_wait=60.0)
    assert http(429, {}, policy).source == "default"
    assert http(429, {"X-RateLimit-Remaining": "9", "X-RateLimit-Reset": "3"}, policy).wait == 60.0
    assert http(502, {}, policy).source == "backoff"


def test_a_wait_on_success_is_followed_where_the_dialect_says_so() -> None:
    policy = HTTP.replace(dialect=HTTP.dialect.replace(wait_on_success=True))
    decision = http(200, {"Retry-After": "7"}, policy)
    assert (decision.action, decision.wait, decision.source) == (Action.PROCESS, 7.0, "retry-after")
    assert http(200, {"Retry-After": "0"}, policy).source == ""


def test_a_leaky_bucket_states_its_wait_by_what_it_lacks() -> None:
    refill = Refill(available=Field(body="have"), rate=Field(body="rate"), needed=Field(body="need"))
    policy = made(waits=(refill,), refused_when=(When(body="error"),))
    body = {"error": 1, "have": 42, "rate": 50.0, "need": 442}
    decision = http(200, {}, policy, body=body)
    assert (decision.wait, decision.source) == (8.0, "body")
    for broken in ({"rate": 0}, {"rate": None}, {"have": 442}, {"have": -1e300}, {"need": True}):
        assert http(200, {}, policy, body=body | broken).source == "backoff"


def test_a_value_may_stand_in_the_prose_of_a_body() -> None:
    policy = made(
        waits=(Field(text="available in ", read=("seconds",)),), refused_when=(When(text=("more requests",)),)
    )
    decision = http(400, {}, policy, body="more requests available in 46472 seconds")
    assert (decision.wait, decision.source) == (46472.0, "body")


# A caller's mistakes ---------------------------------------------------------------------------------------

MISTAKES = [
    (TypeError, {"policy": "clever"}, "policies.load"),
    (TypeError, {"policy": None}, "bide.Policy"),
    (ValueError, {"attempt": 0}, "attempt"),
    (ValueError, {"attempt": -1}, "attempt"),
    (TypeError, {"attempt": 1.0}, "attempt"),
    (TypeError, {"attempt": True}, "attempt"),
    (ValueError, {"elapsed": -1.0}, "elapsed"),
    (ValueError, {"elapsed": math.nan}, "elapsed"),
    (TypeError, {"elapsed": None}, "elapsed"),
    (ValueError, {"now": math.nan}, "now"),
    (ValueError, {"now": math.inf}, "now"),
    (ValueError, {"now": 1.7e12}, "seconds"),
    (TypeError, {"now": "now"}, "now"),
    (ValueError, {"draw": 1.0}, "draw"),
    (ValueError, {"draw": -0.1}, "draw"),
    (TypeError, {"draw": True}, "draw"),
    (TypeError, {"method": 3}, "method"),
    (ValueError, {"method": "GET /"}, "method"),
    (ValueError, {"method": ""}, "method"),
]


@pytest.mark.parametrize(("error", "arguments", "words"), MISTAKES)
def test_a_callers_mistake_raises_and_says_what_to_pass(
    error: type[Exception], arguments: dict[str, object], words: str
) -> None:
    for function in (decide, explain):
        with pytest.raises(error, match=words):
            function(Reply(500), **arguments)  # type: ignore[arg-type]  # the mistake under test


# Chance and time -------------------------------------------------------------------------------------------


def test_without_a_draw_the_jitter_differs_and_stays_in_range() -> None:
    waits = {decide(Reply(500), CLEVER, now=NOW).wait for _ in range(20)}
    assert len(waits) > 1
    assert all(1.0 <= wait < 1.25 for wait in waits)


def test_without_now_the_clock_is_read() -> None:
    import time

    before = time.time()
    decision = decide(Reply(500), CLEVER, attempt=6, draw=0.0)
    assert decision.resume_at is not None
    assert before <= decision.resume_at - 900.0 <= time.time()


def test_a_forked_child_draws_other_numbers() -> None:
    import os

    from bide.policy._engine import _draw

    _draw()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, repr(_draw()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert float(pipe.read()) != _draw()


def test_an_explanation_says_what_blocked_a_repetition_and_what_failed() -> None:
    explanation = explain(Reply(failure=Failure.TIMEOUT, method="POST"), now=NOW, draw=0.0)
    assert explanation.steps[0] == "no response: timeout"
    assert "not repeated" in explanation.steps[-1]


def test_a_wait_that_is_stated_is_spread_by_chance_where_no_draw_is_given() -> None:
    waits = {decide(Reply(429, {"Retry-After": "60"}), now=NOW).wait for _ in range(20)}
    assert len(waits) > 1
    assert all(60.0 <= wait < 62.0 for wait in waits)


def test_a_bucket_whose_needs_are_constants_states_its_wait() -> None:
    policy = made(waits=(Refill(available=Field("x-left"), rate=2.0),))
    assert http(429, {"X-Left": "0"}, policy).wait == 0.5
    assert http(429, {"X-Left": "many"}, policy).source == "backoff"


def test_a_length_without_a_number_in_the_early_form_of_the_drafts_is_none() -> None:
    for window in ("w=x", "w=0", "w=", "v=1", "w=123456789"):
        headers = {"RateLimit-Limit": f"9, 9;{window}", "RateLimit-Remaining": "1", "RateLimit-Reset": "1"}
        quota = http(200, headers).quota
        assert quota is not None
        assert quota.window is None


def test_a_length_in_the_early_form_of_the_drafts_has_eight_digits_at_most() -> None:
    headers = {"RateLimit-Limit": "9, 9;w=12345678", "RateLimit-Remaining": "1", "RateLimit-Reset": "1"}
    assert http(200, headers).quotas[0].window == 12_345_678.0


def test_a_member_of_a_list_without_its_parameter_is_no_limit() -> None:
    window = Window(limit=Field("all", parameter="q"), remaining=Field("left"))
    assert http(200, {"All": "q=9, z=1", "Left": "1"}, made(windows=(window,))).quotas == (Quota(9, 1),)


@pytest.mark.parametrize(
    ("reset", "after"),
    [("1699999940", -60.0), ("1699999939", None), ("1700000120", 120.0), ("1700000121", None)],
)
def test_a_moment_is_believed_two_windows_ahead_and_one_past(reset: str, after: float | None) -> None:
    window = Window(remaining=Field("left"), reset=Field("reset", ("unix_seconds",)), length=60.0)
    (quota,) = http(200, {"Left": "1", "Reset": reset}, made(windows=(window,))).quotas
    assert quota.reset_after == after


@pytest.mark.parametrize(
    "field", ["limit=9, remaining=5", "remaining=5, reset=2", "limit=9, reset=2.5", "limit=-9, reset=2"]
)
def test_the_dictionary_of_the_drafts_has_a_limit_and_a_reset(field: str) -> None:
    assert http(200, {"RateLimit": field}).quotas == ()
    assert http(200, {"RateLimit": "limit=9, reset=2"}).quotas == (Quota(9, None, 2.0, NOW + 2.0),)


def test_a_bucket_with_a_comma_has_one_name_for_decide_and_explain() -> None:
    fields = {
        "X-RateLimit-Bucket": "district, ",
        "X-RateLimit-Limit": "1200",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "1700000042",
    }
    reply = bide.Reply(429, fields)
    decision = bide.decide(reply, bide.CLEVER, now=1.7e9, draw=0.0)
    assert decision == bide.explain(reply, bide.CLEVER, now=1.7e9, draw=0.0).decision
    assert decision.quota is not None
    assert decision.quota.bucket == "district"
