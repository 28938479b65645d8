"""``bide simulate`` and its charts: what it shows is what the runs came to, and the seed determines it."""

import json
import re
import struct
import xml.etree.ElementTree
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import bide
from bide._simulation import State, http_date
from bide.cli._chart import Lane, Line, draw_lanes, draw_lines, spark, write_chart
from bide.cli._contention import STRATEGIES, contend
from bide.cli._dialects import writer_of
from bide.policy import Field, Window

Run = Callable[..., Any]
SMALL = ("--server", "60/10s", "--clients", "4", "--windows", "3")


def test_a_limiter_leaves_no_429_and_retries_alone_do_and_both_are_charted(run_here: Run) -> None:
    ran = run_here("simulate", "--policy", "clever", *SMALL)
    assert (ran.code, ran.err) == (0, "")
    assert re.search(r"clever +one limiter for all +(9\d|100)\.\d% +\d+ +0 +0\n", ran.out)
    assert re.search(r"clever +no limiter, retries only +\d+\.\d% +\d+ +[1-9]\d* +[1-9]\d*\n", ran.out)
    assert re.search(r"^  ok .*[▁▂▃▄▅▆▇█]", ran.out, re.MULTILINE)
    assert len(re.findall(r"^ 429 .*[▁▂▃▄▅▆▇█]", ran.out, re.MULTILINE)) == 1
    assert "36 s of virtual time" in ran.out


def test_several_policies_are_compared_side_by_side_in_every_pace(run_here: Run) -> None:
    words = [
        "simulate",
        "-p",
        "github",
        "-p",
        "openai",
        "--pace",
        "shared",
        "--pace",
        "each",
        "--pace",
        "none",
    ]
    document = json.loads(run_here(*words, *SMALL, "--json").out)
    rows = {(row["policy"], row["pace"]): row for row in document["rows"]}
    assert len(rows) == 6
    assert rows["github", "shared"]["refused_later"] == 0
    assert rows["github", "shared"]["goodput"] > 0.95
    assert rows["openai", "none"]["refused_later"] > 0
    assert all(sum(row["answered_over_time"]) >= row["answered"] for row in rows.values())


def test_the_same_seed_gives_the_same_run_and_another_one_another(run_process: Run) -> None:
    words = ["simulate", "-p", "http", *SMALL, "--failures", "10", "--json"]
    first, again, other = (run_process(*words, "--seed", seed).out for seed in ("7", "7", "8"))
    assert first == again
    assert first != other


@pytest.mark.parametrize("name", bide.policies.names())
def test_what_a_server_writes_in_a_policys_dialect_that_policy_reads(name: str) -> None:
    policy = bide.policies.load(name)
    write = writer_of(policy)
    now = 1_700_000_000.0
    fields = {"Date": http_date(now), **write(State(50, 0, now + 20.0, now, True))}
    decision = bide.decide(
        bide.Reply(429, fields), policy.replace(window=20.0, max_wait=None), now=now, draw=0.0
    )
    assert decision.action is bide.Action.RETRY
    reads = policy.program.wanted.keys() & {field.lower() for field in fields} - {"date"}
    states_end = any(
        (isinstance(part, Field) and part.header) or (isinstance(part, Window) and part.reset is not None)
        for part in (*policy.dialect.windows, *policy.dialect.waits)
    )
    if reads and states_end and decision.source not in ("backoff", "default"):
        assert decision.wait == pytest.approx(20.0 + policy.dialect.margin, abs=1.1)


def test_every_policy_reads_some_window_or_wait_of_its_own_server() -> None:
    now = 1_700_000_000.0
    silent = []
    for name in bide.policies.names():
        policy = bide.policies.load(name)
        fields = {"Date": http_date(now), **writer_of(policy)(State(50, 0, now + 20.0, now, True))}
        decision = bide.decide(bide.Reply(429, fields), policy.replace(window=20.0), now=now, draw=0.0)
        if decision.source in ("backoff", "default"):
            silent.append(name)
    assert len(silent) <= 0.1 * len(bide.policies.names()), silent


# The AWS table -------------------------------------------------------------------------------------------


def test_the_preset_shows_what_jitter_is_for(run_here: Run, tmp_path: Path) -> None:
    chart = tmp_path / "aws.svg"
    ran = run_here("simulate", "--preset", "aws", "--chart", str(chart))
    assert ran.code == 0
    for name in STRATEGIES:
        assert len(re.findall(rf"^{name} +[\d,.]+ +[\d,.]+ +[\d,.]+ +[\d,.]+", ran.out, re.MULTILINE)) == 2
    factor = re.search(r"full jitter costs the server (\d+\.\d) times fewer writes", ran.out)
    assert factor is not None
    assert float(factor[1]) > 2.0  # "reduced our call count by more than half", says the article
    assert "decorrelated jitter" in chart.read_text()


def test_contention_is_what_it_is_without_a_second_client_and_grows_with_the_square_without_backoff() -> None:
    assert contend(1, STRATEGIES["full jitter"], runs=3).writes == 1.0
    twenty, forty = (contend(clients, None, runs=5).writes for clients in (20, 40))
    assert 3.0 < forty / twenty < 4.5
    assert contend(30, STRATEGIES["full jitter"], seed=1) == contend(30, STRATEGIES["full jitter"], seed=1)
    assert contend(30, STRATEGIES["full jitter"], seed=1) != contend(30, STRATEGIES["full jitter"], seed=2)


