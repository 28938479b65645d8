"""When a used-up window ends that does not say so itself, and values with a "*" in conditions.

A bucket that leaks has room when one unit has leaked; a window of known
length has ended when that has passed; on a refusal the server's own wait ends it.
"""

from __future__ import annotations

import pytest

from bide.policy import Action, Decision, Dialect, Field, Policy, Quota, Reply, When, Window, decide

NOW = 1_700_000_000.0

CALLS = Field("x-calls", separator="/", column=0)
ALLOWED = Field("x-calls", separator="/", column=1)


def read(status: int, headers: dict[str, str], window: Window, **dialect: object) -> Decision:
    policy = Policy(name="test", dialect=Dialect(windows=(window,), **dialect))  # type: ignore[arg-type]  # the fields of Dialect
    return decide(Reply(status, headers), policy, now=NOW, draw=0.0)


@pytest.mark.parametrize(
    ("calls", "refill", "wait"),
    [
        ("40/40", 2.0, 0.5),
        ("41/40", 2.0, 0.5),
        ("39/40", 2.0, 0.0),
        ("40/40", 0.0, 0.0),
        ("40/40", 1e-300, 0.0),
        ("40/40", 1.0 / 31_622_400.0, 1.0 / (1.0 / 31_622_400.0)),
    ],
)
def test_a_full_leaky_bucket_has_room_when_one_unit_has_leaked(
    calls: str, refill: float, wait: float
) -> None:
    decision = read(200, {"X-Calls": calls}, Window(limit=ALLOWED, used=CALLS, refill=refill))
    assert (decision.action, decision.wait) == (Action.PROCESS, wait)


def test_the_rate_of_a_leaky_bucket_may_be_stated_by_the_server() -> None:
    window = Window(remaining=Field("x-left"), refill=Field("x-rate"))
    assert read(429, {"X-Left": "0", "X-Rate": "4"}, window).wait == 0.25
    assert read(429, {"X-Left": "0", "X-Rate": "fast"}, window).source == "backoff"


def test_a_used_up_window_of_known_length_and_without_a_reset_lasts_no_longer_than_that() -> None:
    window = Window(remaining=Field("x-left"), length=1.0)
    assert read(200, {"X-Left": "0"}, window).wait == 1.0
    assert read(200, {"X-Left": "1"}, window).wait == 0.0


def test_a_reset_that_cannot_be_used_is_not_replaced_by_a_known_length() -> None:
    window = Window(remaining=Field("x-left"), reset=Field("x-reset", ("unix_seconds",)), length=60.0)
    assert read(429, {"X-Left": "0", "X-Reset": "soon"}, window).source == "backoff"


@pytest.mark.parametrize("status", [429, 502])
def test_of_what_is_repeated_a_used_up_window_without_an_end_ends_with_the_stated_wait(status: int) -> None:
    window = Window(limit=Field("x-limit"), remaining=Field("x-left"))
    decision = read(status, {"X-Limit": "10", "X-Left": "0", "Retry-After": "3"}, window)
    assert decision.quota == Quota(10, 0, 3.0, NOW + 3.0)
    assert decision.quotas == (decision.quota,)


@pytest.mark.parametrize(
    ("status", "left", "retry_after"), [(429, "1", "3"), (200, "0", "3"), (429, "0", "soon")]
)
def test_in_every_other_case_a_stated_wait_is_not_the_end_of_a_window(
    status: int, left: str, retry_after: str
) -> None:
    decision = read(status, {"X-Left": left, "Retry-After": retry_after}, Window(remaining=Field("x-left")))
    assert decision.quota is not None
    assert decision.quota.reset_after is None


@pytest.mark.parametrize(("combine", "wait"), [("first", 3.0), ("greatest", 30.0)])
def test_where_a_success_may_state_a_wait_it_is_combined_as_on_a_refusal(combine: str, wait: float) -> None:
    window = Window(remaining=Field("x-left"), reset=Field("x-reset", ("seconds",)))
    headers = {"X-Left": "0", "X-Reset": "30", "Retry-After": "3"}
    decision = read(200, headers, window, wait_on_success=True, combine=combine)
    assert (decision.action, decision.wait) == (Action.PROCESS, wait)


@pytest.mark.parametrize(
    ("values", "kind", "refused"),
    [
        (("throttling*",), "ThrottlingException:http://example.com/", True),
        (("throttling*",), "Throttling", True),
        (("*#throttled",), "com.example#Throttled", True),
        (("a*b",), "a", False),
        (("ab*ba",), "aba", False),
        (("throttled",), "throttled-not", False),
        (("other*", "throttled"), "throttled", True),
    ],
)
def test_a_star_in_a_value_stands_for_any_characters(
    values: tuple[str, ...], kind: str, refused: bool
) -> None:
    when = When(status=(400,), header="x-error", values=values)
    decision = read(400, {"X-Error": kind}, Window(remaining=Field("x-left")), refused_when=(when,))
    assert decision.action is (Action.RETRY if refused else Action.FAIL)


def test_a_star_matches_in_a_body_and_never_what_is_no_text() -> None:
    when = When(status=(400,), body="code", values=("*Slow",))
    window = Window(remaining=Field("x-left"))
    policy = Policy(name="test", dialect=Dialect(windows=(window,), refused_when=(when,)))
    for code, action in [("VerySlow", Action.RETRY), ("Slowly", Action.FAIL), (["Slow"], Action.FAIL)]:
        assert decide(Reply(400, {}, body={"code": code}), policy, now=NOW, draw=0.0).action is action
