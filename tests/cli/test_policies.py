"""``bide policies``: lists, shows, checks and drafts."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bide
from bide.cli._draft import draft
from bide.cli._recorded import Recorded, read_response
from bide.policies._check import check_text

Run = Callable[..., Any]
NAMES = bide.policies.names()


def test_all_are_listed_one_a_line_for_a_pipe_and_as_json(run_here: Run) -> None:
    ran = run_here("policies")
    listed = {line.split()[0]: line for line in ran.out.splitlines()[2:]}
    assert tuple(listed) == NAMES
    assert re.search(r"1200/minute +api\.clever\.com", listed["clever"])
    assert ran.out == "".join(f"{line.rstrip()}\n" for line in ran.out.splitlines())
    document = json.loads(run_here("policies", "--json").out)
    assert tuple(document) == NAMES
    assert document["clever"]["limits"] == ["1200/minute"]


def test_the_list_fits_a_terminal(run_in_terminal: Run) -> None:
    ran = run_in_terminal("policies", columns=60)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", ran.out).splitlines()
    assert max(map(len, lines)) <= 60
    assert len(lines) < len(NAMES) + 20
    assert "api.clever.com" in ran.out
    assert tuple(line.split()[0] for line in lines[2:-1]) == NAMES  # whole, as one must write them


@pytest.mark.parametrize("name", NAMES)
def test_every_policy_is_shown_in_words_and_as_json_and_its_toml_is_right(
    run_here: Run, name: str, tmp_path: Path
) -> None:
    policy = bide.policies.load(name)
    ran = run_here("policies", name)
    assert (ran.code, ran.err) == (0, "")
    words = "".join(ran.out.split())
    for field in sorted(set(policy.program.wanted) - {"date", "age"}):
        assert field[:38] in words  # a longer one is folded in its column
    assert "`" not in ran.out
    assert json.loads(run_here("policies", "show", name, "--json").out)["name"] == name
    own = tmp_path / f"{name}.toml"
    own.write_text(run_here("policies", name, "--toml").out, "utf-8")
    assert bide.policies.read(own) == policy
    assert run_here("policies", "check", str(own)).code == 0


def test_a_policy_of_ones_own_is_shown_by_its_path(run_here: Run, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        'notes = "a\\u001b[2Jb"\n[[dialect.windows]]\nlimit = { header = "x-a", separator = " ", column = 7 }\n'
        'remaining = { header = "x-b", read = "text" }\nlength = { header = "x-c", read = "auto" }\n'
    )
    ran = run_here("policies", str(own))
    assert ran.code == 0
    assert "column 8 of those that" in ran.out
    assert "\x1b" not in ran.out
    assert run_here("policies", "show", str(own), "--toml").out == own.read_text()


def test_an_unknown_name_is_told_with_the_nearest_one(run_here: Run) -> None:
    ran = run_here("policies", "githob")
    assert (ran.code, ran.out) == (2, "")
    assert (
        ran.err
        == "bide policies: there is no policy 'githob'; did you mean 'github'? (see bide policies --help)\n"
    )


# check ---------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[str, list[tuple[int, str]]]] = [
    ("retries = -1\nmax_wait = true\n", [(1, "retries: must be 0 or more, not -1"), (2, "max_wait: must be a number")]),
    ("\n[dialect]\nwats = []\n", [(3, "dialect.wats: there is no such key; did you mean 'waits'?")]),
    ("[dialect]\n[[dialect.windows]]\nlimit = 1\n\n[[dialect.windows]]\nremaining = 'X-Left'\n",
     [(6, "in lower case")]),
    ("[[dialect.windows]]\nremaining = 'a'\nreset = { header = 'b', read = 'second' }\n",
     [(3, "did you mean 'seconds'?")]),
    ("[[dialect.waits]]\nheader = 'a'\n[[dialect.waits]]\nread = 'seconds'\n", [(3, "a Field stands in one place")]),
    ("hosts = [\n  'a',\n  7,\n]\n", [(1, "hosts[1]: must be a string, not 7")]),
    ("[statuses.429]\naction = 'retry'\nreason = 'x'\n", [(1, "needs 'advice'"), (3, "'x' is not known")]),
    ("[statuses.999]\n", [(1, "a status such as 429")]),
    ("backoff = { base = 5, cap = 1 }\n", [(1, "Backoff needs 0 < base <= cap")]),
    ("name = 'x'\nextends = 'gitub'\n", [(2, "did you mean 'github'?")]),
    ("hosts = 'api.example.org'\nretries = true\n",
     [(1, 'hosts: must be an array, not \'api.example.org\'; write ["api.example.org"]'),
      (2, "retries: must be a whole number, not true")]),
    ("[[dialect.refused_when]]\nstatus = 429\n", [(2, "must be an array, not 429; write [429]")]),
    ("[[dialect.windows]]\nlength = '60'\nremaining = 5\n",
     [(2, "must be a number or a table, not '60'"), (3, "must be a string or a table, not 5")]),
    ("retries = 1\n\n[status.429]\naction = 'retry'\n", [(3, "did you mean 'statuses'?")]),
    ("limits = ['60/fortnight']\n", [(1, "limits:")]),
    ("notes = '''\n[dialect]\nwats = 1\n'''\nwats = 2\n", [(5, "wats: there is no such key")]),
    ("a = 1\na = 2\n", [(2, "not TOML, column 6: Cannot overwrite a value")]),
    ("a = \n", [(1, "not TOML, column 5: Invalid value")]),
    ("a = '''\n\n", [(2, "not TOML")]),
    ("window = nan\n", [(1, "window: must be 0 or more")]),
    ("a = " + "[" * 3000 + "\n", [(1, "")]),
]  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), MISTAKES)
def test_every_mistake_is_told_with_its_line_and_what_to_write(
    run_here: Run, tmp_path: Path, content: str, expected: list[tuple[int, str]]
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(content)
    ran = run_here("policies", "check", str(file))
    assert ran.code == 1
    lines = ran.out.splitlines()
    assert len(lines) == len(expected)
    for line, (number, words) in zip(lines, expected, strict=True):
        assert line.startswith(f"{file}:{number}: ")
        assert words in line


def test_what_is_right_is_said_with_what_it_reads_and_several_files_are_one_exit_code(
    run_here: Run, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('extends = "github"\nhosts = ["api.github.com"]\nsource = ""\n')
    bad.write_bytes(b"\n\xff")
    ran = run_here("policies", "check", str(good), str(bad))
    assert ran.code == 1
    assert f"{good}: right: policy good reads retry-after, x-ratelimit-limit" in ran.out
    assert "api.github.com also belongs to github" in ran.out
    assert "source is empty" in ran.out
    assert f"{bad}:2: is not UTF-8" in ran.out
    assert run_here("policies", "check", str(good)).code == 0
    assert run_here("policies", "check", "-", stdin=b"retries = 1").code == 0
    missing = run_here("policies", "check", str(tmp_path / "missing.toml"))
    assert missing.code == 2
    assert "No such file or directory" in missing.err


# from-response -------------------------------------------------------------------------------------------

NOW = 1_700_000_000  # Tue, 14 Nov 2023 22:13:20 GMT

DRAFTED = [
    (429, "Retry-After: 7", "", 7, "retry-after"),
    (429, "Retry-After: Tue, 14 Nov 2023 22:13:29 GMT", "", 9, "retry-after"),
    (429, "Retry-After: 1.5", "", 1.5, "retry-after"),
    (429, f"X-RateLimit-Limit: 5|X-RateLimit-Remaining: 0|X-RateLimit-Reset: {NOW + 30}", "", 30, "x-ratelimit-reset"),
    (429, f"X-RateLimit-Remaining: 0|X-RateLimit-Reset: {NOW + 30}500", "", 30.5, "x-ratelimit-reset"),
    (429, "X-Quota-Left: 0|X-Quota-Reset: 45", "", 45, "x-quota-reset"),
    (429, "X-Rate-Limit-Remaining: 0|X-Rate-Limit-Reset-Ms: 4500", "", 4.5, "x-rate-limit-reset-ms"),
    (429, "x-ratelimit-remaining-requests: 0|x-ratelimit-reset-requests: 6m0s|x-ratelimit-remaining-tokens: 9|"
          "x-ratelimit-reset-tokens: 9h", "", 360, "x-ratelimit-reset-requests"),
    (429, "a-ratelimit-remaining: 0|a-ratelimit-reset: 2023-11-14T22:13:30Z", "", 10, "a-ratelimit-reset"),
    (429, 'RateLimit: "default";r=0;t=12|RateLimit-Policy: "default";q=5;w=60', "", 12, "ratelimit"),
    (429, "RateLimit-Limit: 5|RateLimit-Used: 5|RateLimit-Reset: 8", "", 8, "ratelimit-reset"),
    (429, "X-Hour-RateLimit-Remaining: 0|X-Second-RateLimit-Remaining: 5|X-RateLimit-Reset: 99", "", 99,
     "x-ratelimit-reset"),
    (429, "retry-after-ms: 250|Retry-After: 1", "", 0.25, "retry-after-ms"),
    (403, "X-RateLimit-Remaining: 0|X-RateLimit-Reset: 20", "", 20, "x-ratelimit-reset"),
    (403, "Retry-After: 3", "", 3, "retry-after"),
    (503, "Retry-After: 4", "", 4, "retry-after"),
    (429, "A: b", '{"retry_after": 2.5, "global": false}', 2.5, "body"),
    (429, "A: b", '{"error": {"details": [{"a": 1}, {"retryDelay": "35s"}]}}', 35, "body"),
    (429, "A: b", '{"parameters": {"retry_after_ms": 1500}}', 1.5, "body"),
    (999, "X-RateLimit-Remaining: 0|X-RateLimit-Reset: 20", "", 20, "x-ratelimit-reset"),
    (400, "X-RateLimit-Remaining: 3|X-RateLimit-Reset: 20",
     '{"error": {"code": "RATE_LIMIT_EXCEEDED", "retry_after": 5}}', 5, "body"),
]  # fmt: skip
"""Status, headers between bars, body, and the wait and its source as the draft must read them."""


@pytest.mark.parametrize(("status", "headers", "body", "wait", "source"), DRAFTED)
def test_a_draft_is_accepted_and_reads_its_response_rightly(
    run_here: Run, tmp_path: Path, status: int, headers: str, body: str, wait: float, source: str
) -> None:
    lines = [
        "Date: Tue, 14 Nov 2023 22:13:20 GMT",
        "Content-Length: 9",
        "Cache-Control: max-age=5",
        *headers.split("|"),
    ]
    stdin = "\r\n".join([f"HTTP/1.1 {status} X", *lines, "", body]).encode()
    drafted = run_here("policies", "from-response", "--host", "api.example.org", stdin=stdin)
    assert (drafted.code, drafted.err) == (0, "")
    own = tmp_path / "own.toml"
    own.write_text(drafted.out)
    assert run_here("policies", "check", str(own)).code == 0
    policy = bide.policies.read(own).replace(max_wait=None)
    assert (policy.name, policy.hosts) == ("example", ("api.example.org",))
    reply = bide.Reply(status, [line.split(": ", 1) for line in lines])
    decision = bide.decide(reply, policy, body=body, method="GET", now=float(NOW), draw=0.0)
    assert (decision.action, decision.source) == (bide.Action.RETRY, source)
    assert decision.wait == pytest.approx(wait)
    assert "# It reads that response as: retry after" in drafted.out


def test_a_draft_holds_no_value_of_the_response_but_names_and_a_code(run_here: Run) -> None:
    stdin = (
        b"HTTP/1.1 403 X\nRetry-After: 3\nSet-Cookie: hush\nX-RateLimit-Bucket: hush\nAuthorization: hush\n\n"
        b'{"token": "hush-limit of me", "error": "rate_limited", "message": "hush quota\\u001b"}'
    )
    ran = run_here("policies", "from-response", stdin=stdin)
    assert 'values = ["rate_limited"]' in ran.out
    assert "hush" not in ran.out


def test_a_draft_says_which_telling_fields_it_leaves_out(run_here: Run) -> None:
    stdin = b"HTTP/1.1 429 X\nRetry-After: 3\nX-App-Rate-Limit: 100:1,1000:120\nServer: hush\n\n"
    ran = run_here("policies", "from-response", stdin=stdin)
    assert "\n# It may tell of limits, too, and is not drafted: x-app-rate-limit.\n" in ran.out


def test_a_name_that_no_policy_may_have_is_a_mistake(run_here: Run) -> None:
    ran = run_here("policies", "from-response", "--name", 'a"b', stdin=b"HTTP/1.1 429 X\nRetry-After: 3\n\n")
    assert (ran.code, ran.out) == (2, "")
    assert "write letters, digits, - and _, 64 at most" in ran.err


def test_a_response_that_says_nothing_of_limits_is_told_so(run_here: Run) -> None:
    ran = run_here("policies", "from-response", stdin=b"HTTP/1.1 200 OK\nDate: x\nContent-Length: 2\n\n{}")
    assert ran.code == 2
    assert "no field that tells of limits or waiting" in ran.err


CASES = [
    json.loads(line)
    for path in sorted((Path(__file__).parents[1] / "policies" / "cases").glob("*.jsonl"))
    for line in path.read_text("utf-8").splitlines()
]


def test_a_draft_of_every_recorded_response_is_accepted_and_reads_three_of_four_refusals_as_their_vendors_do() -> (
    None
):
    """The rest cannot be known from one response: a unit, a rule of the vendor's, a time that is not stated."""
    read = []
    for case in CASES:
        pairs = [
            (name, single)
            for name, value in case["headers"].items()
            for single in (value if isinstance(value, list) else [value])
        ]
        body = case["body"] if isinstance(case["body"], str) else json.dumps(case["body"])
        text = draft(Recorded(case["status"], tuple(pairs), body.encode()))
        if text is None:
            continue
        policy, mistakes = check_text(text, Path("draft.toml"))
        assert policy is not None, (case["id"], mistakes)
        wait = case["expect"]["wait_s"]
        if case["expect"]["kind"] == "wait" and wait is not None:
            decision = bide.decide(
                bide.Reply(case["status"], pairs), policy.replace(max_wait=None), body=body, method="GET",
                now=case["now"], draw=0.0,
            )  # fmt: skip
            read.append(decision.action == "retry" and wait - 0.01 <= decision.wait <= wait + 1.5)
    assert len(read) > 200
    assert sum(read) >= 0.75 * len(read)


PIECES = st.sampled_from(
    [
        b"\r\n",
        b": ",
        b'"',
        b"{",
        b"[",
        b"0",
        b"-1",
        b"1e999",
        b"9" * 40,
        b"\0",
        b"\xff",
        b"\\",
        b"\x1b[2J",
        b".",
    ]
) | st.binary(max_size=4)


@given(
    case=st.sampled_from(CASES),
    status=st.integers(100, 999),
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 8), PIECES), max_size=8),
)
def test_whatever_was_recorded_is_drafted_or_refused_and_never_a_crash(
    case: dict[str, Any], status: int, changes: list[tuple[int, int, bytes]]
) -> None:
    body = case["body"] if isinstance(case["body"], str) else json.dumps(case["body"])
    fields = "".join(f"{name}: {value}\r\n" for name, value in case["headers"].items())
    data = bytearray(f"HTTP/1.1 {status} X\r\n{fields}\r\n{body}".encode())
    for position, length, piece in changes:
        data[position : position + length] = piece
    try:
        recorded = read_response(bytes(data))
    except ValueError:
        return
    text = draft(recorded)
    assert text is None or check_text(text, Path("draft.toml"))[1] == []
