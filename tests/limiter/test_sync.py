"""Aligning to a server: sync, penalties, first contact, learning. A row of a table is one thing it says."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest

from bide.limiter import Limiter
from bide.testing import FakeClock

Make = Callable[..., Limiter]


def said(remaining: object = None, reset_after: object = None, window: object = None) -> SimpleNamespace:
    """What a reply stated, in the shape of a quota."""
    return SimpleNamespace(limit=None, remaining=remaining, reset_after=reset_after, window=window)


def stand(limiter: Limiter, key: str = "a") -> tuple[int, float]:
    outcome = limiter.peek(key)
    return outcome.remaining, outcome.reset_after


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        pytest.param(said(40, 30.0), (40, 30.0), id="it has counted more, and its window ends earlier"),
        pytest.param(
            said(95, 30.0), (90, 30.0), id="it lags behind: the count is never lowered in one window"
        ),
        pytest.param(said(40, 50.0), (40, 50.0), id="its window ends a little before ours"),
        pytest.param(said(40, 50.4), (40, 50.0), id="within the blur of whole seconds the earlier end stays"),
        pytest.param(said(40, 51.5), (40, 51.5), id="beyond the blur its end is the true one"),
        pytest.param(
            said(97, 100.0), (97, 100.0), id="it is in a newer window: the old count is not carried"
        ),
        pytest.param(said(40, None), (40, 50.0), id="no reset: only the count rises"),
        pytest.param(said(None, 30.0), (90, 30.0), id="no remaining: only the end moves"),
        pytest.param(said(None, None), (90, 50.0), id="nothing stated"),
        pytest.param(said(40, 0.0), (90, 50.0), id="its window has ended: a late reply"),
        pytest.param(said(40, -5.0), (40, 50.0), id="a negative reset counts as none"),
        pytest.param(said(0, 30.0), (0, 30.0), id="used up"),
        pytest.param(said(5_000, 30.0), (90, 30.0), id="more than our limit"),
        pytest.param(said(40, 1e12), (40, 50.0), id="an absurd reset counts as none"),
        pytest.param(said("many", "soon"), (90, 50.0), id="words"),
        pytest.param(said(float("nan"), float("inf")), (90, 50.0), id="no numbers"),
        pytest.param(said(True, False), (90, 50.0), id="truth values"),
        pytest.param(said(-3, 30.0), (90, 30.0), id="a negative remaining counts as none"),
        pytest.param(said(10**400, 10**400), (90, 50.0), id="numbers beyond any float"),
        pytest.param(said(40.7, 30.0), (40, 30.0), id="a remaining with a fraction is rounded down"),
        pytest.param(said(40, 30.0001), (40, 30.001), id="a reset is rounded up to a millisecond"),
        pytest.param(object(), (90, 50.0), id="an object without any such field"),
    ],
)
def test_what_a_reply_states_in_a_running_window(
    make: Make, clock: FakeClock, quota: object, expected: tuple[int, float]
) -> None:
    limiter = make("100/minute")
    limiter.take("a", cost=10)
    clock.advance(10.0)
    limiter.sync("a", quota)
    assert stand(limiter) == expected


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        (said(40, 30.0), (40, 30.0)),
        (said(40, None), (40, 60.0)),
        (said(None, 30.0), (99, 30.0)),
        (said(None, None), (100, 0.0)),
        (said(0, 0.0), (100, 0.0)),
    ],
)
def test_what_a_reply_states_of_a_key_never_used(
    make: Make, quota: object, expected: tuple[int, float]
) -> None:
    limiter = make("100/minute")
    limiter.sync("a", quota)
    assert stand(limiter) == expected


def test_a_reply_of_the_window_before_changes_nothing(make: Make, clock: FakeClock) -> None:
    limiter = make("100/minute")
    limiter.sync("a", said(99, 60.0))
    clock.advance(60.0)
    limiter.take("a")
    limiter.sync("a", said(0, 0.5))
    assert stand(limiter) == (99, 60.0)


def test_the_servers_phase_is_kept_in_the_windows_that_follow(make: Make, clock: FakeClock) -> None:
    limiter = make("2/minute")
    limiter.take("a")
    limiter.sync("a", said(1, 12.0))
    clock.advance(12.0)
    assert limiter.take("a").reset_after == 60.0
    clock.advance(95.0)
    assert limiter.take("a").reset_after == 25.0


def test_the_true_edge_is_learnt_from_resets_in_whole_seconds(make: Make, clock: FakeClock) -> None:
    limiter = make("1000/minute")
    edge = clock() + 42.37  # what the server knows and states rounded up
    for _ in range(60):
        limiter.take("a")
        limiter.sync("a", said(999, float(-int(-(edge - clock()) // 1))))
        clock.advance(0.11)
    assert edge - clock() <= limiter.peek("a").reset_after <= edge - clock() + 0.12


def test_a_straggler_sent_before_the_edge_is_charged_to_the_window_it_was_counted_in(
    make: Make, clock: FakeClock
) -> None:
    limiter = make("10/minute")
    stragglers = [limiter.take("a") for _ in range(3)]
    clock.advance(60.0)
    assert limiter.take("a").remaining == 9
    limiter.sync("a", said(9, 60.0))
    for already, straggler in enumerate(stragglers, start=2):
        limiter.sync("a", said(10 - already, 60.0), outcome=straggler)
    assert limiter.peek("a").remaining == 6


def test_sync_takes_the_instant_of_the_reply(make: Make, clock: FakeClock) -> None:
    limiter = make("100/minute")
    limiter.take("a")
    received = clock()
    clock.advance(5.0)
    limiter.sync("a", said(50, 30.0), now=received)
    assert stand(limiter) == (50, 25.0)


@pytest.mark.parametrize(
    ("quota", "taught"),
    [
        pytest.param(said(5, 30.0, 60.0), "minute", id="its window"),
        pytest.param(said(5, 0.5, 1.0), "second", id="its window, the other one"),
        pytest.param(said(5, 0.5, 1.005), "second", id="its window, nearly"),
        pytest.param(said(5, 0.5), "second", id="the shortest that the reset fits into"),
        pytest.param(said(5, 30.0), "minute", id="the only one that the reset fits into"),
        pytest.param(said(5, 80.0), "minute", id="a reset beyond all: the longest"),
        pytest.param(said(5), "minute", id="no reset: the longest"),
        pytest.param(said(5, 30.0, 3600.0), "minute", id="a window that is none of ours: by the reset"),
    ],
)
def test_of_several_limits_a_reply_teaches_the_one_it_speaks_of(
    make: Make, clock: FakeClock, quota: object, taught: str
) -> None:
    limiter = make("1200/minute", "10/second")
    limiter.take("a")
    limiter.sync("a", quota)
    assert limiter.peek("a").remaining == 5
    clock.advance(1.0)
    assert limiter.peek("a").remaining == (5 if taught == "minute" else 10)


def test_a_penalty_holds_a_key_for_its_time_and_no_other_key(make: Make, clock: FakeClock) -> None:
    limiter = make("100/minute")
    limiter.take("a")
    limiter.penalize("a", 90.5)
    assert not limiter.try_acquire("a")
    assert limiter.take("a").retry_after == 90.5
    assert limiter.try_acquire("b")
    clock.advance(90.499)
    assert not limiter.try_acquire("a")
    clock.advance(0.001)
    assert limiter.try_acquire("a")


def test_a_penalty_ends_no_earlier_than_the_running_window_or_a_longer_penalty(make: Make) -> None:
    limiter = make("100/minute")
    limiter.take("a")
    limiter.penalize("a", 5)
    assert limiter.peek("a").retry_after == 60.0
    limiter.penalize("a", 300)
    limiter.penalize("a", 100)
    assert limiter.peek("a").retry_after == 300.0


def test_no_reply_of_a_straggler_shortens_a_penalty(make: Make, clock: FakeClock) -> None:
    limiter = make("100/minute")
    outcome = limiter.take("a")
    limiter.penalize("a", 90.0)
    for quota in (said(80, 30.0), said(80, 119.0), said(0, 10.0), said(100, 89.0)):
        limiter.sync("a", quota)
        assert limiter.peek("a").retry_after == 90.0
    assert not limiter.refund("a", outcome)
    assert limiter.peek("a").retry_after == 90.0
    clock.advance(90.0)
    assert limiter.try_acquire("a")


def test_a_penalty_holds_whatever_the_number_of_limits(make: Make, clock: FakeClock) -> None:
    limiter = make("10/second", "1200/minute")
    limiter.penalize("a", 3.0)
    clock.advance(2.9)
    assert not limiter.try_acquire("a")
    clock.advance(0.1)
    assert limiter.try_acquire("a")


@pytest.mark.parametrize(
    ("seconds", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (367 * 86_400, ValueError),
        ("9", TypeError),
        (True, TypeError),
        (None, TypeError),
    ],
)
@pytest.mark.parametrize("call", ["penalize", "contact"])
def test_a_time_that_makes_no_sense_says_what_to_pass(
    make: Make, call: str, seconds: object, error: type[Exception]
) -> None:
    limiter = make("10/minute")
    name = "seconds" if call == "penalize" else "probe_timeout"
    with pytest.raises(error, match=f"{name} must be"):
        getattr(limiter, call)("a", **{name: seconds})
    assert limiter.peek("a").remaining == 10


def test_first_contact_lets_one_through_alone_until_its_reply(make: Make, clock: FakeClock) -> None:
    limiter = make("100/minute")
    probe = limiter.contact("a")
    assert (probe.allowed, probe.probing, probe.remaining, probe.reset_after) == (True, True, 0, 30.0)
    clock.advance(1.0)
    waiting = limiter.contact("a")
    assert (waiting.allowed, waiting.probing, waiting.retry_after) == (False, True, 29.0)
    assert not limiter.try_acquire("a")
    assert not limiter.peek("a")
    limiter.sync("a", said(42, 17.0))
    after = limiter.contact("a")
    assert (after.allowed, after.probing, after.remaining, after.reset_after) == (True, False, 41, 17.0)
    clock.advance(17.0)
    assert limiter.contact("a").remaining == 99, "the next window has a phase: nobody probes again"


@pytest.mark.parametrize(
    "quota",
    [said(), said(None, 0.0), said(0, 0.0), said("?", "?")],
    ids=["nothing", "past", "used, past", "words"],
)
def test_a_reply_that_tells_nothing_ends_the_probe_all_the_same(make: Make, quota: object) -> None:
    limiter = make("100/minute")
    probe = limiter.contact("a")
    limiter.sync("a", quota, outcome=probe)
    assert limiter.contact("a").remaining == 98
    assert not limiter.peek("a").probing


def test_a_prober_that_never_comes_back_blocks_nobody_for_longer_than_its_time(
    make: Make, clock: FakeClock
) -> None:
    limiter = make("100/minute")
    limiter.contact("a", probe_timeout=2.5)
    clock.advance(2.499)
    assert not limiter.contact("a")
    clock.advance(0.001)
    again = limiter.contact("a")
    assert again.allowed
    assert again.probing
    assert not limiter.contact("a")


def test_a_probe_given_back_lets_the_next_caller_probe(make: Make) -> None:
    limiter = make("100/minute")
    probe = limiter.contact("a")
    assert limiter.refund("a", probe)
    assert limiter.contact("a").probing


def test_with_several_limits_one_goes_alone_and_any_reply_opens(make: Make) -> None:
    limiter = make("10/second", "1200/minute")
    assert limiter.contact("a").probing
    assert not limiter.contact("a")
    limiter.sync("a", said(5, 0.5, 1.0))
    assert limiter.contact("a").allowed


def test_without_first_contact_the_bare_limiter_never_probes(make: Make) -> None:
    limiter = make("3/minute")
    assert [limiter.take("a").probing for _ in range(4)] == [False] * 4


def test_a_learning_limiter_takes_each_windows_count_from_its_first_reply(
    make: Make, clock: FakeClock
) -> None:
    limiter = make(learn="1 hour")
    assert limiter.limits[0].window == 3600.0
    first = limiter.take("a")
    assert (first.allowed, first.probing, first.limit) == (True, True, 67_000_000)
    assert not limiter.try_acquire("a")
    limiter.sync("a", said(2, 1800.0))
    assert [limiter.try_acquire("a") for _ in range(3)] == [True, True, False]
    assert limiter.take("a").retry_after == 1800.0
    clock.advance(1800.0)
    assert limiter.take("a").probing
    assert not limiter.take("a")
    limiter.sync("a", said(1, 3600.0))
    assert [limiter.try_acquire("a") for _ in range(2)] == [True, False]


def test_a_learning_limiter_obeys_every_later_reply(make: Make) -> None:
    limiter = make(learn=60)
    limiter.take("a")
    limiter.sync("a", said(50, 60.0))
    limiter.sync("a", said(3, 60.0))
    assert limiter.peek("a").remaining == 3


def test_a_learning_limiters_probe_is_short_in_short_windows(make: Make, clock: FakeClock) -> None:
    limiter = make(learn="5s")
    limiter.take("a")
    clock.advance(4.999)
    assert not limiter.take("a")
    clock.advance(0.001)
    assert limiter.take("a").probing


def test_a_lower_limit_that_the_server_states_is_obeyed(make: Make) -> None:
    limiter = make("1200/minute")
    limiter.sync("a", said(4, 60.0))
    assert sum(limiter.try_acquire("a") for _ in range(10)) == 4


def test_an_outcome_of_another_kind_is_a_mistake(make: Make, implementation: ModuleType) -> None:
    with pytest.raises(TypeError, match=r"outcome must be what take\(\) returned, not str"):
        make("3/minute").sync("a", said(), outcome="allowed")  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize(
    ("now", "error"), [("noon", TypeError), (float("nan"), ValueError), (True, TypeError)]
)
def test_an_instant_that_makes_no_sense_is_a_mistake(make: Make, now: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        make("3/minute").sync("a", said(1, 2.0), now=now)  # type: ignore[arg-type]  # the mistakes under test
