"""The numbers that a decision turns at, and the defaults that everybody gets: what one more or less would change."""

from __future__ import annotations

import pytest

import bide
from bide.policy import Backoff, Budget, Dialect, Field, Quota, Refill, When, Window
from bide.policy._engine import _span
from bide.policy._fields import (
    MAX_DIGITS,
    MAX_FIELD,
    count,
    decimal,
    duration,
    http_date,
    iso_8601,
    readings,
    whole,
)
from bide.policy._wait import combine, governing, used_up

NOW = 1_700_000_000.0


def test_the_defaults_that_everybody_gets() -> None:
    assert Backoff() == Backoff(base=0.5, cap=30.0, jitter="full")
    assert Budget() == Budget(ratio=0.2, floor=100, period=10.0, since=None, requests=0, retries=0)
    assert (bide.HTTP.retries, bide.HTTP.max_wait, bide.HTTP.resume_after) == (4, 120.0, 300.0)
    assert (bide.HTTP.default_wait, bide.HTTP.deadline, bide.HTTP.window) == (None, None, None)
    assert (bide.CLEVER.backoff, bide.CLEVER.window) == (Backoff(1.0, 16.0, "spread"), 60.0)
    assert Dialect() == Dialect(
        windows=(), waits=(Field("retry-after", ("whole_seconds", "http_date")),), combine="first",
        refused_when=(When(status=(429,)),), final=(), override=(), wait_on_success=False, clock="date", margin=0.0,
    )  # fmt: skip
    last = bide.HTTP.replace(retries=1)
    assert bide.explain(bide.Reply(500), last, draw=0.5).decision == bide.decide(
        bide.Reply(500), last, draw=0.5
    )
    assert bide.decide(bide.Reply(500), last, draw=0.5).action is bide.Action.RETRY
    field = Field("a", read=(), body="", text="", json="", parameter="", separator="", column=0)
    assert Field("a") == field
    assert Window(field) == Window(
        field, None, None, used=None, length=None, bucket=None, name="", align=None, refill=None, key_column=None,
        exhausted=False, fresh=False, structured=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "last", "beyond"),
    [
        (lambda value: Budget(period=value), 86_400.0, 86_400.5),
        (lambda value: Budget(period=value), 0.001, 0.0),
        (lambda value: Budget(ratio=value), 100.0, 100.5),
        (lambda value: Budget(floor=value), 1_000_000, 1_000_001),
        (lambda value: Budget(floor=value), 0, -1),
        (lambda value: Budget(ratio=value), 0.0, -0.1),
        (lambda value: Backoff(base=value), 1e-9, 9e-10),
        (lambda value: Backoff(cap=value), 999_999_999.9, 1e9),
        (lambda value: Backoff(cap=value), 0.5, 0.49),
        (lambda value: Dialect(margin=value), 60.0, 60.5),
        (lambda value: bide.HTTP.replace(deadline=value), 366 * 86_400.0, 366 * 86_400.5),
        (lambda value: bide.HTTP.replace(deadline=value), 0.0, -0.1),
        (lambda value: bide.HTTP.replace(max_wait=value), 0.5, -0.1),
        (lambda value: bide.HTTP.replace(retries=value), 0, -1),
        (lambda value: bide.decide(bide.Reply(200), now=value), 99_999_999_999.9, 1e11),
        (lambda value: bide.decide(bide.Reply(200), elapsed=value), 99_999_999_999.9, 1e11),
        (lambda value: bide.decide(bide.Reply(200), draw=value), 1.0 - 2**-53, 1.0),
        (lambda value: bide.decide(bide.Reply(200), now=value), 0, -1),
        (lambda value: bide.decide(bide.Reply(200), attempt=value), 1, 0),
        # A whole number among them is looked at more thoroughly, and so are the others then.
        (lambda value: bide.decide(bide.Reply(200), attempt=value, elapsed=0), 1, 0),
        (lambda value: bide.decide(bide.Reply(200), now=value, elapsed=0), 99_999_999_999.9, 1e11),
        (lambda value: bide.decide(bide.Reply(200), now=value, elapsed=0), 0.0, -0.1),
        (lambda value: bide.decide(bide.Reply(200), elapsed=value, draw=0), 99_999_999_999.9, 1e11),
        (lambda value: bide.decide(bide.Reply(200), elapsed=value, draw=0), 0.0, -0.1),
        (lambda value: bide.decide(bide.Reply(200), draw=value, elapsed=0), 1.0 - 2**-53, 1.0),
        (lambda value: bide.decide(bide.Reply(200), draw=value, elapsed=0), 0.0, -0.1),
        (lambda value: Backoff().wait(1, draw=value), 0.0, -0.001),
        (lambda value: Backoff().wait(value), 1, 0),
    ],
)  # fmt: skip
def test_a_range_ends_where_it_says(make, last, beyond) -> None:  # type: ignore[no-untyped-def]  # a table of any values
    make(last)
    with pytest.raises(ValueError, match=r"is|needs"):
        make(beyond)


