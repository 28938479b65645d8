"""Every test of the limiter runs on both implementations; a new implementation or store is one line here."""

import importlib
import os
from collections.abc import Callable
from types import ModuleType

import pytest

from bide.limiter import Limiter
from bide.testing import FakeClock

MODULES = {"native": "bide.limiter._compiled", "pure": "bide.limiter._pure"}
FORCED_PURE = os.environ.get("BIDE_PURE", "0") not in ("", "0")
IMPLEMENTATIONS = ["pure"] if FORCED_PURE else ["native", "pure"]


@pytest.fixture(scope="session", params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> ModuleType:
    """The module with ``Limiter`` and ``Outcome``. One that is not there fails the test."""
    return importlib.import_module(MODULES[request.param])


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make(implementation: ModuleType, clock: FakeClock) -> Callable[..., Limiter]:
    """Makes a limiter on the test's fake clock (``clock=None``: the system's)."""

    def make(*limits: object, **options: object) -> Limiter:
        limiter: Limiter = implementation.Limiter(*limits, **{"clock": clock, **options})
        return limiter

    return make
