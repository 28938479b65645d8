"""From a reply's fields to quotas: what windows it states, and which of them governs.

Rules of this file: each value is read on its own, and a bad one is dropped alone; never is a window that
still has quota waited for.
"""

from __future__ import annotations

from bide.policy._dialect import Field, StructuredWindows, Window
from bide.policy._fields import MAX_DIGITS, UNBOUNDED, count, parameters, readings
from bide.policy._source import Source, label, texts
from bide.policy._structured import Token, parse_dictionary, parse_list
from bide.policy._types import Quota, make
from bide.policy._wait import LONGEST, read_length, read_number, read_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from bide.policy._headers import Found
    from bide.policy._wait import Stated

    Quick = Callable[[Found, float, bool], Quota | None]

MAX_CAPTURES = 32
"""Windows that one pattern may name in a reply."""

WHOLE_SECONDS, WHOLE_UNIX_SECONDS, BY_SIZE = 1, 2, 3
SIMPLE_UNITS: dict[tuple[str, ...], int] = {
    ("seconds",): WHOLE_SECONDS,
    ("whole_seconds",): WHOLE_SECONDS,
    ("unix_seconds",): WHOLE_UNIX_SECONDS,
    ("auto",): BY_SIZE,
}
"""Readers of a reset whose whole numbers need no reader to be asked."""


