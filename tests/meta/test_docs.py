"""What the documents show is true: every code block runs, every docstring's example gives what it says.

Rules for a document: a ``python`` block is run as it stands, one namespace for a whole file, from top to
bottom; a line that ends in ``# -> value`` is an expression (or an assignment) whose value's ``repr`` must
be just that. In a ``sh`` block every line is a command: ``make`` targets must exist, ``bide`` commands must
be accepted as far as their help. Other blocks (output, data) are marked ``text``.
"""

import ast
import doctest
import importlib
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import bide

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
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
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__document__"}
    for line, block in blocks(document, "python"):
        run(block, line, str(document.relative_to(ROOT)), namespace)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_a_document_shows_exists(document: Path) -> None:
    for _, block in blocks(document, "sh"):
        for line in block.splitlines():
            words = [word for word in shlex.split(line, comments=True) if not re.match(r"^[A-Z_]+=", word)]
            if words[:1] == ["make"]:
                subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, check=True)
            elif words[:1] == ["bide"]:
                subprocess.run(
                    [sys.executable, "-m", "bide.cli", words[1], "--help"], capture_output=True, check=True
                )
            elif words[:1] == ["python"] and words[1].endswith(".py"):
                assert (ROOT / words[1]).is_file(), line
            else:
                assert words[:1] in ([], ["git"], ["cd"], ["pip"], ["export"], ["curl"], ["cargo"]), line


def test_every_block_says_its_language() -> None:
    for document in DOCUMENTS:
        languages = {match.group(1) for match in BLOCK.finditer(document.read_text(encoding="utf-8"))}
        assert languages <= {"python", "sh", "text", "toml", "json"}, document


@pytest.mark.parametrize("name", modules())
def test_every_example_in_a_docstring_gives_what_it_says(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
