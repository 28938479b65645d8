"""Everything that the Clever API tells its clients, row by row."""

import pytest

from bide.policy import CLEVER, Action, Decision, Reason, Reply, decide

NOW = 1394506244.0
FIELDS = {
    "X-RateLimit-Limit": "1200",
    "X-RateLimit-Remaining": "1199",
    "X-RateLimit-Reset": "1394506274",
    "X-RateLimit-Bucket": "abc123",
}
USED_UP = FIELDS | {"X-RateLimit-Remaining": "0"}

STATUSES = [
    (200, Action.PROCESS, Reason.OK, "process"),
    (400, Action.FAIL, Reason.BAD_REQUEST, "check the api token and the request body"),
    (401, Action.FAIL, Reason.INVALID_AUTH, "check the api token and the request body"),
    (404, Action.FAIL, Reason.NOT_AVAILABLE, "unshared with the application"),
    (413, Action.FAIL, Reason.TOO_LARGE, "10000"),
    (429, Action.RETRY, Reason.RATE_LIMITED, "rate-limit period expires"),
    (500, Action.RETRY, Reason.SERVER_ERROR, "support"),
    (501, Action.FAIL, Reason.NOT_IMPLEMENTED, "alternative request"),
    (502, Action.RETRY, Reason.SERVER_ERROR, "support"),
    (503, Action.RETRY, Reason.SERVER_ERROR, "support"),
]


def clever(status: int, headers: dict[str, str] | None = None, *, attempt: int = 1) -> Decision:
    return decide(Reply(status, headers or {}), CLEVER, attempt=attempt, now=NOW, draw=0.0)


@pytest.mark.parametrize(("status", "action", "reason", "advice"), STATUSES)
def test_every_status_of_the_vendors_table_has_its_action_reason_and_advice(
    status: int, action: Action, reason: Reason, advice: str
) -> None:
    decision = clever(status)
    assert decision.action is action
    assert decision.reason is reason
    assert advice in decision.advice.lower()
    assert decision.resume_at is None


def test_a_429_waits_for_the_reset_of_the_window_and_names_the_field() -> None:
    decision = clever(429, USED_UP)
    assert (decision.action, decision.wait, decision.source) == (Action.RETRY, 30.0, "x-ratelimit-reset")
    assert decision.quota is not None
    assert decision.quota.limit == 1200
    assert decision.quota.remaining == 0
    assert decision.quota.reset_after == 30.0
    assert decision.quota.reset_at == 1394506274
    assert decision.quota.window == 60.0
    assert decision.quota.bucket == "abc123"
    assert decision.quotas == (decision.quota,)


def test_a_200_states_its_quota_and_needs_no_wait() -> None:
    decision = clever(200, FIELDS)
    assert (decision.action, decision.wait, decision.source) == (Action.PROCESS, 0.0, "")
    assert decision.quota is not None
    assert decision.quota.remaining == 1199


def test_a_200_that_used_the_quota_up_asks_for_a_pause_until_the_reset() -> None:
    decision = clever(200, USED_UP)
    assert (decision.action, decision.wait, decision.source) == (Action.PROCESS, 30.0, "x-ratelimit-reset")


def test_a_404_with_an_empty_bucket_is_still_a_404_and_says_when_the_bucket_fills() -> None:
    decision = clever(404, USED_UP)
    assert (decision.action, decision.wait) == (Action.FAIL, 30.0)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        USED_UP | {"X-RateLimit-Reset": "soon"},
        USED_UP | {"X-RateLimit-Reset": ""},
        USED_UP | {"X-RateLimit-Reset": "-5"},
        USED_UP | {"X-RateLimit-Reset": "9" * 5000},
        USED_UP | {"X-RateLimit-Reset": str(int(NOW) + 121)},
        USED_UP | {"X-RateLimit-Reset": str(int(NOW) - 61)},
        USED_UP | {"X-RateLimit-Reset": "1394506274000"},
        FIELDS,
    ],
    ids=["none", "a word", "blank", "negative", "5000 digits", "too far", "too old", "ms", "quota left"],
)
def test_a_429_whose_reset_cannot_be_used_waits_a_full_window(headers: dict[str, str]) -> None:
    decision = clever(429, headers)
    assert (decision.action, decision.wait, decision.source) == (Action.RETRY, 60.0, "default")


