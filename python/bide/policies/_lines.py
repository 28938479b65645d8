"""In which line of a TOML file a key stands: the parser does not tell.

Rules of this file: the text is known to be TOML that parses. What cannot be found is told by the line of the
table around it.
"""

from __future__ import annotations

import re

__all__ = ["line_of"]

HEADER = re.compile(r"^\s*(?P<open>\[\[?)\s*(?P<name>[^\]#]+?)\s*\]")
KEY = re.compile(r"^\s*(?P<name>(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*[A-Za-z0-9_-]+)*)\s*=")
BARE = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")
QUOTES = re.compile(r'"""|\'\'\'')

Steps = tuple[str | int, ...]


def line_of(content: str, where: str) -> int:
    """The number of the line, from 1, of the key that ``where`` names, or of what stands around it.

    >>> line_of('[[dialect.waits]]\\nheader = "a"\\n[[dialect.waits]]\\nread = "s"', "dialect.waits[1].read")
    4
    >>> line_of("retries = 1\\n[status.429]", "status")
    2
    """
    wanted = _steps(where)
    best, depth = 1, 0
    for number, steps in _keys(content):
        common = min(len(steps), len(wanted))
        common = common if steps[:common] == wanted[:common] else 0
        if common > depth:
            best, depth = number, common
    return best


def _steps(where: str) -> Steps:
    return tuple(
        int(step[1:-1]) if step.startswith("[") else step for step in re.findall(r"\[\d+\]|[^.\[\]]+", where)
    )


def _keys(content: str) -> list[tuple[int, Steps]]:
    """Every header and key of the file with its path."""
    found: list[tuple[int, Steps]] = []
    counts: dict[Steps, int] = {}
    table: Steps = ()
    inside = ""
    for number, line in enumerate(content.splitlines(), 1):
        if inside:  # a string over several lines
            inside = "" if inside in line else inside
            continue
        header, key = HEADER.match(line), KEY.match(line)
        if key:
            found.append((number, table + _names(key["name"])))
        elif header and not line.strip().startswith("[" * 3):
            table = _indexed(_names(header["name"]), counts, header["open"] == "[[")
            found.append((number, table))
        for quotes in QUOTES.findall(line):
            inside = "" if inside == quotes else inside or quotes
    return found


def _indexed(names: Steps, counts: dict[Steps, int], is_array: bool) -> Steps:
    """A header's path with the indices of the arrays in it."""
    steps: Steps = ()
    for position, name in enumerate(names):
        steps = (*steps, name)
        if is_array and position == len(names) - 1:
            counts[steps] = counts.get(steps, -1) + 1
        if steps in counts:
            steps = (*steps, counts[steps])
    return steps


def _names(text: str) -> Steps:
    return tuple(next(filter(None, parts), "") for parts in BARE.findall(text))
