"""The packages: what a stranger gets from ``pip install``, with Rust and without, and who may publish.

Rules of this file: pip itself is run, and nothing is fetched. Building native code is ``make wheels``' part.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bide

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def backend() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bide_build", ROOT / "packages" / "bide_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pip_install(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Installs the sources into a folder, with no more on the PATH than ``commands``."""

    def install(commands: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-cache-dir"]
        return subprocess.run(
            [*command, "--target", str(tmp_path / "installed"), str(ROOT)],
            env={**os.environ, "PATH": str(commands or tmp_path / "nothing"), **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    return install


Install = Callable[..., subprocess.CompletedProcess[str]]


def last_words_of_the_build(output: str) -> str:
    """The last line that the build wrote; pip adds a few of its own, the same after every failure."""
    return output.partition("[end of output]")[0].strip().splitlines()[-1].strip()


# Without a wheel -----------------------------------------------------------------------------------------


def test_without_rust_the_installation_ends_with_what_to_do(pip_install: Install) -> None:
    done = pip_install()
    assert done.returncode != 0
    said = last_words_of_the_build(done.stdout + done.stderr)
    assert said.startswith(
        "bide: building the native limiter needs Rust, and no cargo was found. Install Rust 1.85"
    )
    assert "https://rustup.rs" in said
    assert "set BIDE_PURE_WHEEL=1 and run this again" in said


@pytest.mark.skipif(os.name == "nt", reason="a command that is a shell script")
def test_with_an_old_rust_it_ends_with_the_version_and_what_to_do(
    pip_install: Install, tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    cargo = tmp_path / "old" / "cargo"
    cargo.write_text("#!/bin/sh\necho 'cargo 1.63.0 (fd9c4297c 2022-07-01)'\n")
    cargo.chmod(0o755)
    done = pip_install(cargo.parent)
    assert done.returncode != 0
    said = last_words_of_the_build(done.stdout + done.stderr)
    assert said.startswith("bide: building the native limiter needs a newer Rust than cargo 1.63.0")
    assert "BIDE_PURE_WHEEL=1" in said


def test_the_pure_wheel_needs_no_rust_no_tool_and_no_network_and_works(
    pip_install: Install, tmp_path: Path
) -> None:
    done = pip_install(BIDE_PURE_WHEEL="1")
    assert done.returncode == 0, done.stderr
    program = """
import sys; sys.path.insert(0, sys.argv[1])
import bide
assert bide.__file__.startswith(sys.argv[1])
limiter = bide.Limiter("1/minute")
print(bide.IMPLEMENTATION, limiter.try_acquire("a"), limiter.try_acquire("a"), len(bide.policies.names()))
"""
    environ = {name: value for name, value in os.environ.items() if name != "BIDE_PURE"}
    command = [sys.executable, "-I", "-S", "-c", program, str(tmp_path / "installed")]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["pure", "True", "False", str(len(bide.policies.names()))]


# The backend ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "environ", "implementation", "pure"),
    [
        (None, "", "cpython", False),
        ({"pure": "true"}, "", "cpython", True),
        ({"pure": "false"}, "1", "cpython", False),
        (None, "1", "cpython", True),
        (None, "0", "cpython", False),
        (None, "", "pypy", True),
        ({}, "", "graalpy", True),
    ],
)
def test_the_pure_wheel_is_built_when_asked_for_and_where_there_is_no_other(
    backend: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    environ: str,
    implementation: str,
    pure: bool,
) -> None:
    monkeypatch.setenv("BIDE_PURE_WHEEL", environ)
    monkeypatch.setattr(sys.implementation, "name", implementation)
    assert backend.is_pure(settings) is pure


@pytest.mark.parametrize(
    ("free_threaded", "given", "passed_on"),
    [
        (0, {}, None),
        (1, {}, "--no-default-features "),
        (1, {"build-args": "--profile dev"}, "--no-default-features --profile dev"),
        (1, {"build-args": "--no-default-features"}, "--no-default-features"),
    ],
)
def test_a_free_threaded_python_gets_a_wheel_without_the_stable_abi(
    backend: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    free_threaded: int,
    given: dict[str, str],
    passed_on: str | None,
) -> None:
    monkeypatch.setattr(backend.sysconfig, "get_config_var", {"Py_GIL_DISABLED": free_threaded}.get)
    assert backend.for_this_python(given).get("build-args") == passed_on


def test_a_native_build_that_fails_ends_with_what_to_do(backend: ModuleType) -> None:
    said = r"could not be built; the reason is above\. .*BIDE_PURE_WHEEL=1"
    with pytest.raises(SystemExit, match=said), backend.advice_on_failure():
        raise SystemExit(1)  # as maturin does


def test_the_pure_wheel_is_whole_and_the_same_bytes_each_time(backend: ModuleType, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    names = {backend.pure_wheel(folder) for folder in folders}
    assert names == {f"bide-{version('bide')}-py3-none-any.whl"}
    wheels = [folder / names.copy().pop() for folder in folders]
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    with zipfile.ZipFile(wheels[0]) as wheel:
        files = set(wheel.namelist())
        (record,) = (name for name in files if name.endswith(".dist-info/RECORD"))
        lines = [line.rsplit(",", 2) for line in wheel.read(record).decode().splitlines()]
        assert {name for name, _, _ in lines} == files
        for name, digest, size in lines:
            data = wheel.read(name)
            assert name == record or (digest, size) == (f"sha256={backend.digest(data)}", str(len(data)))
    assert {f"bide/policies/{name}.toml" for name in bide.policies.names()} <= files
    assert {"bide/py.typed", "bide/policies/policy.schema.json", "bide/limiter/_pure.py"} <= files
    assert not [name for name in files if name.endswith((".so", ".pyd", ".pyc"))]


def test_the_pure_wheels_metadata_is_the_native_ones(backend: ModuleType, tmp_path: Path) -> None:
    """What the editable installation says was written by maturin, from the same table."""
    from importlib.metadata import distribution

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pure = backend.metadata(project, backend.version_of_the_workspace()).partition("\n\n")[0].splitlines()
    native = (distribution("bide").read_text("METADATA") or "").partition("\n\n")[0].splitlines()
    # An installation that is older than the table differs in its requirements alone.
    for field in (
        "Metadata-Version",
        "Name",
        "Version",
        "License-Expression",
        "License-File",
        "Requires-Python",
        "Summary",
    ):
        assert [line for line in pure if line.startswith(f"{field}: ")] == [
            line for line in native if line.startswith(f"{field}: ")
        ]


def test_of_a_crate_that_is_not_compiled_the_source_distribution_has_the_name_alone(
    backend: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "lib.rs").write_text("pub mod deep;")
    (tmp_path / "build.rs").write_text("fn main() {}")
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "x"\nversion = "1.0.0"\n')
    (tmp_path / ".cargo-checksum.json").write_text('{"files": {"build.rs": "0"}, "package": "abc"}')
    backend.leave_only_the_name(tmp_path)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == [".cargo-checksum.json", "Cargo.toml", "src/lib.rs"]
    assert (tmp_path / "src" / "lib.rs").read_text().startswith("compile_error!")
    assert json.loads((tmp_path / ".cargo-checksum.json").read_text()) == {"files": {}, "package": "abc"}


def test_the_backends_rust_is_the_one_that_the_crates_ask_for(backend: ModuleType) -> None:
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    assert manifest["workspace"]["package"]["rust-version"] == ".".join(map(str, backend.RUST))


# The workflows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_a_full_hash_with_its_version_beside_it(workflow: Path) -> None:
    uses = re.findall(r"uses: (.*)", workflow.read_text(encoding="utf-8"))
    assert uses
    for action in uses:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_no_right_but_what_a_job_asks_for(workflow: Path) -> None:
    text = workflow.read_text(encoding="utf-8")
    assert "\npermissions: {}\n" in text
    assert "NOT RUN HERE" in text
    jobs = re.split(r"^  (\w+):\n(?=    )", text.partition("\njobs:\n")[2], flags=re.MULTILINE)[1:]
    may_write = {}
    for name, job in zip(jobs[::2], jobs[1::2], strict=True):
        rights = re.search(r"^    permissions:\n((?:      .*\n)+)", job, re.MULTILINE)
        assert rights is not None, f"{name} asks for nothing, and would get nothing"
        may_write[name] = sorted(re.findall(r"([\w-]+): write", rights[1]))
        assert "secrets." not in job
    publishers = {"publish": ["attestations", "id-token"]} if workflow.name == "release.yml" else {}
    assert {name: rights for name, rights in may_write.items() if rights} == publishers


def test_who_may_publish_runs_no_code_of_the_project() -> None:
    publish = (
        (ROOT / ".github" / "workflows" / "release.yml")
        .read_text(encoding="utf-8")
        .partition("\n  publish:\n")[2]
    )
    assert "id-token: write" in publish
    assert "run:" not in publish
    assert "checkout" not in publish
