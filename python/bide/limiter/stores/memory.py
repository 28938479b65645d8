"""The memory store: one anonymous shared mapping, for this process and for the workers that it forks.

Rules of this file: it only makes the memory. Pages are touched when they are first used, so that a large
``max_keys`` costs nothing before keys come; the mapping lives as long as a limiter that uses it.
"""

from __future__ import annotations

import mmap

__all__ = ["mapping"]


def mapping(size: int) -> mmap.mmap:
    """Zeroed, writable, page-aligned memory that a forked child goes on sharing.

    Args:
        size: bytes, at least 1.

    Returns:
        The mapping. It has no file, so it never survives its processes.
    """
    return mmap.mmap(-1, size)
