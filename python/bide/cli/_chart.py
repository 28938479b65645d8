"""Charts: for the terminal as text, as SVG, and as PNG where Pillow is installed.

A chart is drawn once, on a canvas that knows rectangles, lines and words; the canvas is a file format. An SVG
follows its reader's light or dark scheme; a PNG is light.

Rules of this file: numbers in, text or octets out. Colours are roles, told apart by lightness, too; a label
stands at every series, so that colour alone says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol
from xml.sax.saxutils import escape

__all__ = ["Lane", "Line", "draw_lanes", "draw_lines", "spark", "write_chart"]

WIDTH = 860
LEFT, RIGHT = 64, 24
LANE_HEIGHT = 92
BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN_BLOCKS = ".:-=+*#@"

PALETTE = {
    # role: (light, dark)
    "paper": ("#ffffff", "#14161a"),
    "title": ("#1d2430", "#e6e9ef"),
    "ink": ("#1d2430", "#e6e9ef"),
    "faint": ("#6b7380", "#98a1b0"),
    "grid": ("#dfe3e8", "#2c313a"),
    "good": ("#1f77b4", "#6cb2eb"),
    "bad": ("#c8321f", "#ff8a70"),
    "series0": ("#1f77b4", "#6cb2eb"),
    "series1": ("#c8321f", "#ff8a70"),
    "series2": ("#2c7a3f", "#7bd88f"),
    "series3": ("#7d3fb2", "#c9a2f0"),
    "series4": ("#9a6a00", "#f0c464"),
}


class Lane(NamedTuple):
    """One row of bars over time."""

    title: str
    good: Sequence[int]
    """Requests in each slice of time that were answered."""
    bad: Sequence[int]
    """Requests in each slice of time that were refused."""


class Line(NamedTuple):
    """One series of a line chart."""

    name: str
    points: Sequence[tuple[float, float]]


class Canvas(Protocol):
    """What a chart is drawn on; y grows downwards."""

    def rectangle(self, x: float, y: float, width: float, height: float, role: str) -> None: ...
    def line(self, points: Sequence[tuple[float, float]], role: str, dashed: bool = False) -> None:
        """A dashed one has two points, and is upright."""
        ...

    def words(self, x: float, y: float, text: str, role: str = "ink", anchor: str = "start") -> None: ...
    def octets(self) -> bytes: ...


class Svg:
    """A canvas that becomes an SVG."""

    def __init__(self, width: int, height: int, title: str) -> None:
        light = "".join(
            f".f-{role}{{fill:{pair[0]}}}.s-{role}{{stroke:{pair[0]}}}" for role, pair in PALETTE.items()
        )
        dark = "".join(
            f".f-{role}{{fill:{pair[1]}}}.s-{role}{{stroke:{pair[1]}}}" for role, pair in PALETTE.items()
        )
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">',
            f"<title>{escape(title)}</title>",
            f"<style>text{{font:13px system-ui,sans-serif}}.f-title{{font-weight:600}}{light}"
            f"@media(prefers-color-scheme:dark){{{dark}}}</style>",
        ]
        self.rectangle(0, 0, width, height, "paper")

    def rectangle(self, x: float, y: float, width: float, height: float, role: str) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="f-{role}"/>'
        )

    def line(self, points: Sequence[tuple[float, float]], role: str, dashed: bool = False) -> None:
        listed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = ' stroke-dasharray="3 3"' if dashed else ""
        width = 1 if role in ("grid", "faint") else 2
        self._parts.append(
            f'<polyline points="{listed}" fill="none" stroke-width="{width}"{dash} class="s-{role}"/>'
        )

    def words(self, x: float, y: float, text: str, role: str = "ink", anchor: str = "start") -> None:
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="f-{role}">{escape(text)}</text>'
        )

    def octets(self) -> bytes:
        return ("\n".join(self._parts) + "\n</svg>\n").encode()


class Png:
    """A canvas that becomes a PNG, twice as fine as it is large; needs Pillow."""

    SCALE = 2

    def __init__(self, width: int, height: int, title: str) -> None:
        from PIL import Image, ImageDraw, ImageFont

        self._image = Image.new("RGB", (width * self.SCALE, height * self.SCALE), PALETTE["paper"][0])
        self._draw = ImageDraw.Draw(self._image)
        self._font: Any = ImageFont.load_default(13 * self.SCALE)
        self._title = title

    def rectangle(self, x: float, y: float, width: float, height: float, role: str) -> None:
        if height > 0:
            corners = (
                x * self.SCALE,
                y * self.SCALE,
                (x + width) * self.SCALE - 1,
                (y + height) * self.SCALE - 1,
            )
            left, top, right, bottom = corners
            self._draw.rectangle((left, top, max(left, right), max(top, bottom)), fill=PALETTE[role][0])

    def line(self, points: Sequence[tuple[float, float]], role: str, dashed: bool = False) -> None:
        scaled = [(x * self.SCALE, y * self.SCALE) for x, y in points]
        width = 1 if role in ("grid", "faint") else 2 * self.SCALE
        if dashed:
            (x, top), (_, bottom) = scaled
            for y in range(int(top), int(bottom), 6 * self.SCALE):
                self._draw.line([(x, y), (x, min(bottom, y + 3 * self.SCALE))], PALETTE[role][0], width)
        else:
            self._draw.line(scaled, PALETTE[role][0], width)

    def words(self, x: float, y: float, text: str, role: str = "ink", anchor: str = "start") -> None:
        side = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
        place = (x * self.SCALE, y * self.SCALE)
        self._draw.text(place, text, fill=PALETTE[role][0], font=self._font, anchor=side)

    def octets(self) -> bytes:
        from io import BytesIO

        from PIL.PngImagePlugin import PngInfo

        texts = PngInfo()
        texts.add_text("Title", self._title)
        out = BytesIO()
        self._image.save(out, "png", optimize=True, pnginfo=texts)
        return out.getvalue()


def write_chart(kind: str, draw: Any, *arguments: Any) -> bytes:
    """A chart as a file's content.

    Args:
        kind: "svg" or "png".
        draw: ``draw_lanes`` or ``draw_lines``.
        arguments: what that one draws.

    Raises:
        ModuleNotFoundError: a PNG, and Pillow is not installed.
    """
    made: bytes = draw(Svg if kind == "svg" else Png, *arguments).octets()
    return made


def draw_lanes(
    make: type[Any], title: str, lanes: Sequence[Lane], seconds: float, edges: Sequence[float]
) -> Canvas:
    """Rows of stacked bars over one time axis, on one scale; dashed lines are the ends of windows."""
    height = 74 + LANE_HEIGHT * len(lanes) + 34
    canvas: Canvas = make(WIDTH, height, title)
    canvas.words(LEFT, 28, title, "title")
    canvas.rectangle(LEFT, 40, 10, 10, "good")
    canvas.words(LEFT + 16, 50, "answered", "faint")
    canvas.rectangle(LEFT + 92, 40, 10, 10, "bad")
    canvas.words(LEFT + 108, 50, "refused (429)", "faint")
    inner = WIDTH - LEFT - RIGHT
    most = max([1, *(good + bad for lane in lanes for good, bad in zip(lane.good, lane.bad, strict=True))])
    for number, lane in enumerate(lanes):
        top = 74 + LANE_HEIGHT * number
        base, room = top + LANE_HEIGHT - 18, LANE_HEIGHT - 42
        canvas.words(LEFT, top + 12, lane.title)
        canvas.words(LEFT - 8, base - room + 5, f"{most:,}", "faint", "end")
        canvas.words(LEFT - 8, base + 4, "0", "faint", "end")
        for edge in edges:
            x = LEFT + inner * edge / seconds
            canvas.line([(x, base - room), (x, base)], "faint", dashed=True)
        width = inner / max(1, len(lane.good))
        for index, (good, bad) in enumerate(zip(lane.good, lane.bad, strict=True)):
            x = LEFT + width * index
            full, part = room * (good + bad) / most, room * good / most
            if bad:
                canvas.rectangle(x, base - full, max(0.5, width - 0.6), full - part, "bad")
            if good:
                canvas.rectangle(x, base - part, max(0.5, width - 0.6), part, "good")
        canvas.line([(LEFT, base), (WIDTH - RIGHT, base)], "faint")
    base = 74 + LANE_HEIGHT * len(lanes) + 4
    for tick in _ticks(seconds):
        canvas.words(LEFT + inner * tick / seconds, base, f"{tick:g} s", "faint", "middle")
    canvas.words(
        LEFT, base + 20, "requests in each slice of time; dashed: a window of the server ends", "faint"
    )
    return canvas


def draw_lines(make: type[Any], title: str, lines: Sequence[Line], across: str, upwards: str) -> Canvas:
    """Series over one axis, each with its name at its end."""
    height, top, bottom = 420, 64, 366
    canvas: Canvas = make(WIDTH, height, title)
    canvas.words(LEFT, 28, title, "title")
    canvas.words(LEFT, 48, upwards, "faint")
    right = WIDTH - 150
    most_x = max(x for line in lines for x, _ in line.points)
    most_y = max([1e-9, *(y for line in lines for _, y in line.points)])
    for tick in _ticks(most_y):
        y = bottom - (bottom - top) * tick / most_y
        canvas.line([(LEFT, y), (right, y)], "grid")
        canvas.words(LEFT - 8, y + 4, f"{tick:,g}", "faint", "end")
    for tick in _ticks(most_x):
        canvas.words(LEFT + (right - LEFT) * tick / most_x, bottom + 20, f"{tick:,g}", "faint", "middle")
    canvas.words(LEFT, bottom + 40, across, "faint")
    placed: list[float] = []
    for number, line in sorted(enumerate(lines), key=lambda pair: -pair[1].points[-1][1]):
        role = f"series{number % 5}"
        points = [
            (LEFT + (right - LEFT) * x / most_x, bottom - (bottom - top) * y / most_y) for x, y in line.points
        ]
        canvas.line(points, role)
        y = points[-1][1]
        # Names do not lie upon each other.
        while any(abs(y - other) < 15 for other in placed):
            y += 1
        placed.append(y)
        canvas.words(right + 8, y + 4, line.name, role)
    return canvas


def _ticks(most: float) -> list[float]:
    """Round numbers from 0 to ``most``, about six of them."""
    rough = most / 6
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [round(step * index, 9) for index in range(int(most / step * (1 + 1e-9)) + 1)]


def spark(counts: Sequence[int], most: int, blocks: bool) -> str:
    """Counts as one line of bars; nothing where a count is 0.

    >>> spark([0, 1, 4, 8], 8, blocks=False)
    ' .=@'
    """
    levels = BLOCKS if blocks else PLAIN_BLOCKS
    return "".join(
        " " if count <= 0 else levels[min(len(levels), math.ceil(count / most * len(levels))) - 1]
        for count in counts
    )
