"""What one call takes, what it tells, and what it refuses: one limit, several limits, many keys."""

import asyncio
import math
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType

import pytest

import bide
from bide.limiter import Limiter
from bide.testing import FakeClock

Make = Callable[..., Limiter]
Row = tuple[bool, int, int, float, float, bool]


def row(outcome: object) -> Row:
    names = ("allowed", "limit", "remaining", "reset_after", "retry_after", "probing")
    return tuple(getattr(outcome, name) for name in names)  # type: ignore[return-value]  # six, as in Row


def test_the_limit_passes_and_not_one_more(make: Make) -> None:
    limiter = make("3/minute")
    assert [limiter.try_acquire("a") for _ in range(5)] == [True, True, True, False, False]


def test_keys_do_not_touch_each_other(make: Make) -> None:
    limiter = make("1/minute")
    assert [limiter.try_acquire(key) for key in ("a", "b", "a", "c", "b")] == [True, True, False, True, False]


def test_text_and_bytes_of_the_same_octets_are_one_key(make: Make) -> None:
    limiter = make("1/minute")
    for text in ("token", "", "Zoë", "漢字", "🔑", "nul\0nul", "x" * 5000):
        assert limiter.try_acquire(text)
        assert not limiter.try_acquire(text.encode()), ascii(text)


def test_a_window_begins_at_the_first_use_and_lasts_its_length(make: Make, clock: FakeClock) -> None:
    limiter = make("1/10s")
    clock.advance(3.3)
    assert limiter.try_acquire("a")
    clock.advance(9.999)
    assert not limiter.try_acquire("a")
    clock.advance(0.001)
    assert limiter.try_acquire("a")


def test_windows_follow_each_other_without_a_gap_however_late_the_next_use(
    make: Make, clock: FakeClock
) -> None:
    limiter = make("2/10s")
    limiter.take("a")
    clock.advance(34.0)
    assert limiter.take("a").reset_after == 6.0


def test_what_an_outcome_tells(make: Make, clock: FakeClock) -> None:
    limiter = make("2/minute")
    assert row(limiter.take("a")) == (True, 2, 1, 60.0, 0.0, False)
    clock.advance(1.5)
    assert row(limiter.take("a")) == (True, 2, 0, 58.5, 0.0, False)
    clock.advance(0.25)
    assert row(limiter.take("a")) == (False, 2, 0, 58.25, 58.25, False)
    assert bool(limiter.peek("b"))
    assert not limiter.peek("a")


def test_an_outcome_is_a_value_with_a_repr(make: Make, implementation: ModuleType) -> None:
    one, other = make("2/minute"), make("2/minute")
    first = one.take("a")
    assert first == other.take("b")
    assert hash(first) == hash(other.peek("x")) or first != other.peek("x")
    assert first != one.take("a")
    assert first != "allowed"
    assert len({first, make("2/minute").take("c")}) == 1
    assert repr(first) == "Outcome(allowed=True, limit=2, remaining=1, reset_after=60.0, retry_after=0.0)"
    assert repr(one.take("a", cost=3)).endswith("retry_after=inf)")
    assert "__dict__" not in dir(first)
    with pytest.raises(AttributeError):
        setattr(first, "remaining", 5_000)  # noqa: B010  # the mistake under test, past the type checker
    with pytest.raises(TypeError):
        implementation.Outcome()


def test_peek_takes_nothing(make: Make) -> None:
    limiter = make("1/minute")
    assert [row(limiter.peek("a")) for _ in range(3)] == [(True, 1, 1, 0.0, 0.0, False)] * 3
    assert limiter.try_acquire("a")
    assert row(limiter.peek("a")) == (False, 1, 0, 60.0, 60.0, False)


def test_a_cost_counts_as_much_as_it_says(make: Make) -> None:
    limiter = make("10/minute")
    assert limiter.try_acquire("a", 7)
    assert row(limiter.take("a", cost=4)) == (False, 10, 3, 60.0, 60.0, False)
    assert row(limiter.take("a", cost=3)) == (True, 10, 0, 60.0, 0.0, False)


def test_a_cost_above_the_limit_can_never_pass_and_says_so(make: Make) -> None:
    limiter = make("10/minute")
    assert not limiter.try_acquire("a", 11)
    assert row(limiter.take("a", cost=11)) == (False, 10, 10, 0.0, math.inf, False)
    assert limiter.try_acquire("a", 10)
    assert limiter.take("a", cost=11).retry_after == math.inf


class Size(IntEnum):
    LARGE = 5