@pytest.mark.parametrize(
    ("reader", "text", "value"),
    [
        (whole, "9" * MAX_DIGITS, 10**32 - 1),
        (whole, "0" * (MAX_DIGITS + 1), None),
        (decimal, "1" + "0" * (MAX_DIGITS - 1), 10**31),
        (decimal, "0" * (MAX_DIGITS + 1), None),
        (count, "-2", -2),
        (duration, "1h1m1s", 3661.0),
        (duration, "3ms", 0.003),
        (duration, "4us", 0.000004),
        (duration, "5ns", 0.000000005),
        (http_date, "Thu, 29 Feb 2024 23:59:60 GMT", 1_709_251_200),
        (http_date, "Thu, 29 Feb 2023 23:59:59 GMT", None),
        (iso_8601, "2023-11-14T22:13Z", NOW - 20),
        (iso_8601, "2023-11-14T22:13:20.5+01:30", NOW - 5400 + 0.5),
        (iso_8601, "2023-11-14T22:13:20-01:30", NOW + 5400),
    ],
)
def test_a_reader_reads_up_to_its_bound(reader, text: str, value: object) -> None:  # type: ignore[no-untyped-def]  # as above
    assert reader(text) == (value if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("unix_seconds", "99999999999", 99_999_999_999.0), ("unix_seconds", "100000000000", None),
        ("unix_milliseconds", "100000000000", 1e8), ("unix_milliseconds", "99999999999", None),
        ("minutes", "2", 120.0), ("milliseconds", "2", 0.002), ("whole_milliseconds", "2", 0.002),
    ],
)  # fmt: skip
def test_a_time_reader_reads_up_to_its_bound(name: str, text: str, value: float | None) -> None:
    ((reader, _, _),) = readings((name,))
    assert reader(text) == value


@pytest.mark.parametrize(
    ("text", "unit"),
    [("999999999", "seconds"), ("1000000000", "unix_seconds"), ("99999999999", "unix_seconds"),
     ("100000000000", "unix_milliseconds")],
)  # fmt: skip
def test_a_unit_is_told_by_its_size_at_the_bounds(text: str, unit: str) -> None:
    read = [name for reader, _, name in readings(("auto",)) if reader(text) is not None]
    assert read == [unit]


def test_a_field_is_looked_at_up_to_its_bound_and_not_beyond() -> None:
    digits = "5".rjust(MAX_FIELD, " ")[:MAX_FIELD]
    assert bide.decide(bide.Reply(429, {"Retry-After": digits}), draw=0.0).wait == 5.0
    long = "a" * (MAX_FIELD - 2) + ", 5"
    assert MAX_FIELD == 8192
    assert (
        bide.explain(bide.Reply(429, {"Retry-After": long}), draw=0.0)
        .dropped[0]
        .meaning.endswith("8192 characters")
    )
    exact = "5," + "a" * (MAX_FIELD - 2)
    assert bide.decide(bide.Reply(429, {"Retry-After": exact}), draw=0.0).wait == 5.0


