"""bide tells any HTTP client what to do with a response, and keeps it inside a rate limit.

>>> import bide
>>> bide.decide(bide.Reply(503, {"Retry-After": "7"}), draw=0.0).wait
7.0
>>> limiter = bide.Limiter("2/minute")
>>> [limiter.try_acquire("a key") for _ in range(3)]
[True, True, False]

Rules of this file: it is one table of public names, and imports nothing until a name is used (PEP 562), so
that ``import bide.policy`` loads neither the limiter nor asyncio nor TOML. A public name is added here, under
``TYPE_CHECKING``, and nowhere else.
"""

from __future__ import annotations

# Written so and not imported: ``typing`` costs more to load than the whole decision engine.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from bide import aiohttp as aiohttp
    from bide import asgi as asgi
    from bide import errors as errors
    from bide import httpx as httpx
    from bide import limiter as limiter
    from bide import otel as otel
    from bide import policies as policies
    from bide import policy as policy
    from bide import requests as requests
    from bide import stamina as stamina
    from bide import tenacity as tenacity
    from bide import testing as testing
    from bide import urllib as urllib
    from bide import urllib3 as urllib3
    from bide import wsgi as wsgi
    from bide._flow import Sleep
    from bide.errors import BideError, Deferred, PolicyError, Refused, StoreError
    from bide.limiter import IMPLEMENTATION, Limit, Limiter, Outcome, Stats
    from bide.limiter.stores.file import FileStore
    from bide.policy import (
        CLEVER,
        HTTP,
        Action,
        Backoff,
        Budget,
        Decision,
        Explanation,
        Failure,
        Policy,
        Quota,
        Reason,
        Reply,
        decide,
        explain,
    )

_HOME = {
    "CLEVER": "bide.policy",
    "HTTP": "bide.policy",
    "Action": "bide.policy",
    "Backoff": "bide.policy",
    "Budget": "bide.policy",
    "Decision": "bide.policy",
    "Explanation": "bide.policy",
    "Failure": "bide.policy",
    "Policy": "bide.policy",
    "Quota": "bide.policy",
    "Reason": "bide.policy",
    "Reply": "bide.policy",
    "decide": "bide.policy",
    "explain": "bide.policy",
    "BideError": "bide.errors",
    "Deferred": "bide.errors",
    "FileStore": "bide.limiter.stores.file",
    "IMPLEMENTATION": "bide.limiter",
    "Limit": "bide.limiter",
    "Limiter": "bide.limiter",
    "Outcome": "bide.limiter",
    "PolicyError": "bide.errors",
    "Refused": "bide.errors",
    "Sleep": "bide._flow",
    "Stats": "bide.limiter",
    "StoreError": "bide.errors",
}
"""Public name -> the module that defines it."""

_MODULES = frozenset(
    {
        "aiohttp",
        "asgi",
        "errors",
        "httpx",
        "limiter",
        "otel",
        "policies",
        "policy",
        "requests",
        "stamina",
        "tenacity",
        "testing",
        "urllib",
        "urllib3",
        "wsgi",
    }
)
"""Public modules, loaded when they are first named: ``bide.httpx`` needs no second import."""

_EXTRAS = frozenset({"aiohttp", "httpx", "otel", "requests", "tenacity", "urllib3"})
"""Those that need what an extra of that name installs."""

__all__ = [
    "CLEVER",
    "HTTP",
    "IMPLEMENTATION",
    "Action",
    "Backoff",
    "BideError",
    "Budget",
    "Decision",
    "Deferred",
    "Explanation",
    "Failure",
    "FileStore",
    "Limit",
    "Limiter",
    "Outcome",
    "Policy",
    "PolicyError",
    "Quota",
    "Reason",
    "Refused",
    "Reply",
    "Sleep",
    "Stats",
    "StoreError",
    "decide",
    "explain",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _HOME:
        value: object = getattr(import_module(_HOME[name]), name)
    elif name in _MODULES:
        try:
            value = import_module(f"bide.{name}")
        except ModuleNotFoundError as error:
            if name not in _EXTRAS:
                raise
            text = f"bide.{name} needs what is not installed ({error.name}): pip install 'bide[{name}]'"
            raise ModuleNotFoundError(text, name=error.name) from None
    else:
        raise AttributeError(f"module 'bide' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
