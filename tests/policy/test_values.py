"""The values: frozen, slotted, compared by what they hold, and strict about what they are made of."""

import copy
import math
import pickle
import subprocess
import sys

import pytest

import bide
from bide.policy import (
    CLEVER,
    HTTP,
    Action,
    Backoff,
    Decision,
    Dialect,
    Field,
    Policy,
    Quota,
    Reason,
    Refill,
    Reply,
    Rule,
    When,
    Window,
    decide,
    explain,
)

DECISION = decide(
    Reply(429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9"}), CLEVER, now=0.0, draw=0.0
)
VALUES = [
    DECISION,
    Quota(),
    CLEVER,
    HTTP,
    CLEVER.backoff,
    CLEVER.dialect,
    CLEVER.statuses[0],
    explain(Reply(200)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_frozen_slotted_hashable_and_survives_copying(value) -> None:
    name = value._fields[0]
    with pytest.raises(AttributeError):
        setattr(value, name, None)
    with pytest.raises(AttributeError):
        value.unknown = 1
    assert not hasattr(value, "__dict__")
    assert hash(value) == hash(copy.copy(value))
    assert value == copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value.replace()
    assert type(value).__name__ in repr(value)


def test_a_decision_reads_as_its_fields() -> None:
    decision = Decision(Action.FAIL, reason=Reason.CONFLICT)
    assert (decision.action, decision.wait, decision.resume_at, decision.quotas) == (
        Action.FAIL,
        0.0,
        None,
        (),
    )
    match decision:
        case Decision(action=Action.FAIL, reason=reason):
            assert reason == "conflict"
        case _:
            pytest.fail("a Decision is matched by its fields")


def test_two_policies_differ_by_their_fields_alone() -> None:
    assert HTTP.replace(retries=1) == HTTP.replace(retries=1)
    assert HTTP.replace(retries=1) != HTTP.replace(retries=2)
    assert HTTP.replace(retries=1).replace(retries=4) == HTTP


MISTAKES = [
    (TypeError, lambda: HTTP.replace(retrys=3), "did you mean 'retries'"),
    (TypeError, lambda: HTTP.replace(zzz=3), "it has name"),
    (TypeError, lambda: Policy(), "needs a value for 'name'"),
    (TypeError, lambda: Quota(1, 2, 3, 4, 5, 6, 7), "at most 6"),
    (TypeError, lambda: Quota(1, limit=2), "two values for 'limit'"),
    (TypeError, lambda: HTTP.replace(retries="3"), "Policy.retries is int"),
    (TypeError, lambda: HTTP.replace(retries=True), "Policy.retries is int"),
    (TypeError, lambda: HTTP.replace(max_wait="60"), "Policy.max_wait"),
    (TypeError, lambda: HTTP.replace(limits=["1/second"]), "Policy.limits is tuple"),
    (TypeError, lambda: HTTP.replace(backoff=1.0), "Policy.backoff is Backoff"),
    (ValueError, lambda: HTTP.replace(retries=-1), "0 or more"),
    (ValueError, lambda: HTTP.replace(max_wait=-1), "0 seconds"),
    (ValueError, lambda: HTTP.replace(max_wait=math.nan), "0 seconds"),
    (ValueError, lambda: HTTP.replace(resume_after=math.inf), "366 days"),
    (ValueError, lambda: HTTP.replace(deadline=-1.0), "Policy.deadline"),
    (ValueError, lambda: Field(), "one of header, body, text"),
    (ValueError, lambda: Field("a", body="b"), "one of header, body, text"),
    (ValueError, lambda: Field("Retry-After"), "lower case"),
    (ValueError, lambda: Field("a*b*"), "one \\*"),
    (ValueError, lambda: Field("a", ("epoch",)), "no reader 'epoch'"),
    (ValueError, lambda: Window(), "at least one field"),
    (ValueError, lambda: Window(reset=Field("a")), "unit of a reset"),
    (ValueError, lambda: Window(length=Field("a", ("number",))), "reads no time"),
    (ValueError, lambda: Window(length=Field("a")), "must be declared"),
    (ValueError, lambda: Dialect(waits=(Field("a"),)), "must be declared"),
    (ValueError, lambda: Dialect(combine="last"), "combine is one of"),
    (ValueError, lambda: Dialect(clock="sun"), "clock is one of"),
    (ValueError, lambda: Dialect(margin=-1.0), "margin is 0 to 60"),
    (ValueError, lambda: When(), "a condition needs"),
    (ValueError, lambda: When(status=(400,), values=("a",)), "values are those of"),
    (ValueError, lambda: Rule(99, Action.FAIL, Reason.OK, ""), "100 to 599"),
    (ValueError, lambda: Rule(400, Action.DEFER, Reason.OK, ""), "process, retry or fail"),
]


@pytest.mark.parametrize(("error", "make", "words"), MISTAKES)
def test_a_mistake_is_refused_at_construction_in_one_line(error: type[Exception], make, words: str) -> None:
    with pytest.raises(error, match=words) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_a_policy_of_a_name_alone_is_a_careful_one() -> None:
    policy = Policy("mine")
    assert decide(Reply(429, {"Retry-After": "3"}), policy, draw=0.0).wait == 3.0
    assert policy.backoff == Backoff(0.5, 30.0, "full")


@pytest.mark.parametrize(
    ("dialect", "looked_into"),
    [
        (Dialect(), set()),
        (Dialect(refused_when=(When(status=(400,), text=("slow",)),)), {400}),
        (Dialect(final=(When(status=(403,), body="error"),)), {403}),
        (Dialect(final=(When(text=("gone",)),)), {200, 299, 300, 400, 403, 503}),
        (Dialect(waits=(Field(body="wait", read=("seconds",)),)), {300, 400, 403, 503}),
        (Dialect(waits=(Field(body="wait", read=("seconds",)),), wait_on_success=True), {200, 299, 300, 400, 403, 503}),
        (Dialect(windows=(Window(remaining=Field(body="left")),)), {200, 299, 300, 400, 403, 503}),
        (Dialect(waits=(Refill(Field(body="left"), 1.0),)), {300, 400, 403, 503}),
    ],
)  # fmt: skip
def test_a_policy_says_of_which_responses_it_looks_into_the_body(
    dialect: Dialect, looked_into: set[int]
) -> None:
    policy = Policy("x", dialect)
    assert {status for status in (200, 299, 300, 400, 403, 503) if policy.reads_body(status)} == looked_into


def test_an_explanation_is_lines_for_a_person() -> None:
    headers = {"Retry-After": "soon", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1700000009"}
    headers |= {"Date": "Tue, 14 Nov 2023 22:13:20 GMT"}
    explanation = explain(Reply(429, headers), CLEVER, now=1700000100.0, draw=0.5)
    assert str(explanation).splitlines() == [
        "retry: rate_limited, wait 10.000 s",
        "  Rate limit exceeded: try again after the rate-limit period expires.",
        "  read     x-ratelimit-remaining: '0' read as 0, a count",
        "  read     x-ratelimit-reset: '1700000009' read as 9, seconds ahead (unix_seconds)",
        "  dropped  retry-after: 'soon' dropped: not whole_seconds or http_date",
        "  1. status 429: retry (rate_limited)",
        "  2. by its Date, the client's clock is +100 s off",
        "  3. it is a refusal: the server did not act, and says later",
        "  4. wait 10.000 s: x-ratelimit-reset, margin 0 s, spread 1.000 s",
    ]


def test_an_explanation_shows_80_characters_of_a_field() -> None:
    explanation = explain(Reply(503, {"Retry-After": "soon" * 30}), now=0.0, draw=0.0)
    assert [note.text for note in explanation.dropped] == ["soon" * 20]


def test_a_field_that_is_out_of_bounds_takes_no_other_with_it() -> None:
    headers = {"X-RateLimit-Remaining": "5", "X-RateLimit-Limit": "9", "Retry-After": "99999999999"}
    explanation = explain(Reply(429, headers), now=0.0, draw=0.0)
    assert [note.name for note in explanation.read] == ["x-ratelimit-limit", "x-ratelimit-remaining"]
    assert [note.name for note in explanation.dropped] == ["retry-after"]


@pytest.mark.parametrize(
    ("field", "left"),
    [('"a";r=1;t=9', "left of a"), ("limit=9, remaining=1, reset=9", "left of the limit")],
)
def test_an_explanation_says_of_what_something_is_left(field: str, left: str) -> None:
    assert [str(note) for note in explain(Reply(200, {"RateLimit": field}), now=0.0).read] == [
        f"ratelimit: {field!r} read as 1, {left}",
        f"ratelimit: {field!r} read as 9, seconds ahead",
    ]


def test_an_explanation_shows_the_field_that_is_no_structured_list() -> None:
    reply = Reply(200, {"RateLimit-Limit": "9 9", "RateLimit-Remaining": "1", "RateLimit-Reset": "9"})
    assert [str(note) for note in explain(reply, now=0.0).dropped] == [
        "ratelimit-limit: '9 9' dropped: no structured List"
    ]


@pytest.mark.parametrize(
    ("policies", "dropped"), [('"a";q=9;w=60', []), ('"a;q=9', ["ratelimit-policy"]), ("", [])]
)
def test_an_explanation_says_which_policies_of_the_drafts_are_malformed(
    policies: str, dropped: list[str]
) -> None:
    reply = Reply(200, {"RateLimit": '"a";r=1;t=9', "RateLimit-Policy": policies})
    assert [note.name for note in explain(reply, now=0.0).dropped] == dropped


@pytest.mark.parametrize(
    ("bucket", "read", "dropped"),
    [
        ("abc123", ["x-ratelimit-bucket: 'abc123' read as the bucket, a name"], []),
        ("\x07", [], ["x-ratelimit-bucket: '\\x07' dropped: not a name"]),
        ("", [], []),
    ],
)
def test_an_explanation_tells_how_the_buckets_name_was_read(
    bucket: str, read: list[str], dropped: list[str]
) -> None:
    reply = Reply(429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Bucket": bucket})
    explanation = explain(reply, CLEVER, now=1700000000.0, draw=0.0)
    assert [str(note) for note in explanation.read if note.name == "x-ratelimit-bucket"] == read
    assert [str(note) for note in explanation.dropped] == dropped
    assert explanation.decision.quota == decide(reply, CLEVER, now=1700000000.0, draw=0.0).quota


def test_a_field_is_read_or_dropped_never_both() -> None:
    far = {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}
    explanation = explain(Reply(503, far), now=1700000000.0, draw=0.0)
    assert explanation.read == ()
    assert [str(note) for note in explanation.dropped] == [
        f"retry-after: {far['Retry-After']!r} dropped: further than 366 days from now"
    ]


def test_the_first_reply_of_a_process_may_have_an_empty_date() -> None:
    program = """if True:
        import bide
        fields = {"Date": "", "X-RateLimit-Limit": "9", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "130"}
        print(bide.decide(bide.Reply(429, fields), bide.CLEVER, now=100.0, draw=0.0).wait)
    """
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "30.0\n"


def test_importing_the_policy_is_light() -> None:
    """Neither dataclasses nor typing nor re: they would cost more than the package."""
    program = "import sys; import bide.policy; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    bare = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    added = set(loaded.stdout.split()) - set(bare.stdout.split())
    assert not added & {"dataclasses", "typing", "re", "json", "inspect", "datetime", "tomllib", "difflib"}


def test_whole_numbers_are_numbers_for_every_argument_of_a_decision() -> None:
    reply = bide.Reply(429, {"Retry-After": "3"})
    whole = bide.decide(reply, now=1_700_000_000, elapsed=0, draw=0)
    assert whole == bide.decide(reply, now=1_700_000_000.0, elapsed=0.0, draw=0.0)
