"""Where a recorded response comes from: a file, standard input, a paste, or the API itself; and policies by
name or by path.

Rules of this file: whatever cannot be had is a ``Mistake`` that says what to give instead; what was given is
not shown, it may hold a secret.
"""

from __future__ import annotations

import re
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import bide
from bide.cli._recorded import MAX_BYTES, Recorded, read_response
from bide.policy import Policy

__all__ = [
    "Fetched",
    "Mistake",
    "fetch",
    "host_of",
    "named_policy",
    "names_that_begin",
    "read_bytes",
    "recorded",
]

TIMEOUT_SECONDS = 30.0
MAX_BODY = 65_536
"""Octets of a fetched body: no policy looks further."""


class Mistake(Exception):
    """A user's mistake, in one line."""


class Fetched(NamedTuple):
    """What came of a request: a response, or the exception that says why there is none."""

    response: Recorded | None
    error: Exception | None


def read_bytes(source: str, what: str) -> bytes:
    """The content of a file; "-" is standard input.

    Args:
        source: a path, or "-".
        what: what is expected, for the hint at a terminal.
    """
    try:
        if source != "-":
            with Path(source).open("rb") as file:
                return file.read(MAX_BYTES + 1)
        if sys.stdin is None or sys.stdin.closed:
            raise Mistake(f"there is no standard input: name a file with {what}")
        if sys.stdin.isatty():
            print(f"Paste {what}, then Ctrl-D on a line of its own:", file=sys.stderr, flush=True)
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    except OSError as error:
        place = "standard input" if source == "-" else repr(source)
        raise Mistake(f"{place} cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise Mistake(f"{source!r} is no file's name") from None


def recorded(source: str, status: int | None = None) -> Recorded:
    """The response that was recorded in a file or comes on standard input."""
    if source.lower().startswith(("http://", "https://")):
        raise Mistake("that is an address: add --get to fetch it")
    data = read_bytes(source, "a response (what curl -si prints)")
    place = "standard input" if source == "-" else repr(source)
    if not data.strip():
        raise Mistake(
            f"{place} is empty; give what `curl -si URL` prints (if it prints nothing, curl -sSi says why)"
        )
    try:
        return read_response(data, status)
    except ValueError as error:
        raise Mistake(f"{place}: {error}") from None


def named_policy(name: str) -> Policy:
    """The policy of that name, or in the TOML file of that path."""
    try:
        if name in bide.policies.names():
            return bide.policies.load(name)
        if name.lower().endswith(".toml") or "/" in name or "\\" in name:
            return bide.policies.read(name)
        return bide.policies.load(name)
    except bide.PolicyError as error:
        raise Mistake(str(error)) from None
    except ValueError:
        raise Mistake(f"{name!r} is neither a policy's name nor a TOML file's path") from None


def names_that_begin(incomplete: str) -> list[str]:
    """What a shell offers for a policy's name."""
    return [name for name in bide.policies.names() if name.startswith(incomplete)]


def host_of(address: str) -> str:
    """The host of a URL, or the host that is given as such.

    >>> host_of("https://api.github.com/user"), host_of("api.github.com")
    ('api.github.com', 'api.github.com')
    """
    try:
        return (urlsplit(address if "//" in address else f"//{address}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def fetch(url: str, method: str, fields: list[str]) -> Fetched:
    """Asks for a URL once: no redirect is followed, nothing is repeated.

    Args:
        url: an http or https address.
        method: "GET" or "HEAD".
        fields: request headers, ``Name: value``.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise Mistake("--get needs an address such as https://api.example.org/things")
    headers = {"User-Agent": "bide", "Accept": "*/*"}
    for field in fields:
        match = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) *: *([^\x00-\x08\x0a-\x1f\x7f]*)", field)
        if match is None:
            raise Mistake("a --header is written as 'Name: value', in one line")
        headers[match[1]] = match[2]
    kind = HTTPSConnection if parts.scheme.lower() == "https" else HTTPConnection
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = kind(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, target, headers=headers)
        reply = connection.getresponse()
        body = b"" if method == "HEAD" else reply.read(MAX_BODY)
        return Fetched(Recorded(reply.status, tuple(reply.getheaders()), body, method, host), None)
    except (OSError, HTTPException) as error:
        return Fetched(None, error)
    except ValueError as error:
        # An address or a field that cannot be sent as it stands; the text may show the field.
        raise Mistake(
            f"the request cannot be sent: {type(error).__name__}; check --header and the address"
        ) from None
    finally:
        connection.close()