def test_a_decorrelated_backoff_is_never_below_its_base() -> None:
    backoff = Backoff(base=2.0, cap=16.0, jitter="decorrelated")
    assert backoff.wait(2, draw=0.9, previous=0.0) == 2.0
    assert backoff.wait(2, draw=0.5, previous=4.0) == 7.0


def test_of_several_readers_of_a_count_the_first_one_counts() -> None:
    window = Window(limit=Field("a", ("grouped", "whole")), remaining=Field("b"))
    policy = bide.Policy("x", Dialect(windows=(window,)))
    decision = bide.decide(bide.Reply(200, {"a": "1,200.00", "b": "3"}), policy)
    assert decision.quotas[0].limit == 1200.0


@pytest.mark.parametrize(
    ("rule", "explicit", "held", "stated"),
    [
        ("first", 3.0, 9.0, (3.0, "explicit")), ("first", 9.0, None, (9.0, "explicit")),
        ("greatest", 3.0, 9.0, (9.0, "held")), ("greatest", 9.0, 3.0, (9.0, "explicit")),
        ("greatest", 5.0, 5.0, (5.0, "explicit")), ("greatest", 5.0, None, (5.0, "explicit")),
        ("window_first", 9.0, 3.0, (3.0, "held")), ("window_first", 9.0, None, (9.0, "explicit")),
    ],
)  # fmt: skip
def test_two_waits_become_one(
    rule: str, explicit: float, held: float | None, stated: tuple[float, str]
) -> None:
    assert combine(rule, explicit, "explicit", held, "held") == stated


@pytest.mark.parametrize(
    ("wait", "there", "elsewhere"),
    [
        (Field("when", ("seconds",), separator="/", column=1), "3/5", "5"),
        (Field("when", ("seconds",), parameter="t"), "3; t=5", "5"),
        (Field("when", ("seconds",), json="t"), '{"t": 5}', "5"),
        (Field("when", ("milliseconds", "seconds")), "5000", "five"),
    ],
)
def test_a_wait_is_read_only_where_it_is_said_to_stand(wait: Field, there: str, elsewhere: str) -> None:
    policy = bide.Policy("x", Dialect(waits=(wait,)))
    assert bide.decide(bide.Reply(429, {"When": there}), policy, draw=0.0).wait == 5.0
    assert bide.decide(bide.Reply(429, {"When": elsewhere}), policy, draw=0.0).source == "backoff"


@pytest.mark.parametrize(
    ("date", "source"),
    [("Sun, 13 Nov 2022 22:13:20 GMT", "backoff"), ("Sun, 13 Nov 2022 22:13:19 GMT", "default")],
)
def test_a_moment_that_is_past_by_366_days_is_believed_to_be_past(date: str, source: str) -> None:
    assert (
        bide.decide(bide.Reply(429, {"Retry-After": date}), bide.CLEVER, now=NOW, draw=0.0).source == source
    )


@pytest.mark.parametrize(
    ("available", "rate", "wait"),
    [("0", "2", 0.5), ("0, 9", "2, 9", 0.5), ("0", "-1", None), ("1", "2", None), ("0", "0", None),
     ("-9", "1", 10.0), ("0.5", "1", 0.5), ("0", "0.00000001", None), ("-31622399", "1", 31_622_400.0),
     ("-31622400", "1", None)],
)  # fmt: skip
def test_a_leaky_bucket_states_a_wait_only_where_it_can(
    available: str, rate: str, wait: float | None
) -> None:
    dialect = Dialect(waits=(Field("none", ("seconds",)), Refill(available=Field("a"), rate=Field("r"))))
    decision = bide.decide(
        bide.Reply(429, {"a": available, "r": rate}), bide.Policy("x", dialect, max_wait=1e9), draw=0.0
    )
    assert (decision.wait if decision.source == "a" else None) == (
        None if wait is None else pytest.approx(wait)
    )


def test_a_wait_too_far_ahead_does_not_hide_the_one_behind_it() -> None:
    reply = bide.Reply(429, {"Retry-After": "99999999999, 7"})
    assert bide.decide(reply, draw=0.0).wait == 7.0
    assert bide.decide(bide.Reply(429, {"Retry-After": "soon, 7"}), draw=0.0).wait == 7.0


