"""From `results-*.json` to the charts and to the limiter's tables in `README.md`, which stand between its marks.

Rules of this file: nothing is measured here, and nothing is shown that is not recorded.
"""

import json
from pathlib import Path
from typing import Any

from charts import Bar, bars

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
    found = {
        name: rows[name, size, "admit"]["mean_ns"] for name in names_of(rows) if (name, size, "admit") in rows
    }
    shown = sorted((mean, name) for name, mean in found.items() if name not in HIDDEN_IN_CHARTS)
    return bars(
        f"Nanoseconds of one admitted call, {how_many(size)} in random order",
        f"One admitted call, {how_many(size)}: nanoseconds (logarithmic; less is better)",
        [Bar(name, mean, number(mean), floor=name == FLOOR) for mean, name in shown],
        logarithmic=True,
    )


def memory_chart(results: dict[str, Any]) -> str:
    """Bars of the bytes for each key."""
    rows = sorted(results["rows"], key=lambda row: row["bytes"])
    keys = rows[0]["keys"]
    return bars(
        f"Resident bytes for each of {keys:,} live keys",
        f"Resident memory for each of {keys:,} live keys: bytes (less is better)",
        [Bar(row["name"], row["bytes"], f"{row['bytes']:,}") for row in rows],
    )


def goodput_chart(records: list[dict[str, Any]]) -> str:
    """Bars of the share of the quota used, with what it cost, in the usual case: the first one."""
    results = records[0]
    rows = sorted(results["rows"], key=lambda row: (-round(row["share of the quota"], 2), refusals(row)))
    return bars(
        "The share of a server's quota that eight workers used, and the 429s that they met",
        f"Share of the quota used in {results['windows']} windows of 600 requests; 429s met, the first window's too",
        [
            Bar(
                row["contender"],
                row["share of the quota"],
                f"{row['share of the quota']:.0%}, {refusals(row):,} refused",
            )
            for row in rows
        ],
        most=1.0,
    )


def refusals(row: dict[str, Any]) -> int:
    total: int = row["429s"] + row["429s in the first window"]
    return total


def others() -> None:
    """The charts of what is recorded beside the limiter's speed."""
    for name, draw in (("memory", memory_chart), ("goodput", goodput_chart)):
        recorded = HERE / f"results-{name}.json"
        if recorded.is_file():
            svg = draw(json.loads(recorded.read_text(encoding="utf-8")))
            (HERE / f"{name}.svg").write_text(svg, encoding="utf-8")


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
    others()


if __name__ == "__main__":
    main()