@pytest.mark.parametrize("ago", [0, 1, 59, 60])
def test_a_reset_that_has_just_passed_means_the_backoff_of_this_attempt(ago: int) -> None:
    decision = clever(429, USED_UP | {"X-RateLimit-Reset": str(int(NOW) - ago)}, attempt=2)
    assert (decision.action, decision.wait, decision.source) == (Action.RETRY, 2.0, "backoff")


@pytest.mark.parametrize("ahead", [1, 60, 61, 120])
def test_a_reset_up_to_two_windows_ahead_is_believed(ahead: int) -> None:
    assert clever(429, USED_UP | {"X-RateLimit-Reset": str(int(NOW) + ahead)}).wait == ahead


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_failure_of_the_api_backs_off_1_2_4_8_16_seconds_and_then_ceases(status: int) -> None:
    assert [clever(status, attempt=n).wait for n in range(1, 6)] == [1.0, 2.0, 4.0, 8.0, 16.0]
    last = clever(status, attempt=6)
    assert last.action is Action.DEFER
    assert last.resume_at == NOW + 900.0
    assert last.wait == 900.0
    assert "15 min" in last.advice
    assert "5 retries" in last.advice


@pytest.mark.parametrize("attempt", range(1, 6))
def test_the_spread_only_lengthens_a_backoff_and_by_a_quarter_at_most(attempt: int) -> None:
    at_least = clever(500, attempt=attempt).wait
    most = decide(Reply(500), CLEVER, attempt=attempt, now=NOW, draw=0.999999).wait
    assert at_least < most <= 1.25 * at_least


def test_a_sixth_429_defers_until_the_stated_reset() -> None:
    decision = clever(429, USED_UP, attempt=6)
    assert decision.action is Action.DEFER
    assert decision.resume_at == 1394506274.0


def test_a_failure_with_the_window_used_up_waits_for_the_window() -> None:
    decision = clever(503, USED_UP)
    assert (decision.wait, decision.source) == (30.0, "x-ratelimit-reset")
    assert clever(503, FIELDS).source == "backoff"


def test_the_servers_date_corrects_a_wrong_local_clock() -> None:
    headers = USED_UP | {"Date": "Tue, 11 Mar 2014 02:50:44 GMT"}
    for wrong_now in (NOW - 86400.0, NOW + 86400.0):
        decision = decide(Reply(429, headers), CLEVER, now=wrong_now, draw=0.0)
        assert decision.wait == 30.0
        assert decision.quota is not None
        assert decision.quota.reset_at == 1394506274
        assert decision.quota.reset_after == 30.0


def test_a_wait_beyond_max_wait_defers_to_the_uncapped_time() -> None:
    decision = decide(Reply(503, {"Retry-After": "3600"}), CLEVER, now=NOW, draw=0.0)
    assert (decision.action, decision.resume_at) == (Action.DEFER, NOW + 3600.0)
    assert "60 min" in decision.advice


@pytest.mark.parametrize(
    ("status", "action"),
    [
        (100, Action.PROCESS), (199, Action.PROCESS), (204, Action.PROCESS), (304, Action.PROCESS),
        (403, Action.FAIL), (408, Action.RETRY), (409, Action.FAIL), (418, Action.FAIL), (425, Action.RETRY),
        (499, Action.FAIL), (504, Action.RETRY), (505, Action.FAIL), (506, Action.FAIL), (507, Action.RETRY),
        (508, Action.FAIL), (510, Action.FAIL), (511, Action.FAIL), (599, Action.RETRY), (600, Action.RETRY),
        (999, Action.RETRY), (0, Action.RETRY), (-1, Action.RETRY), (10**30, Action.RETRY),
    ],
)  # fmt: skip
def test_a_status_that_the_table_does_not_name_falls_to_the_general_rule(status: int, action: Action) -> None:
    assert clever(status).action is action
