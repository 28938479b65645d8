"""Which of a server's counters a request will count in, learned from what the server said.

A server that names its counters (Clever's ``X-RateLimit-Bucket``, GitHub's ``x-ratelimit-resource``) counts
requests of one token in several of them. As long as a key has shown a single name, the key is the counter.
When it shows a second one, the key is split: each name gets a limiter's key of its own, and a request goes to
the name that its route was counted in last. A route that has not been seen yet uses the key itself.

Rules of this file: keys are held as hashes only (SipHash, keyed for each process), and what a server can make
grow is bounded.
"""

from __future__ import annotations

import re
from collections import OrderedDict

__all__ = ["Buckets"]

MOST_KEYS = 1_024
MOST_ROUTES = 256
MOST_NAMES = 32
"""A key that shows more names than this is not split: the names are no counters' names."""

IDENTIFIER = re.compile(r"[^/]*[0-9][^/]*|[^/]{25,}")
VERSION = re.compile(r"v[0-9.]{1,8}")


class _Split:
    """What one key has shown."""

    __slots__ = ("names", "routes")

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.routes: OrderedDict[tuple[str, str], str] = OrderedDict()


class Buckets:
    """The counters of each key. Threads may share it: it only ever errs towards the key itself.

    >>> buckets = Buckets()
    >>> buckets.learn("key", "GET", "/a", "one"), buckets.learn("key", "GET", "/b", "two")
    ('key', 'key\\ntwo')
    >>> buckets.key("key", "GET", "/a"), buckets.key("key", "GET", "/b"), buckets.key("key", "GET", "/c")
    ('key\\none', 'key\\ntwo', 'key')
    """

    def __init__(self) -> None:
        self._splits: OrderedDict[int, _Split] = OrderedDict()

    def key(self, key: str | bytes, method: str, target: str) -> str | bytes:
        """The limiter's key for a request that is to be sent."""
        split = self._splits.get(hash(key))
        if split is None or not 1 < len(split.names) <= MOST_NAMES:
            return key
        return _joined(key, split.routes.get((method, route(target))))

    def learn(self, key: str | bytes, method: str, target: str, name: str) -> str | bytes:
        """Notes the name in which a request was counted; returns the limiter's key for that counter."""
        mark = hash(key)
        split = self._splits.get(mark)
        if split is None:
            split = self._splits.setdefault(mark, _Split())
            _bound(self._splits, MOST_KEYS)
        if len(split.names) <= MOST_NAMES:
            split.names.add(name)
        split.routes[method, route(target)] = name
        _bound(split.routes, MOST_ROUTES)
        return _joined(key, name if 1 < len(split.names) <= MOST_NAMES else None)


def route(target: str) -> str:
    """A path with "*" for every segment that looks like an identifier.

    >>> route("/v3.0/students/530e595026403103360ff9fd/contacts?limit=10")
    '/v3.0/students/*/contacts'
    """
    segments = target.partition("?")[0][:512].split("/")
    return "/".join(
        "*" if IDENTIFIER.fullmatch(segment) and not VERSION.fullmatch(segment) else segment
        for segment in segments
    )


def _joined(key: str | bytes, name: str | None) -> str | bytes:
    if name is None:
        return key
    return f"{key}\n{name}" if isinstance(key, str) else key + b"\n" + name.encode("utf-8", "replace")


def _bound(entries: OrderedDict[int, _Split] | OrderedDict[tuple[str, str], str], most: int) -> None:
    while len(entries) > most:
        try:
            entries.popitem(last=False)
        except KeyError:  # Another thread has just done the same.
            return
