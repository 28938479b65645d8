"""Bar charts as SVG, with both colour schemes in them: a viewer's preference for dark is followed.

Rules of this file: a chart is a function of its rows. bide's bars are coloured, what nobody can go below is faint, all
others are grey; every bar has its value in words beside it, so that no chart hangs on colour or on its scale.
"""

from collections.abc import Sequence
from html import escape
from math import log10
from typing import NamedTuple

STYLE = """\
<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600 }
.other { fill: #9aa4af } .bide { fill: #0969da } .floor { fill: #d0d7de }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .other { fill: #6e7681 } .bide { fill: #58a6ff } .floor { fill: #3d444d } }
</style>"""

LEFT, WIDTH, STEP, TOP = 250, 740, 26, 44


class Bar(NamedTuple):
    """One row: its name, its length, and its value in words."""

    name: str
    value: float
    shown: str
    floor: bool = False


def bars(
    title: str, heading: str, rows: Sequence[Bar], *, logarithmic: bool = False, most: float = 0.0
) -> str:
    """A chart of the rows, in their order.

    Args:
        title: what it shows, for those who do not see it.
        heading: what stands above the bars, with the unit.
        rows: the bars; a value of 0 is a line.
        logarithmic: on a scale from 10 upwards.
        most: the value of a whole bar; the greatest one's where it is 0.
    """

    def length(value: float) -> float:
        return log10(max(value, 10.0)) - 1.0 if logarithmic else value

    room = WIDTH - LEFT - 10 - 7.5 * max(len(row.shown) for row in rows)
    scale = room / length(most or max(row.value for row in rows))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {TOP + STEP * len(rows) + 14}" role="img">',
        f"<title>{escape(title)}</title>",
        STYLE,
        f'<text class="title" x="8" y="22">{escape(heading)}</text>',
    ]
    for position, row in enumerate(rows):
        y = TOP + STEP * position
        kind = "bide" if row.name.startswith("bide") else "floor" if row.floor else "other"
        bar = max(2.0, length(row.value) * scale)
        parts.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(row.name)}</text>')
        parts.append(f'<rect class="{kind}" x="{LEFT}" y="{y + 2}" width="{bar:.1f}" height="17" rx="2"/>')
        parts.append(f'<text x="{LEFT + bar + 6:.1f}" y="{y + 15}">{escape(row.shown)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