def test_the_governing_window_is_ranked() -> None:
    ended = Quota(limit=5, remaining=0)
    soon, late = Quota(limit=5, remaining=0, reset_after=3.0), Quota(limit=5, remaining=0, reset_after=9.0)
    little, much = Quota(limit=10, remaining=1), Quota(limit=10, remaining=9)
    boundless, silent = Quota(remaining=2, reset_after=1.0), Quota(limit=5, reset_after=99.0)
    order = [late, soon, ended, little, much, boundless, silent, Quota(limit=5, reset_after=2.0)]
    order += [Quota(limit=5, reset_after=0.5), Quota(limit=5), Quota(limit=5, reset_after=-0.5)]
    for index, quota in enumerate(order):
        assert governing(tuple(reversed(order[index:]))) == quota


def test_used_up_windows_are_waited_for_to_the_last_and_unknown_ones_on_a_refusal_alone() -> None:
    zero, left, unknown = Quota(remaining=0), Quota(remaining=1), Quota(limit=5)
    assert used_up([(zero, 3.0, "a"), (zero, 9.0, "b"), (zero, 5.0, "c")], False) == (9.0, "b")
    assert used_up([(zero, 3.0, "a"), (zero, 3.0, "b")], False) == (3.0, "a")
    assert used_up([(left, 3.0, "a"), (unknown, 9.0, "b")], False) == (None, "")
    assert used_up([(left, 3.0, "a"), (unknown, 9.0, "b")], True) == (9.0, "b")
    assert used_up([(zero, None, "a"), (unknown, 9.0, "b")], True) == (None, "")


@pytest.mark.parametrize("status", [99, 100, 200, 499, 500, 599, 600])
def test_a_refusal_below_500_was_surely_not_acted_upon(status: int) -> None:
    for when in (When(status=(status,)), When(header="x-refused")):
        policy = bide.Policy("x", Dialect(refused_when=(when,)))
        decision = bide.decide(bide.Reply(status, {"X-Refused": "1"}, method="POST"), policy, draw=0.5)
        assert decision.action is (bide.Action.RETRY if status in range(100, 500) else bide.Action.FAIL)


@pytest.mark.parametrize(
    ("reset", "wait", "source"),
    [("7", 8.0, "backoff"), ("8", 8.0, "backoff"), ("9", 9.0, "x-ratelimit-reset")],
)
def test_a_failure_beside_a_used_up_window_waits_for_the_later_of_its_end_and_the_backoff(
    reset: str, wait: float, source: str
) -> None:
    policy = bide.HTTP.replace(backoff=Backoff(1.0, 30.0, "none"))
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    decision = bide.decide(bide.Reply(502, headers), policy, attempt=4, draw=0.0)
    assert (decision.wait, decision.source) == (wait, source)


def test_a_failure_that_states_a_wait_is_repeated_after_that_and_not_after_the_backoff() -> None:
    policy = bide.HTTP.replace(backoff=Backoff(1.0, 30.0, "none"))
    decision = bide.decide(bide.Reply(502, {"Retry-After": "3"}), policy, attempt=4, draw=0.0)
    assert (decision.wait, decision.source) == (3.0, "retry-after")


def test_where_there_is_no_response_no_body_is_looked_into() -> None:
    policy = bide.HTTP.replace(dialect=Dialect(final=(When(text=("gone",)),)))
    reply = bide.Reply(failure=bide.Failure.TIMEOUT, body="gone")
    assert bide.decide(reply, policy, draw=0.0).action is bide.Action.RETRY


