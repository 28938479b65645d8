"""Which implementation is chosen, and that it never falls back silently."""

import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import bide
from bide.limiter import _pure

FORCED_PURE = os.environ.get("BIDE_PURE", "0") not in ("", "0")


def chosen_with(value: str | None) -> str:
    environment = {name: text for name, text in os.environ.items() if name != "BIDE_PURE"}
    if value is not None:
        environment["BIDE_PURE"] = value
    program = "import bide; print(bide.IMPLEMENTATION, bide.Limiter('1/minute').implementation)"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "native"), ("", "native"), ("0", "native"), ("1", "pure"), ("yes", "pure")],
)
def test_the_native_one_is_chosen_unless_bide_pure_is_set(value: str | None, expected: str) -> None:
    if FORCED_PURE and expected == "native":
        pytest.skip("this run is of the twin alone, the extension may not be there")
    assert chosen_with(value).split() == [expected, expected]


def test_the_public_names_are_those_of_the_chosen_one() -> None:
    expected = "pure" if FORCED_PURE else "native"
    assert expected == bide.IMPLEMENTATION
    assert (bide.Limiter is _pure.Limiter) == FORCED_PURE
    assert (bide.Outcome is _pure.Outcome) == FORCED_PURE


def test_an_extension_that_cannot_be_loaded_raises_instead_of_falling_back(tmp_path: Path) -> None:
    broken = tmp_path / "bide"
    shutil.copytree(Path(bide.__file__).parent, broken, ignore=shutil.ignore_patterns("*.so", "*.pyd"))
    (broken / f"_native{EXTENSION_SUFFIXES[0]}").write_bytes(b"not a library")
    environment = {name: text for name, text in os.environ.items() if name != "BIDE_PURE"}
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import bide; bide.Limiter",
    ]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "ImportError" in result.stderr


def test_without_an_extension_the_twin_is_there(tmp_path: Path) -> None:
    bare = tmp_path / "bide"
    shutil.copytree(Path(bide.__file__).parent, bare, ignore=shutil.ignore_patterns("*.so", "*.pyd"))
    environment = {name: text for name, text in os.environ.items() if name != "BIDE_PURE"}
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import bide; print(bide.IMPLEMENTATION)"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "pure\n"
