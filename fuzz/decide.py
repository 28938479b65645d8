"""Fuzzes the decision engine: whatever octets a server sends, ``decide`` gives a finite decision and never raises.

    make fuzz                      a minute
    make fuzz ARGS=-max_total_time=3600

The input's first octets choose the status, the policy and the moment; the rest is a header block, one field a
line, then an empty line and a body. ``run`` needs no fuzzer: the tests feed it seeds.
"""

import math
import sys

import bide

POLICIES = [bide.policies.load(name) for name in bide.policies.names()]
STATUSES = [200, 202, 301, 400, 403, 404, 413, 429, 500, 503, 529, 999]
NOW = 1_700_000_000.0


def run(data: bytes) -> None:
    """Decides one input, twice, and explains it."""
    choice, status, skew = (data[:3] + b"\0\0\0")[:3]
    head, _, body = data[3:].partition(b"\n\n")
    headers = [tuple(line.partition(b":")[::2]) for line in head.split(b"\n")[:64]]
    policy = POLICIES[choice % len(POLICIES)]
    reply = bide.Reply(STATUSES[status % len(STATUSES)], headers, body=body)
    now = NOW + (skew - 128) * 3600.0
    decision = bide.decide(reply, policy, now=now, draw=0.0)
    assert math.isfinite(decision.wait)
    assert 0.0 <= decision.wait <= 400 * 86_400
    assert decision == bide.decide(reply, policy, now=now, draw=0.0)
    explanation = bide.explain(reply, policy, now=now, draw=0.0)
    assert explanation.decision == decision
    assert str(explanation)


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()