@pytest.mark.parametrize(
    ("unit", "reset", "after"),
    [
        ("minutes", "1700000060", None),
        ("minutes", "2", 120.0),
        ("unix_seconds", "1700000060", 60.0),
        ("unix_seconds", "57", None),
        ("seconds", "1700000060", None),
    ],
)
def test_a_reset_is_read_in_its_declared_unit_alone(unit: str, reset: str, after: float | None) -> None:
    window = Window(Field("all"), Field("left"), Field("reset", (unit,)))
    reply = bide.Reply(200, {"all": "9", "left": "1", "reset": reset})
    (quota,) = bide.decide(reply, bide.Policy("x", Dialect(windows=(window,))), now=NOW).quotas
    assert quota.reset_after == after


@pytest.mark.parametrize(
    ("prefix", "limit", "read"),
    [
        ("X-RateLimit-", "9" * MAX_DIGITS, 10**32 - 1), ("X-RateLimit-", "9" * (MAX_DIGITS + 1), None),
        ("RateLimit-", "9" * 15, 10**15 - 1), ("RateLimit-", "9" * 16, None),
        ("X-RateLimit-", "+5", None), ("X-RateLimit-", "1_0", None), ("X-RateLimit-", "\u0663", None),
        ("X-RateLimit-", " 5", 5), ("X-RateLimit-", "5.0", 5),
    ],
)  # fmt: skip
def test_decide_and_explain_read_the_same_numbers(prefix: str, limit: str, read: float | None) -> None:
    reply = bide.Reply(200, {f"{prefix}Limit": limit, f"{prefix}Remaining": "1", f"{prefix}Reset": "9"})
    decision = bide.decide(reply, now=NOW)
    assert decision == bide.explain(reply, now=NOW).decision
    assert decision.quotas[0].limit == read


REASONS = {
    400: "bad_request", 401: "invalid_auth", 403: "forbidden", 404: "not_available", 408: "request_timeout",
    409: "conflict", 410: "not_available", 413: "too_large", 425: "too_early", 429: "rate_limited",
    501: "not_implemented", 505: "not_implemented", 510: "not_implemented", 511: "invalid_auth",
}  # fmt: skip
CLASSES = {1: "ok", 2: "ok", 3: "redirect", 4: "client_error", 5: "server_error"}


