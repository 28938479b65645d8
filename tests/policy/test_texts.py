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


@pytest.mark.parametrize(("before", "wait"), [(65536 - 12, 7.0), (65536 - 11, None)])
@pytest.mark.parametrize("kind", [str, bytes, bytearray, memoryview])
def test_65536_octets_of_a_body_are_looked_at(kind: type, before: int, wait: float | None) -> None:
    text = "x" * before + "wait until 7 and no more"
    body = text if kind is str else kind(text.encode())
    decision = read(429, {}, body, waits=(Field(text="wait until", read=("seconds",)),))
    assert (decision.wait if decision.source == "body" else None) == wait


@pytest.mark.parametrize(("size", "wait"), [(65536, 7.0), (65537, None)])
@pytest.mark.parametrize("kind", [str, bytes, bytearray, memoryview])
def test_json_is_read_up_to_65536_octets_and_not_in_part(kind: type, size: int, wait: float | None) -> None:
    text = '{"wait": 7}'.ljust(size)
    body = text if kind is str else kind(text.encode())
    decision = read(429, {}, body, waits=(Field(body="wait", read=("seconds",)),))
    assert (decision.wait if decision.source == "body" else None) == wait


@pytest.mark.parametrize("members", [list, dict, "nested"])
def test_32_values_of_a_path_are_looked_at(members: object) -> None:
    waits = [{"wait": number} for number in range(40)]
    body: object = waits
    if members is dict:
        body = {str(number): wait for number, wait in enumerate(waits)}
    elif members == "nested":
        body = [waits[:20], waits[20:]]
    path = "*.*.wait" if members == "nested" else "*.wait"
    decision = read(429, {}, body, waits=(Field(body=path, read=("seconds",)),))
    assert decision.wait == 31.0


@pytest.mark.parametrize(
    ("index", "wait"), [("2", 3.0), ("3", None), ("002", 3.0), ("0002", None), ("-1", None), ("x", None)]
)
def test_a_step_of_a_path_may_be_the_number_of_a_member(index: str, wait: float | None) -> None:
    decision = read(429, {}, {"waits": [1, 2, 3]}, waits=(Field(body=f"waits.{index}", read=("seconds",)),))
    assert (decision.wait if decision.source == "body" else None) == wait


@pytest.mark.parametrize(("between", "wait"), [(63, 7.0), (64, None)])
def test_a_value_in_words_stands_within_64_characters(between: int, wait: float | None) -> None:
    body = "until" + " " * between + "7"
    decision = read(429, {}, body, waits=(Field(text="until", read=("seconds",)),))
    assert (decision.wait if decision.source == "body" else None) == wait


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (10**18 - 1, None),
        (7, 7.0),
        (7.5, 7.5),
        (True, None),
        (None, None),
        ("7", 7.0),
        ([7], None),
        (1e-7, None),
    ],
)
def test_a_value_of_json_is_read_as_a_field_would_be(value: object, wait: float | None) -> None:
    decision = read(429, {}, {"wait": value}, waits=(Field(body="wait", read=("seconds",)),))
    assert (decision.wait if decision.source == "body" else None) == wait


@pytest.mark.parametrize(("length", "bucket"), [(8192, "b" * 100), (8193, None)])
def test_a_text_of_json_has_8192_characters_at_most(length: int, bucket: str | None) -> None:
    window = Window(remaining=Field(body="left"), bucket=Field(body="name"))
    (quota,) = read(200, {}, {"left": 1, "name": "b" * length}, windows=(window,)).quotas
    assert quota.bucket == bucket


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        (10**18 - 1, 10**18 - 1),
        (10**18, None),
        (1 - 10**18, 1 - 10**18),
        (-(10**18), None),
        (0.5, 0.5),
        ("9", 9),
        (True, None),
    ],
)
def test_a_count_of_json_has_18_digits_at_most(value: object, limit: float | None) -> None:
    window = Window(limit=Field(body="all"), remaining=Field(body="left"))
    (quota,) = read(200, {}, {"all": value, "left": 1}, windows=(window,)).quotas
    assert quota.limit == limit


@pytest.mark.parametrize(
    ("name", "bucket"),
    [
        ("b" * 100, "b" * 100),
        ("b" * 101, "b" * 100),
        ("b " * 60, "b " * 50),
        ("", None),
        (" ", None),
        ("\x07", None),
    ],
)
def test_100_characters_of_a_buckets_name_are_kept(name: str, bucket: str | None) -> None:
    window = Window(remaining=Field("left"), bucket=Field("name"))
    (quota,) = read(200, {"Left": "1", "Name": name}, windows=(window,)).quotas
    assert quota.bucket == bucket


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
