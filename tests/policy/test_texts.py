"""What a value is where the reply writes it in words, says zero, or contradicts itself."""

from __future__ import annotations

import pytest

from bide.policy import Action, Decision, Dialect, Field, Policy, Quota, Reply, When, Window, decide

NOW = 1_700_000_000.0


def read(status: int, headers: dict[str, str], body: object = None, **dialect: object) -> Decision:
    policy = Policy(name="test", dialect=Dialect(**dialect))  # type: ignore[arg-type]  # the fields of Dialect
    return decide(Reply(status, headers, body=body), policy, now=NOW, draw=0.0)


@pytest.mark.parametrize(
    ("body", "wait"),
    [
        ("wait until 1700000030", 30.0),
        ("wait until 1700000030.", 30.0),
        ('{"error":["wait until 1700000030"]}', 30.0),
        ('{"error": "wait until: 1700000030, then go on"}', 30.0),
        ("(wait until 1700000030)", 30.0),
        ("wait until 1700000030s", None),
        ("wait until", None),
        ("wait until " + "0" * 5000 + "1700000030", None),
        (b"\xffwait until 1700000030\xff", None),
        (b"wait until 1700000030\n", 30.0),
        ({"error": "wait until 1700000030"}, None),
    ],
)
def test_a_value_in_words_ends_where_the_word_ends(body: object, wait: float | None) -> None:
    decision = read(429, {}, body, waits=(Field(text="wait until", read=("unix_seconds",)),))
    assert (decision.wait if decision.source == "body" else None) == wait


CLOSED = Window(exhausted=True, reset=Field("x-closed", ("seconds",), separator=":"))


@pytest.mark.parametrize(
    ("status", "closed", "wait", "source"),
    [
        (200, "9:a", 9.0, "x-closed"),
        (200, "0:a", 0.0, ""),
        (200, "0:a, 9:b", 9.0, "x-closed"),
        (429, "9:a, 4:b", 9.0, "x-closed"),
        (429, "0:a", 0.0, "backoff"),
    ],
)
def test_a_window_that_is_closed_for_zero_seconds_is_open(
    status: int, closed: str, wait: float, source: str
) -> None:
    decision = read(status, {"X-Closed": closed}, windows=(CLOSED,))
    assert (decision.wait, decision.source) == (wait, source)
    assert decision.quota is not None
    assert decision.quota.remaining == (0 if wait else None)


def test_a_reset_far_beyond_the_length_that_the_reply_itself_states_is_the_reset_all_the_same() -> None:
    window = Window(
        remaining=Field("x-left"),
        reset=Field("x-reset", ("seconds",)),
        length=Field("x-length", ("minutes",)),
    )
    headers = {"X-Left": "0", "X-Reset": "384000", "X-Length": "300"}
    assert read(200, headers, windows=(window,)).quota == Quota(None, 0, 384000.0, NOW + 384000.0, 18000.0)


def test_a_length_behind_a_limit_does_not_say_when_the_window_ends() -> None:
    window = Window(limit=Field("x-limit"), remaining=Field("x-left"))
    decision = read(429, {"X-Limit": "100;w=21600", "X-Left": "0;w=21600"}, windows=(window,))
    assert (decision.action, decision.source) == (Action.RETRY, "backoff")
    assert decision.quota == Quota(100, 0, None, None, 21600.0)


def test_words_in_a_body_make_a_refusal_of_a_success() -> None:
    refused = (When(status=(200,), text=("EBusy",)),)
    assert read(200, {}, '{"error":["EBusy"]}', refused_when=refused).action is Action.RETRY
    assert read(200, {}, '{"error":[]}', refused_when=refused).action is Action.PROCESS
