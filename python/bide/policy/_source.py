"""A reply as the walk asks it: fields, body, and the two clocks.

Rules of this file: pure, and lazy: what no rule asks for is not read. A body is looked at only if the
caller gave it, and only its beginning; nothing in it raises.
"""

from __future__ import annotations

from bide.policy._fields import MAX_FIELD, SPACE, dates_and_delays, http_date, parameters, split, whole
from bide.policy._headers import as_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bide.policy._dialect import Field
    from bide.policy._explain import Recorder
    from bide.policy._headers import Found

MAX_BODY = 65536
"""Bytes of a body that are looked at: an error message is shorter."""

MAX_VALUES = 32
"""Values that one path may lead to."""

_UNREAD = object()


MAX_LABEL = 100
"""Characters of a bucket's name that are kept."""


def label(text: str | bytes | None) -> str | None:
    """A server's name for a counter, shortened; None where it is none that can be shown."""
    if not text:
        return None
    if len(text) > MAX_LABEL or not text.isalnum():
        text = as_text(text)[:MAX_LABEL]
        return text if text and text.isprintable() else None
    return text if isinstance(text, str) else text.decode()


class Source:
    """What a reply says, read as far as it is asked: its wanted fields, its body, its clock and the
    client's."""

    __slots__ = ("_json", "_server", "body", "by_date", "found", "now", "recorder")

    memo: tuple[str | bytes | None, float] = (None, 0.0)
    """The last Date that was read: replies of one second carry the same text. A pure function's memory."""

    def __init__(
        self, found: Found, body: object, now: float, by_date: bool, recorder: Recorder | None
    ) -> None:
        self.found = found
        self.body = body
        self.now = now
        self.by_date = by_date
        self.recorder = recorder
        self._server: float | None = None
        self._json: object = _UNREAD

    def field(self, name: str) -> str | None:
        """A field's value as text; None where it is absent, or longer than anybody means."""
        value = self.found.get(name)
        if value is None:
            return None
        text = as_text(value)
        if len(text) > MAX_FIELD:
            if self.recorder is not None:
                self.recorder.dropped(name, text, f"longer than {MAX_FIELD} characters")
            return None
        return text

    def server(self) -> float:
        """Unix time on the server's clock when the reply was received: its Date and Age, else the
        client's."""
        at = self._server
        if at is None:
            date = self.found.get("date")
            if date is None or not self.by_date:
                at = self.now
            else:
                known, at = Source.memo
                if known != date:
                    at = self._read_date(date)
                if "age" in self.found:
                    at += self.age()
            self._server = at
        return at

    def _read_date(self, date: str | bytes) -> float:
        text = self.field("date") or ""
        read = http_date(text)
        if read is not None:
            Source.memo = (date, float(read))
            return read
        read = http_date(text, self.now)
        return self.now if read is None else read

    def age(self) -> int:
        """Seconds that the reply has been in a cache (RFC 9111 section 5.1)."""
        return whole(self.field("age") or "") or 0

    def json(self) -> object:
        """The body as JSON; None when it is none."""
        if self._json is _UNREAD:
            self._json = _parse(self.body)
        return self._json

    def text(self) -> str:
        """The body as text, its beginning at most."""
        body = self.body
        if isinstance(body, (bytes, bytearray, memoryview)):
            body = bytes(body[:MAX_BODY]).decode("utf-8", "replace")
        if isinstance(body, str):
            return body[:MAX_BODY]
        return ""


MAX_WORD = 64
"""Characters of a body's text that a value in it, with what stands before it, may take."""

WORD_ENDS = frozenset(" \t\r\n\"'<>()[]{},;\\")


def _parse(body: object) -> object:
    if isinstance(body, (bytes, bytearray, memoryview)):
        body = bytes(body) if len(body) <= MAX_BODY else b""
    if not isinstance(body, (str, bytes)):
        return body
    if len(body) > MAX_BODY or not body:
        return None
    from json import loads

    try:
        return loads(body)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return None


def follow(value: object, path: str) -> list[object]:
    """What a path leads to: ``errors.*.code``; "*" stands for every member of a list or an object."""
    found = [value]
    for step in path.split("."):
        following: list[object] = []
        for parent in found:
            if isinstance(parent, dict):
                following += list(parent.values())[:MAX_VALUES] if step == "*" else []
                if step != "*" and step in parent:
                    following.append(parent[step])
            elif isinstance(parent, (list, tuple)):
                if step == "*":
                    following += parent[:MAX_VALUES]
                elif step.isascii() and step.isdigit() and len(step) < 4 and int(step) < len(parent):
                    following.append(parent[int(step)])
        found = following[:MAX_VALUES]
    return found


def json_text(value: object) -> str | None:
    """A JSON value as a header would carry it; None for one that no reader reads."""
    if isinstance(value, str):
        return value if len(value) <= MAX_FIELD else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float):
        # repr gives 1e-07 or 1e+16 for what no reader reads: neither is a wait or a count that anybody means.
        return repr(value)
    return str(value) if -(10**18) < value < 10**18 else None


def texts(field: Field, source: Source) -> list[str | None]:
    """The values that stand in a field's place, in order; None for a member without one."""
    if field.header:
        value = source.field(field.header)
        if value is None:
            return []
        if field.json:
            return [json_text(member) for member in follow(_parse(value), field.json)]
        return [_part(field, member) for member in _members(field, value)]
    if field.body:
        return [json_text(member) for member in follow(source.json(), field.body)]
    _, found, rest = source.text().partition(field.text)
    return [_first_word(rest)] if found else []


def _first_word(text: str) -> str:
    """What a sentence, or a JSON string around it, says next: up to a space, a quote or a bracket."""
    text = text[:MAX_WORD].lstrip(SPACE + "\"':=")
    end = next((index for index, character in enumerate(text) if character in WORD_ENDS), len(text))
    return text[:end].rstrip(".:")


def _members(field: Field, value: str) -> list[str]:
    if field.separator == "," or "," not in value or "grouped" in field.read:
        return [value]
    if "http_date" in field.read or "auto" in field.read:
        return dates_and_delays(value)
    return split(value)


def _part(field: Field, member: str) -> str | None:
    if field.parameter:
        parts = parameters(member)
        member = parts[1].get(field.parameter, "") if parts is not None else ""
        if not member:
            return None
    if field.separator:
        columns = split(member, field.separator)
        if field.column >= len(columns):
            return None
        member = columns[field.column]
    return member