@pytest.mark.parametrize("call", ["try_acquire", "take", "contact", "acquire", "slot", "try_acquire_many"])
@pytest.mark.parametrize(
    ("cost", "error", "words"),
    [
        (0, ValueError, "cost must be a whole number from 1 to 67,000,000, not 0"),
        (-1, ValueError, "cost must be a whole number from 1 to 67,000,000, not -1"),
        (67_000_001, ValueError, "not 67000001"),
        (1 << 200, ValueError, "cost must be a whole number from 1 to 67,000,000"),
        (-(1 << 200), ValueError, "cost must be a whole number from 1 to 67,000,000"),
        (1.0, TypeError, "cost must be a whole number, not float"),
        (True, TypeError, "cost must be a whole number, not bool"),
        ("1", TypeError, "cost must be a whole number, not str"),
        (None, TypeError, "cost must be a whole number, not NoneType"),
    ],
)
def test_a_cost_that_makes_no_sense_says_what_to_pass(
    make: Make, call: str, cost: object, error: type[Exception], words: str
) -> None:
    limiter = make("10/minute")

    def use() -> None:
        used = getattr(limiter, call)(["a"] if call == "try_acquire_many" else "a", cost)
        if call == "slot":
            used.__enter__()

    with pytest.raises(error) as raised:
        use()
    assert words in str(raised.value)
    assert limiter.peek("a").remaining == 10


def test_an_integer_of_another_type_is_a_cost(make: Make) -> None:
    assert make("10/minute").take("a", Size.LARGE).remaining == 5


@pytest.mark.parametrize(
    "call",
    [
        "try_acquire",
        "take",
        "contact",
        "peek",
        "acquire",
        "reset",
        "refund",
        "settle",
        "sync",
        "penalize",
        "many",
    ],
)
@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        (7, TypeError, "key must be str or bytes, not int"),
        (None, TypeError, "key must be str or bytes, not NoneType"),
        (bytearray(b"secret"), TypeError, "key must be str or bytes, not bytearray"),
        (("secret",), TypeError, "key must be str or bytes, not tuple"),
        (type("Token", (str,), {})("secret"), TypeError, "key must be str or bytes, not Token"),
        ("secret\ud800", ValueError, "key holds a lone surrogate: it cannot be encoded as UTF-8"),
    ],
)
def test_a_key_of_another_kind_is_refused_and_never_shown(
    make: Make, call: str, key: object, error: type[Exception], words: str
) -> None:
    limiter = make("10/minute")
    outcome = limiter.take("a")
    rest: dict[str, tuple[object, ...]] = {
        "refund": (outcome,),
        "settle": (outcome, 1),
        "sync": (object(),),
        "penalize": (1.0,),
    }
    name, first = ("try_acquire_many", ["b", key]) if call == "many" else (call, key)
    with pytest.raises(error) as raised:
        getattr(limiter, name)(first, *rest.get(call, ()))
    assert str(raised.value) == words
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_many_keys_are_answered_in_their_order(make: Make) -> None:
    limiter = make("2/minute")
    assert limiter.try_acquire_many(["a", b"a", "b", "a"]) == [True, True, True, False]
    assert limiter.try_acquire_many(key for key in "cc") == [True, True]
    assert limiter.try_acquire_many(("d", "d"), cost=2) == [True, False]
    assert limiter.try_acquire_many([]) == []


def test_many_keys_with_a_wrong_one_among_them_take_nothing(make: Make) -> None:
    limiter = make("2/minute")
    with pytest.raises(TypeError, match="key must be str or bytes, not int"):
        limiter.try_acquire_many(["a", 1])  # type: ignore[list-item]  # the mistake under test
    assert limiter.peek("a").remaining == 2


@pytest.mark.parametrize(("keys", "kind"), [("abc", "str"), (b"abc", "bytes")])
def test_one_key_in_place_of_many_is_a_mistake(make: Make, keys: object, kind: str) -> None:
    with pytest.raises(TypeError, match=f"keys must be a list of keys, not one {kind}"):
        make("2/minute").try_acquire_many(keys)  # type: ignore[arg-type]  # the mistake under test


def test_several_limits_are_all_or_nothing(make: Make, clock: FakeClock) -> None:
    limiter = make("2/second", "3/minute")
    assert [limiter.try_acquire("a") for _ in range(3)] == [True, True, False]
    clock.advance(1.0)
    assert [limiter.try_acquire("a") for _ in range(2)] == [True, False]
    clock.advance(1.0)
    refused = limiter.take("a")
    assert row(refused) == (False, 3, 0, 58.0, 58.0, False)
    clock.advance(58.0)
    assert [limiter.try_acquire("a") for _ in range(3)] == [True, True, False]


def test_the_outcome_of_several_limits_is_the_tightest_ones(make: Make, clock: FakeClock) -> None:
    limiter = make("1200/minute", "10/second")
    assert row(limiter.take("a")) == (True, 10, 9, 1.0, 0.0, False)
    assert row(limiter.take("a", cost=11)) == (False, 10, 9, 1.0, math.inf, False)
    assert row(limiter.take("a", cost=10)) == (False, 10, 9, 1.0, 1.0, False)
    for _ in range(119):
        clock.advance(0.5)
        limiter.take("a", cost=5)
    assert limiter.take("a").limit == 10


def test_equally_tight_limits_speak_in_the_order_given(make: Make) -> None:
    assert make("5/second", "5/minute").take("a").reset_after == 1.0
    assert make("5/minute", "5/second").take("a").reset_after == 60.0


