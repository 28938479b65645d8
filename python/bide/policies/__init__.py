"""Policies for named APIs: one TOML file each, with its source; and for files of one's own.

>>> import bide
>>> bide.policies.for_host("api.clever.com").name
'clever'
>>> "clever" in bide.policies.names()
True

Rules of this file: a file is read when it is asked for, and not before. Whatever is wrong with one is a
``PolicyError`` that names the file, the line or the key, and the nearest name that would be right. Nothing
here knows a vendor.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bide.errors import PolicyError
from bide.policies._schema import Mismatch, check
from bide.policy import (
    HTTP,
    Action,
    Backoff,
    Dialect,
    Field,
    Override,
    Policy,
    Reason,
    Refill,
    Rule,
    StructuredWindows,
    When,
    Window,
)

__all__ = ["for_host", "load", "names", "read"]

FOLDER = Path(__file__).parent
HOSTS = re.compile(r"^hosts\s*=\s*\[[^\]]*\]", re.MULTILINE)


@cache
def names() -> tuple[str, ...]:
    """The names of the policies that come with bide, in alphabetical order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@cache
def load(name: str) -> Policy:
    """The policy of that name that comes with bide.

    Args:
        name: one of ``names()``, such as "github".

    Raises:
        PolicyError: there is none; says which name is nearest.

    >>> load("clever").limits
    ('1200/minute',)
    """
    return _made(_described(name), FOLDER / f"{name}.toml")


def read(path: str | Path) -> Policy:
    """The policy in a TOML file of one's own. It may say ``extends = "github"`` and give what differs.

    Args:
        path: the file. ``policy.schema.json`` beside this module lets an editor complete it.

    Raises:
        PolicyError: the file cannot be read, or something in it is wrong; says where and what to write.
    """
    path = Path(path)
    return _made(_extended(_parsed(path), path), path)


def for_host(host: str) -> Policy:
    """The policy for an API's host; ``bide.HTTP`` where none is known.

    Args:
        host: such as "api.github.com"; case, a port and a final dot do not matter.

    >>> for_host("API.Clever.com:443").name, for_host("example.org").name
    ('clever', 'http')
    """
    name = name_for(host)
    return HTTP if name == HTTP.name else load(name)


def name_for(host: str) -> str:
    """The name of the policy for an API's host, for who has that policy already."""
    host = host.rpartition("@")[2].lower()
    host = (host.partition(":")[0] if host.count(":") == 1 else host).rstrip(".")
    hosts = _names_by_host()
    name = hosts.get(host)
    while name is None and "." in host:
        host = host.partition(".")[2]
        name = hosts.get(f"*.{host}")
    return HTTP.name if name is None else name


@cache
def _names_by_host() -> dict[str, str]:
    """Host to policy, from one line of each file: to know a host, not all of them need be made."""
    found: dict[str, str] = {}
    for name in names():
        line = HOSTS.search((FOLDER / f"{name}.toml").read_text("utf-8"))
        if line is not None:
            found.update(dict.fromkeys(tomllib.loads(line[0])["hosts"], name))
    return found


def _described(name: str) -> dict[str, Any]:
    if name not in names():
        raise PolicyError(f"there is no policy {name!r}; {_nearest(name)}")
    path = FOLDER / f"{name}.toml"
    return _extended(_parsed(path), path)


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name.lower(), names(), n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names())}"


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content = path.read_text("utf-8")
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: is not UTF-8 at byte {error.start}") from error
    try:
        described = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{path}: {error}") from error
    try:
        check(described)
    except Mismatch as mismatch:
        raise PolicyError(f"{path}: {mismatch}") from mismatch
    return described


def _extended(described: dict[str, Any], path: Path) -> dict[str, Any]:
    base = described.pop("extends", None)
    if base is None:
        return described
    mismatch = None
    if base not in names():
        mismatch = Mismatch("extends", f"there is no policy {base!r}; {_nearest(base)}")
    elif base == path.stem and path.parent == FOLDER:
        mismatch = Mismatch("extends", "a policy cannot extend itself")
    if mismatch is not None:
        raise PolicyError(f"{path}: {mismatch}") from mismatch
    inherited = _described(base)
    # The hosts are the base's own: whoever extends it says for which hosts.
    inherited.pop("hosts", None)
    inherited.pop("name", None)
    return _merged(inherited, described)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _made(described: Mapping[str, Any], path: Path) -> Policy:
    """The value that a checked description stands for."""
    given = dict(described)
    where = "policy"
    try:
        if "backoff" in given:
            where = "backoff"
            given["backoff"] = Backoff(**given["backoff"])
        where = "statuses"
        given["statuses"] = tuple(
            Rule(int(status), Action(row.pop("action")), Reason(row.pop("reason")), **row)
            for status, row in ((status, dict(row)) for status, row in given.get("statuses", {}).items())
        )
        if "dialect" in given:
            dialect = dict(given["dialect"])
            for key, make in DIALECT_PARTS.items():
                if key in dialect:
                    parts = []
                    for index, part in enumerate(dialect[key]):
                        where = f"dialect.{key}[{index}]"
                        parts.append(make(part))
                    dialect[key] = tuple(parts)
            where = "dialect"
            given["dialect"] = Dialect(**dialect)
        where = "policy"
        for key in ("limits", "hosts", "unconfirmed"):
            given[key] = tuple(given.get(key, ()))
        for limit in given["limits"]:
            where = "limits"
            _check_limit(limit)
        return Policy(**{"name": path.stem, **given})
    except (TypeError, ValueError) as error:
        mismatch = Mismatch(where, str(error))
        raise PolicyError(f"{path}: {mismatch}") from mismatch


def _check_limit(limit: str) -> None:
    if not re.fullmatch(r"[0-9]{1,8} ?(/|per) ?[0-9]* ?[a-z]+", limit):
        raise ValueError(f'a limit is written like "1200/minute" or "100/15s", got {limit!r}')


def _field(described: str | Mapping[str, Any]) -> Field:
    if isinstance(described, str):
        return Field(described)
    reads = described.get("read", ())
    return Field(**{**described, "read": (reads,) if isinstance(reads, str) else tuple(reads)})


def _field_or_number(described: object) -> Any:
    return described if isinstance(described, int | float) else _field(described)  # type: ignore[arg-type]  # checked by the schema


def _window(described: Mapping[str, Any]) -> Window | StructuredWindows:
    if "ratelimit" in described:
        if described.keys() - {"ratelimit", "policy"}:
            raise ValueError("ratelimit stands for a whole window: beside it only policy can be given")
        return StructuredWindows(described["ratelimit"], described.get("policy", "ratelimit-policy"))
    if "policy" in described:
        raise ValueError("policy goes with ratelimit")
    places = ("limit", "remaining", "used", "reset", "length", "bucket", "refill")
    return Window(
        **{key: _field_or_number(value) if key in places else value for key, value in described.items()}
    )


def _wait(described: Mapping[str, Any]) -> Field | Refill:
    if "available" in described or "rate" in described:
        return Refill(**{key: _field_or_number(value) for key, value in described.items()})
    return _field(described)


def _tuples(described: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in described.items()}


def _when(described: Mapping[str, Any]) -> When:
    given = _tuples(described)
    if "reason" in given:
        given["reason"] = Reason(given["reason"])
    return When(**given)


def _override(described: Mapping[str, Any]) -> Override:
    return Override(**_tuples(described))


DIALECT_PARTS: dict[str, Any] = {
    "windows": _window,
    "waits": _wait,
    "refused_when": _when,
    "final": _when,
    "override": _override,
}
"""Arrays of a dialect, and what makes a value of one member."""