def test_every_status_has_its_reason_and_its_advice() -> None:
    plain = bide.Policy("plain", Dialect())
    decisions = {status: bide.decide(bide.Reply(status), plain, draw=0.0) for status in range(100, 600)}
    reasons = {status: str(decision.reason) for status, decision in decisions.items()}
    assert reasons == {status: REASONS.get(status, CLASSES[status // 100]) for status in range(100, 600)}
    told_apart = {
        status
        for status in decisions
        if decisions[status].advice != decisions[status // 100 * 100 + 99].advice
    }
    assert told_apart == {*REASONS, 506, 508}


def test_without_a_wait_a_post_is_repeated_where_the_status_says_that_the_server_did_not_act() -> None:
    plain = bide.Policy("plain", Dialect(refused_when=()))
    decisions = {
        status: bide.decide(bide.Reply(status, method="POST"), plain, draw=0.0) for status in range(100, 600)
    }
    assert {status for status, decision in decisions.items() if decision.action is bide.Action.RETRY} == {
        425,
        429,
    }


@pytest.mark.parametrize("status", [100, 599])
def test_a_rule_is_of_a_status_of_three_digits(status: int) -> None:
    assert bide.policy.Rule(status, bide.Action.FAIL, bide.Reason.OK, "").status == status
    for beyond in (99, 600):
        with pytest.raises(ValueError, match="100 to 599"):
            bide.policy.Rule(beyond, bide.Action.FAIL, bide.Reason.OK, "")


# The quick look: what is read without detours, so that the usual reply costs little -----------------------------

ALL, LEFT, RESET = Field("all"), Field("left"), Field("reset", ("unix_seconds",))
USUAL = {"all": "9", "left": "1", "reset": "1700000030"}


@pytest.mark.parametrize(
    ("window", "is_quick"),
    [
        (Window(ALL, LEFT, RESET), True),
        (Window(ALL, LEFT, RESET, bucket=Field("name"), length=60.0), True),
        (Window(ALL, LEFT, Field("reset", ("seconds",))), True),
        (Window(ALL, LEFT, Field("reset", ("whole_seconds",))), True),
        (Window(ALL, LEFT, Field("reset", ("auto",))), True),
        (Window(ALL, LEFT, Field("reset", ("minutes",))), False),
        (Window(ALL, LEFT, Field("reset", ("seconds", "unix_seconds"))), False),
        (Window(9.0, LEFT, RESET), False),
        (Window(None, LEFT, RESET), False),
        (Window(ALL, None, RESET), False),
        (Window(ALL, LEFT), False),
        (Window(ALL, Field(body="left"), RESET), False),
        (Window(ALL, Field("left", ("grouped", "whole")), RESET), False),
        (Window(ALL, Field("left", json="a"), RESET), False),
        (Window(ALL, Field("left", parameter="r"), RESET), False),
        (Window(ALL, Field("left", separator="/"), RESET), False),
        (Window(Field("*-all"), LEFT, RESET), False),
        (Window(ALL, LEFT, RESET, bucket=Field("name", json="a")), False),
        (Window(ALL, LEFT, RESET, used=Field("used")), False),
        (Window(ALL, LEFT, RESET, align=60.0), False),
        (Window(ALL, LEFT, RESET, refill=1.0), False),
        (Window(ALL, LEFT, RESET, length=Field("length", ("seconds",))), False),
        (Window(ALL, LEFT, RESET, exhausted=True), False),
        (Window(ALL, LEFT, RESET, fresh=True), False),
        (Window(ALL, LEFT, RESET, structured=True), False),
    ],
)  # fmt: skip
def test_a_window_of_three_plain_numbers_is_read_by_the_quick_look(window: Window, is_quick: bool) -> None:
    (reader,) = bide.Policy("x", Dialect(windows=(window,))).program.windows
    assert reader.quick_by == ("left" if is_quick else None)


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ({}, 30.0),
        ({"all": b"9", "left": b"1", "reset": b"1700000030"}, 30.0),
        ({"left": b"1"}, None),
        ({"all": "9" * 21}, 30.0),
        ({"all": "9" * 22}, None),
        ({"all": "-9"}, None),
        ({"all": "\u0669"}, None),
        ({"reset": "1700000120"}, 120.0),
        ({"reset": "1700000121"}, None),
        ({"reset": "1699999940"}, -60.0),
        ({"reset": "1699999939"}, None),
        ({"date": "Tue, 14 Nov 2023 22:13:10 GMT"}, 40.0),
        ({"date": "Tue, 14 Nov 2023 22:13:11 GMT"}, None),
        ({"date": "Tue, 14 Nov 2023 22:13:10 GMT", "age": "1"}, None),
        ({"name": "a"}, 30.0),
        ({"name": "a, b"}, None),
    ],
)  # fmt: skip
def test_the_quick_look_answers_what_is_usual_and_leaves_the_rest(
    change: dict[str, str | bytes], after: float | None
) -> None:
    window = Window(ALL, LEFT, RESET, bucket=Field("name"), length=60.0)
    policy = bide.Policy("x", Dialect(windows=(window,)))
    (reader,) = policy.program.windows
    bide.decide(bide.Reply(200, USUAL | {"date": "Tue, 14 Nov 2023 22:13:10 GMT"}), policy, now=NOW)
    quota = reader.quick(USUAL | change, NOW, True)
    assert (None if quota is None else quota.reset_after) == after
    if quota is not None:
        name = "a" if "name" in change else None
        assert quota == Quota(
            int(change.get("all", "9")), 1, after, float(change.get("reset", USUAL["reset"])), 60.0, name
        )


def test_an_explanation_reads_what_the_quick_look_would_not_have_noted() -> None:
    reply = bide.Reply(
        429,
        {
            "X-RateLimit-Limit": "9",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": "9",
            "Retry-After": "3",
        },
    )
    read = [str(note) for note in bide.explain(reply, now=NOW, draw=0.0).read]
    assert read == [
        "x-ratelimit-limit: '9' read as 9, a count",
        "x-ratelimit-remaining: '0' read as 0, a count",
        "x-ratelimit-reset: '9' read as 9, seconds ahead (seconds)",
        "retry-after: '3' read as 3, seconds ahead (whole_seconds)",
    ]


@pytest.mark.parametrize(
    "left",
    [
        Field("left", separator="/", column=1),
        Field("left", parameter="r"),
        Field("left", json="a"),
        Field("left", ("grouped",)),
    ],
)
def test_a_number_is_read_only_where_it_is_said_to_stand(left: Field) -> None:
    for window in (
        Window(Field("all"), left, Field("reset", ("seconds",))),
        Window(left, Field("all"), Field("reset", ("seconds",))),
    ):
        reply = bide.Reply(200, {"all": "9", "left": "5", "reset": "1"})
        policy = bide.Policy("x", Dialect(windows=(window,)))
        (quota,) = bide.decide(reply, policy, now=NOW).quotas
        expected = 5 if left.read else None
        assert {quota.limit, quota.remaining} == {9, expected}
        assert bide.explain(reply, policy, now=NOW).decision.quotas == (quota,)


@pytest.mark.parametrize(
    ("reset", "now", "after"),
    [
        ("57", 20.0, 57.0), ("999999999", 999_999_990.0, None), ("1000000000", 999_999_990.0, 10.0),
        ("99999999999", 99_999_999_990.0, 9.0), ("100000000000", 99_999_999_990.0, None),
        ("100000000000", 99_999_990.0, 10.0),
    ],
)  # fmt: skip
def test_the_unit_of_a_window_is_told_by_its_size_at_the_bounds(
    reset: str, now: float, after: float | None
) -> None:
    reply = bide.Reply(
        200, {"X-RateLimit-Limit": "9", "X-RateLimit-Remaining": "1", "X-RateLimit-Reset": reset}
    )
    (quota,) = bide.decide(reply, now=now).quotas
    assert quota.reset_after == after
    assert bide.explain(reply, now=now).decision.quotas == (quota,)


def test_every_reply_is_measured_against_its_own_date_and_age() -> None:
    window = Window(Field("all"), Field("left"), Field("reset", ("unix_seconds",)))
    policy = bide.Policy("x", Dialect(windows=(window,)))
    dates = [
        ("20", {}, 60.0),
        ("30", {}, 50.0),
        ("30", {"age": "7"}, 43.0),
        ("30", {"age": "0"}, 50.0),
        ("20", {}, 60.0),
    ]
    for seconds, age, after in dates * 2:
        headers = {
            "all": "9",
            "left": "1",
            "reset": "1700000060",
            "date": f"Tue, 14 Nov 2023 22:13:{seconds} GMT",
        }
        (quota,) = bide.decide(bide.Reply(200, headers | age), policy, now=0.0).quotas
        assert quota.reset_after == after


def test_a_stated_moment_that_is_past_ends_its_window_now() -> None:
    reply = bide.Reply(429, {"Retry-After": "Tue, 14 Nov 2023 22:13:20 GMT"})
    quota = bide.decide(reply, now=NOW + 0.5, draw=0.0).quota
    assert quota == Quota(reset_after=0.0, reset_at=NOW + 0.5)


def test_without_elapsed_the_first_try_has_the_whole_deadline() -> None:
    policy = bide.HTTP.replace(deadline=5.0)
    reply = bide.Reply(429, {"Retry-After": "5"})
    assert bide.decide(reply, policy, draw=0.0).action is bide.Action.RETRY
    assert bide.explain(reply, policy, draw=0.0).decision.action is bide.Action.RETRY
    assert bide.decide(reply, policy, elapsed=0.5, draw=0.0).action is bide.Action.DEFER


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1.5, "1.5 s"), (119.9, "119.9 s"), (120.0, "2 min"), (7199.0, "120 min"), (7200.0, "2 h"),
     (172_799.0, "48 h"), (172_800.0, "2 days"), (216_000.0, "2.5 days")],
)  # fmt: skip
def test_a_span_is_told_in_its_own_unit(seconds: float, words: str) -> None:
    assert _span(seconds) == words
