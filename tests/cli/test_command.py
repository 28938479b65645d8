"""The command line as a whole: help, completion, versions, exit codes, and how it ends when it is cut short."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import bide
from bide.cli.bench import verdict

Run = Callable[..., Any]
COMMANDS = ["explain", "policies", "simulate", "bench", "demo", "serve", "store"]
SUBCOMMANDS = [
    ["policies", "show"], ["policies", "check"], ["policies", "from-response"],
    ["store", "inspect"], ["store", "reset"],
]  # fmt: skip
COMMAND = [sys.executable, "-m", "bide.cli"]


def test_the_help_lists_every_command_an_example_and_the_exit_codes(run_here: Run) -> None:
    ran = run_here("--help")
    assert ran.code == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} +[A-Z].*\w\.$", ran.out, re.MULTILINE), command
    assert "Examples:" in ran.out
    assert "Exit codes: 0 done, 1 failed, 2 wrong use, 75 deferred" in ran.out
    assert run_here().out == ran.out


@pytest.mark.parametrize("words", [[], *([command] for command in COMMANDS), *SUBCOMMANDS], ids=" ".join)
def test_every_help_has_an_example_and_fits_eighty_columns(run_here: Run, words: list[str]) -> None:
    ran = run_here(*words, "--help")
    assert ran.code == 0
    assert re.search(r"Examples?:", ran.out)
    assert max(map(len, ran.out.splitlines())) <= 90
    assert "\x1b" not in ran.out


def test_the_version_names_the_limiter(run_here: Run) -> None:
    ran = run_here("--version")
    assert re.fullmatch(
        rf"bide \d+\.\d+\.\d+\S*, {bide.IMPLEMENTATION} limiter, Python 3\.\d+\.\d+\n", ran.out
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(run_process: Run, shell: str) -> None:
    asked = {
        "_BIDE_COMPLETE": f"complete_{shell}", "COMP_WORDS": "bide pol", "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "bide pol", "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }  # fmt: skip
    program = "from bide.cli import main; import sys; sys.argv = ['bide']; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | asked, capture_output=True, text=True, timeout=30
    )
    assert "policies" in done.stdout, done
    shown = run_process(
        "--show-completion", env={"SHELL": f"/bin/{shell}", "_TYPER_FORCE_DISABLE_TERMINAL": "1"}
    )
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("words", ["explain --policy", "simulate -p", "policies show"])
def test_a_shell_completes_the_names_of_policies(words: str) -> None:
    asked = {"_BIDE_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": f"bide {words} clo"}
    program = "from bide.cli import main; import sys; sys.argv = ['bide']; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | asked, capture_output=True, text=True, timeout=30
    )
    offered = re.findall(r"[a-z-]+", done.stdout.replace("_arguments", ""))
    assert offered == [name for name in bide.policies.names() if name.startswith("clo")], done


def test_no_stack_trace_when_the_reader_of_a_pipe_goes(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "policies", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 1
    assert errors == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [["policies"], ["--version"], ["policies", "clever", "--json"], ["--help"]])
def test_no_stack_trace_when_the_disk_is_full(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, timeout=30)
    assert done.returncode == 1
    assert done.stderr.decode() == "bide: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    "words", [["explain"], ["simulate", "--clients", "1000", "--server", "20000/minute"], ["bench", "--seconds", "15"]],
    ids=" ".join,
)  # fmt: skip
def test_ctrl_c_ends_every_command_with_130_and_no_stack_trace(words: list[str]) -> None:
    # Until the command is under way, Python itself answers Ctrl-C: it says when it is.
    program = (
        "import sys\n"
        "from bide.cli import _app, main\n"
        "run = _app.run\n"
        "_app.run = lambda words: print('ready', flush=True) or run(words)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in errors


def test_a_closed_standard_input_is_a_mistake_and_no_crash() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m bide.cli explain <&-"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_binary_garbage_is_refused_in_one_line(run_process: Run) -> None:
    garbage = bytes(range(256)) * 4000
    for words in (["explain"], ["policies", "from-response"], ["policies", "check", "-"]):
        ran = run_process(*words, stdin=garbage)
        assert ran.code in (1, 2)
        assert "Traceback" not in ran.err
        assert (ran.err + ran.out).count("\n") == 1


def test_an_endless_input_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"yes | {sys.executable} -m bide.cli explain"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "longer than 8 MiB" in done.stderr


def test_without_its_extra_the_command_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError('no', name='typer')")
    done = subprocess.run(
        [*COMMAND, "explain"], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == "bide: the command line needs an extra: pip install 'bide[cli]'\n"


# bench ---------------------------------------------------------------------------------------------------


def test_bench_measures_both_and_gives_a_verdict_in_words(run_here: Run) -> None:
    before = sum(os.times()[:4])
    ran = run_here("bench", "--seconds", "0.2")
    assert sum(os.times()[:4]) - before < 20.0, "of processor time, its processes included"
    assert ran.code == 0
    document = json.loads(run_here("bench", "--seconds", "0.1", "--json").out)
    measured = {frozenset(row) for row in document["nanoseconds"].values()}
    if find_spec("bide._native") is None:
        assert "Verdict: this installation has no native limiter" in ran.out
        assert measured == {frozenset({"pure"})}
    else:
        assert len(re.findall(r"^(?:try|take).* [\d,]+ +[\d,]+ +\d+\.\dx$", ran.out, re.MULTILINE)) == 6
        assert re.search(r"^Verdict: native is .* times", ran.out, re.MULTILINE)
        assert measured == {frozenset({"native", "pure"})}


@pytest.mark.parametrize(
    ("native", "words"),
    [
        ((10.0, 20.0), "native is 5 to 10 times as fast as the pure twin"),
        ((60.0, 90.0), "only 1.1 to 1.7 times: take the one that installs more easily"),
        ((50.0, 400.0), "native is 2.0 times as fast in the usual call, but not for: b"),
        (None, "this installation has no native limiter; the pure one takes 100 ns"),
    ],
)
def test_the_verdict_says_what_the_numbers_say(native: tuple[float, float] | None, words: str) -> None:
    found = {title: {"pure": 100.0} for title in ("a", "b")}
    if native is not None:
        found = {title: {"pure": 100.0, "native": ns} for title, ns in zip(("a", "b"), native, strict=True)}
    sentences = verdict(found, 5000.0)
    assert words in sentences[0]
    assert "of one core" in sentences[1]
