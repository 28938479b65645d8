"""The contract: the same bytes from a server give the same decision through every client.

``responses.jsonl`` and the bodies of ``tests/policies/cases`` hold responses as they come over the wire: of
real APIs, and hostile ones. A real server replays each to every client's adapter; the decision must be the
one about a ``Reply`` made of those bytes by hand, and ``bide.decide`` on the client's own response object
must give it, too. Some bytes are no HTTP: some clients refuse them, some make something of them; there, and
only there, clients may differ.
"""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import urllib3

import bide
from bide import _driver
from bide.testing import FakeClock, ScriptedServer, answer_bytes


class Recorded(NamedTuple):
    """One response: when it came, and its bytes."""

    id: str
    now: float
    status: int
    lines: list[str]
    body: str | None

    def to_bytes(self) -> bytes:
        body = (self.body or "").encode()
        # Where a client makes something else of the fields, it knows of no length either.
        ends = ["Connection: close"] if self.id in NOT_HTTP else []
        head = [f"HTTP/1.1 {self.status} Recorded", *ends, *self.lines, f"Content-Length: {len(body)}"]
        return "\r\n".join([*head, "", ""]).encode("latin-1") + body

    def fields(self) -> list[tuple[str, str]]:
        pairs = [line.partition(":") for line in self.lines]
        return [(name, value) for name, _, value in pairs]


RECORDED = [
    Recorded(**json.loads(line))
    for line in Path(__file__).with_name("responses.jsonl").read_text("ascii").splitlines()
]

NOT_HTTP = {
    f"hostile-{name}"
    for name in (
        "control-character", "delete-character", "nul", "fold", "fold-other", "bare-cr", "bare-lf",
        "space-before-colon", "no-colon", "no-name", "status-999",
    )
}  # fmt: skip
"""RFC 9112 sections 2.2, 5.1 and 5.2 forbid these; what a client makes of them is its own."""

POLICIES = (bide.HTTP, bide.CLEVER)

WITH_BODIES = [
    case
    for path in sorted(Path(__file__).parents[1].joinpath("policies", "cases").glob("*.jsonl"))
    for line in path.read_text("utf-8").splitlines()
    if (case := json.loads(line))["body"] and case["vendor"] in bide.policies.names()
]
"""Replies of real APIs whose bodies tell something, or could."""


class Seen(Exception):
    """The decision has been made: redirects and repetitions are no matter of this test."""


def end(_: bide.Decision) -> None:
    raise Seen


