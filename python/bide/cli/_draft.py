"""A policy's TOML, drafted from one recorded response.

A window is a family of fields whose names differ in one word: limit, remaining, used or reset. The unit of a
time is told by its form and its size, and a comment says so, because one response cannot prove it.

Rules of this file: what is written must be accepted by ``bide policies check``, and read the response as
drafted. Names of fields and paths are written, and the plain words that mark an error; no other value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import bide
from bide.cli._recorded import Recorded
from bide.cli._screen import span
from bide.policies._check import check_text
from bide.policy._fields import count, duration, http_date, iso_8601
from bide.policy._structured import parse_dictionary, parse_list

__all__ = ["NAME", "draft"]

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a policy may be called."""

ROLES = {
    "limit": ("limit", "quota", "max", "maximum", "total", "allowed", "cap"),
    "remaining": ("remaining", "left", "available", "remain"),
    "used": ("used", "usage", "consumed", "observed", "current", "count"),
    "reset": ("reset", "resets", "resetat", "resettime", "expires", "expiry", "renew"),
}
"""Role -> words of a field's name that stand for it."""

RATE_WORDS = (
    "ratelimit", "rate", "limit", "quota", "throttl", "usage", "budget", "calls", "requests", "tokens",
    "credits", "points",
)  # fmt: skip
"""One of these stands in a name of a rate-limit field: "content-length" and "max-age" are none."""

RETRY_WORDS = ("retry-after", "retryafter", "retry-in", "retry_after", "retry-at")
NO_LIMIT_FIELDS = (
    "access-control-", "age", "alt-svc", "cache-control", "content-", "expires", "keep-alive", "link",
    "server-timing", "strict-transport", "x-total",
)  # fmt: skip
REFUSALS = (429, 503)
ERROR_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{2,63}")
LIMIT_CODE = re.compile(r"rate|limit|quota|throttl|too.?many|exceeded|flood", re.IGNORECASE)
MILLISECONDS = re.compile(r"(?:^|[-_])m(?:illi)?s(?:ec(?:ond)?s)?(?:[-_]|$)")
RETRY_KEY = re.compile(
    r"retry[_-]?(?:after|delay|in)(?P<unit>[_-]?m(?:illi)?s(?:ec(?:ond)?s)?)?", re.IGNORECASE
)
USUAL_WAIT = """[[dialect.waits]]
header = "retry-after"  # not in this response, but any server may send it
read = ["whole_seconds", "http_date"]
"""
"""Whoever gives waits replaces this one, which holds without any."""

MAX_DEPTH = 6


class Place(NamedTuple):
    """A field that plays a role in a window."""

    header: str
    value: str


def draft(response: Recorded, host: str = "", name: str = "") -> str | None:
    """The TOML, or None where the response says nothing about limits or waiting.

    Args:
        response: what came.
        host: the API's host; "" leaves it to be filled in.
        name: the policy's; "" takes the host's.
    """
    fields: dict[str, str] = {}
    for field, value in response.headers:
        lower = field.lower()
        if re.fullmatch(r"[a-z0-9_-]{1,64}", lower) and not lower.startswith(NO_LIMIT_FIELDS):
            fields[lower] = f"{fields[lower]}, {value}" if lower in fields else value
    body = _json(response.body)
    windows = [*_structured(fields), *_windows(fields)]
    waits = [*_waits(fields), *_body_waits(body)]
    refusals = _refusals(response.status, fields, body, bool(windows))
    if not windows and not waits and len(refusals) < 2:
        return None
    if waits and "retry-after" not in fields:
        waits.append(USUAL_WAIT)
    parts = ["", *windows, *waits, *refusals]
    is_host = re.fullmatch(r"[a-zA-Z0-9.-]{1,253}", host)
    hosts = f'hosts = ["{host.lower()}"]' if is_host else '# hosts = ["api.example.org"]'
    chosen = name or (
        host.lower().removeprefix("api.").removeprefix("www.").partition(".")[0] if host else ""
    )
    head = [
        f'name = "{chosen}"' if NAME.fullmatch(chosen) else '# name = "example"',
        'source = ""  # the page where the vendor describes its limits',
        hosts,
        '# limits = ["600/minute"]  # what the vendor publishes; an adapter paces by it',
        "# window = 60  # the length of the vendor's window in seconds, if it is published",
        '# assume_method = "GET"',
    ]
    left = [name for name in fields if _is_telling(name) and not any(f'"{name}"' in part for part in parts)]
    if left:
        head.append(f"# It may tell of limits, too, and is not drafted: {', '.join(left)}.")
    text = "\n".join((*head, *parts)) + "\n"
    title = f"# Drafted from one response of status {response.status}; compare it with the vendor's page.\n"
    return title + _reading(text, response) + text


