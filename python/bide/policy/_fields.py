"""Readers: one field's text in, a number out, or None where the text is not what the reader reads.

Rules of this file: total and linear. No text raises, none is longer than MAX_FIELD, digits are ASCII, and a
number's length is measured before it is converted (Python refuses integers of more than 4,300 digits).
Nothing is guessed: a reader accepts its grammar and nothing else.

A time reader yields seconds; those marked absolute yield a Unix time. Sources: RFC 9110 section 5.6.7
(HTTP-date) and 10.2.3 (Retry-After), RFC 3339 section 5.6, the documentation of Go's time.ParseDuration.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FIELD = 8192
"""Characters of one field that are looked at: the bound that common servers set for a whole header line."""

MAX_MEMBERS = 32
"""Members of one comma list that are looked at."""

MAX_DIGITS = 32
"""Characters of one number: no quantity here needs more, and leading zeros count."""

MONTHS = {
    "Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "Jun": 6,
    "Jul": 7, "Aug": 8, "Sep": 9, "Oct": 10, "Nov": 11, "Dec": 12,
}  # fmt: skip
DAYS = frozenset({"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"})
LONG_DAYS = frozenset({"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"})

UNBOUNDED = frozenset({"unlimited", "infinite", "infinity", "none"})
"""Words that stand where a count is expected and say that there is no limit."""

SPACE = " \t"


# Numbers -------------------------------------------------------------------------------------------------


def whole(text: str) -> int | None:
    """1*DIGIT."""
    if len(text) <= MAX_DIGITS and text.isascii() and text.isdigit():
        return int(text)
    return None


def decimal(text: str) -> float | None:
    """1*DIGIT [ "." 1*DIGIT ]: no sign, no exponent, no word."""
    if len(text) > MAX_DIGITS or not text.isascii():
        return None
    if text.isdigit():
        return int(text)
    before, point, after = text.partition(".")
    if point and before.isdigit() and after.isdigit():
        return float(text)
    return None


def count(text: str) -> float | None:
    """A count of requests or of the API's units: a decimal that may be below zero (a bucket in debt)."""
    if text[:1] == "-":
        value = decimal(text[1:])
        return None if value is None else -value
    return decimal(text)


def grouped(text: str) -> float | None:
    """A count with separators between groups of three digits: ``1,200.00``."""
    groups = text.partition(".")[0].split(",")
    if len(groups) > 1 and (not 1 <= len(groups[0]) <= 3 or any(len(group) != 3 for group in groups[1:])):
        return None
    return decimal(text.replace(",", "")) if len(text) <= MAX_DIGITS else None


# Delays --------------------------------------------------------------------------------------------------


def _seconds(text: str) -> float | None:
    value = decimal(text)
    return None if value is None else float(value)


def _whole_seconds(text: str) -> float | None:
    value = whole(text)
    return None if value is None else float(value)


def _whole_milliseconds(text: str) -> float | None:
    value = whole(text)
    return None if value is None else value / 1000.0


def _milliseconds(text: str) -> float | None:
    value = decimal(text)
    return None if value is None else value / 1000.0


def _minutes(text: str) -> float | None:
    value = decimal(text)
    return None if value is None else value * 60.0


def _small_seconds(text: str) -> float | None:
    value = decimal(text)
    return float(value) if value is not None and value < 1e9 else None


UNITS = {
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ns": 1e-9,
}


def duration(text: str) -> float | None:
    """Go's duration: decimals, each with its unit, ``6m0s``, ``1.5h``, ``12ms``; a bare 0 needs none."""
    if text == "0":
        return 0.0
    if not text or len(text) > MAX_DIGITS:
        return None
    total = 0.0
    rest = text
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        units = len(rest[digits:]) - len(rest[digits:].lstrip("hmsun\u00b5\u03bc"))
        value = decimal(rest[:digits])
        unit = UNITS.get(rest[digits : digits + units])
        if value is None or unit is None:
            return None
        total += value * unit
        rest = rest[digits + units :]
    return total


# Moments -------------------------------------------------------------------------------------------------


def _unix_seconds(text: str) -> float | None:
    value = decimal(text)
    return float(value) if value is not None and value < 1e11 else None


def _large_unix_seconds(text: str) -> float | None:
    value = decimal(text)
    return float(value) if value is not None and 1e9 <= value < 1e11 else None


