"""Builds every package of bide into ``dist/`` and tries each where a stranger would: in an environment of its own.

Rules of this file
- What is tried is what is installed: the tests are copied to a folder without the sources, and a package that is
  found anywhere but in its environment is an error.
- What cannot be built here is said, with the reason; what fails ends the run.
- The standard library alone; it runs under the interpreter that the stable wheel is built with.

    make wheels                                                     all of it
    make wheels PYTHON_FREETHREADED=/path/to/python3.13t            with the free-threaded wheel
    make wheels ARGS="--only pure"                                  one package: native, sdist, freethreaded or pure
    python packages/wheels.py --smaller dist                        pack the wheels in a folder more tightly
    python packages/wheels.py --try dist                            use the wheel in a folder that this Python takes
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from email import message_from_bytes
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
BUILT: list[Path] = []
"""The wheels of this run."""
LARGEST_NATIVE = 600 * 1024
"""Bytes that the native wheel may have."""

CLIENTS = "[aiohttp,cli,httpx,httpx2,otel,requests,stamina,tenacity,urllib3]"
TOOLS = ("pytest", "hypothesis>=6.100", "trustme", "trio", "http-sf", "opentelemetry-sdk")
# What asks nothing of the sources: the rest of tests/meta reads documents, workflows and this folder.
WHOLE = (
    "tests/limiter", "tests/policy", "tests/policies", "tests/driver", "tests/clients", "tests/servers",
    "tests/stores", "tests/cli", "tests/examples", "tests/meta/test_exports.py",
)  # fmt: skip
# Where the servers of the tests have no package: what needs none.
WIDER = (
    *WHOLE[:4], "tests/clients/test_httpx.py", "tests/cli/test_explain.py", "tests/meta/test_exports.py",
)  # fmt: skip
# Where the wheel is one of several: the limiter and the policies, without what a client's package must be there for.
NEED_CLIENTS = ("test_headers.py", "test_replies.py")
CORE = (*WHOLE[:3], *(f"--ignore=tests/policy/{name}" for name in NEED_CLIENTS))
# Newer ones are built with Rust and have no wheel for a free-threaded CPython 3.13.
FREETHREADED_TOOLS = ("pytest", "pytest-run-parallel", "hypothesis<6.140", "http-sf")

# The same files, deflated as well as deflate can: the best way of packing is searched for.
PACK = """
import sys, zipfile
import zopfli.zlib

class Tightly:
    def __init__(self):
        self.parts = []

    def compress(self, data):
        self.parts.append(data)
        return b""

    def flush(self):
        return zopfli.zlib.compress(b"".join(self.parts))[2:-4]  # without zlib's frame

zipfile._get_compressor = lambda *_: Tightly()
for path in sys.argv[1:]:
    with zipfile.ZipFile(path) as wheel:
        files = [(entry, wheel.read(entry)) for entry in wheel.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for entry, data in files:
            wheel.writestr(entry, data)
    assert zipfile.ZipFile(path).testzip() is None
"""

SMOKE = """
import bide, sys
assert bide.__file__.startswith(sys.prefix), bide.__file__
assert bide.IMPLEMENTATION == sys.argv[1], bide.IMPLEMENTATION
limiter = bide.Limiter("2/minute")
assert [limiter.try_acquire("a key") for _ in range(3)] == [True, True, False]
assert bide.decide(bide.Reply(429, {"Retry-After": "7"}), bide.CLEVER, draw=0.0).wait == 7.0
assert len(bide.policies.names()) > 100
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PACKAGES, help="build and try one package alone")
    parser.add_argument("--no-tests", action="store_true", help="build and install, without the test suite")
    parser.add_argument(
        "--try", dest="folder", type=Path, help="build nothing: use the only wheel in this folder"
    )
    parser.add_argument(
        "--smaller", type=Path, help="build nothing: pack the wheels in this folder more tightly"
    )
    options = parser.parse_args()
    if options.smaller:
        pack_tightly(*options.smaller.resolve().glob("*.whl"))
        return
    if options.folder:
        (wheel,) = options.folder.resolve().glob("*.whl")
        tried(wheel, sys.executable, "pure" if "py3-none-any" in wheel.name else "native")
        return
    DIST.mkdir(exist_ok=True)
    for name in [options.only] if options.only else list(PACKAGES):
        PACKAGES[name](not options.no_tests)
    same_metadata()


