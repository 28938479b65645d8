"""A key is a bearer token: no repr, error, log, warning or statistic shows it, and no table keeps it."""

import copy
import gc
import logging
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest

from bide.limiter import Limiter

Make = Callable[..., Limiter]
SECRET = "Bearer 4f7c9a-secret"


def everything_said(limiter: Limiter) -> list[object]:
    outcome = limiter.take(SECRET)
    slot = limiter.slot(SECRET, timeout=0)
    said: list[object] = [
        limiter,
        outcome,
        limiter.take(SECRET),
        limiter.peek(SECRET),
        limiter.contact(SECRET),
    ]
    said += [limiter.stats(), limiter.limits, limiter.store, slot, limiter.acquire(SECRET, timeout=0)]
    calls: list[Callable[[], object]] = [
        lambda: limiter.take(SECRET, 0),
        lambda: limiter.take(SECRET + "\ud800"),
        lambda: limiter.refund(SECRET, None),  # type: ignore[arg-type]  # a mistake shows no key either
        lambda: limiter.penalize(SECRET, -1),
        lambda: limiter.try_acquire_many(SECRET),
        lambda: limiter.try_acquire_many([SECRET, 1]),  # type: ignore[list-item]  # as above
        slot.__enter__,
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError, TimeoutError)) as raised:
            call()
        said += [raised.value, raised.value.args, *traceback.format_exception_only(raised.value)]
    limiter.sync(SECRET, SimpleNamespace(remaining=1, reset_after=2.0, window=None))
    limiter.refund(SECRET, outcome)
    limiter.reset(SECRET)
    return said


def test_nothing_that_a_limiter_says_shows_the_key(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        said = everything_said(make("1/minute", name="uploads"))
    for thing in said:
        assert "secret" not in f"{thing!r} {thing}", type(thing)
    assert caplog.records == []


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_limiter_is_neither_copied_nor_pickled(make: Make, way: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="make it before the fork, or one in each process"):
        way(make("1/second"))


def test_no_key_is_kept(make: Make) -> None:
    limiter = make("1/minute")
    key = "".join(["tok", "en ", "9d81"])
    before = len(gc.get_referrers(key))
    limiter.try_acquire(key)
    limiter.try_acquire_many([key])
    limiter.take(key)
    gc.collect()
    assert len(gc.get_referrers(key)) == before


def test_a_repr_tells_the_limits_and_the_implementation(make: Make, implementation: ModuleType) -> None:
    limiter = make("10/second", "1200/minute", name="uploads")
    assert repr(limiter) == (
        f"<bide.Limiter Limit(10, 1.0), Limit(1200, 60.0), name='uploads', store='{limiter.store}', "
        f"{implementation.IMPLEMENTATION}>"
    )
    assert repr(make(learn="1 hour")).startswith("<bide.Limiter learn=3600.0, store=")
    assert "store='memory'" in repr(make("1/second", store="memory"))


def test_no_octet_of_a_key_is_in_the_native_store(make: Make, implementation: ModuleType) -> None:
    limiter = make("1/minute", max_keys=100)
    limiter.take(SECRET)
    if implementation.IMPLEMENTATION == "native":
        assert SECRET[-6:].encode() not in limiter.store.buffer[:]  # type: ignore[attr-defined]  # the native store's
    else:
        assert all(isinstance(mark, int) for mark in limiter.store.tables[0].words)


def test_without_a_random_hash_seed_the_twins_fingerprints_are_keyed_all_the_same() -> None:
    program = """if True:
        from bide.limiter import _arguments, _pure
        limiter = _pure.Limiter("1/minute")
        assert not _arguments.BUILTIN_HASH
        assert limiter.try_acquire_many(["a", b"a", "Zoë", "Zoë".encode()]) == [True, False, True, False]
        print(*limiter.store.tables[0].words)
    """
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-c", program]
    runs = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in "12"
    ]
    assert runs[0] != runs[1]
