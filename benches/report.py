"""From `results-limiter.json` to the tables and charts of `README.md`: what stands between its marks is replaced.

The charts are SVG with both colour schemes in them: a viewer's preference for dark is followed.
"""

import json
from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results-limiter.json"
README = HERE / "README.md"
BEGIN, END = "<!-- limiter: begin (make bench-peers writes this) -->", "<!-- limiter: end -->"

FLOOR = "a native method that does nothing"
HIDDEN_IN_CHARTS = {"an empty loop"}
TARGETS = [
    # what, numerator, denominator, the keys, at most
    ("`try_acquire` / floodgate-rs", "bide, native", "floodgate-rs", (1, 1_000), 0.40),
    ("`try_acquire` / rust-py-rate-limit", "bide, native", "rust-py-rate-limit", (1, 1_000), 0.25),
    ("`try_acquire` / floodgate-rs", "bide, native", "floodgate-rs", (100_000, 1_000_000), 0.50),
    ("`try_acquire` / rust-py-rate-limit", "bide, native", "rust-py-rate-limit", (100_000, 1_000_000), 0.50),
    ("`try_acquire` / a native method that does nothing", "bide, native", FLOOR, (1, 1_000), 2.2),
    ("`take` / `try_acquire`", "bide, native, take", "bide, native", (1, 1_000, 100_000, 1_000_000), 2.5),
    ("`try_acquire_many` / `try_acquire`", "bide, native, many", "bide, native", (1_000,), 0.6),
    ("`try_acquire_many` / `try_acquire`", "bide, native, many", "bide, native", (1_000_000,), 0.4),
    ("native / pure", "bide, native", "bide, pure", (1_000,), 1 / 8),
    ("native / pure, many", "bide, native, many", "bide, pure, many", (1_000,), 1 / 15),
    ("pure / limits", "bide, pure", "limits", (1_000,), 1 / 3),
]

Rows = dict[tuple[str, int, str], dict[str, Any]]


def sizes_of(rows: Rows) -> list[int]:
    return sorted({keys for _, keys, _ in rows})


def names_of(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for name, _, _ in rows))


def how_many(size: int) -> str:
    return "one key" if size == 1 else f"{size:,} keys"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def means(rows: Rows) -> str:
    sizes = sizes_of(rows)
    lines = [
        "| ns per call, mean of the best round | " + " | ".join(f"{size:,}" for size in sizes) + " |",
        "|---|" + "---:|" * len(sizes),
    ]
    for name in names_of(rows):
        cells = []
        for size in sizes:
            both = [rows.get((name, size, verdict)) for verdict in ("admit", "deny")]
            cells.append(" / ".join("-" if row is None else number(row["mean_ns"]) for row in both))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def percentiles(rows: Rows) -> str:
    sizes = sizes_of(rows)
    lines = [
        "| ns of single calls, admitted: p50 / p99 / p99.99 | " + " | ".join(f"{n:,}" for n in sizes) + " |",
        "|---|" + "---:|" * len(sizes),
    ]
    for name in names_of(rows):
        found = [rows.get((name, size, "admit"), {}) for size in sizes]
        if any("p50_ns" in row for row in found):
            cells = [f"{row['p50_ns']:,} / {row['p99_ns']:,} / {row['p99_99_ns']:,}" for row in found]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def compared(rows: Rows) -> list[tuple[str, int, float, float]]:
    """Each aim: what, at how many keys, the ratio measured, the most it should be."""
    found = []
    for what, above, below, sizes, at_most in TARGETS:
        for size in sizes:
            one, other = rows.get((above, size, "admit")), rows.get((below, size, "admit"))
            if one and other:
                found.append((what, size, one["mean_ns"] / other["mean_ns"], at_most))
    return found


