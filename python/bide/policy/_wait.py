"""The waits that a reply states, and which of them counts.

Rules of this file: pure. A time is believed when it is not further ahead than two windows (366 days where
no window is known) and not further past than one; of several values of one field the longest wait counts.
"""

from __future__ import annotations

from bide.policy._dialect import Field, Refill
from bide.policy._fields import DELAYS, NUMBERS, SPACE, http_date, readings
from bide.policy._source import Source, texts
from bide.policy._types import Quota

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bide.policy._fields import Reading

LONGEST = 366 * 86400.0
"""Seconds: what lies further ahead (or further past) is no wait that a server means."""


def read_number(text: str | None, field: Field, source: Source) -> float | None:
    """A count in a field; a parameter behind it (``100;w=60``) does not belong to it."""
    if text is None:
        return None
    reader = NUMBERS[field.read[0]] if field.read else NUMBERS["number"]
    value = reader(text.partition(";")[0].rstrip(SPACE))
    if source.recorder is not None:
        source.recorder.read(field.place, text, value, "a count")
    return value


def read_length(text: str | None, field: Field, source: Source) -> float | None:
    """A length of time in a field, in seconds."""
    if text is None:
        return None
    for name in field.read:
        value = DELAYS[name](text)
        if value is not None and 0.0 < value <= LONGEST:
            if source.recorder is not None:
                source.recorder.read(field.place, text, value, f"seconds ({name})")
            return value
    if source.recorder is not None:
        source.recorder.dropped(field.place, text, f"not {' or '.join(field.read)}")
    return None


def read_time(
    text: str, place: str, readers: tuple[Reading, ...], source: Source
) -> tuple[float, float | None] | None:
    """Seconds from now, and the Unix time where the text states one; None when no reader reads it."""
    recorder = source.recorder
    for reader, is_moment, name in readers:
        value = reader(text)
        if value is None and name == "http_date" and "-" in text:
            value = http_date(text, source.now)
        if value is None:
            continue
        ahead = value - source.server() if is_moment else value
        if recorder is not None:
            recorder.read(place, text, ahead, f"seconds ahead ({name})")
        return (ahead, value) if is_moment else (ahead, None)
    if recorder is not None:
        recorder.dropped(place, text, "not " + " or ".join(name for _, _, name in readers))
    return None


class ExplicitWait:
    """One compiled entry of ``Dialect.waits``."""

    __slots__ = ("header", "is_whole", "place", "readers", "wait")

    def __init__(self, wait: Field | Refill) -> None:
        self.wait = wait
        first = wait if isinstance(wait, Field) else wait.available
        self.header = first.header
        self.place = first.place
        self.readers = readings(wait.read) if isinstance(wait, Field) else ()
        self.is_whole = (
            isinstance(wait, Field)
            and wait.read[0] in ("whole_seconds", "seconds")
            and not (wait.json or wait.parameter or wait.separator or wait.body or wait.text)
        )

    def read(self, source: Source) -> float | None:
        """Seconds to wait, below zero for a moment that is past; None when there is none to be believed."""
        if isinstance(self.wait, Refill):
            return self._refill(self.wait, source)
        longest: float | None = None
        for text in texts(self.wait, source):
            read = None if text is None else read_time(text, self.place, self.readers, source)
            if read is None:
                continue
            ahead, at = read
            if not -LONGEST <= ahead <= LONGEST:
                if source.recorder is not None:
                    source.recorder.dropped(self.place, text or "", "further than 366 days from now")
            elif longest is None or ahead > longest:
                # A moment that is now is as past as one before it: the server states no wait any more.
                longest = -1e-9 if at is not None and ahead == 0.0 else ahead
        return longest

    def _refill(self, refill: Refill, source: Source) -> float | None:
        values: list[float] = []
        for part in (refill.needed, refill.available, refill.rate):
            value: float | None
            if isinstance(part, Field):
                stated = texts(part, source)
                value = read_number(stated[0], part, source) if stated else None
            else:
                value = part
            if value is None:
                return None
            values.append(value)
        needed, available, rate = values
        # Where nothing flows back, nothing is near enough.
        if needed <= available or needed - available > LONGEST * rate:
            return None
        return (needed - available) / rate


Stated = tuple[Quota, "float | None", str]
"""A quota, the seconds to its window's end as far as it bounds a wait, and the field that says so."""


def used_up(stated: list[Stated], refused: bool) -> tuple[float | None, str]:
    """When the used-up windows have all ended: seconds, and the field that says so.

    On a refusal a window whose remaining is not stated counts as used up, unless another one is known to be.
    """
    latest: float | None = None
    place = ""
    known = False
    for unknown in (False, True):
        for quota, after, where in stated:
            remaining = quota.remaining
            if (remaining is None) is not unknown or (remaining is not None and remaining > 0):
                continue
            known = True
            if after is not None and (latest is None or after > latest):
                latest, place = after, where
        if known or not refused:
            break
    return latest, place


def combine(rule: str, explicit: float, place: str, held: float | None, held_by: str) -> tuple[float, str]:
    """One wait of the two that a reply may state, and what states it."""
    if held is None or rule == "first" or (rule == "greatest" and explicit >= held):
        return explicit, place
    return held, held_by


def governing(quotas: tuple[Quota, ...]) -> Quota:
    """Of the used-up windows the one that ends last, else the one with the smallest share left."""
    return min(quotas, key=_rank)


def _rank(quota: Quota) -> tuple[float, float]:
    remaining, limit = quota.remaining, quota.limit
    if remaining is not None and remaining <= 0:
        return (0.0, -quota.reset_after if quota.reset_after is not None else LONGEST)
    if remaining is not None and limit:
        return (1.0, remaining / limit)
    return (2.0 if remaining is not None else 3.0, -(quota.reset_after or 0.0))