def _unix_milliseconds(text: str) -> float | None:
    value = decimal(text)
    return value / 1000.0 if value is not None and value >= 1e11 else None


def unix_time(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    """Seconds since 1970 of a date in the proleptic Gregorian calendar, UTC; None if there is no such
    date."""
    if not (
        1 <= year <= 9999 and 1 <= month <= 12 and day >= 1 and hour < 24 and minute < 60 and second <= 60
    ):
        return None
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > (29 if leap and month == 2 else 28 if month == 2 else 30 if month in (4, 6, 9, 11) else 31):
        return None
    # Years begin in March here, so that the leap day is the last one of its year.
    march_year = year - (month <= 2)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = 365 * march_year + march_year // 4 - march_year // 100 + march_year // 400 + day_of_year - 719468
    return days * 86400 + hour * 3600 + minute * 60 + second


def _clock_time(text: str) -> tuple[int, int, int] | None:
    """``hh:mm:ss``; the second may be 60 (a leap second)."""
    digits = text[0:2] + text[3:5] + text[6:8]
    if len(text) != 8 or text[2] != ":" or text[5] != ":" or not digits.isascii() or not digits.isdigit():
        return None
    return int(text[0:2]), int(text[3:5]), int(text[6:8])


def http_date(text: str, now: float | None = None) -> int | None:
    """An HTTP-date in its three forms, exact case, GMT only (RFC 9110 section 5.6.7).

        Sun, 06 Nov 1994 08:49:37 GMT     IMF-fixdate
        Sunday, 06-Nov-94 08:49:37 GMT    obsolete, RFC 850: the year nearest to ``now`` that is not more than
                                          50 years ahead of it, judged by instants
        Sun Nov  6 08:49:37 1994          obsolete, asctime

    The day's name must be one, but need not be the right one: it carries nothing.
    """
    length = len(text)
    if length > 33 or not text.isascii():
        return None
    if length == 29 and text[3:5] == ", " and text[7] == text[11] == text[16] == " " and text[25:] == " GMT":
        name, day, month, year, clock = text[:3], text[5:7], text[8:11], text[12:16], text[17:25]
    elif length == 24 and text[3] == text[7] == text[10] == text[19] == " ":
        name, day, month, year, clock = text[:3], text[8:10], text[4:7], text[20:24], text[11:19]
        if day[0] == " ":
            day = day[1:]
    else:
        return _rfc_850(text, now)
    time = _clock_time(clock)
    if name not in DAYS or month not in MONTHS or time is None or not day.isdigit() or not year.isdigit():
        return None
    return unix_time(int(year), MONTHS[month], int(day), *time)


def _rfc_850(text: str, now: float | None) -> int | None:
    name, _, rest = text.partition(", ")
    if name not in LONG_DAYS or len(rest) != 22 or rest[2] != "-" or rest[6] != "-" or rest[18:] != " GMT":
        return None
    time, month = _clock_time(rest[10:18]), MONTHS.get(rest[3:6])
    if rest[9] != " " or time is None or month is None or not (rest[:2] + rest[7:9]).isdigit():
        return None
    if now is None:
        return None
    # 50 years after now by the calendar's mean year: an error of a day 50 years away decides nothing.
    latest = now + 50 * 31556952
    century = int(latest // 31556952 + 1970) // 100 * 100
    for start in (century, century - 100):
        at = unix_time(start + int(rest[7:9]), month, int(rest[:2]), *time)
        if at is not None and at <= latest:
            return at
    return None


def iso_8601(text: str) -> float | None:
    """RFC 3339, and ISO 8601 without seconds: ``2025-01-20T00:00:00.5Z``, ``2024-05-05T18:02+02:00``.

    A time without a zone says nothing about an instant, and is refused.
    """
    if not 17 <= len(text) <= 40 or not text.isascii():
        return None
    digits = text[:4] + text[5:7] + text[8:10] + text[11:13] + text[14:16]
    if text[4] != "-" or text[7] != "-" or text[10] not in "Tt " or text[13] != ":" or not digits.isdigit():
        return None
    rest, second, fraction = text[16:], 0, 0.0
    if rest[0] == ":":
        if not rest[1:3].isdigit() or len(rest) < 4:
            return None
        second, rest = int(rest[1:3]), rest[3:]
        if rest[0] == ".":
            tail = rest[1:].lstrip("0123456789")
            decimals = rest[1 : len(rest) - len(tail)]
            if not decimals:
                return None
            fraction, rest = float("0." + decimals), tail
    if rest in ("Z", "z"):
        offset = 0
    else:
        sign, hours, minutes = rest[:1], rest[1:3], rest[-2:]
        if sign not in ("+", "-") or rest[3:-2] not in ("", ":") or len(rest) not in (5, 6):
            return None
        if not (hours + minutes).isdigit() or int(hours) > 23 or int(minutes) > 59:
            return None
        offset = (int(hours) * 3600 + int(minutes) * 60) * (1 if sign == "+" else -1)
    at = unix_time(
        int(digits[:4]), int(digits[4:6]), int(digits[6:8]), int(digits[8:10]), int(digits[10:]), second
    )
    return None if at is None else at - offset + fraction


# The readers by name -------------------------------------------------------------------------------------

NUMBERS: dict[str, Callable[[str], float | None]] = {
    "number": count,
    "whole": whole,
    "grouped": grouped,
}
"""Readers of counts."""

DELAYS: dict[str, Callable[[str], float | None]] = {
    "seconds": _seconds,
    "whole_seconds": _whole_seconds,
    "milliseconds": _milliseconds,
    "whole_milliseconds": _whole_milliseconds,
    "minutes": _minutes,
    "duration": duration,
}
"""Readers of delays, in seconds."""

MOMENTS: dict[str, Callable[[str], float | None]] = {
    "unix_seconds": _unix_seconds,
    "unix_milliseconds": _unix_milliseconds,
    "http_date": http_date,
    "iso_8601": iso_8601,
}
"""Readers of Unix times."""

Reading = tuple["Callable[[str], float | None]", bool, str]
"""A reader, whether it yields a Unix time, and its name."""

AUTO: tuple[Reading, ...] = (
    (_small_seconds, False, "seconds"),
    (_large_unix_seconds, True, "unix_seconds"),
    (_unix_milliseconds, True, "unix_milliseconds"),
    (http_date, True, "http_date"),
    (iso_8601, True, "iso_8601"),
    (duration, False, "duration"),
)
"""By magnitude, where nobody declared the unit: below 1e9 a delay in seconds, below 1e11 a Unix time in
seconds, above it one in milliseconds."""


def readings(names: tuple[str, ...]) -> tuple[Reading, ...]:
    """The time readers of these names, in order."""
    found: list[Reading] = []
    for name in names:
        if name == "auto":
            found += AUTO
        elif name in DELAYS:
            found.append((DELAYS[name], False, name))
        else:
            found.append((MOMENTS[name], True, name))
    return tuple(found)


TIME_READERS = ("auto", *DELAYS, *MOMENTS)


# Lists ---------------------------------------------------------------------------------------------------


def split(text: str, separator: str = ",") -> list[str]:
    """The members of a list, outside quoted strings, without the white space around them."""
    if '"' not in text:
        return [member.strip(SPACE) for member in text.split(separator, MAX_MEMBERS)[:MAX_MEMBERS]]
    members: list[str] = []
    start = position = 0
    quoted = False
    while position < len(text) and len(members) < MAX_MEMBERS:
        character = text[position]
        if quoted and character == "\\":
            position += 1
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            members.append(text[start:position].strip(SPACE))
            start = position + 1
        position += 1
    if len(members) < MAX_MEMBERS:
        members.append(text[start:].strip(SPACE))
    return members


def dates_and_delays(text: str) -> list[str]:
    """The members of a joined field that may hold HTTP-dates, whose own comma does not separate."""
    members: list[str] = []
    for member in split(text):
        if members and (members[-1] in DAYS or members[-1] in LONG_DAYS):
            members[-1] += ", " + member
        else:
            members.append(member)
    return members


def parameters(text: str) -> tuple[str, dict[str, str]] | None:
    """``bare; key=value; key="value"`` in its loose, common form; keys in lower case, the last one wins.

    Returns the bare first item ("" when there is none) and the parameters; None if a part is neither.
    """
    bare = ""
    found: dict[str, str] = {}
    for index, part in enumerate(split(text, ";")):
        key, equals, value = part.partition("=")
        if equals and key.strip(SPACE):
            found[key.strip(SPACE).lower()] = value.strip(SPACE).strip('"')
        elif index == 0 and part:
            bare = part
        else:
            return None
    return bare, found
