"""A limit as text and as a value, and what a limiter says to arguments that make no sense."""

import contextlib
import copy
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide import Limit
from bide.limiter import Limiter

Make = Callable[..., Limiter]


@pytest.mark.parametrize(
    ("text", "limit", "window"),
    [
        ("1200/minute", 1200, 60.0),
        ("10 per second", 10, 1.0),
        ("5000/hour", 5000, 3600.0),
        ("100/15s", 100, 15.0),
        ("100/15 seconds", 100, 15.0),
        ("1/ms", 1, 0.001),
        ("20/500ms", 20, 0.5),
        ("3/1.5s", 3, 1.5),
        ("7/day", 7, 86_400.0),
        ("7 PER Week", 7, 604_800.0),
        (" 1_000 / 2 min ", 1000, 120.0),
        ("67000000/366 days", 67_000_000, 366 * 86_400.0),
    ],
)
def test_a_limit_is_read_from_text(text: str, limit: int, window: float) -> None:
    assert Limit.parse(text) == Limit(limit, window)
    assert (Limit.parse(text).limit, Limit.parse(text).window) == (limit, window)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is not a limit: write it as \"1200/minute\""),
        ("1200", "is not a limit"),
        ("minute", "is not a limit"),
        ("1200/", "does not name a window"),
        ("1200/fortnight", "does not name a window"),
        ("1200/month", "units: ms, s, min, hour, day or week"),
        ("1200perminute", "is not a limit"),
        ("1,200/minute", "is not a limit"),
        ("1.5/second", "is not a limit"),
        ("-3/minute", "is not a limit"),
        ("\u0661/minute", "is not a limit"),  # a digit, but not an ASCII one
        ("10/second, 1200/minute", "does not name a window"),
        ("0/minute", "at least 1"),
        ("67000001/minute", "at most 67,000,000, not 67,000,001: count in thousands"),
        ("5/0s", "from 1 ms to 366 days"),
        ("5/367 days", "from 1 ms to 366 days"),
        ("5/0.0015s", "whole number of milliseconds"),
        ("9" * 10_000 + "/minute", "is not a limit"),
    ],
)
def test_text_that_is_no_limit_says_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is compared below, it is no pattern
        Limit.parse(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("limit", "window", "error", "words"),
    [
        (0, 1.0, ValueError, "at least 1"),
        (67_000_001, 1.0, ValueError, "count in thousands"),
        (1.5, 1.0, TypeError, "whole number"),
        (True, 1.0, TypeError, "whole number"),
        ("10", 1.0, TypeError, "whole number"),
        (10, "minute", TypeError, "Limit.parse"),
        (10, True, TypeError, "number of seconds"),
        (10, None, TypeError, "number of seconds"),
        (10, 0.0, ValueError, "1 ms to 366 days"),
        (10, -1.0, ValueError, "1 ms to 366 days"),
        (10, float("nan"), ValueError, "1 ms to 366 days"),
        (10, float("inf"), ValueError, "1 ms to 366 days"),
        (10, 1 / 3, ValueError, "such as 0.333 seconds"),
    ],
)
def test_a_limit_made_wrongly_says_what_to_write(
    limit: object, window: object, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Limit(limit, window)  # type: ignore[arg-type]  # the mistakes under test


def test_a_limit_is_a_value() -> None:
    limit = Limit(10, 1)
    assert repr(limit) == "Limit(10, 1.0)"
    assert eval(repr(limit)) == limit
    assert hash(limit) == hash(Limit(10, 1.0))
    assert limit != Limit(10, 2.0)
    assert limit != "10/second"
    assert pickle.loads(pickle.dumps(limit)) == limit
    assert copy.deepcopy(limit) == limit
    with pytest.raises(AttributeError, match="does not change"):
        limit.limit = 11
    with pytest.raises(AttributeError, match="does not change"):
        del limit.window


@given(st.integers(1, 67_000_000), st.integers(1, 366 * 86_400_000))
def test_every_limit_is_read_back_from_its_text(limit: int, window_ms: int) -> None:
    assert Limit.parse(f"{limit}/{window_ms}ms") == Limit(limit, window_ms / 1000)


@given(st.text(max_size=40))
def test_any_text_is_a_limit_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert Limit.parse(text).limit >= 1


@pytest.mark.parametrize(
    ("limits", "options", "error", "words"),
    [
        ((), {}, TypeError, r'Limiter\("1200/minute"\)'),
        ((1200,), {}, TypeError, "a limit must be text or a bide.Limit, not int"),
        ((["1/second"],), {}, TypeError, "text or a bide.Limit, not list"),
        (("often",), {}, ValueError, "'often' is not a limit"),
        (("1/second", "2/1000ms"), {}, ValueError, "same window: keep the smaller one"),
        (tuple(f"1/{n}s" for n in range(1, 10)), {}, ValueError, "at most 8 limits, not 9"),
        (("1/second",), {"learn": "1 hour"}, ValueError, "no limits of its own"),
        ((), {"learn": "sometimes"}, ValueError, 'write it as "minute", "1 hour"'),
        ((), {"learn": True}, TypeError, "number of seconds or text"),
        (("1/second",), {"max_keys": 0}, ValueError, "max_keys must be from 1 to"),
        (("1/second",), {"max_keys": 1.5}, TypeError, "max_keys must be a whole number, not float"),
        (("1/second",), {"max_keys": True}, TypeError, "max_keys must be a whole number, not bool"),
        (("1/second",), {"max_keys": 1 << 60}, ValueError, "max_keys must be from 1 to"),
        (("1/second",), {"name": b"x"}, TypeError, "name must be text"),
        (("1/second",), {"anchor": "minute"}, ValueError, 'anchor must be "first"'),
        (("1/second",), {"store": "disk"}, ValueError, 'store must be "memory"'),
        (("1/second",), {"clock": 3.0}, TypeError, "clock must be a function that returns monotonic seconds"),
        (("1/second",), {"clock": lambda: "noon"}, TypeError, "clock"),
        (("1/second",), {"clock": lambda: float("nan")}, ValueError, "clock"),
    ],
)
def test_a_limiter_made_wrongly_says_what_to_write(
    make: Make, limits: tuple[object, ...], options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make(*limits, **options)


def test_an_option_that_does_not_exist_is_an_error(make: Make) -> None:
    with pytest.raises(TypeError, match="maxkeys"):
        make("1/second", maxkeys=3)


def test_limits_are_kept_in_the_order_given(make: Make) -> None:
    assert make("1200/minute", Limit(10, 1.0)).limits == (Limit(1200, 60.0), Limit(10, 1.0))