class Reader:
    """A compiled ``Window``."""

    __slots__ = (
        "_bucket", "_endless", "_latest", "_length", "_limit", "_name", "_oldest", "_remaining", "_reset",
        "_reset_readers", "_unit", "_window", "captures", "names", "place", "quick", "quick_by",
    )  # fmt: skip

    def __init__(self, window: Window, expected: float | None) -> None:
        fields = window.fields()
        self._window = window
        self.names = frozenset(field.header for field in fields if field.header)
        self.captures = any("*" in name for name in self.names)
        self._length = window.length if isinstance(window.length, (int, float)) else None
        known = self._length if self._length is not None else expected
        # A reset is believed up to two windows ahead and one past.
        self._latest = LONGEST if known is None else 2.0 * known
        self._oldest = -LONGEST if known is None else -known
        self._endless = self._length is not None and window.reset is None
        self._reset_readers = readings(window.reset.read) if window.reset is not None else ()
        self._limit, self._remaining, self._reset, self._bucket = map(
            _header, (window.limit, window.remaining, window.reset, window.bucket)
        )
        self._name = window.name or None
        self.place = next(
            (f.place for f in (window.reset, window.length, *fields) if isinstance(f, Field)), "backoff"
        )
        self._unit = 0
        plain = (window.limit, window.remaining, window.reset)
        if (
            all(isinstance(field, Field) and _is_plain(field) for field in plain)
            and (window.bucket is None or _is_plain(window.bucket))
            and window.reset is not None
            and (window.used, window.align, window.refill) == (None, None, None)
            and not isinstance(window.length, Field)
            and not (self.captures or window.structured or window.exhausted or window.fresh)
        ):
            self._unit = SIMPLE_UNITS.get(window.reset.read, 0)
        self.quick_by = self._remaining if self._unit else None
        self.quick = self._quick()

    def _quick(self) -> Quick:
        """Reads the usual case without detours: three whole numbers, and a Date that was read before.

        It gives None when a reply is not so; ``read`` reads it, then. A closure: its constants cost no look-ups.
        """
        limit_name, remaining_name, reset_name, bucket_name = (
            self._limit, self._remaining, self._reset, self._bucket,
        )  # fmt: skip
        unit, oldest, latest, length, own_name = (
            self._unit,
            self._oldest,
            self._latest,
            self._length,
            self._name,
        )

        def quick(found: Found, now: float, by_date: bool) -> Quota | None:
            try:
                limit, remaining, reset = found[limit_name], found[remaining_name], found[reset_name]
                digits = limit + remaining + reset  # type: ignore[operator]  # of one kind, or a TypeError
                if not digits.isdigit() or not digits.isascii() or len(digits) > MAX_DIGITS:
                    return None
                after = at = float(reset)
                if unit == WHOLE_SECONDS or (unit == BY_SIZE and at < 1e9):
                    at = now + after
                elif at >= 1e11:
                    return None
                elif by_date and "date" in found:
                    text, server = Source.memo
                    if found["date"] != text or "age" in found:
                        return None
                    after = at - server
                else:
                    after = at - now
                if not oldest <= after <= latest:
                    return None
                name = own_name
                if bucket_name in found:
                    name = label(found[bucket_name]) or name
                    if name is not None and "," in name:
                        return None  # a field sent twice, or a list: its first member counts
                return make(Quota, (int(limit), int(remaining), after, at, length, name))
            except (KeyError, TypeError, ValueError):
                return None

        return quick

    def read(self, source: Source, into: list[Stated]) -> None:
        """Appends the quotas that these fields state."""
        window = self._window
        if window.fresh and source.age():
            if source.recorder is not None:
                source.recorder.step("a reply from a cache: its windows say nothing")
        elif self.captures:
            for capture, part in _captured(window, source):
                self._read_all(part, source, into, capture)
        else:
            self._read_all(window, source, into, None)

    def _read_all(
        self,
        window: Window,
        source: Source,
        into: list[Stated],
        capture: str | None,
    ) -> None:
        columns: dict[str, list[str | None]] = {}
        for role in ("remaining", "used", "reset", "limit", "length", "bucket", "refill"):
            field = getattr(window, role)
            if not isinstance(field, Field):
                continue
            if window.structured and parse_list(source.field(field.header) or "") is None:
                if source.recorder is not None and field.header in source.found:
                    source.recorder.dropped(
                        field.header, source.field(field.header) or "", "no structured List"
                    )
                continue
            stated = texts(field, source)
            if stated:
                columns[role] = stated
        if not columns:
            return
        if window.key_column is not None:
            self._by_key(window, source, columns)
        counted = [len(columns[role]) for role in ("remaining", "used", "reset") if role in columns]
        for index in range(max(counted, default=1)):
            row = {role: stated[index] if index < len(stated) else None for role, stated in columns.items()}
            self._one(window, row, source, into, capture, columns)

    @staticmethod
    def _by_key(window: Window, source: Source, columns: dict[str, list[str | None]]) -> None:
        """Reorders the lists so that equal keys stand at the same position, in the order of the first
        list."""
        order: list[str | None] = []
        for role, stated in columns.items():
            field = getattr(window, role)
            keys = texts(field.replace(column=window.key_column), source)
            if not order:
                order = keys
            by_key = dict(zip(keys, stated, strict=False))
            columns[role] = [by_key.get(key) for key in order]

    def _one(
        self,
        window: Window,
        row: dict[str, str | None],
        source: Source,
        into: list[Stated],
        capture: str | None,
        columns: dict[str, list[str | None]],
    ) -> None:
        limit = self._count(window.limit, row.get("limit"), source)
        remaining = self._count(window.remaining, row.get("remaining"), source)
        used = self._count(window.used, row.get("used"), source)
        length = window.length
        if isinstance(length, Field):
            length = read_length(row.get("length"), length, source)
        elif length is None and limit is not None:
            length = _listed_length(columns.get("limit"), limit)
        if remaining is None and used is not None and limit is not None:
            remaining = max(0, limit - used)
        elif limit is None and used is not None and remaining is not None:
            limit = remaining + used
        after, at = self._end(window, row.get("reset"), source)
        if window.exhausted and after is not None and after > 0.0:
            remaining = 0
        if limit is None and remaining is None and after is None and used is None:
            return
        named = row.get("bucket")
        bucket = label(named) or capture or self._name
        if named and source.recorder is not None and isinstance(window.bucket, Field):
            # Not the name itself: it is shown as the field's text, and with the quota.
            source.recorder.read(window.bucket.place, named, label(named) and "the bucket", "a name")
        quota = make(Quota, (limit, remaining, after, at, length, bucket))
        # A used-up window that states no end has one unit again when a leaky bucket has lost one, and has
        # ended when its length has passed.
        refill = self._count(window.refill, row.get("refill"), source)
        if after is None and refill is not None and refill >= 1.0 / LONGEST:
            after = 1.0 / refill
        elif (
            after is None
            and window.length is not None
            and (self._endless or isinstance(window.length, Field))
        ):
            after = length
        into.append((quota, after, self.place))

    @staticmethod
    def _count(field: Field | float | None, text: str | None, source: Source) -> float | None:
        if not isinstance(field, Field):
            return field
        if text is None:
            return None
        if text.lower() in UNBOUNDED:
            if source.recorder is not None:
                source.recorder.read(field.place, text, "no limit", "a word")
            return None
        return read_number(text, field, source)

    def _end(self, window: Window, text: str | None, source: Source) -> tuple[float | None, float | None]:
        if window.align is not None:
            server = source.server()
            at = (server // window.align + 1.0) * window.align
            return at - server, at
        if window.reset is None or text is None:
            return None, None
        place = window.reset.place
        read = read_time(text, place, self._reset_readers, source)
        if read is None:
            return None, None
        after = read[0]
        if not self._oldest <= after <= self._latest:
            if source.recorder is not None:
                source.recorder.dropped(place, text, "not within two windows ahead and one window past")
            return None, None
        return after, source.now + after if read[1] is None else read[1]


class StructuredReader:
    """A compiled ``StructuredWindows``."""

    __slots__ = ("_header", "_policy", "captures", "names", "place", "quick", "quick_by")

    quick: Quick
    quick_by: str | None

    def __init__(self, windows: StructuredWindows) -> None:
        self._header = windows.header
        self._policy = windows.policy
        self.names = frozenset({windows.header, windows.policy})
        self.captures = False
        self.quick_by = None  # and so `quick` is never asked for
        self.place = windows.header

    def read(self, source: Source, into: list[Stated]) -> None:
        """Appends the quotas that the field states."""
        text, recorder = source.field(self._header), source.recorder
        if text is None:
            return
        if source.age():
            if recorder is not None:
                recorder.dropped(self._header, text, "a reply from a cache: it says nothing")
            return
        stated = self._list(text)
        if stated is None:
            stated = self._dictionary(text)
        if stated is None:
            if recorder is not None:
                recorder.dropped(self._header, text, "neither a List nor a Dictionary of the drafts")
            return
        policies = self._policies(source)
        for name, limit, remaining, after in stated:
            quota, length = policies.get(name, (None, None)) if name is not None else (None, None)
            if recorder is not None:
                recorder.read(self._header, text, remaining, f"left of {name or 'the limit'}")
                recorder.read(self._header, text, after, "seconds ahead")
            if after is not None and after > LONGEST:
                after = None
            at = source.now + after if after is not None else None
            stated_quota = make(
                Quota, (limit if quota is None else quota, remaining, after, at, length, name)
            )
            into.append((stated_quota, after, self._header))

    @staticmethod
    def _list(text: str) -> list[tuple[str | None, int | None, int | None, int | None]] | None:
        """Revisions 08 and later: ``"name";r=50;t=30``. ``r`` is required, ``t`` is not; both are
        Integers."""
        members = parse_list(text)
        if not members:
            return None
        found: list[tuple[str | None, int | None, int | None, int | None]] = []
        for name, given in members:
            left, after = given.get("r"), given.get("t")
            if not isinstance(name, str) or isinstance(name, Token) or not _is_count(left):
                return None
            if after is not None and not _is_count(after):
                return None
            found.append((name, None, left, after))  # type: ignore[arg-type]  # _is_count has looked
        return found

    @staticmethod
    def _dictionary(text: str) -> list[tuple[str | None, int | None, int | None, int | None]] | None:
        """Revision 07: ``limit=100, remaining=50, reset=5``; ``remaining`` may be absent."""
        members = parse_dictionary(text)
        if not members or "limit" not in members or "reset" not in members:
            return None
        values = [members[key][0] if key in members else None for key in ("limit", "remaining", "reset")]
        if not all(value is None or _is_count(value) for value in values):
            return None
        limit, remaining, reset = values
        return [(None, limit, remaining, reset)]  # type: ignore[list-item]  # _is_count has looked

    def _policies(self, source: Source) -> dict[str, tuple[int | None, float | None]]:
        """``"name";q=100;w=60`` by name: it only informs, so what is wrong with it costs nothing but
        itself."""
        found: dict[str, tuple[int | None, float | None]] = {}
        text = source.field(self._policy) or ""
        members = parse_list(text)
        if members is None and source.recorder is not None:
            source.recorder.dropped(self._policy, text, "no structured field List")
        for name, given in members or ():
            quota, length = given.get("q"), given.get("w")
            if isinstance(name, str) and _is_count(quota):
                found[name] = (quota, length if _is_count(length) and length else None)  # type: ignore[assignment]  # _is_count has looked
        return found


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _header(field: Field | float | None) -> str:
    return field.header if isinstance(field, Field) else ""


def _is_plain(field: Field) -> bool:
    return bool(field.header) and not (field.json or field.parameter or field.separator or field.read[1:])


def _captured(window: Window, source: Source) -> list[tuple[str, Window]]:
    """The window once for every text that its "*" stands for in this reply."""
    captures: dict[str, None] = {}
    patterns = [field.header.split("*") for field in window.fields() if "*" in field.header]
    for name in source.found:
        for prefix, suffix in patterns:
            inner = name[len(prefix) : len(name) - len(suffix)]
            if inner and name.startswith(prefix) and name.endswith(suffix) and "*" not in name:
                captures[inner] = None
    return [(capture, _with_capture(window, capture)) for capture in list(captures)[:MAX_CAPTURES]]


def _with_capture(window: Window, capture: str) -> Window:
    changes = {
        role: field.replace(header=field.header.replace("*", capture))
        for role in ("limit", "remaining", "reset", "used", "length", "bucket", "refill")
        if isinstance(field := getattr(window, role), Field)
    }
    return window.replace(**changes)


def _listed_length(stated: list[str | None] | None, limit: float) -> float | None:
    """The drafts' early form: ``100, 100;w=60, 5000;w=3600`` gives the limit and then the policies."""
    for member in stated or ():
        parts = parameters(member) if member is not None and ";" in member else None
        if parts is not None and count(parts[0]) == limit:
            length = parts[1].get("w") or parts[1].get("window") or ""
            if length.isascii() and length.isdigit() and len(length) < 9:
                return float(length) or None
    return None
