"""The clients' own test suites, without bide and with every request going through it: ``make upstream-suites``.

Each suite comes from its client's sdist, in the version that is installed, and is run twice. What passes without
bide and fails with it is named, with the reason where it is a known one; anything else is an error.

Rules of this file: nothing of a suite is changed or left out but for what needs the internet. ``KNOWN`` holds
what asserts just what bide changes on purpose.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as xml
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent


class Suite(NamedTuple):
    tests: tuple[str, ...]
    options: tuple[str, ...] = ()


SUITES = {
    "urllib3": Suite(("test/test_retry.py",)),
    "requests": Suite(("tests",)),
    "httpx": Suite(("tests/client", "tests/test_timeouts.py", "tests/test_auth.py", "tests/test_api.py")),
    "aiohttp": Suite(("tests/test_client_functional.py", "tests/test_client_middleware.py"), ("-n", "0")),
}

REPEATED = "counts the tries: a connection that cannot be made is tried five times"
PUT_OFF = (
    "a 5xx is asked for again, and put off in the end: get() itself raises what raise_for_status() would, and "
    "bide.Deferred, in one exception"
)
KNOWN = {
    "tests.client.test_*client.test_raise_for_status*": PUT_OFF,
    "tests.test_requests.TestRequests.test_status_raising": PUT_OFF,
    "tests.test_client_functional.test_ok_from_status*500*": PUT_OFF,
    "tests.test_client_functional.test_connection_timeout_error*": REPEATED,
    "tests.test_client_functional.test_upload_tracker_connect_error*": REPEATED,
    "tests.test_client_functional.test_upload_tracker_redirect_to_unreachable_host*": REPEATED,
}
"""Pattern of a test's name -> why it may fail with bide."""


def fetch(client: str, folder: Path) -> Path:
    """The unpacked sdist of a client, in the installed version."""
    version = importlib.metadata.version(client)
    found = list(folder.glob(f"{client}-{version}.tar.gz"))
    if not found:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", client]
        subprocess.run([*command, f"{client}=={version}", "--dest", str(folder)], check=True)
        found = list(folder.glob(f"{client}-{version}.tar.gz"))
    with tarfile.open(found[0]) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"{client}-{version}"


def outcomes(client: str, source: Path, with_bide: bool) -> dict[str, str]:
    """Name of each test -> "passed", "failed" or "skipped"."""
    suite = SUITES[client]
    report = source / f"report-{with_bide}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--color=no", f"--junitxml={report}"]
    command += [*suite.options, *suite.tests]
    environment = {**os.environ, "BIDE_UPSTREAM": client, "PYTHONPATH": str(HERE)}
    if with_bide:
        command += ["-p", "everywhere"]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    (source / f"output-{with_bide}.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    found = {}
    for case in xml.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        name = f"{case.get('classname')}.{case.get('name')}"
        found[name] = "failed" if "failed" in (outcome, found.get(name)) else outcome
    return found


def compare(client: str, folder: Path) -> int:
    """Prints what differs; how many of those are not known."""
    source = fetch(client, folder)
    without, with_bide = outcomes(client, source, False), outcomes(client, source, True)
    passed = [name for name, outcome in without.items() if outcome == "passed"]
    lost = [name for name in passed if with_bide.get(name) != "passed"]
    version = importlib.metadata.version(client)
    kept = len(passed) - len(lost)
    print(
        f"{client} {version}: of {len(without)} tests {len(passed)} pass without bide, {kept} of those with it"
    )
    unknown = 0
    for name in lost:
        reason = next((reason for pattern, reason in KNOWN.items() if fnmatch(name, pattern)), None)
        unknown += reason is None
        print(f"  {name}: {reason or 'NOT KNOWN'}", flush=True)
    return unknown


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clients", nargs="*", default=list(SUITES), help="default: all")
    parser.add_argument("--folder", type=Path, help="where the sdists are kept; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        unknown = sum(compare(client, folder) for client in arguments.clients)
    sys.exit(f"{unknown} tests fail with bide that pass without it" if unknown else 0)


if __name__ == "__main__":
    main()
