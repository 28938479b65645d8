"""What holds for every policy that comes with bide, and details that the cases' tolerance hides.

The cases compare waits within a vendor's margin, with GET, and by number alone; here are exact margins, other methods
and the names of counters.
"""

from __future__ import annotations

import pytest

import bide

NOW = 1_700_000_000.0


def decide(
    name: str, status: int, headers: dict[str, str], method: str = "GET", body: object = None
) -> bide.Decision:
    policy = bide.policies.load(name).replace(max_wait=None)
    return bide.decide(bide.Reply(status, headers, method=method, body=body), policy, now=NOW, draw=0.0)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", bide.policies.names())
def test_every_policy_obeys_a_retry_after_on_a_429_whatever_the_method(name: str, method: str) -> None:
    decision = decide(name, 429, {"Retry-After": "30"}, method)
    margin = bide.policies.load(name).dialect.margin
    assert (decision.action, decision.wait) == (bide.Action.RETRY, 30.0 + margin)


@pytest.mark.parametrize("name", bide.policies.names())
def test_no_policy_waits_after_a_plain_success_or_repeats_a_plain_400_or_501(name: str) -> None:
    assert decide(name, 200, {}) == bide.Decision(bide.Action.PROCESS, advice=decide(name, 200, {}).advice)
    assert decide(name, 400, {}).action is bide.Action.FAIL
    assert decide(name, 501, {}).action is bide.Action.FAIL


@pytest.mark.parametrize("name", bide.policies.names())
def test_every_policy_says_where_its_facts_are_from_and_reads_nothing_that_it_calls_unconfirmed(
    name: str,
) -> None:
    policy = bide.policies.load(name)
    assert policy.source
    assert policy.program.wanted.keys().isdisjoint(policy.unconfirmed)


@pytest.mark.parametrize(
    ("name", "headers", "wait"),
    [
        ("pypi", {"Retry-After": "0"}, 1.0),
        ("django-rest-framework", {"Retry-After": "58"}, 59.0),
        ("huggingface", {"RateLimit": '"api";r=0;t=55'}, 56.0),
        ("github", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1700000030"}, 31.0),
        ("okta", {"X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": "1700000030"}, 31.0),
        ("openai", {"Retry-After": "2"}, 2.0),
    ],
)
def test_a_second_is_added_exactly_where_the_server_truncates_or_the_vendor_adds_one(
    name: str, headers: dict[str, str], wait: float
) -> None:
    assert decide(name, 429, headers).wait == wait


@pytest.mark.parametrize(
    ("name", "status", "action"),
    [
        ("openai", 409, bide.Action.RETRY),
        ("anthropic", 409, bide.Action.RETRY),
        ("anthropic", 529, bide.Action.RETRY),
        ("cohere", 409, bide.Action.RETRY),
        ("groq", 498, bide.Action.RETRY),
        ("openai", 500, bide.Action.FAIL),
        ("anthropic", 500, bide.Action.FAIL),
    ],
)
def test_a_post_is_repeated_where_the_vendor_says_that_it_was_not_processed(
    name: str, status: int, action: bide.Action
) -> None:
    assert decide(name, status, {}, "POST").action is action


@pytest.mark.parametrize(
    ("name", "headers", "buckets"),
    [
        ("discord", {"X-RateLimit-Remaining": "1", "X-RateLimit-Bucket": "abcd1234"}, ["abcd1234"]),
        ("toast", {"X-Toast-RateLimit-Remaining": "1", "X-Toast-RateLimit-By": "API"}, ["API"]),
        (
            "sentry",
            {"X-Sentry-Rate-Limits": "60:error;default:key, 5::organization"},
            ["error;default", None],
        ),
        (
            "meta",
            {
                "X-Business-Use-Case-Usage": '{"1": [{"type": "pages", "estimated_time_to_regain_access": 2},'
                ' {"type": "ads_insights", "estimated_time_to_regain_access": 1}]}'
            },
            ["pages", "ads_insights"],
        ),
        ("kong", {"X-RateLimit-Remaining-Minute": "4", "X-RateLimit-Remaining-Day": "9"}, ["minute", "day"]),
        ("trello", {"X-Rate-Limit-Api-Key-Remaining": "4", "X-Rate-Limit-Api-Key-Max": "9"}, ["key"]),
        ("openai", {"X-RateLimit-Remaining-Tokens": "4"}, ["tokens"]),
    ],
)
def test_a_counter_has_the_servers_name(
    name: str, headers: dict[str, str], buckets: list[str | None]
) -> None:
    assert [quota.bucket for quota in decide(name, 200, headers).quotas] == buckets


def test_a_ban_by_bybit_is_not_repeated_and_the_advice_says_for_how_long_to_stop() -> None:
    decision = decide("bybit", 403, {}, body="access too frequent")
    assert decision.action is bide.Action.FAIL
    assert "ten minutes" in decision.advice


def test_a_throttle_of_stack_exchange_that_states_no_time_is_the_half_minute_that_it_documents() -> None:
    body = {
        "error_id": 502,
        "error_name": "throttle_violation",
        "error_message": "Violation of backoff parameter",
    }
    decision = decide("stackexchange", 400, {}, body=body)
    assert (decision.action, decision.wait, decision.source) == (bide.Action.RETRY, 30.0, "default")
