"""What every command writes with: one console, and words for times and for what strangers sent.

Rules of this file: what came from outside passes ``shown`` before it is printed, so that no control character
reaches a terminal. Without a terminal, with ``NO_COLOR`` or on a dumb one there are no escape sequences.
"""

from __future__ import annotations

import os
from datetime import datetime
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["clock_time", "console", "countdown", "draws_blocks", "plain_table", "shown", "span"]

WIDEST = 100
"""Columns that are used of a wider terminal: longer lines are hard to read."""

MAX_SHOWN = 200
"""Characters of a stranger's text that are shown."""


def console() -> Console:
    """The console of standard output."""
    from rich.console import Console, ConsoleDimensions

    # Of NO_COLOR rich makes that bold stays; nothing but text is expected here.
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    made = Console(highlight=False, markup=False, emoji=False, color_system=colours)
    # Rich takes 80 columns on a dumb terminal, however wide it is.
    columns, lines = get_terminal_size()
    made.size = ConsoleDimensions(min(columns, WIDEST) if made.is_terminal else WIDEST, lines)
    return made


def plain_table(*titles: str, right: int = 0) -> Table:
    """An empty table with a thin rule under its head; columns from ``right`` on are numbers (0: none)."""
    from rich import box
    from rich.table import Table

    table = Table(*titles, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for number, column in enumerate(table.columns):
        column.overflow = "fold"
        column.justify = "right" if right and number >= right else "left"
    return table


def draws_blocks(out: Console) -> bool:
    """Whether bars can be drawn with block characters."""
    return out.encoding.lower().startswith("utf")


def shown(text: object, most: int = MAX_SHOWN) -> str:
    """Text from outside, fit for a terminal: what cannot be printed is written as an escape, what is long is
    shortened.

    >>> shown("a\\x1b[2Jb\\u202e")
    'a\\\\x1b[2Jb\\\\u202e'
    """
    text = str(text)
    text = text if len(text) <= most else text[: most - 3] + "..."
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def span(seconds: float) -> str:
    """A length of time for a person.

    >>> span(0.5), span(92), span(5400), span(200_000)
    ('0.5 s', '1 min 32 s', '1 h 30 min', '2 d 7 h')
    """
    if seconds < 60.0:
        return f"{seconds:.3g} s" if seconds < 10.0 else f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for size, unit, smaller, small_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size:,} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{whole} s"


def countdown(seconds: float) -> str:
    """Seconds as a clock that runs down.

    >>> countdown(5.21), countdown(92), countdown(90_061)
    ('0:05.2', '1:32', '25:01:01')
    """
    if seconds < 10.0:
        return f"0:{max(0.0, seconds):04.1f}"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours}:{minutes_left:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def clock_time(at: float) -> str:
    """A Unix time on this machine's clock, with the day where it is not today."""
    try:
        moment = datetime.fromtimestamp(at).astimezone()
    except (OverflowError, ValueError, OSError):
        return f"Unix time {at:.0f}"
    form = "%H:%M:%S %Z" if moment.date() == datetime.now().date() else "%Y-%m-%d %H:%M:%S %Z"
    return f"{moment:{form}}"
