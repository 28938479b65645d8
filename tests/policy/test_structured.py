"""Structured fields (RFC 9651): the points that loose parsers miss, and a second parser beside ours."""

import base64
import datetime
from decimal import Decimal
from typing import Any

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.policy._structured import Date, DisplayString, Token, parse_dictionary, parse_item, parse_list

PARSERS: dict[str, Any] = {"list": parse_list, "dictionary": parse_dictionary, "item": parse_item}


def in_our_words(value: Any) -> Any:
    """A value of the other parser as ours gives it, with its kind beside it: 1, true and 1.0 differ."""
    if isinstance(value, (list, tuple)):
        return type(value)(in_our_words(member) for member in value)
    if isinstance(value, dict):
        return {key: in_our_words(member) for key, member in value.items()}
    if isinstance(value, Decimal):
        return (float, float(value))
    if isinstance(value, datetime.datetime):
        return (Date, int(value.timestamp()))
    if isinstance(value, http_sf.Token):
        return (Token, str(value))
    if isinstance(value, http_sf.DisplayString):
        return (DisplayString, str(value))
    return (type(value), value)


def with_kinds(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(with_kinds(member) for member in value)
    if isinstance(value, dict):
        return {key: with_kinds(member) for key, member in value.items()}
    return (type(value), value)


def by_the_other(kind: str, text: str) -> Any:
    try:
        return in_our_words(http_sf.parse(text.encode("latin-1"), tltype=kind))
    except (ValueError, OverflowError, OSError):
        return None


KEYS = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,3}", fullmatch=True)
BARE = (
    st.from_regex(r"-?[0-9]{1,16}", fullmatch=True)
    | st.integers(14, 16).map(lambda digits: "9" * digits)
    | st.from_regex(r"-?[0-9]{1,13}\.[0-9]{0,4}", fullmatch=True)
    | st.from_regex(r'"([ -!#-\[\]-~]|\\["\\]){0,4}"', fullmatch=True)
    | st.from_regex(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]{0,4}", fullmatch=True)
    | st.from_regex(r"\?[01]", fullmatch=True)
    | st.from_regex(r"@[0-9]{1,9}", fullmatch=True)
    | st.from_regex(r'%"([ -!#-$&-~]|%[0-7][0-9a-f]){0,3}"', fullmatch=True)
    | st.binary(max_size=4).map(lambda octets: f":{base64.b64encode(octets).decode()}:")
)
PARAMETERS = st.lists(st.tuples(KEYS, st.none() | BARE), max_size=3).map(
    lambda pairs: "".join(f"; {key}" + (f"={value}" if value is not None else "") for key, value in pairs)
)
ITEMS = st.tuples(BARE, PARAMETERS).map("".join)
INNER = st.tuples(st.lists(ITEMS, max_size=3).map(" ".join), PARAMETERS).map(lambda p: f"({p[0]}){p[1]}")
LISTS = st.lists(ITEMS | INNER, max_size=4).map(" ,\t".join)
DICTIONARIES = st.lists(
    st.tuples(KEYS, (ITEMS | INNER).map("={}".format) | PARAMETERS).map("".join), max_size=4
).map(", ".join)