# Packages ------------------------------------------------------------------------------------------------


def native(tests: bool) -> None:
    """One wheel for every CPython from 3.11 on."""
    wheel = built(
        "native", "*-abi3-*.whl", python=sys.executable, settings=("build-args=--compatibility pypi",)
    )
    pack_tightly(wheel)
    size = wheel.stat().st_size
    if size > LARGEST_NATIVE:
        raise SystemExit(f"wheels: {wheel.name} has {size:,} bytes; {LARGEST_NATIVE:,} are allowed")
    tried(wheel, sys.executable, "native", *suite(tests))
    for python in ("python3.12", "python3.13", "python3.14"):
        if runs(python) and not free_threaded(python):
            tried(wheel, python, "native")


def sdist(tests: bool) -> None:
    """The sources with their crates: built without a network and with an empty cargo home."""
    with tempfile.TemporaryDirectory() as scratch:
        python = environment(Path(scratch) / "build", sys.executable)
        install(python, "build", "maturin>=1.9.4,<2")
        say("sdist: the source distribution, with its crates")
        run(python, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(DIST), str(ROOT))
        source = newest("*.tar.gz")
        say("sdist: its wheel, from an empty cargo home and without a network")
        offline = {"CARGO_NET_OFFLINE": "true", "CARGO_HOME": str(Path(scratch) / "cargo")}
        command = (
            python,
            "-m",
            "pip",
            "wheel",
            "--no-index",
            "--no-deps",
            "--no-build-isolation",
            "--no-cache-dir",
        )
        run(*command, "--quiet", "--wheel-dir", scratch, str(source), environ=offline)
        (wheel,) = Path(scratch).glob("*.whl")
        tried(wheel, sys.executable, "native", CORE if tests else (), "", TOOLS)


def freethreaded(tests: bool) -> None:
    """A wheel for the free-threaded CPython at hand."""
    python = os.environ.get("PYTHON_FREETHREADED") or next(
        (name for name in ("python3.14t", "python3.13t") if runs(name)), ""
    )
    if not python:
        say("freethreaded: skipped: no free-threaded CPython here (PYTHON_FREETHREADED=/path/to/python3.13t)")
        return
    if not free_threaded(python):
        raise SystemExit(f"wheels: {python} is no free-threaded CPython 3.13 or newer")
    wheel = built("freethreaded", "*t-*.whl", python=python, settings=("build-args=--compatibility pypi",))
    pack_tightly(wheel)
    tried(wheel, python, "native", CORE if tests else (), "", FREETHREADED_TOOLS)


def pure(tests: bool) -> None:
    """One wheel for everything else: PyPy, Pyodide, places without Rust."""
    wheel = built("pure", "*-py3-none-any.whl", python=sys.executable, settings=("pure=true",))
    tried(wheel, sys.executable, "pure", *suite(tests))


PACKAGES: dict[str, Callable[[bool], None]] = {
    "native": native, "sdist": sdist, "freethreaded": freethreaded, "pure": pure,
}  # fmt: skip


# Steps ---------------------------------------------------------------------------------------------------


def suite(tests: bool) -> tuple[Sequence[str], str, Sequence[str]]:
    """The tests that this machine can run of a wheel, and the extras and the tools that they need."""
    is_home = (sys.platform, platform.machine(), sys.implementation.name) == ("linux", "x86_64", "cpython")
    if not tests:
        return (), "", ()
    return (WHOLE, "[dev]", ()) if is_home and sys.version_info < (3, 14) else (WIDER, CLIENTS, TOOLS)


