"""What holds for any reply: a decision, finite, not negative, the same for the same arguments."""

import math

from hypothesis import example, given
from hypothesis import strategies as st

from bide.policy import CLEVER, HTTP, Action, Decision, Failure, Policy, Reply, decide, explain

NAMES = [
    "Retry-After", "Date", "Age", "RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining",
    "X-RateLimit-Reset", "X-RateLimit-Bucket", "X-Rate-Limit-Reset", "RateLimit-Limit", "RateLimit-Remaining",
    "RateLimit-Reset",
]  # fmt: skip
NUMBERS = st.integers(-(10**6), 2 * 10**12).map(str) | st.floats().map(str) | st.decimals().map(str)
DATES = st.builds(
    "{}, {:02} {} {} {:02}:{:02}:{:02} GMT".format,
    st.sampled_from(["Mon", "Monday", "x"]), st.integers(0, 32), st.sampled_from(["Jan", "Feb", "jan"]),
    st.integers(0, 99999), st.integers(0, 25), st.integers(0, 61), st.integers(0, 61),
)  # fmt: skip
FIELDS = st.text(alphabet=st.characters(), max_size=40)
STRUCTURED = st.from_regex(
    r'"[a-z]{0,3}"(;[rtqw]=-?[0-9]{1,17}){0,3}(, "[a-z]";r=0;t=[0-9]{1,4})?', fullmatch=True
)
VALUES = NUMBERS | DATES | FIELDS | STRUCTURED | st.lists(NUMBERS | DATES, max_size=4).map(", ".join)
PAIRS = st.lists(
    st.tuples(st.sampled_from(NAMES), VALUES)
    | st.tuples(st.sampled_from(NAMES).map(str.encode), st.binary(max_size=40)),
    max_size=12,
)
STATUSES = st.sampled_from([200, 429, 503, 413, 404, 301]) | st.integers(100, 999) | st.integers()
ATTEMPTS = st.integers(1, 8) | st.integers(1, 10**30)
NOW = st.floats(0, 4e9)
DRAW = st.floats(0, 1, exclude_max=True)


def assert_sane(decision: Decision, now: float) -> None:
    assert isinstance(decision.action, Action)
    assert math.isfinite(decision.wait)
    assert 0.0 <= decision.wait <= 400 * 86400
    assert (decision.resume_at is not None) is (decision.action is Action.DEFER)
    if decision.resume_at is not None:
        assert decision.resume_at == now + decision.wait
    assert decision.advice
    assert "\n" not in decision.advice
    assert (decision.wait > 0.0) <= bool(decision.source)
    for quota in decision.quotas:
        for value in (quota.limit, quota.remaining, quota.reset_after, quota.reset_at, quota.window):
            assert value is None or math.isfinite(value)


@given(
    STATUSES, PAIRS, ATTEMPTS, NOW, DRAW, st.sampled_from([HTTP, CLEVER]), st.sampled_from(["GET", "POST"])
)
@example(429, [("Retry-After", "0" * 5000)], 1, 0.0, 0.0, HTTP, "GET")
@example(429, [("X-RateLimit-Reset", "\ud800"), ("Date", "\x00")], 1, 0.0, 0.0, CLEVER, "GET")
def test_any_reply_gives_a_sane_decision_and_the_same_one_every_time(
    status: int, pairs: list, attempt: int, now: float, draw: float, policy: Policy, method: str
) -> None:
    reply = Reply(status, pairs, method=method)
    decision = decide(reply, policy, attempt=attempt, now=now, draw=draw)
    assert_sane(decision, now)
    assert decision == decide(reply, policy, attempt=attempt, now=now, draw=draw)
    explanation = explain(reply, policy, attempt=attempt, now=now, draw=draw)
    assert explanation.decision == decision
    assert str(explanation)


@given(st.sampled_from(Failure), ATTEMPTS, NOW, DRAW, st.floats(0, 1e6), st.none() | st.floats(0, 1e6))
def test_any_failure_gives_a_sane_decision(
    failure: Failure, attempt: int, now: float, draw: float, elapsed: float, deadline: float | None
) -> None:
    policy = CLEVER.replace(deadline=deadline)
    decision = decide(Reply(failure=failure), policy, attempt=attempt, now=now, draw=draw, elapsed=elapsed)
    assert_sane(decision, now)
    if decision.action is Action.RETRY and deadline is not None:
        assert elapsed + decision.wait <= deadline


@given(STATUSES, PAIRS, ATTEMPTS, NOW, DRAW, DRAW)
def test_a_greater_draw_never_shortens_a_stated_wait(
    status: int, pairs: list, attempt: int, now: float, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    shorter = decide(Reply(status, pairs), CLEVER, attempt=attempt, now=now, draw=low)
    longer = decide(Reply(status, pairs), CLEVER, attempt=attempt, now=now, draw=high)
    assert shorter.wait <= longer.wait


@given(PAIRS, st.lists(st.sampled_from(["X-Other", "Server", "Cookie"]), max_size=5))
def test_fields_that_no_policy_wants_change_nothing(pairs: list, others: list[str]) -> None:
    more = [(name, "1") for name in others]
    assert decide(Reply(429, pairs), now=0.0, draw=0.0) == decide(
        Reply(429, [*more, *pairs]), now=0.0, draw=0.0
    )