def broken(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A text with one character put in, taken out or exchanged."""
    characters = st.characters(max_codepoint=127)
    return st.builds(
        lambda text, at, taken, put: text[: at % (len(text) + 1)] + put + text[at % (len(text) + 1) + taken :],
        texts, st.integers(0, 200), st.integers(0, 1), st.just("") | characters,
    )  # fmt: skip


ROWS: list[tuple[str, str, object]] = [
    ("list", "", []),
    ("list", "  1 , 2  ", [(1, {}), (2, {})]),
    ("list", "1,\t2", [(1, {}), (2, {})]),
    ("list", "1,", None),
    ("list", ",1", None),
    ("list", "\t1", None),
    ("list", "1 2", None),
    ("list", '"a";r=1;r=2', [("a", {"r": 2})]),
    ("list", '"a";R=1', None),
    ("list", '"a" ;r=1', None),
    ("list", '"a"; r=1', [("a", {"r": 1})]),
    ("list", '"a";\tr=1', None),
    ("list", '"a";r', [("a", {"r": True})]),
    ("list", '"a', None),
    ("list", '"\\a"', None),
    ("list", '"\\', None),
    ("list", '"\x7f"', None),
    ("list", '"\u00fc"', None),
    ("list", "()", [([], {})]),
    ("list", "(1  2);a", [([(1, {}), (2, {})], {"a": True})]),
    ("list", "(1", None),
    ("list", "(1,2)", None),
    ("item", "999999999999999", (999999999999999, {})),
    ("item", "1000000000000000", None),
    ("item", "123456789012.123", (123456789012.123, {})),
    ("item", "1234567890123.1", None),
    ("item", "1.1234", None),
    ("item", "-0.5", (-0.5, {})),
    ("item", "-.5", None),
    ("item", "1.123", (1.123, {})),
    ("item", '%"a b~"', (DisplayString("a b~"), {})),
    ("item", '" ~"', (" ~", {})),
    ("item", "1.", None),
    ("item", "-", None),
    ("item", "--1", None),
    ("item", "?2", None),
    ("item", "?", None),
    ("item", "@1.5", None),
    ("item", ":aXA=:", (b"ip", {})),
    ("item", ":aXA:", (b"ip", {})),
    ("item", ":ip:", (b"\x8a", {})),
    ("item", ":a:", None),
    ("item", ":a b:", None),
    ("item", ":aXA=", None),
    ("item", '%"f%c3%bc"', (DisplayString("f\u00fc"), {})),
    ("item", '%"%C3%BC"', None),
    ("item", '%"%c3"', None),
    ("item", '%"%c"', None),
    ("item", '%"a', None),
    ("item", "%a", None),
    ("item", "1 ", (1, {})),
    ("item", "1 2", None),
    ("item", "", None),
    ("dictionary", "a=1, b, a=2", {"b": (True, {}), "a": (2, {})}),
    ("dictionary", "a;x=1, b=(1 2)", {"a": (True, {"x": 1}), "b": ([(1, {}), (2, {})], {})}),
    ("dictionary", "A=1", None),
    ("dictionary", "a=", None),
    ("dictionary", "a=1,", None),
    ("dictionary", "", {}),
]


@pytest.mark.parametrize(("kind", "text", "value"), ROWS)
def test_the_points_that_loose_parsers_miss(kind: str, text: str, value: object) -> None:
    assert PARSERS[kind](text) == value


def test_a_token_is_no_string_and_a_date_no_number() -> None:
    member = parse_list("name, @1")
    assert member is not None
    assert [type(bare) for bare, _ in member] == [Token, Date]


@pytest.mark.parametrize("text", [":=:", ":====:", ":YQ===:", ":YQ==YQ:", ":YWI=YQ:"])
def test_a_byte_sequence_ends_with_its_padding_as_by_another_parser(text: str) -> None:
    """RFC 9651 section 4.2.7 lets padding be missing, not misplaced."""
    assert by_the_other("item", text) is None
    assert parse_item(text) is None


def test_a_key_that_is_given_again_keeps_its_place_as_by_another_parser() -> None:
    """RFC 9651 sections 4.2.2 and 4.2.3.2: its value is overwritten."""
    found = parse_dictionary("a=1, b=2, a=3")
    assert found is not None
    assert list(found) == list(by_the_other("dictionary", "a=1, b=2, a=3"))


@pytest.mark.parametrize(
    ("kind", "texts"),
    [("list", LISTS), ("dictionary", DICTIONARIES), ("item", ITEMS)],
    ids=lambda v: str(v)[:10],
)
def test_what_is_well_formed_reads_as_by_another_parser(kind: str, texts: st.SearchStrategy[str]) -> None:
    @given(texts)
    def same(text: str) -> None:
        ours = PARSERS[kind](text)
        assert (None if ours is None else with_kinds(ours)) == by_the_other(kind, text)

    same()


@pytest.mark.parametrize(
    ("kind", "texts"),
    [("list", LISTS), ("dictionary", DICTIONARIES), ("item", ITEMS)],
    ids=lambda v: str(v)[:10],
)
def test_what_is_nearly_well_formed_is_refused_where_another_parser_refuses_it(
    kind: str, texts: st.SearchStrategy[str]
) -> None:
    @given(broken(texts).filter(lambda text: ":" not in text and "@" not in text))
    def same(text: str) -> None:
        ours = PARSERS[kind](text)
        assert (None if ours is None else with_kinds(ours)) == by_the_other(kind, text)

    same()


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for parse in PARSERS.values():
        parse(text)


@given(
    st.binary(max_size=7).map(lambda octets: base64.b64encode(octets).decode().rstrip("=")),
    st.text("ABYZaz059+/-_ :", max_size=3),
)
def test_a_byte_sequence_without_padding_reads_as_by_another_parser(encoded: str, more: str) -> None:
    text = f":{encoded}{more}:"
    ours = parse_item(text)
    assert (None if ours is None else with_kinds(ours)) == by_the_other("item", text)