# Charts --------------------------------------------------------------------------------------------------


def test_a_chart_is_an_svg_that_any_reader_of_xml_reads_in_both_schemes(
    run_here: Run, tmp_path: Path
) -> None:
    chart = tmp_path / "chart.svg"
    assert run_here("simulate", *SMALL, "--chart", str(chart)).code == 0
    text = chart.read_text("utf-8")
    root = xml.etree.ElementTree.fromstring(text)
    names = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert names.count("rect") > 20
    assert "prefers-color-scheme:dark" in text
    assert "http, no limiter, retries only" in "".join(root.itertext())
    assert root.attrib["aria-label"].startswith("4 clients, 60 requests per 10 s")


def test_a_chart_is_a_png_where_pillow_is(run_here: Run, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    chart = tmp_path / "chart.PNG"
    assert run_here("simulate", *SMALL, "--chart", str(chart)).code == 0
    data = chart.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) > (1000, 400)


def test_without_pillow_a_png_is_one_line_that_says_what_to_install(run_process: Run, tmp_path: Path) -> None:
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise ModuleNotFoundError('no', name='PIL')")
    chart = tmp_path / "chart.png"
    ran = run_process("simulate", *SMALL, "--chart", str(chart), env={"PYTHONPATH": str(tmp_path)})
    assert ran.code == 2
    assert "pip install 'bide[png]'" in ran.err
    assert "Traceback" not in ran.err


def test_bars_are_as_high_as_their_numbers() -> None:
    lanes = [Lane("a & <b>", [10, 0, 5], [0, 0, 5])]
    root = xml.etree.ElementTree.fromstring(write_chart("svg", draw_lanes, "t", lanes, 3.0, [1.0]))
    bars = [
        (element.attrib["class"], float(element.attrib["height"]))
        for element in root.iter("{http://www.w3.org/2000/svg}rect")
    ][3:]
    assert bars == [("f-good", 50.0), ("f-bad", 25.0), ("f-good", 25.0)]


def test_names_at_the_ends_of_lines_do_not_lie_upon_each_other() -> None:
    lines = [Line(f"line {number}", [(0, 0), (10, 100 + number)]) for number in range(5)]
    root = xml.etree.ElementTree.fromstring(write_chart("svg", draw_lines, "t", lines, "x", "y"))
    heights = sorted(
        float(element.attrib["y"])
        for element in root.iter("{http://www.w3.org/2000/svg}text")
        if (element.text or "").startswith("line ")
    )
    assert all(below - above >= 15.0 for above, below in pairwise(heights))


@pytest.mark.parametrize(
    ("counts", "drawn"),
    [([], ""), ([0, 8], " █"), ([1, 2, 3, 4, 5, 6, 7, 8], "▁▂▃▄▅▆▇█"), ([9], "█"), ([-1], " ")],
)
def test_a_line_of_bars(counts: list[int], drawn: str) -> None:
    assert spark(counts, 8, blocks=True)[: len(counts)] == drawn


def test_a_terminal_without_unicode_gets_a_chart_of_ascii(run_process: Run) -> None:
    ran = run_process("simulate", *SMALL, env={"PYTHONIOENCODING": "ascii"})
    assert ran.code == 0
    assert ran.out.isascii()
    assert re.search(r"^  ok .*[.:=+*#@-]{3}", ran.out, re.MULTILINE)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_it_fits_the_terminal(run_in_terminal: Run, columns: int) -> None:
    for words in (
        (["simulate", *SMALL], ["simulate", "--preset", "aws"]) if columns == 60 else (["simulate", *SMALL],)
    ):
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", run_in_terminal(*words, columns=columns).out)
        assert max(map(len, plain.splitlines())) <= columns


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--server", "many"], "--server: 'many' is not a limit: write it as"),
        (["--server", "67000000/hour"], "that takes"),
        (["--clients", "0"], "'0'; write a whole number from 1 to 1000"),
        (["--pace", "fast"], "'shared', 'each', 'none'"),
        (["--preset", "x"], "'aws'"),
        (["--policy", "githob"], "did you mean 'github'?"),
        (["--chart", "x.gif"], "name a file that ends in .svg or .png"),
        ([*SMALL, "--chart", "/no/such/x.svg"], "cannot be written: No such file"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(run_here: Run, words: list[str], message: str) -> None:
    ran = run_here("simulate", *words)
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_a_png_holds_what_was_drawn(run_here: Run, tmp_path: Path) -> None:
    """Colours of all three roles stand in the picture."""
    pytest.importorskip("PIL")
    chart = tmp_path / "chart.png"
    assert run_here("simulate", *SMALL, "--chart", str(chart)).code == 0
    from PIL import Image

    with Image.open(chart) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1_000_000) or []}
    assert {(255, 255, 255), (0x1F, 0x77, 0xB4), (0xC8, 0x32, 0x1F)} <= colours
