"""Fuzzes the decision engine with whatever a server may send.

The invariant: garbage in, a ``Decision`` out, whose wait is finite and not negative; ``decide`` and ``explain``
agree, and neither raises.

    make fuzz                      half a minute
    make fuzz SECONDS=3600

The input's first octets choose the policy, the status and the moment; the rest is a header block, one field a
line, then an empty line and a body. ``run`` needs no fuzzer: the tests feed it seeds. The fuzzer's own seeds are
the recorded responses of tests/policies/cases, each under its vendor's policy.
"""

import json
import math
import sys
from collections.abc import Iterator
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    atheris: Any = import_module("atheris")  # has no types, and the tests do without it
    with atheris.instrument_imports(include=["bide"]):
        import bide.policies
else:
    import bide

ROOT = Path(__file__).parent.parent
NAMES = bide.policies.names()
POLICIES = [bide.policies.load(name) for name in NAMES]
STATUSES: list[int] = [200, 202, 301, 400, 403, 404, 413, 429, 500, 503, 529, 999]
STATUSES += sorted({*HTTPStatus, *range(400, 532), 599, 600, 1000, 0, -1, 10**40} - {*STATUSES})
"""The usual ones first, then all that mean something to someone, and numbers that are no status; one octet's."""
NOW = 1_700_000_000.0


def run(data: bytes) -> None:
    """Decides one input, twice, and explains it."""
    choice, status, skew = (data[:3] + b"\0\0\0")[:3]
    head, _, body = data[3:].partition(b"\n\n")
    headers = [(name, value) for name, _, value in (line.partition(b":") for line in head.split(b"\n")[:64])]
    policy = POLICIES[choice % len(POLICIES)]
    reply = bide.Reply(STATUSES[status % len(STATUSES)], headers, body=body)
    now = NOW + (skew - 128) * 3600.0
    decision = bide.decide(reply, policy, now=now, draw=0.0)
    assert isinstance(decision, bide.Decision)
    assert math.isfinite(decision.wait)
    assert 0.0 <= decision.wait <= 400 * 86_400
    assert decision == bide.decide(reply, policy, now=now, draw=0.0)
    explanation = bide.explain(reply, policy, now=now, draw=0.0)
    assert explanation.decision == decision
    assert str(explanation)


def seeds() -> Iterator[tuple[str, bytes]]:
    """The recorded responses as inputs, each with a file name."""
    for path in sorted((ROOT / "tests" / "policies" / "cases").glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            case = json.loads(line)
            policy = NAMES.index(case["vendor"] if case["vendor"] in NAMES else "http")
            lines = [
                f"{name}:{value}\n"
                for name, values in case["headers"].items()
                for value in (values if isinstance(values, list) else [values])
            ]
            body = case["body"] or ""
            text = f"{''.join(lines)}\n{body if isinstance(body, str) else json.dumps(body)}"
            choices = bytes([policy, STATUSES.index(case["status"]), 128])
            yield case["id"].replace("/", "-"), choices + text.encode()


def main(arguments: list[str]) -> None:
    """``DIRECTORY [libFuzzer's options]``: what it finds is kept there in corpus/, and grows with each run."""
    directory = Path(arguments[1])
    for name in ("corpus", "seeds"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    for name, data in seeds():
        (directory / "seeds" / name).write_bytes(data)
    options = [*arguments[2:], f"-artifact_prefix={directory}/"]
    atheris.Setup([arguments[0], *options, str(directory / "corpus"), str(directory / "seeds")], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