def ratios(rows: Rows) -> str:
    lines = ["| ratio, admitted | keys | measured | aim, at most |", "|---|---:|---:|---:|"]
    for what, size, ratio, at_most in compared(rows):
        lines.append(f"| {what} | {size:,} | {ratio:.3f} | {at_most:.3f} |")
    return "\n".join(lines)


def losses(rows: Rows) -> str:
    """Every row in which somebody who limits is faster than the native limiter, and every aim missed."""
    lines = []
    for (name, size, verdict), row in rows.items():
        ours = rows.get(("bide, native", size, verdict))
        if ours and not name.startswith("bide") and name not in {FLOOR, *HIDDEN_IN_CHARTS}:
            if row["mean_ns"] < ours["mean_ns"]:
                lines.append(f"- {how_many(size)}, {verdict}: {name} {number(row['mean_ns'])} ns, ")
                lines[-1] += f"bide {number(ours['mean_ns'])} ns."
            for share in ("p99_ns", "p99_99_ns"):
                if row.get(share, 1e9) < ours[share]:
                    label = share[1:-3].replace("_", ".")
                    lines.append(
                        f"- {how_many(size)}, {verdict}, p{label} of single calls: {name} {row[share]:,} ns, "
                        f"bide {ours[share]:,} ns."
                    )
    for what, keys, ratio, at_most in compared(rows):
        if ratio > at_most:
            lines.append(f"- {how_many(keys)}: {what} is {ratio:.2f}, aimed at {at_most:.2f} at most.")
    return "\n".join(lines) or "In no row of this run was another limiter faster."


def chart(rows: Rows, size: int) -> str:
    """Bars of the means at one number of keys, on a logarithmic scale."""
    from math import log10

    shown = [
        (name, rows[name, size, "admit"]["mean_ns"])
        for name in names_of(rows)
        if name not in HIDDEN_IN_CHARTS and (name, size, "admit") in rows
    ]
    shown.sort(key=lambda one: one[1])
    left, width, step, top = 250, 740, 26, 44
    height = top + step * len(shown) + 14
    lowest, highest = 1.0, max(log10(value) for _, value in shown)
    scale = (width - left - 80) / (highest - lowest)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>Nanoseconds of one admitted call, {how_many(size)} in random order</title>",
        "<style>",
        "text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600 }",
        ".other { fill: #9aa4af } .bide { fill: #0969da } .floor { fill: #d0d7de }",
        "@media (prefers-color-scheme: dark) {",
        "text { fill: #e6edf3 } .other { fill: #6e7681 } .bide { fill: #58a6ff } .floor { fill: #3d444d } }",
        "</style>",
        f'<text class="title" x="8" y="22">One admitted call, {how_many(size)}: nanoseconds '
        "(logarithmic; less is better)</text>",
    ]
    for position, (name, value) in enumerate(shown):
        y = top + step * position
        kind = "bide" if name.startswith("bide") else "floor" if name == FLOOR else "other"
        bar = max(2.0, (log10(max(value, 10.0)) - lowest) * scale)
        parts.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="{kind}" x="{left}" y="{y + 2}" width="{bar:.1f}" height="17" rx="2"/>')
        parts.append(f'<text x="{left + bar + 6:.1f}" y="{y + 15}">{number(value)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    rows: Rows = {(row["name"], row["keys"], row["verdict"]): row for row in results["rows"]}
    charts = []
    for size in sizes_of(rows):
        path = HERE / f"limiter-{size}.svg"
        path.write_text(chart(rows, size), encoding="utf-8")
        charts.append(f"![One admitted call, {how_many(size)}]({path.name})")
    versions = ", ".join(f"{package} {version}" for package, version in results["versions"].items())
    section = "\n\n".join(
        [
            f"Measured on {results['date']}: {results['machine']}; {results['python']}; {versions}.",
            *charts,
            "Admitted / refused, by the number of keys, in random order, the loop included:",
            means(rows),
            percentiles(rows),
            ratios(rows),
            "### Where we lose",
            losses(rows),
        ]
    )
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{section}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