def _is_telling(name: str) -> bool:
    return any(word in name for word in (*RATE_WORDS, *RETRY_WORDS))


def _reading(text: str, response: Recorded) -> str:
    """What the draft makes of the response, as a comment."""
    policy, mistakes = check_text(text, Path("draft.toml"))
    assert policy is not None, mistakes
    reply = bide.Reply(response.status, response.headers)
    date = http_date(response.get("date") or "")
    decision = bide.decide(
        reply, policy.replace(max_wait=None), body=response.body, method="GET", draw=0.0,
        now=None if date is None else float(max(0, date)),
    )  # fmt: skip
    wait = f" after {span(decision.wait)} ({decision.source})" if decision.wait else ""
    return f"# It reads that response as: {decision.action}{wait}, {decision.reason}.\n"


# Windows -------------------------------------------------------------------------------------------------


def _structured(fields: dict[str, str]) -> Iterator[str]:
    value = fields.get("ratelimit")
    if value is not None and (parse_list(value) is not None or parse_dictionary(value) is not None):
        yield '[[dialect.windows]]  # the RateLimit field of the IETF drafts\nratelimit = "ratelimit"'
        if "ratelimit-policy" in fields:
            yield 'policy = "ratelimit-policy"'
        yield ""


def _windows(fields: dict[str, str]) -> Iterator[str]:
    families: dict[str, dict[str, Place]] = {}
    for name, value in fields.items():
        if name in ("ratelimit", "ratelimit-policy") or not any(word in name for word in RATE_WORDS):
            continue
        if any(word in name for word in RETRY_WORDS):
            continue
        pair = re.fullmatch(r"(\d{1,12})/(\d{1,12})", value)
        if pair and "reset" not in name:
            yield _pair_window(name)
            continue
        role, stem = _role(name)
        if (role == "reset" and _time_reader(name, value)) or (role and role != "reset" and _is_count(value)):
            families.setdefault(stem, {}).setdefault(role, Place(name, value))
    alone = [roles["reset"] for roles in families.values() if roles.keys() == {"reset"}]
    if len(alone) == 1 and len(families) > 1:  # one end for all of them
        families = {stem: roles for stem, roles in families.items() if roles.keys() != {"reset"}}
        for roles in families.values():
            roles.setdefault("reset", alone[0])
    for roles in families.values():
        if "remaining" in roles or "reset" in roles or {"used", "limit"} <= roles.keys():
            yield _window(roles)


def _role(name: str) -> tuple[str, str]:
    """The role that a name's last telling word has, and the name without it: that of the family."""
    words = re.split(r"([-_])", name)
    for index in range(len(words) - 1, -1, -2):
        for role, known in ROLES.items():
            if words[index] in known:
                # "x-ratelimit-reset-after", "...-reset-ms": what follows a reset is its unit.
                rest = words[index + 1 :]
                if role == "reset" and words[-1] in (
                    "after",
                    "at",
                    "ms",
                    "in",
                    "time",
                    "seconds",
                    "epoch",
                    "date",
                ):
                    rest = []
                return role, "".join([*words[:index], "*", *rest])
    return "", name


def _is_count(value: str) -> bool:
    members = [member.strip().partition(";")[0] for member in value.split(",")]
    return bool(members) and all(count(member) is not None for member in members)


def _window(roles: dict[str, Place]) -> str:
    lines = ["[[dialect.windows]]"]
    counts = [role for role in ("limit", "remaining", "used") if role in roles]
    lines += [
        f'{role} = "{roles[role].header}"' for role in counts if role != "used" or "remaining" not in roles
    ]
    if "reset" in roles:
        place = roles["reset"]
        reader, why = _time_reader(place.header, place.value) or ("auto", "")
        lines.append(f'reset = {{ header = "{place.header}", read = "{reader}" }}  # {why}')
    else:
        lines.append("# length = 60  # seconds of this window: the response states no reset")
    return "\n".join([*lines, ""])