def built(name: str, pattern: str, python: str, settings: Sequence[str]) -> Path:
    say(f"{name}: the wheel")
    for old in DIST.glob(pattern):
        old.unlink()
    # Nothing of this machine's folders is left in the file.
    paths = f"--remap-path-prefix={Path.home()}=home --remap-path-prefix={ROOT}=bide"
    run(
        python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-cache-dir", "--wheel-dir", str(DIST),
        *(f"--config-settings={setting}" for setting in settings), str(ROOT),
        environ={"RUSTFLAGS": paths, "CARGO_TARGET_DIR": str(ROOT / "target" / "wheels")},
    )  # fmt: skip
    BUILT.append(newest(pattern))
    return BUILT[-1]


def pack_tightly(*wheels: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        python = environment(Path(scratch) / "environment", sys.executable)
        install(python, "zopfli>=0.2")
        run(python, "-I", "-c", PACK, *map(str, wheels))


def tried(
    wheel: Path,
    python: str,
    implementation: str,
    tests: Sequence[str] = (),
    extras: str = "",
    tools: Sequence[str] = (),
) -> None:
    """Installs a wheel into an environment of its own, uses it, and runs the tests against it."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        inside = environment(Path(scratch) / "environment", python)
        install(inside, f"bide{extras} @ {wheel.as_uri()}", *(tools if tests else ()))
        run(inside, "-I", "-c", SMOKE, implementation, cwd=Path(scratch))
        if tests:
            folder = Path(scratch) / "project"
            ignored = shutil.ignore_patterns("__pycache__")
            for part in ("tests", "examples", "fuzz"):
                shutil.copytree(ROOT / part, folder / part, ignore=ignored)
            shutil.copy(ROOT / "pyproject.toml", folder)
            forced = {"BIDE_PURE": "1"} if implementation == "pure" else {}
            run(
                inside,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                *tests,
                cwd=folder,
                environ=forced,
            )
    version = subprocess.run([python, "-VV"], capture_output=True, text=True, check=True).stdout.split(" (")[
        0
    ]
    what = f"{wheel.name}, {wheel.stat().st_size / 1024:,.0f} KiB, in {version}, {implementation}"
    say(f"{what}: works{' and passes its tests' if tests else ''} ({time.monotonic() - started:.0f} s)")


def same_metadata() -> None:
    """Whatever wheel of this run pip takes, it is the same project."""
    found = {}
    for wheel in BUILT:
        with zipfile.ZipFile(wheel) as archive:
            (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            found[wheel.name] = message_from_bytes(archive.read(path)).items()
    if len({tuple(items) for items in found.values()}) > 1:
        raise SystemExit(f"wheels: the metadata of {', '.join(found)} differ")
    say(f"the metadata of {len(found)} wheels are the same")


def environment(folder: Path, python: str) -> str:
    run(python, "-m", "venv", str(folder))
    return str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")


def install(python: str, *requirements: str) -> None:
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)


def newest(pattern: str) -> Path:
    return max(DIST.glob(pattern), key=lambda path: path.stat().st_mtime)


def runs(python: str) -> bool:
    found = shutil.which(python)
    return (
        found is not None
        and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0
    )


def free_threaded(python: str) -> bool:
    code = "import sys; sys.exit(getattr(sys, '_is_gil_enabled', lambda: True)())"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def run(*command: str, cwd: Path = ROOT, environ: dict[str, str] | None = None) -> None:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "BIDE_", "VIRTUAL_"))
    }
    done = subprocess.run(command, cwd=cwd, env={**kept, **(environ or {})}, check=False)
    if done.returncode:
        raise SystemExit(f"wheels: {' '.join(command[:6])} ... ended with {done.returncode}")


def say(text: str) -> None:
    print(f"wheels: {text}", flush=True)


if __name__ == "__main__":
    main()
