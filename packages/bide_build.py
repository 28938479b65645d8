"""The build backend of bide (PEP 517, PEP 660): maturin for what is native, a few lines for what is not.

Rules of this file
- The native wheel and the editable installation are maturin's work. A free-threaded CPython has no stable ABI
  before 3.15, so that its wheel is built without one.
- The pure wheel has no native limiter and the same metadata otherwise. It is built when it is asked for
  (``BIDE_PURE_WHEEL=1``, or ``--config-settings=pure=true``) and for every Python that is not CPython; it needs
  neither Rust nor maturin nor a network.
- Who lacks Rust is told what to do in one sentence, before anything is downloaded; and again as the last line
  of a native build that failed.
- A source distribution carries the crates that the native wheel is built from. Those that no supported platform
  compiles, and those of the tests alone, are there as a name only, so that it stays small.
- The standard library alone, until maturin is asked.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUST = (1, 85)
MATURIN = "maturin>=1.9.4,<2"
TARGETS = (
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
    "x86_64-apple-darwin",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
    "x86_64-unknown-freebsd",
)
"""The platforms that the crates in a source distribution are for."""

ADVICE = (
    "Install Rust {rust} or newer (https://rustup.rs) and a C compiler, which links it, and run this again; or set "
    "BIDE_PURE_WHEEL=1 and run this again to install bide with its pure-Python limiter, which gives the same "
    "answers and needs no compiler."
).format(rust=".".join(map(str, RUST)))

Config = Mapping[str, Any] | None

# Hooks ---------------------------------------------------------------------------------------------------


def get_requires_for_build_wheel(config_settings: Config = None) -> list[str]:
    if is_pure(config_settings):
        return []
    require_rust()
    return [MATURIN]


def get_requires_for_build_editable(config_settings: Config = None) -> list[str]:
    require_rust()
    return [MATURIN]


def get_requires_for_build_sdist(config_settings: Config = None) -> list[str]:
    require_rust()
    return [MATURIN]


def build_wheel(
    wheel_directory: str, config_settings: Config = None, metadata_directory: str | None = None
) -> str:
    if is_pure(config_settings):
        return pure_wheel(Path(wheel_directory))
    with advice_on_failure():
        name: str = tool().build_wheel(wheel_directory, for_this_python(config_settings), metadata_directory)
    return name


def build_editable(
    wheel_directory: str, config_settings: Config = None, metadata_directory: str | None = None
) -> str:
    with advice_on_failure():
        name: str = tool().build_editable(
            wheel_directory, for_this_python(config_settings), metadata_directory
        )
    return name


def build_sdist(sdist_directory: str, config_settings: Config = None) -> str:
    name: str = tool().build_sdist(sdist_directory, config_settings)
    with_crates(Path(sdist_directory) / name)
    return name


def tool() -> Any:
    """maturin's own backend, which is there by the time that a hook builds."""
    return import_module("maturin")


# Choosing ------------------------------------------------------------------------------------------------


def is_pure(config_settings: Config) -> bool:
    """Whether the pure wheel is asked for, or is the only one that this Python can have."""
    asked = (config_settings or {}).get("pure", os.environ.get("BIDE_PURE_WHEEL", ""))
    return str(asked).lower() not in ("", "0", "false", "no") or sys.implementation.name != "cpython"


def for_this_python(config_settings: Config) -> dict[str, Any]:
    settings = dict(config_settings or {})
    given = str(settings.get("build-args", ""))
    if sysconfig.get_config_var("Py_GIL_DISABLED") and "--no-default-features" not in given:
        settings["build-args"] = f"--no-default-features {given}"
    return settings