def test_a_refused_call_of_several_limits_leaves_nothing_consumed(make: Make, clock: FakeClock) -> None:
    limiter = make("1/second", "100/minute")
    limiter.take("a")
    for _ in range(50):
        assert not limiter.try_acquire("a")
    clock.advance(1.0)
    limiter.take("a")
    clock.advance(1.0)
    assert [limiter.take("a", cost=c).allowed for c in (1,)] == [True]
    limiter.penalize("b", 1)  # another key, to show that it is not the clock that frees
    clock.advance(57.0)
    probe = make("100/minute", "1000/hour")
    probe.take("a", cost=100)
    assert not probe.try_acquire("a", 100)
    clock.advance(60.0)
    assert probe.take("a", cost=100).limit == 100


def test_reset_forgets_a_key(make: Make, clock: FakeClock) -> None:
    limiter = make("1/second", "2/minute")
    limiter.take("a")
    clock.advance(0.5)
    limiter.reset("a")
    limiter.reset("never seen")
    assert row(limiter.take("a")) == (True, 1, 0, 1.0, 0.0, False)
    assert limiter.peek("a").reset_after == 1.0


def test_a_grid_ends_every_window_on_the_wall_clocks_edge(make: Make, clock: FakeClock) -> None:
    limiter = make("2/minute", anchor="grid")  # the fake wall clock stands at 20 s past a minute
    assert limiter.take("a").reset_after == 40.0
    clock.advance(39.5)
    assert limiter.take("a").reset_after == 0.5
    assert not limiter.try_acquire("a")
    clock.advance(0.5)
    assert limiter.take("a").reset_after == 60.0
    assert limiter.take("b").reset_after == 60.0


def test_a_grid_follows_a_wall_clock_that_was_set(make: Make, clock: FakeClock) -> None:
    limiter = make("2/minute", anchor="grid")
    assert limiter.take("a").reset_after == 40.0
    clock.step_wall(10.0)
    assert limiter.peek("a").reset_after == 40.0
    clock.advance(40.0)
    assert limiter.take("a").reset_after == 50.0


def test_a_stores_trips_are_told_without_knowing_where_it_is(make: Make) -> None:
    limiter = make("3/minute")
    assert limiter.take("a")
    told = limiter.store.stats()  # for a type checker, too, which knows no store but by this
    assert not told.is_down
    assert (told.trips > 0) == getattr(limiter.store, "is_remote", False)


def test_two_limiters_on_one_store_share_what_has_one_name(make: Make) -> None:
    one = make("2/minute", name="uploads")
    same = make("2/minute", name="uploads", store=one.store)
    other = make("5/minute", name="downloads", store=one.store)
    assert one.try_acquire("a")
    assert same.take("a").remaining == 0
    assert other.take("a").remaining == 4
    assert not one.try_acquire("a")


@pytest.mark.parametrize(
    ("limits", "options", "words"),
    [
        (("2/hour",), {}, "other windows"),
        (("2/minute", "9/hour"), {}, "other windows"),
        (("2/minute",), {"clock": FakeClock()}, "another clock"),
    ],
)
def test_a_store_is_shared_only_where_it_fits(
    make: Make, limits: tuple[str, ...], options: dict[str, object], words: str
) -> None:
    with pytest.raises((ValueError, bide.StoreError), match=words):
        make(*limits, store=make("2/minute").store, **options)


def test_every_call_has_a_twin_for_the_event_loop_that_answers_the_same(make: Make) -> None:
    quota = type("Quota", (), {"remaining": 3, "reset_after": 10.0, "window": None})()

    def blocking(limiter: Limiter) -> list[object]:
        taken = limiter.take("a", 2)
        said: list[object] = [row(taken), row(limiter.peek("a")), limiter.settle("a", taken, 3)]
        said += [row(limiter.peek("a")), limiter.try_acquire("a"), list(limiter.try_acquire_many(["a", "b"]))]
        said += [
            limiter.refund("a", limiter.take("a")),
            row(limiter.contact("c", 1, 5.0)),
            limiter.sync("c", quota),
        ]
        said += [
            row(limiter.peek("c")),
            limiter.penalize("a", 7.0),
            row(limiter.take("a")),
            limiter.reset("a"),
        ]
        return [*said, row(limiter.peek("a"))]

    async def in_the_loop(limiter: Limiter) -> list[object]:
        taken = await limiter.take_async("a", 2)
        said: list[object] = [
            row(taken),
            row(await limiter.peek_async("a")),
            await limiter.settle_async("a", taken, 3),
        ]
        said += [row(await limiter.peek_async("a")), await limiter.try_acquire_async("a")]
        said += [list(await limiter.try_acquire_many_async(["a", "b"]))]
        said += [await limiter.refund_async("a", await limiter.take_async("a"))]
        said += [row(await limiter.contact_async("c", 1, 5.0)), await limiter.sync_async("c", quota)]
        said += [row(await limiter.peek_async("c")), await limiter.penalize_async("a", 7.0)]
        said += [row(await limiter.take_async("a")), await limiter.reset_async("a")]
        return [*said, row(await limiter.peek_async("a"))]

    assert asyncio.run(in_the_loop(make("9/minute", name="in the loop"))) == blocking(make("9/minute"))
