"""What the documents show is true: every code block runs, every docstring's example gives what it says.

Rules for a document: a ``python`` block is run as it stands, one namespace for a whole file, from top to
bottom; a line that ends in ``# -> value`` is an expression (or an assignment) whose value's ``repr`` must
be just that. A function whose name begins with ``test_`` is called in the end. The hosts that a block may
speak to are in ``conftest.py``. In a ``sh`` block every line is a command: ``make`` targets, ``bide`` commands
and their options must exist. Other blocks (output, data) are marked ``text``.
"""

import ast
import contextlib
import doctest
import functools
import importlib
import io
import json
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest
import requests

import bide
import bide.cli._app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benches").rglob("*.md")),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: Path, language: str) -> list[tuple[int, str]]:
    text = document.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start(2)), match.group(2))
        for match in BLOCK.finditer(text)
        if match.group(1) == language
    ]


def modules() -> list[str]:
    found = pkgutil.walk_packages(bide.__path__, "bide.")
    return ["bide", *sorted(module.name for module in found if not module.name.endswith("__main__"))]


def run(block: str, line: int, name: str, namespace: dict[str, object]) -> None:
    """Runs a block statement by statement, and compares what ``# -> `` promises."""
    lines = block.splitlines()
    for statement in ast.parse(block).body:
        module = ast.Module([statement], type_ignores=[])
        ast.increment_lineno(module, line)
        end = statement.end_lineno
        assert end is not None
        _, arrow, promised = lines[end - line - 1].partition("# -> ")
        if not arrow:
            exec(compile(module, name, "exec"), namespace)
        elif isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), name, "eval"), namespace)
            assert repr(value) == promised.strip(), f"{name}:{end}"
        else:
            exec(compile(module, name, "exec"), namespace)
            assert isinstance(statement, ast.Assign)
            target = ast.unparse(statement.targets[0])
            assert repr(eval(target, namespace)) == promised.strip(), f"{name}:{end}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_python_block_of_a_document_runs_and_keeps_its_promises(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, internet: object
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__document__"}
    try:
        for line, block in blocks(document, "python"):
            run(block, line, str(document.relative_to(ROOT)), namespace)
        for name, value in namespace.items():
            if name.startswith("test_") and callable(value):
                value()
    finally:
        for client in namespace.values():
            if isinstance(client, httpx.Client | requests.Session):
                client.close()


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@functools.cache
def help_of(command: str, *words: str) -> str | None:
    """What a command says of itself; None when there is no such command. bide is asked in this process."""
    if command == "bide":
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = bide.cli._app.run([*words, "--help"])
        return said.getvalue() if code == 0 else None
    done = subprocess.run(
        [sys.executable, "-m", command, *words, "--help"], capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else None


def check_options(line: str, help_text: str | None, words: list[str]) -> None:
    assert help_text is not None, f"{line}: there is no such command"
    for word in words:
        if re.match(r"--?[a-z]", word):
            assert re.search(rf"(?<![\w-]){re.escape(word.partition('=')[0])}\b", help_text), (
                f"{line}: no {word}"
            )


def check_bide(line: str, words: list[str]) -> None:
    """A command of bide; its options may be those of a command below it (``bide policies NAME``)."""
    own = help_of("bide", words[1])
    below = help_of("bide", *words[1:3]) if len(words) > 2 and re.match(r"[a-z]", words[2]) else None
    check_options(line, own and own + (below or ""), words[2:])


def check_pip(line: str, words: list[str]) -> None:
    """What is installed of bide has only extras that there are."""
    for word in words[2:]:
        extras = re.fullmatch(r"(?:bide|\.)\[([\w,]+)\].*", word)
        if extras:
            assert set(extras[1].split(",")) <= PROJECT["optional-dependencies"].keys(), line


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_a_document_shows_exists(document: Path) -> None:
    for _, block in blocks(document, "sh"):
        for line in block.splitlines():
            words = [word for word in shlex.split(line, comments=True) if not re.match(r"^[A-Z_]+=", word)]
            ends = [index for index, word in enumerate(words) if word == "|"]
            for begin, end in zip([0, *(end + 1 for end in ends)], [*ends, len(words)], strict=True):
                check_command(line, words[begin:end])


def check_command(line: str, words: list[str]) -> None:
    match words[:1]:
        case ["make"]:
            subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, check=True)
        case ["bide"]:
            check_bide(line, words)
        case ["pip"]:
            check_pip(line, words)
        case [("gunicorn" | "uvicorn") as server]:
            check_options(line, help_of(server), words)
        case ["python"] if words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), line
        case command:
            assert command in ([], ["git"], ["cd"], ["export"], ["curl"], ["cargo"]), line


TESTS = {
    path.relative_to(ROOT).as_posix(): set(
        re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    )
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_that_a_document_names_exists(document: Path) -> None:
    text = BLOCK.sub("", document.read_text(encoding="utf-8"))
    for path, name in re.findall(r"`(?:(tests/[\w/]+\.py)::)?(test_\w+)`", text):
        homes = {path} if path else {path for path, names in TESTS.items() if name in names}
        assert homes, f"{document.name}: there is no {name}"
        assert any(name in TESTS.get(home, ()) for home in homes), f"{document.name}: no {path}::{name}"


def test_every_line_of_the_threat_model_names_its_test() -> None:
    rows = re.findall(r"^\| .*", (ROOT / "SECURITY.md").read_text(encoding="utf-8"), re.MULTILINE)
    claims = [row for row in rows if not row.startswith("| It tries")]
    assert len(claims) >= 20
    assert not [row for row in claims if "::test_" not in row.split("|")[3]]


def test_every_block_says_its_language() -> None:
    for document in DOCUMENTS:
        languages = {match.group(1) for match in BLOCK.finditer(document.read_text(encoding="utf-8"))}
        assert languages <= {"python", "sh", "text", "toml", "json"}, document


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_of_data_can_be_read(document: Path) -> None:
    for language, read in (("toml", tomllib.loads), ("json", json.loads)):
        for _, block in blocks(document, language):
            assert read(block)


@pytest.mark.parametrize("name", modules())
def test_every_example_in_a_docstring_gives_what_it_says(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
