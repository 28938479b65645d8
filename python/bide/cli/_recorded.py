"""Responses as people have them: what curl, HTTPie, wget or a browser recorded, read back.

Known are raw HTTP (``curl -i``, ``http -v``, ``wget -S``, ``curl -v`` with its "< "), an HTTP archive (HAR),
and a JSON object of ``status``, ``headers`` and ``body``. Of several responses the last one counts: those
before it are redirects, interim answers (100, 103) and a proxy's "Connection established".

Rules of this file: bytes in, values out; nothing is fetched, printed or decided here. Whatever the bytes are,
they are read or refused with a ValueError that says what to give, and that shows none of them: they may hold
a secret. Every pattern is linear.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

__all__ = ["MAX_BYTES", "Recorded", "read_response"]

MAX_BYTES = 8 * 2**20
"""A record that is longer is refused: what decides stands in a response's head and the beginning of its
body."""

MAX_FIELDS = 1_000
"""Fields that a response may have: a client reads 100 (http.client) to a few hundred."""

STATUS_LINE = re.compile(
    rb"(?P<margin>^(?:< |[ \t]{1,8})|)HTTP/[0-9](?:\.[0-9])? +(?P<status>[1-9][0-9]{2})(?![0-9])"
    rb"[^\r\n]*(?:\r?\n|\Z)",
    re.MULTILINE,
)
FIELD_LINE = re.compile(rb"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:(?P<value>[^\r\n]*)")
REQUEST_LINE = re.compile(
    rb"^(?P<margin>> |)(?P<method>[A-Z]{3,16}) (?P<target>[^ \r\n]+) HTTP/[0-9](?:\.[0-9])?\r?$", re.MULTILINE
)
HOST_LINE = re.compile(rb"^(?:> |)host:[ \t]*(?P<host>[^ \t\r\n]+)", re.MULTILINE | re.IGNORECASE)
ADDRESS = re.compile(rb"https?://(?P<host>[^\s/'\"<>?#]+)", re.IGNORECASE)
TERMINAL_CODES = re.compile(rb"\x1b(?:\[[0-9;?]*[A-Za-z]|\]8;[^\x07\x1b]*(?:\x07|\x1b\\))")
"""Colours and links that curl and HTTPie write for a terminal."""

NOTHING_OR_HEAD = re.compile(rb"\s*(?:\Z|(?:< )?HTTP/[0-9])")

WHAT_TO_GIVE = (
    "no HTTP response is in it; give what `curl -si URL` prints (a status line such as HTTP/1.1 429, "
    "the headers, an empty line, the body), a HAR file, or headers alone with --status"
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One response as it was recorded."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    method: str | None = None
    """The request's, where the record tells."""
    host: str = ""
    """The request's, where the record tells."""
    responses: int = 1
    """How many the record holds; this is the last one."""

    def get(self, name: str) -> str | None:
        """The first value of a field, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name), None)


def read_response(data: bytes, status: int | None = None) -> Recorded:
    """The last response in a record.

    Args:
        data: the record, ``MAX_BYTES`` at most.
        status: for a record that is headers alone.

    Raises:
        ValueError: there is no response in it; says what to give.

    >>> read_response(b"HTTP/1.1 302 Found\\n\\nHTTP/2 429 \\nRetry-After: 3\\n\\nslow down").headers
    (('Retry-After', '3'),)
    """
    if len(data) > MAX_BYTES:
        raise ValueError(
            f"it is longer than {MAX_BYTES // 2**20} MiB; give the head and the beginning of the body"
        )
    found = _read(data.removeprefix(b"\xef\xbb\xbf"), status)
    if len(found.headers) > MAX_FIELDS:
        raise ValueError(f"its response has more than {MAX_FIELDS:,} fields, which no client reads")
    return found


def _read(data: bytes, status: int | None) -> Recorded:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # what PowerShell's ">" writes
        data = data.decode("utf-16", "replace").encode("latin-1", "replace")
    if status is not None and not STATUS_LINE.match(data):
        headers, end = _fields(data, 0, b"")
        return Recorded(status, headers, data[end:])
    if data.lstrip()[:1] in (b"{", b"["):
        return _from_json(data)
    found = _raw(data)
    if found is None:
        found = _headers_with_status(data)
    if found is None:
        raise ValueError(WHAT_TO_GIVE)
    return found


# Raw HTTP ------------------------------------------------------------------------------------------------


def _raw(data: bytes) -> Recorded | None:
    if b"\x1b" in data:
        data = TERMINAL_CODES.sub(b"", data)
    heads = []
    position = 0
    while match := _next_head(data, position):
        headers, end = _fields(data, match.end(), match["margin"])
        heads.append((match, headers, end))
        position = _end_of_body(data, headers, end)
    if not heads:
        return None
    final = next((head for head in reversed(heads) if head[0]["status"][0:1] != b"1"), heads[-1])
    match, headers, end = final
    following = heads.index(final) + 1
    body_end = heads[following][0].start() if following < len(heads) else len(data)
    body = data[end:body_end]
    if match["margin"]:
        body = b"".join(line for line in body.splitlines(True) if not line.startswith((b"* ", b"> ", b"< ")))
    method, host = _request_before(data, match.start(), heads[0][0].start())
    return Recorded(int(match["status"]), headers, body, method, host, len(heads))


def _next_head(data: bytes, position: int) -> re.Match[bytes] | None:
    """The next status line: at the start of a line, or right behind a body that ends without one."""
    for match in STATUS_LINE.finditer(data, position):
        after = data[match.end() : match.end() + 512].removeprefix(match["margin"])
        starts_line = match.start() == position or data[match.start() - 1 : match.start()] == b"\n"
        if FIELD_LINE.match(after) or (starts_line and (not after.strip() or after[:1] in b"\r\n")):
            return match
    return None


def _fields(data: bytes, position: int, margin: bytes) -> tuple[tuple[tuple[str, str], ...], int]:
    """The field lines from a position on, and where the body begins."""
    fields: list[tuple[str, str]] = []
    while position < len(data):
        newline = data.find(b"\n", position)
        end = len(data) if newline < 0 else newline + 1
        line = data[position:end].rstrip(b"\r\n")
        if margin and not line.startswith(margin):
            return tuple(fields), position
        line = line[len(margin) :]
        if not line.strip():
            return tuple(fields), end
        match = FIELD_LINE.match(line)
        if match:
            fields.append((match["name"].decode("latin-1"), match["value"].decode("latin-1").strip(" \t")))
        elif line[:1] in b" \t" and fields:  # a folded line (RFC 9112 section 5.2)
            name, value = fields[-1]
            fields[-1] = (name, f"{value} {line.decode('latin-1').strip(' ' + chr(9))}")
        position = end
    return tuple(fields), len(data)


def _end_of_body(data: bytes, headers: tuple[tuple[str, str], ...], start: int) -> int:
    """From where on another response may stand: behind Content-Length octets, if the record ends there or
    another one begins there, so that a body that quotes a response is no response."""
    length = next((value for name, value in headers if name.lower() == "content-length"), "")
    if length.isascii() and length.isdigit() and len(length) < 10:
        end = start + int(length)
        if end <= len(data) and NOTHING_OR_HEAD.match(data, end):
            return end
    return start


def _request_before(data: bytes, end: int, first: int) -> tuple[str | None, str]:
    """The method and the host of the request that the response at ``end`` answers, as far as it is shown.

    Behind the first response only what is marked as sent counts: a body may hold anything.
    """
    method, host = None, b""
    for match in ADDRESS.finditer(data, 0, first):
        host = match["host"]
    for match in REQUEST_LINE.finditer(data, 0, end):
        if match["margin"] or match.start() < first:
            method = match["method"].decode("ascii")
            named = HOST_LINE.search(data, match.end(), end)
            if named:
                host = named["host"]
    return method, host.rpartition(b"@")[2].decode("latin-1")


def _headers_with_status(data: bytes) -> Recorded | None:
    """Headers without a status line, of which one tells the status: ``:status: 429`` or ``Status: 429``."""
    match = re.match(rb"\s*:status:?[ \t]*([1-9][0-9]{2})[ \t]*\r?\n", data)
    headers, end = _fields(data, match.end() if match else 0, b"")
    if match:
        return Recorded(int(match[1]), headers, data[end:])
    told = next((value for name, value in headers if name.lower() == "status"), "")
    if re.fullmatch(r"[1-9][0-9]{2}( .*)?", told):
        return Recorded(int(told[:3]), headers, data[end:])
    return None


# JSON ----------------------------------------------------------------------------------------------------


def _from_json(data: bytes) -> Recorded:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError(f"it is no whole JSON document, and {WHAT_TO_GIVE}") from None
    try:
        entries = document["log"]["entries"] if "log" in document else None
        found = _from_archive(entries[-1]) if entries else _from_object(document)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise ValueError(
            'of JSON, a HAR file or an object such as {"status": 429, "headers": {"Retry-After": "3"}} '
            "is read; it is neither"
        ) from None
    return replace(found, responses=len(entries)) if entries else found


def _from_archive(entry: Any) -> Recorded:
    request, response = entry.get("request", {}), entry["response"]
    content = response.get("content", {})
    text = content.get("text", "")
    body = text.encode("utf-8", "replace")
    if content.get("encoding") == "base64":
        try:
            body = base64.b64decode(body)
        except binascii.Error:
            body = b""
    return Recorded(
        _status(response["status"]),
        _pairs([(field["name"], field["value"]) for field in response["headers"]]),
        body,
        str(request["method"]) if "method" in request else None,
        urlsplit(str(request.get("url", ""))).netloc.rpartition("@")[2],
    )


def _from_object(document: Any) -> Recorded:
    headers = document.get("headers", {})
    pairs = headers.items() if isinstance(headers, dict) else headers
    body = document.get("body")
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
    return Recorded(_status(document["status"]), _pairs(list(pairs)), text.encode("utf-8", "replace"))


def _status(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 100 <= value <= 999:
        raise ValueError("no status")
    return value


def _pairs(pairs: list[tuple[object, object]]) -> tuple[tuple[str, str], ...]:
    found = []
    for name, value in pairs:
        if not isinstance(name, str):
            raise TypeError("no name")
        values = value if isinstance(value, list) else [value]
        found += [(name, str(single)) for single in values]
    return tuple(found)
