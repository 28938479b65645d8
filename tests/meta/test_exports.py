"""The public surface: what ``bide`` offers is what ``__all__`` says, and every name leads somewhere."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import bide

SOURCE = Path(bide.__file__).read_text(encoding="utf-8")


def under_type_checking(modules: bool) -> set[str]:
    """What type checkers see: the modules (``from bide import x as x``), or the names that are in them."""
    block = next(node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in imports if (node.module == "bide") is modules for alias in node.names}


def test_the_table_the_types_and_all_name_the_same_things() -> None:
    assert set(bide._HOME) == set(bide.__all__) == under_type_checking(modules=False)


def test_type_checkers_know_every_public_module() -> None:
    assert under_type_checking(modules=True) == bide._MODULES


def test_all_is_without_doubles() -> None:
    assert len(bide.__all__) == len(set(bide.__all__))


@pytest.mark.parametrize("name", bide.__all__)
def test_every_public_name_is_the_object_its_module_defines(name: str) -> None:
    home = importlib.import_module(bide._HOME[name])
    assert getattr(bide, name) is getattr(home, name)
    assert name in home.__all__


@pytest.mark.parametrize("name", sorted(bide._MODULES))
def test_every_public_module_is_reached_by_its_name(name: str) -> None:
    assert getattr(bide, name) is importlib.import_module(f"bide.{name}")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'decode'"):
        _ = bide.decode  # type: ignore[attr-defined]  # the mistake under test


def test_dir_lists_every_public_name() -> None:
    assert {*bide.__all__, *bide._MODULES} <= set(dir(bide))


@pytest.mark.parametrize(
    ("module", "packages"),
    [
        ("aiohttp", ["aiohttp"]),
        ("httpx", ["httpx", "httpx2", "anyio"]),
        ("otel", ["opentelemetry"]),
        ("requests", ["requests"]),
        ("tenacity", ["tenacity"]),
        ("urllib3", ["urllib3"]),
    ],
)
def test_a_module_whose_client_is_not_installed_says_what_to_install(
    module: str, packages: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    program = f"import sys, bide; sys.modules.update(dict.fromkeys({packages})); bide.{module}"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 1
    assert f"pip install 'bide[{module}]'" in capfd.readouterr().err
