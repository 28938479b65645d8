"""Time in a reply: whose clock, which of the stated waits, and whether one can be believed.

Rules of this file: pure; the local clock is read only where a rule needs it. A time is believed when it is
not further ahead than two windows (366 days where no window is known) and not further past than one.
"""

from __future__ import annotations

from time import time

from bide.policy._dialect import Field, Refill
from bide.policy._fields import (
    DELAYS,
    MAX_FIELD,
    NUMBERS,
    SPACE,
    dates_and_delays,
    decimal,
    http_date,
    parameters,
    readings,
    split,
    whole,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bide.policy._explain import Recorder
    from bide.policy._fields import Reading

LONGEST = 366 * 86400.0
"""Seconds: what lies further ahead (or further past) is no wait that a server means."""


class Clock:
    """The moment of a decision: the client's clock, and the server's as its reply tells it."""

    __slots__ = ("_date", "_now", "_server", "age", "by_date")

    memo: tuple[str, int] = ("", 0)
    """The last Date that was read: replies of one second carry the same text. A pure function's memory."""

    def __init__(self, now: float | None, date: str | None, age: str | None, by_date: bool) -> None:
        self._now = now
        self._date = date
        self._server: float | None = None
        self.by_date = by_date
        self.age = (whole(age) or 0) if age is not None else 0

    def local(self) -> float:
        """Unix time on the client's clock."""
        now = self._now
        if now is None:
            now = self._now = time()
        return now

    def server(self) -> float:
        """Unix time on the server's clock when the reply was received: its Date and Age, else the
        client's."""
        at = self._server
        if at is None:
            at = self._server = self._read_date()
        return at

    def _read_date(self) -> float:
        date = self._date
        if date is None or not self.by_date:
            return self.local()
        text, at = Clock.memo
        if date != text:
            read = http_date(date)
            if read is None:
                read = http_date(date, self.local())
            if read is None:
                return self.local()
            at = read
            Clock.memo = (date, at)
        return at + self.age

    @property
    def skewed_by(self) -> float | None:
        """Seconds that the client's clock is ahead of the server's; None where the reply has no usable
        Date."""
        return None if self._date is None or not self.by_date else self.local() - self.server()


class Texts:
    """What a reply says: its wanted header fields by lower-case name, and its body where a policy
    reads it."""

    __slots__ = ("_json", "_parsed", "body", "found")

    def __init__(self, found: dict[str, str], body: object) -> None:
        self.found = found
        self.body = body
        self._json: object = None
        self._parsed = False

    def json(self) -> object:
        """The body as JSON; None when it is none."""
        if not self._parsed:
            self._parsed = True
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


MAX_BODY = 65536
"""Bytes of a body that are looked at: an error message is shorter."""

MAX_VALUES = 32
"""Values that one path may lead to."""


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


def as_text(value: object) -> str | None:
    """A JSON value as a header would carry it; None for one that no reader reads."""
    if isinstance(value, str):
        return value if len(value) <= MAX_FIELD else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float):
        # repr gives 1e-07 or 1e+16 for what no reader reads: neither is a wait or a count that anybody means.
        return repr(value)
    return str(value) if -(10**18) < value < 10**18 else None


def texts(field: Field, source: Texts) -> list[str | None]:
    """The values that stand in a field's place, in order; None for a member without one."""
    if field.header:
        value = source.found.get(field.header)
        if value is None:
            return []
        if field.json:
            return [as_text(member) for member in follow(_parse(value), field.json)]
        return [_part(field, member) for member in _members(field, value)]
    if field.body:
        return [as_text(member) for member in follow(source.json(), field.body)]
    _, found, rest = source.text().partition(field.text)
    return [rest.lstrip(SPACE).partition(" ")[0].strip("\"',.;<>")] if found else []


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


def read_number(text: str | None, field: Field, recorder: Recorder | None) -> float | None:
    """A count in a field; a parameter behind it (``100;w=60``) does not belong to it."""
    if text is None:
        return None
    if recorder is None and len(text) < 16 and text.isdigit() and text.isascii():
        return int(text)
    reader = NUMBERS[field.read[0]] if field.read else NUMBERS["number"]
    value = reader(text.partition(";")[0].rstrip(SPACE))
    if recorder is not None:
        recorder.read(field.place, text, value, "a count")
    return value


def read_length(text: str | None, field: Field, recorder: Recorder | None) -> float | None:
    """A length of time in a field, in seconds."""
    if text is None:
        return None
    for name in field.read:
        value = DELAYS[name](text) if name in DELAYS else decimal(text)
        if value is not None and 0.0 < value <= LONGEST:
            if recorder is not None:
                recorder.read(field.place, text, value, f"seconds ({name})")
            return value
    if recorder is not None:
        recorder.dropped(field.place, text, f"not {' or '.join(field.read)}")
    return None


def read_time(
    text: str, place: str, readers: tuple[Reading, ...], clock: Clock, recorder: Recorder | None
) -> tuple[float, float | None] | None:
    """Seconds from now, and the Unix time where the text states one; None when no reader reads it."""
    for reader, is_moment, name in readers:
        value = reader(text)
        if value is None and name == "http_date" and "-" in text:
            value = http_date(text, clock.local())
        if value is None:
            continue
        ahead = value - clock.server() if is_moment else value
        if recorder is not None:
            recorder.read(place, text, ahead, f"seconds ahead ({name})")
        return (ahead, value) if is_moment else (ahead, None)
    if recorder is not None:
        recorder.dropped(place, text, "not " + " or ".join(name for _, _, name in readers))
    return None


class ExplicitWait:
    """One compiled entry of ``Dialect.waits``."""

    __slots__ = ("header", "place", "readers", "wait")

    def __init__(self, wait: Field | Refill) -> None:
        self.wait = wait
        first = wait if isinstance(wait, Field) else wait.available
        self.header = first.header
        self.place = first.place
        self.readers = readings(wait.read) if isinstance(wait, Field) else ()

    def read(self, source: Texts, clock: Clock, recorder: Recorder | None) -> float | None:
        """Seconds to wait, below zero for a moment that is past; None when there is none to be believed.

        Of several values (a field sent twice, joined or not) the longest wait counts.
        """
        if isinstance(self.wait, Refill):
            return self._refill(self.wait, source, recorder)
        longest: float | None = None
        for text in texts(self.wait, source):
            read = None if text is None else read_time(text, self.place, self.readers, clock, recorder)
            if read is None:
                continue
            ahead, at = read
            if ahead > LONGEST or ahead < -LONGEST:
                if recorder is not None:
                    recorder.dropped(self.place, text or "", "further than 366 days from now")
            elif longest is None or ahead > longest:
                # A moment that is now is as past as one before it: the server states no wait any more.
                longest = -1e-9 if at is not None and ahead == 0.0 else ahead
        return longest

    def _refill(self, refill: Refill, source: Texts, recorder: Recorder | None) -> float | None:
        values: list[float] = []
        for part in (refill.needed, refill.available, refill.rate):
            value: float | None
            if isinstance(part, Field):
                stated = texts(part, source)
                value = read_number(stated[0], part, recorder) if stated else None
            else:
                value = part
            if value is None:
                return None
            values.append(value)
        needed, available, rate = values
        if rate <= 0.0 or needed <= available or needed - available > LONGEST * rate:
            return None
        return (needed - available) / rate
