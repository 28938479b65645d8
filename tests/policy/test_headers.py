"""Headers of every kind of object: one reading, and what is remembered of them stays bounded."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import multidict
import pytest
import requests
import starlette.datastructures
import urllib3
import werkzeug.datastructures

from bide.policy import CLEVER, HTTP, Decision, Dialect, Field, Policy, When, Window, decide, explain
from bide.policy._headers import _LISTINGS
from bide.policy._reply import STATUS_BY_CLASS

NOW = 1_700_000_000.0
KINDS: dict[str, Any] = {
    "dict": dict,
    "list": list,
    "httpx": httpx.Headers,
    "urllib3": urllib3.HTTPHeaderDict,
    "requests": lambda pairs: requests.structures.CaseInsensitiveDict(pairs),
    "multidict": multidict.CIMultiDict,
    "werkzeug": werkzeug.datastructures.Headers,
    "starlette": lambda pairs: starlette.datastructures.Headers(
        raw=[(name.lower().encode(), value.encode()) for name, value in pairs]
    ),
}


class Response:
    def __init__(self, headers: object, status: int = 429) -> None:
        self.status = status
        self.headers = headers


def decided(headers: object, policy: Policy = CLEVER, body: object = None, status: int = 429) -> Decision:
    response = Response(headers, status)
    decision = decide(response, policy, now=NOW, draw=0.0, body=body)
    assert decision == explain(response, policy, now=NOW, draw=0.0, body=body).decision
    return decision


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("again", [1, 2])
def test_a_field_is_found_in_any_letter_case_the_first_time_and_the_next(kind: str, again: int) -> None:
    for name in ("retry-after", "Retry-After", "RETRY-AFTER", "reTry-aFter"):
        headers = KINDS[kind]([("Server", "x"), (name, "3"), ("Date", "Tue, 14 Nov 2023 22:13:20 GMT")])
        for _ in range(again):
            assert decided(headers).wait == 3.0


@pytest.mark.parametrize("kind", ["list", "httpx", "urllib3", "multidict", "werkzeug", "starlette"])
@pytest.mark.parametrize("order", list(itertools.permutations("395")))
def test_lines_of_one_field_are_joined_whoever_keeps_them(kind: str, order: tuple[str, str, str]) -> None:
    headers = KINDS[kind](list(zip(("Retry-After", "retry-after", "Retry-After"), order, strict=True)))
    assert decided(headers).wait == 9.0
    explanation = explain(Response(headers), CLEVER, now=NOW, draw=0.0)
    assert [note.text for note in explanation.read] == list(order)
    assert explanation.dropped == ()


@pytest.mark.parametrize("kind", ["list", "httpx", "urllib3", "multidict", "werkzeug", "starlette"])
def test_lines_of_one_field_are_windows_in_their_order(kind: str) -> None:
    fields = [("Limit", "9"), ("Remaining", "5"), ("Remaining", "6"), ("Reset", str(int(NOW) + 30))]
    headers = KINDS[kind]([(f"X-RateLimit-{name}", value) for name, value in fields])
    assert [quota.remaining for quota in decided(headers, status=200).quotas] == [5, 6]


@pytest.mark.parametrize(("length", "wait"), [(8192, 9.0), (8193, 3.0)])
def test_what_is_too_long_to_be_looked_at_does_not_grow(length: int, wait: float) -> None:
    assert decided([("Retry-After", "3".ljust(length)), ("Retry-After", "9")]).wait == wait


@pytest.mark.parametrize("package", ["httpx", "urllib3", "elsewhere"])
def test_what_only_looks_like_a_clients_headers_is_read_by_its_items(package: str) -> None:
    inside = {"_list": 3, "_container": 3} if package != "elsewhere" else {"_list": [], "_container": {}}
    for name in ("Headers", "HTTPHeaderDict"):
        kind = type(name, (dict,), {"__module__": package, **inside})
        assert decided(kind({"Retry-After": "3"})).wait == 3.0


def test_two_spellings_in_one_dictionary_are_lines_of_one_field() -> None:
    for _ in range(2):
        assert decided({"Retry-After": "3", "retry-after": "9", b"RETRY-AFTER": b"5"}).wait == 9.0


def test_a_field_that_aiohttp_read_as_utf_8_hides_none_behind_it() -> None:
    headers = multidict.CIMultiDict([("X-RateLimit-Bucket", "b\u00fc"), ("Retry-After", "3")])
    assert decided(headers).wait == 3.0


def test_names_of_octets_are_read_and_names_of_nothing_are_not() -> None:
    for _ in range(2):
        assert decided({b"Retry-After": b"3", 7: "9", None: "9", b"Server": b"x"}).wait == 3.0


def test_a_value_that_is_no_text_is_dropped() -> None:
    in_urllib3 = urllib3.HTTPHeaderDict({"X-RateLimit-Remaining": "0"})
    in_urllib3._container["retry-after"] = ["Retry-After", 3]
    for headers in (in_urllib3, {"Retry-After": 3}, [("Retry-After", 3)]):
        assert decided(headers).source == "default"
        dropped = explain(Response(headers), CLEVER, now=NOW, draw=0.0).dropped
        assert [str(note) for note in dropped] == ["retry-after: 'int' dropped: not text"]


def test_what_is_no_pair_in_a_list_is_passed_over() -> None:
    assert decided([("Retry-After", "9", "9"), 7, "ab", ("Retry-After",), ["Retry-After", "3"]]).wait == 3.0


def test_octets_of_a_bucket_are_read_alike() -> None:
    name = "b\u00fcckett"
    fields = {"X-RateLimit-Limit": "9", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW) + 3)}
    as_text = fields | {"X-RateLimit-Bucket": name.encode().decode("latin-1")}
    as_octets = [(key.encode(), value.encode()) for key, value in fields.items()]
    as_octets.append((b"X-RateLimit-Bucket", name.encode()))
    by_aiohttp = multidict.CIMultiDict(fields | {"X-RateLimit-Bucket": name})
    assert decided(as_text) == decided(as_octets) == decided(by_aiohttp)
    no_octets = multidict.CIMultiDict(fields | {"X-RateLimit-Bucket": "\ud800\udfff"[:1]})
    assert decided(no_octets).wait == 3.0


@pytest.mark.parametrize("kind", KINDS)
def test_beside_a_body_that_is_read_the_date_counts(kind: str) -> None:
    dialect = Dialect(
        waits=(Field(text="until ", read=("unix_seconds",)),), refused_when=(When(text=("until",)),)
    )
    policy = Policy("body", dialect)
    headers = KINDS[kind]([("Server", "x"), ("Date", "Tue, 14 Nov 2023 22:13:20 GMT")])
    for _ in range(2):
        for now in (NOW, NOW + 3600.0):
            decision = decide(Response(headers, 200), policy, now=now, draw=0.0, body="until 1700000030")
            assert decision.wait == 30.0


def test_what_is_remembered_of_names_and_classes_is_bounded() -> None:
    policy = CLEVER.replace(name="fresh")
    names = ["x" * 64, "x" * 65, *(f"X-Other-{number}" for number in range(800))]
    for name in names:
        assert decided({name: "1", "Retry-After": "3"}, policy).wait == 3.0
    program = policy.program
    assert set(program.spelled) == {"Retry-After", names[0], *names[2:256]}
    assert program.mute == set(program.spelled) - {"Retry-After"}
    for number in range(128):
        headers = type(f"Headers{number}", (dict,), {})({"Retry-After": "3"})
        response = type(f"Response{number}", (), {"status": 429, "headers": headers})()
        assert decide(response, CLEVER, now=NOW, draw=0.0).wait == 3.0
    assert len(_LISTINGS) == len(STATUS_BY_CLASS) == 64


@pytest.mark.parametrize(("before", "wait"), [(127, 3.0), (128, 0.0)])
def test_a_reply_of_too_many_fields_keeps_128_of_them(before: int, wait: float) -> None:
    window = Window(remaining=Field("x-left-*"))
    policy = Policy("many", Dialect(windows=(window,), wait_on_success=True))
    headers = {f"X-Left-{number}": "1" for number in range(before)} | {"Retry-After": "3"}
    decision = decided(headers, policy, status=200)
    assert len(decision.quotas) == 32
    assert decision.wait == wait


def test_what_a_pattern_does_not_match_takes_no_place() -> None:
    policy = Policy("many", Dialect(windows=(Window(remaining=Field("x-*-left")),), wait_on_success=True))
    others = {f"X-{number}-All": "1" for number in range(200)} | {
        f"Y-{number}-Left": "1" for number in range(200)
    }
    assert decided(others | {"Retry-After": "3"}, policy, status=200).wait == 3.0


@pytest.mark.parametrize("length", [64, 65])
def test_a_pattern_names_windows_in_names_of_64_characters_at_most(length: int) -> None:
    name = "x-left-".ljust(length, "y")
    policy = Policy("long", Dialect(windows=(Window(remaining=Field("x-left-*")),)))
    quotas = decided({name: "0", "x-left-": "0"}, policy, status=200).quotas
    assert [quota.bucket for quota in quotas] == [name.removeprefix("x-left-")][: 65 - length]


@pytest.mark.parametrize("headers", [3, "Retry-After: 3", object()])
def test_headers_that_cannot_be_listed_are_the_callers_mistake(headers: object) -> None:
    with pytest.raises(TypeError, match="headers are a mapping or a list of pairs"):
        decide(Response(headers), HTTP)


def test_a_window_may_keep_silent_in_a_reply_from_a_cache() -> None:
    policy = Policy("fresh", Dialect(windows=(Window(remaining=Field("x-left"), fresh=True),)))
    assert decided({"X-Left": "0", "Age": "0"}, policy).quota is not None
    assert decided({"X-Left": "0", "Age": "7"}, policy).quota is None