def _pair_window(name: str) -> str:
    place = f'header = "{name}", separator = "/", column'
    return (
        f"[[dialect.windows]]  # used/limit, by its form\nused = {{ {place} = 0 }}\nlimit = {{ {place} = 1 }}\n"
        "# refill = 2  # units that come back each second, if it is a leaky bucket\n"
    )


def _time_reader(name: str, value: str) -> tuple[str, str] | None:
    """The reader of a time, and why."""
    value = value.split(",")[0].strip() if http_date(value) is None else value
    number = count(value)
    if number is not None and number >= 0:
        if number >= 1e11:
            return "unix_milliseconds", "a Unix time in milliseconds, by its size"
        if number >= 1e9:
            return "unix_seconds", "a Unix time, by its size"
        if MILLISECONDS.search(name):
            return "milliseconds", "a delay in milliseconds, by its name"
        return "seconds", "a delay; seconds, by its size: check"
    if http_date(value) is not None:
        return "http_date", "an HTTP-date"
    if iso_8601(value) is not None:
        return "iso_8601", "an ISO 8601 time"
    if duration(value) is not None:
        return "duration", "a duration with its unit"
    return None


# Waits and refusals --------------------------------------------------------------------------------------


def _waits(fields: dict[str, str]) -> Iterator[str]:
    names = [name for name in fields if any(word in name for word in RETRY_WORDS)]
    # Milliseconds say more than the seconds beside them.
    for name in sorted(names, key=lambda name: (not MILLISECONDS.search(name), name != "retry-after")):
        found = _time_reader(name, fields[name])
        if name == "retry-after":
            first = "seconds" if "." in fields[name] else "whole_seconds"
            yield f'[[dialect.waits]]\nheader = "retry-after"\nread = ["{first}", "http_date"]\n'
        elif found:
            yield f'[[dialect.waits]]\nheader = "{name}"\nread = "{found[0]}"  # {found[1]}\n'


def _body_waits(body: object) -> Iterator[str]:
    seen = set()
    for path, value in _leaves(body):
        match = RETRY_KEY.fullmatch(path.rpartition(".")[2])
        if match is None or path in seen or isinstance(value, bool) or value is None:
            continue
        seen.add(path)
        found = _time_reader(path, str(value))
        if match["unit"] and isinstance(value, (int, float)):
            found = ("milliseconds", "by its name")
        if found:
            yield f'[[dialect.waits]]\nbody = "{path}"\nread = "{found[0]}"  # {found[1]}\n'


def _refusals(status: int, fields: dict[str, str], body: object, has_windows: bool) -> list[str]:
    statuses = sorted({429, status} & set(REFUSALS))
    found = [f"[[dialect.refused_when]]\nstatus = {statuses}\n"]
    if status in REFUSALS or not 400 <= status <= 599:  # a rule names no status beyond
        return found
    used_up = any(
        _role(name)[0] == "remaining" and value.split(",")[0].strip() in ("0", "0.0")
        for name, value in fields.items()
    )
    if used_up and has_windows:
        found.append(f"[[dialect.refused_when]]\nstatus = [{status}]\nused_up = true\n")
    if "retry-after" in fields and status < 500:
        found.append(f'[[dialect.refused_when]]\nstatus = [{status}]\nheader = "retry-after"\n')
    codes = [
        (path, value) for path, value in _leaves(body)
        if isinstance(value, str) and ERROR_CODE.fullmatch(value) and LIMIT_CODE.search(value)
    ]  # fmt: skip
    for path, value in codes[:3]:
        found.append(
            f'[[dialect.refused_when]]\nstatus = [{status}]\nbody = "{path}"\nvalues = ["{value}"]\n'
        )
    return found


def _leaves(value: object, path: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    """The ends of a JSON value with their paths."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, dict):
        for key, member in list(value.items())[:64]:
            if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key):
                yield from _leaves(member, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list):
        for member in value[:32] if path else ():
            yield from _leaves(member, f"{path}.*", depth + 1)
    elif path:
        yield path, value


def _json(body: bytes) -> Any:
    try:
        return json.loads(body) if len(body) <= 65_536 else None
    except (ValueError, RecursionError):
        return None
