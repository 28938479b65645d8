"""From any client's headers to the fields that a policy wants, in one pass.

Rules of this file: no client is imported; headers are known by how they can be listed. Field lines of one
name are joined with ", " in their order (RFC 9110 section 5.3), whichever way a client keeps them, and
octets are read as ISO 8859-1, so that every client's reply reads alike. Values stay as they came until one
is needed: most replies say nothing about limits, and should cost nothing.
"""

from __future__ import annotations

from bide.policy._fields import MAX_FIELD, SPACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from bide.policy._explain import Recorder
    from bide.policy._policy import Program

    Listing = Callable[[Any], Iterable[tuple[object, object]]]

Found = dict[str, "str | bytes"]
"""Fields by their name in lower case, as they came: joined, but neither decoded nor measured."""

NOTHING: Found = {}
"""What is never written to."""

MAX_CLASSES = 64
"""Classes of headers that are remembered."""

MAX_NAME = 64
"""Characters of a name that patterns are tried on."""

MAX_SPELLINGS = 256
"""Names, as they were spelled, that a policy remembers."""

MAX_FIELDS = 128
"""Fields of one reply that are kept."""


def collect(headers: Any, program: Program, recorder: Recorder | None) -> Found:
    """The fields that a policy wants, in one pass over a response's own headers.

    Where none of them tells anything (a ``Date`` alone does not, but beside a body), an empty collection may
    come back.
    """
    listing = _LISTINGS.get(headers.__class__)
    if listing is None:
        listing = _listing_of(headers)
    found: Found = {}
    if recorder is None and not program.patterns:
        if listing is _httpx_pairs:
            wanted_bytes = program.wanted_bytes
            for _, octets, value in headers._list:
                if octets in wanted_bytes:
                    name = wanted_bytes[octets]
                    found[name] = _joined(found[name], value) if name in found else value
            return found
        if listing is _urllib3_pairs:
            container = headers._container
            if program.reads_bodies or not program.telling.isdisjoint(container):
                wanted = program.wanted
                for name, values in container.items():
                    if name in wanted:
                        if len(values) == 2 and values[1].__class__ is str:
                            found[name] = values[1]
                        else:
                            for value in values[1:]:
                                _add(found, name, value, program, None)
            return found
        if listing is _dict_pairs:
            if program.reads_bodies or not program.mute.issuperset(headers):
                spelled = program.spelled
                for name, value in headers.items():
                    lower = spelled.get(name)
                    if lower is None:
                        lower = _spelled(name, program)
                    if lower:
                        if value.__class__ is str and name.__class__ is str and lower not in found:
                            found[lower] = value
                        else:
                            _add(found, name, value, program, None)
            return found
    pairs: Iterable[tuple[object, object]] = listing(headers)
    for field, text in pairs:
        _add(found, field, text, program, recorder)
    return found


def _spelled(name: object, program: Program) -> str:
    """The wanted name that is spelled so, else ""; remembers it, for servers send the same names."""
    if not isinstance(name, str):
        # Whatever else may be a name is looked at by who takes the field.
        return "bytes" if isinstance(name, bytes) else ""
    lower = program.wanted.get(name.lower(), "")
    if len(name) <= MAX_NAME and len(program.spelled) < MAX_SPELLINGS:
        program.spelled[name] = lower
        if lower not in program.telling:
            program.mute.add(name)
    return lower


def _add(found: Found, name: object, value: object, program: Program, recorder: Recorder | None) -> None:
    """Takes one field line of any kind."""
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if not isinstance(name, str):
        return
    lower = name.lower()
    if lower not in program.wanted and not _matches(lower, program):
        return
    if not isinstance(value, (str, bytes)):
        if recorder is not None:
            recorder.dropped(lower, type(value).__name__, "not text")
    elif lower in found:
        found[lower] = _joined(found[lower], value)
    elif len(found) < MAX_FIELDS:
        found[lower] = value


def _matches(name: str, program: Program) -> bool:
    return len(name) <= MAX_NAME and any(
        name.startswith(prefix) and name.endswith(suffix) and len(name) > len(prefix) + len(suffix)
        for prefix, suffix in program.patterns
    )


def _joined(first: str | bytes, second: str | bytes) -> str | bytes:
    # What is already too long to be looked at need not grow.
    return first if len(first) > MAX_FIELD else f"{as_text(first)}, {as_text(second)}"


def as_text(value: str | bytes) -> str:
    """A field's value without the white space around it."""
    return (value if isinstance(value, str) else value.decode("latin-1")).strip(SPACE)


def _listing_of(headers: object) -> Listing:
    """How the pairs of such headers can be listed: every field line once, in order."""
    listing = _told_by_class(headers)
    if len(_LISTINGS) < MAX_CLASSES:
        _LISTINGS[type(headers)] = listing
    return listing


def _told_by_class(headers: object) -> Listing:
    kind = type(headers)
    # Others have classes of these names, and attributes of these, too: the package decides.
    package = kind.__module__.partition(".")[0]
    if package in ("httpx", "httpx2") and isinstance(getattr(headers, "_list", None), list):
        return _httpx_pairs
    if package == "urllib3" and isinstance(getattr(headers, "_container", None), dict):
        return _urllib3_pairs
    if package == "multidict":
        return _multidict_pairs
    for method in ("raw_items", "lower_items", "multi_items", "items"):
        if callable(getattr(headers, method, None)):
            return _listed_by(method)
    if isinstance(headers, (list, tuple)):
        return _list_pairs
    if headers is None:
        return _no_pairs
    raise TypeError(f"the response's headers are a mapping or a list of pairs, got {kind.__name__}")


def _listed_by(method: str) -> Listing:
    def pairs(headers: Any) -> Iterable[tuple[object, object]]:
        listed: Iterable[tuple[object, object]] = getattr(headers, method)()
        return listed

    return pairs


def _dict_pairs(headers: Any) -> Iterable[tuple[object, object]]:
    listed: Iterable[tuple[object, object]] = headers.items()
    return listed


def _httpx_pairs(headers: Any) -> Iterable[tuple[object, object]]:
    """httpx keeps (name, name in lower case, value), all bytes."""
    return [(name, value) for name, _, value in headers._list]


def _urllib3_pairs(headers: Any) -> Iterable[tuple[object, object]]:
    """urllib3 keeps, by name in lower case, a list of the name and its values."""
    return [(name, value) for name, values in headers._container.items() for value in values[1:]]


def _multidict_pairs(headers: Any) -> Iterable[tuple[object, object]]:
    """aiohttp reads fields as UTF-8, and every other client as ISO 8859-1: theirs is the common reading."""
    for name, value in headers.items():
        if isinstance(value, str) and not value.isascii():
            try:
                yield name, value.encode("utf-8", "surrogateescape")
                continue
            except UnicodeEncodeError:
                pass  # Made by hand, and no octets.
        yield name, value


def _list_pairs(headers: Any) -> Iterable[tuple[object, object]]:
    return [(pair[0], pair[1]) for pair in headers if isinstance(pair, (tuple, list)) and len(pair) == 2]


def _no_pairs(headers: object) -> Iterable[tuple[object, object]]:
    return ()


_LISTINGS: dict[type, Listing] = {dict: _dict_pairs, tuple: _list_pairs}