class Witness:
    """Stands in for the driver's ``decide``: notes what it was asked about, and takes chance out."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, dict[str, Any], bide.Decision]] = []
        self.now: float | None = None

    def __call__(self, reply: object, policy: bide.Policy, **arguments: Any) -> bide.Decision:
        decision = bide.decide(reply, policy, **{"now": self.now, **arguments, "draw": 0.0})
        self.seen.append((reply, arguments, decision))
        return decision


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    witness = Witness()
    monkeypatch.setattr(_driver, "decide", witness)
    return witness


def test_there_is_enough_on_record() -> None:
    assert len(RECORDED) >= 200
    assert len({recorded.id for recorded in RECORDED}) == len(RECORDED)
    assert {recorded.id for recorded in RECORDED} >= NOT_HTTP


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_the_same_bytes_give_the_same_decision(client: Any, policy: bide.Policy, witness: Witness) -> None:
    differing = []
    with ScriptedServer([recorded.to_bytes() for recorded in RECORDED]) as server:
        for count, recorded in enumerate(RECORDED, start=1):
            witness.seen.clear()
            clock = FakeClock(unix=recorded.now)
            with pytest.raises(Seen):
                client(server.url, policy=policy, clock=clock, on_decision=end)
            assert len(server.requests) == count, recorded.id
            assert len(witness.seen) == 1, recorded.id
            response, arguments, decision = witness.seen[0]
            by_hand = bide.decide(response, policy, method="GET", now=arguments["now"], draw=0.0)
            expected = bide.decide(
                bide.Reply(recorded.status, recorded.fields()), policy, now=clock.time(), draw=0.0
            )
            if not (decision == by_hand and (decision == expected or recorded.id in NOT_HTTP)):
                differing.append((recorded.id, decision, by_hand, expected))
    assert differing == []


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_a_retry_of_urllib3_decides_as_the_clients_do_about_what_it_is_asked(
    policy: bide.Policy, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """urllib3 asks it about failures alone; about all that may be repeated."""
    monkeypatch.setattr(bide.urllib3, "decide", witness)
    asked, differing = 0, []
    with (
        ScriptedServer([recorded.to_bytes() for recorded in RECORDED]) as server,
        urllib3.PoolManager(timeout=5.0) as manager,
    ):
        for recorded in RECORDED:
            witness.seen.clear()
            witness.now = recorded.now
            retry = bide.urllib3.Retry(policy=policy, on_decision=end, redirect=False)
            with contextlib.suppress(Seen):
                manager.request("GET", server.url, retries=retry)
            expected = bide.decide(
                bide.Reply(recorded.status, recorded.fields()), policy, now=recorded.now, draw=0.0
            )
            # Before the response is shown, it was asked about the status; and once about the response.
            answered = [decision for reply, _, decision in witness.seen if not isinstance(reply, bide.Reply)]
            if recorded.id in NOT_HTTP:
                continue
            may_be_repeated = expected.action in (bide.Action.RETRY, bide.Action.DEFER)
            asked += len(answered)
            if answered != [expected] and (answered or may_be_repeated):
                differing.append((recorded.id, answered, expected))
    assert differing == []
    assert asked >= 60


CODINGS = ("", "gzip", "chunked")


def coded_bytes(case: dict[str, Any], coding: str) -> bytes:
    """A case as it may come over the wire. A success that is JSON says so: no other one is looked into."""
    fields = {name: value for name, value in case["headers"].items() if value is not None}
    if not any(name.lower() == "content-type" for name in fields):
        fields["Content-Type"] = "application/json"
    pairs = [(name, one) for name, v in fields.items() for one in (v if isinstance(v, list) else [v])]
    if date := case.get("date_header"):
        pairs.append(("Date", date))
    body = case["body"].encode()
    if coding == "gzip":
        return answer_bytes(case["status"], [*pairs, ("Content-Encoding", "gzip")], gzip.compress(body))
    if coding == "chunked":
        head = answer_bytes(case["status"], [*pairs, ("Transfer-Encoding", "chunked")])
        head = head.replace(b"Content-Length: 0\r\n", b"")
        pieces = [body[at : at + 20] for at in range(0, len(body), 20)]
        return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    return answer_bytes(case["status"], pairs, body)


@pytest.mark.parametrize("turn", range(len(CODINGS)), ids=["plain first", "gzip first", "chunked first"])
def test_what_stands_in_a_body_counts_and_leaves_the_body_to_the_caller(
    client: Any, turn: int, witness: Witness
) -> None:
    """Each case goes through in each coding, a third of them in each of the three tests."""
    differing = []
    cases = [(case, CODINGS[(index + turn) % 3]) for index, case in enumerate(WITH_BODIES)]
    looked_into = 0
    with ScriptedServer([coded_bytes(*case) for case in cases]) as server:
        for case, coding in cases:
            witness.seen.clear()
            clock = FakeClock(unix=case["now"])
            policy = bide.policies.load(case["vendor"]).replace(retries=0)
            result = client(server.url, policy=policy, clock=clock, on_defer="return")
            ((response, arguments, decision),) = witness.seen
            at = {"now": arguments["now"], "draw": 0.0}
            pairs = list(response.headers.items())
            body = result.body
            if client.name == "urllib" and coding == "gzip":
                body = gzip.decompress(body)
            expected = bide.decide(bide.Reply(case["status"], pairs, body=body), policy, **at)
            by_hand = bide.decide(result.response, policy, body=body, method="GET", **at)
            blind = bide.decide(bide.Reply(case["status"], pairs), policy, **at)
            looked_into += blind != expected
            if body != case["body"].encode() or not decision == by_hand == expected:
                differing.append((case["id"], coding, decision, by_hand, expected))
    assert differing == []
    assert looked_into >= 30


@pytest.mark.parametrize("status", [200, 404, 429, 500, 501, 503])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_what_the_caller_holds_in_the_end_gives_the_decision_again(
    client: Any, policy: bide.Policy, witness: Witness, status: int
) -> None:
    """The method is the response's own request's, as every client keeps it."""
    clock = FakeClock()
    answer = answer_bytes(status, {"Retry-After": "7"} if status == 429 else {})
    with ScriptedServer([answer]) as server:
        policy = policy.replace(retries=0)
        result = client(server.url, policy=policy, on_defer="return", clock=clock)
    by_hand = bide.decide(result.response, policy, now=clock.time(), draw=0.0)
    assert by_hand == result.decision
    assert len(witness.seen) == 1
