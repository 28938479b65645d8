"""The limiter: a keyed counter of fixed windows, in one of two implementations that give the same answers.

Rules of this file: it chooses, and nothing else. ``IMPLEMENTATION`` tells which was chosen: "native", or
"pure" when the environment variable ``BIDE_PURE`` is set (to anything but "" and "0") or the package was
installed without the extension. An extension that is there but cannot be loaded raises: it never falls back
silently.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bide.limiter._limit import Limit, Stats

__all__ = ["IMPLEMENTATION", "Limit", "Limiter", "Outcome", "Stats"]

if TYPE_CHECKING or os.environ.get("BIDE_PURE", "0") not in ("", "0") or find_spec("bide._native") is None:
    # The twin is also what type checkers see: its signatures are the contract.
    from bide.limiter._pure import IMPLEMENTATION, Limiter, Outcome
else:
    from bide.limiter._compiled import IMPLEMENTATION, Limiter, Outcome
