"""From a reply's fields to quotas: what windows it states, and which of them governs.

Rules of this file: each value is read on its own, and a bad one is dropped alone; never is a window that
still has quota waited for.
"""

from __future__ import annotations

from bide.policy._dialect import Field, StructuredWindows, Window
from bide.policy._fields import UNBOUNDED, parameters, readings
from bide.policy._structured import Token, parse_dictionary, parse_list
from bide.policy._types import Quota, make
from bide.policy._wait import LONGEST, Clock, Texts, read_length, read_number, read_time, texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bide.policy._explain import Recorder

Ends = list[tuple["float | None", str]]
"""For every quota: seconds to its window's end as far as it bounds a wait, and the field that says so."""

MAX_BUCKET = 100
"""Characters of a bucket's name that are kept."""


class Reader:
    """A compiled ``Window``."""

    __slots__ = (
        "_constant",
        "_limit", "_place", "_remaining", "_reset", "_reset_readers", "_simple", "_window", "captures",
        "expected", "names",
    )  # fmt: skip

    def __init__(self, window: Window, expected: float | None) -> None:
        fields = window.fields()
        self._window = window
        self.names = frozenset(field.header for field in fields if field.header)
        self.captures = any("*" in name for name in self.names)
        self.expected = window.length if isinstance(window.length, (int, float)) else expected
        self._reset_readers = readings(window.reset.read) if window.reset is not None else ()
        self._limit = _header(window.limit)
        self._constant = None if isinstance(window.limit, Field) else window.limit
        self._remaining = _header(window.remaining)
        self._reset = _header(window.reset)
        self._place = next(
            (f.place for f in (window.reset, window.length, *fields) if isinstance(f, Field)), "backoff"
        )
        plain = (window.limit, window.remaining, window.reset, window.bucket)
        self._simple = (
            all(isinstance(f, Field) and _is_plain(f) for f in plain if f is not None)
            and window.used is None
            and window.align is None
            and not isinstance(window.length, Field)
            and not (self.captures or window.structured or window.exhausted or window.fresh)
        )

    def read(
        self, source: Texts, clock: Clock, recorder: Recorder | None, quotas: list[Quota], ends: Ends
    ) -> None:
        """Appends the quotas that these fields state."""
        window, found = self._window, source.found
        if window.fresh and clock.age:
            if recorder is not None:
                recorder.step("a reply from a cache: its windows say nothing")
            return
        if self._simple and recorder is None and self._read_simple(found, clock, quotas, ends):
            return
        if self.captures:
            for capture, part in _captured(window, found):
                self._read_all(part, Texts(found, source.body), clock, recorder, quotas, ends, capture)
            return
        self._read_all(window, source, clock, recorder, quotas, ends, None)

    def _read_simple(self, found: dict[str, str], clock: Clock, quotas: list[Quota], ends: Ends) -> bool:
        """One window of three plain fields, the usual case; False when it is not so."""
        limit, remaining, reset = found.get(self._limit), found.get(self._remaining), found.get(self._reset)
        if (
            (limit is not None and not (limit.isdigit() and limit.isascii() and len(limit) < 16))
            or (
                remaining is None or not (remaining.isdigit() and remaining.isascii() and len(remaining) < 16)
            )
            or (reset is not None and "," in reset)
        ):
            return False
        after = at = None
        if reset is not None:
            read = read_time(reset, self._reset, self._reset_readers, clock, None)
            if read is not None and self._believed(read[0], self.expected):
                after = read[0]
                at = clock.local() + after if read[1] is None else read[1]
        window = self._window
        bucket = found.get(window.bucket.header) if window.bucket is not None else None
        length = window.length if isinstance(window.length, (int, float)) else None
        quotas.append(
            make(
                Quota,
                (
                    int(limit) if limit is not None else self._constant,
                    int(remaining),
                    after,
                    at,
                    length,
                    _name(bucket) if bucket is not None else window.name or None,
                ),
            )
        )
        ends.append((after, self._place))
        return True

    @staticmethod
    def _believed(after: float, length: float | None) -> bool:
        return -LONGEST <= after <= LONGEST if length is None else -length <= after <= 2.0 * length

    def _read_all(
        self,
        window: Window,
        source: Texts,
        clock: Clock,
        recorder: Recorder | None,
        quotas: list[Quota],
        ends: Ends,
        capture: str | None,
    ) -> None:
        columns: dict[str, list[str | None]] = {}
        for role in ("remaining", "used", "reset", "limit", "length", "bucket"):
            field = getattr(window, role)
            if not isinstance(field, Field):
                continue
            if window.structured and parse_list(source.found.get(field.header, "")) is None:
                if recorder is not None:
                    recorder.dropped(field.header, source.found[field.header], "no structured field List")
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
            self._one(window, row, clock, recorder, quotas, ends, capture, columns)

    @staticmethod
    def _by_key(window: Window, source: Texts, columns: dict[str, list[str | None]]) -> None:
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
        clock: Clock,
        recorder: Recorder | None,
        quotas: list[Quota],
        ends: Ends,
        capture: str | None,
        columns: dict[str, list[str | None]],
    ) -> None:
        limit = self._count(window.limit, row.get("limit"), recorder)
        remaining = self._count(window.remaining, row.get("remaining"), recorder)
        used = self._count(window.used, row.get("used"), recorder)
        length = window.length
        if isinstance(length, Field):
            length = read_length(row.get("length"), length, recorder)
        elif length is None and limit is not None:
            length = _listed_length(columns.get("limit"), limit)
        if remaining is None and used is not None and limit is not None:
            remaining = max(0, limit - used)
        elif limit is None and used is not None and remaining is not None:
            limit = remaining + used
        after, at = self._end(window, row.get("reset"), length, clock, recorder)
        if window.exhausted and after is not None:
            remaining = 0
        if limit is None and remaining is None and after is None and used is None:
            return
        stated = row.get("bucket")
        bucket = (_name(stated) if stated else None) or capture or window.name or None
        quotas.append(make(Quota, (limit, remaining, after, at, length, bucket)))
        # A used-up window that states its length but not its end has ended when its length has passed.
        bound = length if after is None and isinstance(window.length, Field) else after
        ends.append((bound, self._place))

    @staticmethod
    def _count(field: Field | float | None, text: str | None, recorder: Recorder | None) -> float | None:
        if not isinstance(field, Field):
            return field
        if text is None:
            return None
        if text.lower() in UNBOUNDED:
            if recorder is not None:
                recorder.read(field.place, text, "no limit", "a word")
            return None
        return read_number(text, field, recorder)

    def _end(
        self, window: Window, text: str | None, length: float | None, clock: Clock, recorder: Recorder | None
    ) -> tuple[float | None, float | None]:
        if window.align is not None:
            server = clock.server()
            at = (server // window.align + 1.0) * window.align
            return at - server, at
        if window.reset is None or text is None:
            return None, None
        place = window.reset.place
        read = read_time(text, place, self._reset_readers, clock, recorder)
        if read is None:
            return None, None
        after = read[0]
        known = length if length is not None else self.expected
        if not self._believed(after, known):
            if recorder is not None:
                recorder.dropped(place, text, "not within two windows ahead and one window past")
            return None, None
        return after, clock.local() + after if read[1] is None else read[1]


class StructuredReader:
    """A compiled ``StructuredWindows``."""

    __slots__ = ("_header", "_policy", "captures", "names")

    def __init__(self, windows: StructuredWindows) -> None:
        self._header = windows.header
        self._policy = windows.policy
        self.names = frozenset({windows.header, windows.policy})
        self.captures = False

    def read(
        self, source: Texts, clock: Clock, recorder: Recorder | None, quotas: list[Quota], ends: Ends
    ) -> None:
        """Appends the quotas that the field states."""
        text = source.found.get(self._header)
        if text is None:
            return
        if clock.age:
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
        policies = self._policies(source.found.get(self._policy, ""), recorder)
        for name, limit, remaining, after in stated:
            quota, length = policies.get(name, (None, None)) if name is not None else (None, None)
            if recorder is not None:
                recorder.read(self._header, text, remaining, f"left of {name or 'the limit'}")
                recorder.read(self._header, text, after, "seconds ahead")
            if after is not None and after > LONGEST:
                after = None
            at = clock.local() + after if after is not None else None
            quotas.append(
                make(Quota, (limit if quota is None else quota, remaining, after, at, length, name))
            )
            ends.append((after, self._header))

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

    @staticmethod
    def _policies(text: str, recorder: Recorder | None) -> dict[str, tuple[int | None, float | None]]:
        """``"name";q=100;w=60`` by name: it only informs, so what is wrong with it costs nothing but
        itself."""
        found: dict[str, tuple[int | None, float | None]] = {}
        members = parse_list(text)
        if members is None and recorder is not None:
            recorder.dropped("ratelimit-policy", text, "no structured field List")
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


def _name(text: str) -> str | None:
    text = text[:MAX_BUCKET]
    return text if text.isprintable() else None


def _captured(window: Window, found: dict[str, str]) -> list[tuple[str, Window]]:
    """The window once for every text that its "*" stands for in this reply."""
    captures: dict[str, None] = {}
    patterns = [field.header.split("*") for field in window.fields() if "*" in field.header]
    for name in found:
        for prefix, suffix in patterns:
            inner = name[len(prefix) : len(name) - len(suffix)]
            if inner and name.startswith(prefix) and name.endswith(suffix) and "*" not in name:
                captures[inner] = None
    return [(capture, _with_capture(window, capture)) for capture in list(captures)[:32]]


def _with_capture(window: Window, capture: str) -> Window:
    changes = {
        role: field.replace(header=field.header.replace("*", capture))
        for role in ("limit", "remaining", "reset", "used", "length", "bucket")
        if isinstance(field := getattr(window, role), Field)
    }
    return window.replace(**changes)


def _listed_length(stated: list[str | None] | None, limit: float) -> float | None:
    """The drafts' early form: ``100, 100;w=60, 5000;w=3600`` gives the limit and then the policies."""
    for member in stated or ():
        parts = parameters(member) if member is not None and ";" in member else None
        if parts is not None and read_number(parts[0], Field("-"), None) == limit:
            length = parts[1].get("w") or parts[1].get("window") or ""
            if length.isascii() and length.isdigit() and 0 < len(length) < 9:
                return float(length) or None
    return None


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
