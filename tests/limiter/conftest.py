"""Every test of the limiter runs on both implementations; a new implementation or store is one line here."""

import importlib
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


class ClockOfEachThread:
    """A fake clock for each thread that runs a test: in parallel runs they share its fixtures, but not its time."""

    def __init__(self) -> None:
        self._local = threading.local()

    def of_this_thread(self) -> FakeClock:
        clock: FakeClock | None = getattr(self._local, "clock", None)
        if clock is None:
            clock = self._local.clock = FakeClock()
        return clock

    def __call__(self) -> float:
        return self.of_this_thread()()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of_this_thread(), name)


@pytest.fixture
def clock() -> ClockOfEachThread:
    return ClockOfEachThread()


@pytest.fixture
def make(implementation: ModuleType, clock: ClockOfEachThread) -> Callable[..., Limiter]:
    """Makes a limiter on the test's fake clock (``clock=None``: the system's)."""

    def make(*limits: object, **options: object) -> Limiter:
        limiter: Limiter = implementation.Limiter(*limits, **{"clock": clock.of_this_thread(), **options})
        return limiter

    return make