def require_rust() -> None:
    """Ends the build with what to do, where there is no Rust or an old one."""
    cargo = shutil.which("cargo")
    if cargo is None:
        raise SystemExit(f"\nbide: building the native limiter needs Rust, and no cargo was found. {ADVICE}")
    said = subprocess.run([cargo, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"cargo (\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < RUST:
        version = said.strip() or "a cargo that does not run"
        raise SystemExit(f"\nbide: building the native limiter needs a newer Rust than {version}. {ADVICE}")


@contextmanager
def advice_on_failure() -> Iterator[None]:
    """Lets a failed native build end with what else can be done."""
    try:
        yield
    except (SystemExit, subprocess.SubprocessError, OSError) as error:
        raise SystemExit(
            f"\nbide: the native limiter could not be built; the reason is above. {ADVICE}"
        ) from error


# The pure wheel ------------------------------------------------------------------------------------------


def pure_wheel(folder: Path) -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = version_of_the_workspace()
    name = f"bide-{version}-py3-none-any.whl"
    info = f"bide-{version}.dist-info"
    scripts = "".join(f"{script} = {entry}\n" for script, entry in project["scripts"].items())
    files = {
        **{path.relative_to(ROOT / "python").as_posix(): path.read_bytes() for path in python_files()},
        f"{info}/METADATA": metadata(project, version).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: bide\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{scripts}".encode(),
        f"{info}/licenses/LICENSE": (ROOT / "LICENSE").read_bytes(),
    }
    record = "".join(f"{path},sha256={digest(data)},{len(data)}\n" for path, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in files.items():
            # One date for all: the same sources give the same bytes.
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, data)
    return name


def python_files() -> Iterator[Path]:
    for path in sorted((ROOT / "python" / "bide").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".so", ".pyd"):
            yield path


def version_of_the_workspace() -> str:
    """The version, which is written in one place: ``Cargo.toml``."""
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    version: str = manifest["workspace"]["package"]["version"]
    return version


def metadata(project: Mapping[str, Any], version: str) -> str:
    """The core metadata 2.4, as maturin writes it from the same table."""
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {version}",
        *(f"Classifier: {classifier}" for classifier in project["classifiers"]),
        *(f"Requires-Dist: {requirement}" for requirement in project["dependencies"]),
    ]
    extras = sorted(project["optional-dependencies"].items())
    for extra, requirements in extras:
        lines += (f"Requires-Dist: {requirement} ; extra == '{extra}'" for requirement in requirements)
    lines += (f"Provides-Extra: {extra}" for extra, _ in extras)
    lines += (f"License-File: {path}" for path in project["license-files"])
    lines += [
        f"Summary: {project['description']}",
        f"Keywords: {','.join(project['keywords'])}",
        f"License-Expression: {project['license']}",
        f"Requires-Python: {project['requires-python']}",
        "Description-Content-Type: text/markdown; charset=UTF-8; variant=GFM",
    ]
    readme = ROOT.joinpath(project["readme"]).read_text(encoding="utf-8")
    return "\n".join(lines) + "\n\n" + readme


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


# The source distribution ---------------------------------------------------------------------------------


def with_crates(archive: Path) -> None:
    """Adds ``vendor/`` and the configuration that makes cargo use it."""
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(archive) as source:
            source.extractall(scratch, filter="data")
        (folder,) = Path(scratch).iterdir()
        cargo("vendor", "--quiet", "--locked", "--versioned-dirs", "vendor", cwd=folder)
        compiled = crates_compiled(folder)
        for crate in (folder / "vendor").iterdir():
            if crate.name not in compiled:
                leave_only_the_name(crate)
        (folder / ".cargo").mkdir()
        (folder / ".cargo" / "config.toml").write_text(
            "# Builds from the crates in vendor/. Delete this file to have cargo fetch them.\n"
            '[source.crates-io]\nreplace-with = "vendor"\n\n[source.vendor]\ndirectory = "vendor"\n'
        )
        pack(folder, archive)


def crates_compiled(folder: Path) -> set[str]:
    """The crates, as ``name-version``, that the native wheel is built from on any of the platforms."""
    options = ("--locked", "--package=bide-native", "--edges=normal,build", "--prefix=none", "--format={p}")
    found: set[str] = set()
    for target in TARGETS:
        for line in cargo("tree", *options, f"--target={target}", cwd=folder).splitlines():
            name, version = line.split()[:2]
            found.add(f"{name}-{version.removeprefix('v')}")
    return found


def leave_only_the_name(crate: Path) -> None:
    """Leaves of a crate what cargo reads of one that it does not compile."""
    package = json.loads((crate / ".cargo-checksum.json").read_text(encoding="utf-8"))["package"]
    manifest = tomllib.loads((crate / "Cargo.toml").read_text(encoding="utf-8"))
    for path in crate.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "Cargo.toml":
            path.unlink()
    (crate / ".cargo-checksum.json").write_text(json.dumps({"files": {}, "package": package}))
    library = crate / manifest.get("lib", {}).get("path", "src/lib.rs")
    library.parent.mkdir(parents=True, exist_ok=True)
    library.write_text(
        'compile_error!("this source distribution does not carry the crate: delete .cargo/config.toml to fetch it");\n'
    )


def pack(folder: Path, archive: Path) -> None:
    """Writes a folder as a ``.tar.gz`` whose bytes depend on its files alone."""
    with (
        archive.open("wb") as target,
        gzip.GzipFile("", "wb", 9, target, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as result,
    ):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                entry = tarfile.TarInfo(path.relative_to(folder.parent).as_posix())
                entry.size, entry.mode = len(data), 0o755 if os.access(path, os.X_OK) else 0o644
                result.addfile(entry, io.BytesIO(data))


def cargo(*arguments: str, cwd: Path) -> str:
    return subprocess.run(
        ["cargo", *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
