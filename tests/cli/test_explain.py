"""``bide explain`` through its entry point: what it shows, for every policy, and what it never shows."""

import json
import re
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

import bide
from bide.policy import Field, StructuredWindows, Window
from bide.testing import ScriptedServer, answer_bytes

Run = Callable[..., Any]

REFUSED = b"""HTTP/2 403 \r
date: Mon, 06 Oct 2025 12:00:00 GMT\r
x-ratelimit-limit: 5000\r
x-ratelimit-remaining: 0\r
x-ratelimit-reset: 1759752090\r
retry-after: soon\r
set-cookie: session=hush\r
\r
{"message": "API rate limit exceeded"}"""


def test_it_shows_the_decision_the_wait_and_every_field_read_or_dropped_and_why(run_here: Run) -> None:
    ran = run_here("explain", "--policy", "github", "--draw", "0.5", "--now", "1759752003", stdin=REFUSED)
    assert (ran.code, ran.err) == (0, "")
    for line in (
        r"403 Forbidden",
        r"policy github, as given",
        r"RETRY in 1 min 32 s \(1:32\), at \d.*\d\d:\d\d:\d\d \S+, says x-ratelimit-reset",
        r"rate limited, attempt 1: The API refuses this request for now",
        r"quota +5,000 +0 +1 min 30 s",
        r"read +x-ratelimit-limit +5000 +5000, a count",
        r"read +x-ratelimit-reset +1759752090 +90, seconds ahead \(unix_seconds\)",
        r"dropped +retry-after +soon +not whole_seconds or http_date",
        r"2\. by its Date, the client's clock is \+3 s off",
        r"4\. wait 92\.000 s: x-ratelimit-reset, margin 1 s, spread 1\.000 s",
    ):
        assert re.search(line, ran.out), (line, ran.out)
    assert "hush" not in ran.out
    assert "\x1b" not in ran.out


def test_as_json_it_is_what_explain_gives_for_the_same_arguments(run_here: Run, tmp_path: Path) -> None:
    file = tmp_path / "response"
    file.write_bytes(REFUSED)
    ran = run_here(
        "explain", str(file), "-p", "github", "-n", "2", "--now", "1759752003", "--draw", "0.25", "--json"
    )
    document = json.loads(ran.out)
    headers = [line.split(": ", 1) for line in REFUSED.decode().split("\r\n")[1:7]]
    expected = bide.explain(
        bide.Reply(403, headers), bide.policies.load("github"), attempt=2, now=1759752003.0, draw=0.25,
        body=REFUSED.split(b"\r\n\r\n")[1],
    )  # fmt: skip
    assert document["wait"] == expected.decision.wait
    assert document["action"] == expected.decision.action
    assert document["steps"] == list(expected.steps)
    assert [note["name"] for note in document["read"]] == [note.name for note in expected.read]
    assert document["dropped"] == [
        {"name": "retry-after", "text": "soon", "meaning": "dropped: not whole_seconds or http_date"}
    ]
    assert document["quota"]["remaining"] == 0
    assert document["attempt"] == 2


def sample(policy: bide.Policy) -> bytes:
    """A refusal with everything in it that the policy reads from a header."""
    lines = ["HTTP/1.1 429 Too Many Requests", "Retry-After: 3"]
    for part in (*policy.dialect.windows, *policy.dialect.waits):
        if isinstance(part, StructuredWindows):
            lines.append(f'{part.header}: "default";r=0;t=3')
            continue
        roles = part._asdict() if isinstance(part, Window) else {"reset": part}
        for role, field in roles.items():
            if isinstance(field, Field) and field.header:
                value = "3" if role in ("reset", "length") else "0" if role == "remaining" else "5"
                lines.append(f"{field.header.replace('*', 'requests')}: {value}")
    return "\r\n".join((*lines, "", "{}")).encode()


@pytest.mark.parametrize("name", bide.policies.names())
def test_every_policy_explains_a_response_to_people_and_to_programs(run_here: Run, name: str) -> None:
    data = sample(bide.policies.load(name))
    shown = run_here("explain", "--policy", name, "--now", "1700000000", stdin=data)
    assert (shown.code, shown.err) == (0, "")
    assert f"policy {name}" in shown.out
    assert re.search(r"^(RETRY|DEFER|FAIL)", shown.out, re.MULTILINE)
    document = json.loads(run_here("explain", "-p", name, "--now", "1700000000", "--json", stdin=data).out)
    assert document["policy"]["name"] == name
    assert document["wait"] > 0
    for note in (*document["read"], *document["dropped"]):
        assert note["name"] in shown.out


@pytest.mark.parametrize(
    ("options", "stdin", "name", "why"),
    [
        (["--host", "api.openai.com"], REFUSED, "openai", "by the host api.openai.com"),
        (["--url", "https://u:p@API.Clever.com:443/v3.0/students?x"], REFUSED, "clever", "by the host api.clever.com"),
        ([], b"$ curl -si https://api.github.com/\n" + REFUSED, "github", "by the host api.github.com"),
        ([], REFUSED + b"", "http", "by its shape"),
        ([], REFUSED.replace(b"set-cookie: session=hush", b"x-github-request-id: 1"), "github", "by its headers"),
        (["--host", "unknown.example.org"], b"HTTP/1.1 429 X\nx-shopify-shop-api-call-limit: 40/40\n\n", "shopify",
         "by its headers"),
        ([], b"HTTP/1.1 429 X\nanthropic-ratelimit-requests-remaining: 0\n\n", "anthropic", "by its headers"),
        ([], b"HTTP/1.1 500 X\n\n", "http", "no field"),
        ([], b"HTTP/1.1 429 X\nRetry-After: 7\nX-RateLimit-Remaining: 0\n\n", "http", "by its shape, which is common"),
        ([], b"HTTP/1.1 200 OK\nDate: Tue, 11 Mar 2014 02:50:50 GMT\nX-RateLimit-Reset: 1394506274\n"
         b"X-RateLimit-Limit: 1200\nX-RateLimit-Remaining: 1199\nX-RateLimit-Bucket: abc123\n\n", "clever",
         "by its headers: x-ratelimit-bucket"),
    ],
)  # fmt: skip
def test_without_a_policy_the_host_chooses_it_else_the_shape(
    run_here: Run, options: list[str], stdin: bytes, name: str, why: str
) -> None:
    document = json.loads(run_here("explain", "--json", *options, stdin=stdin).out)
    assert document["policy"]["name"] == name
    assert document["policy"]["why"].startswith(why)


def test_the_buckets_name_is_a_field_that_was_read(run_here: Run) -> None:
    stdin = b"HTTP/1.1 429 X\nX-RateLimit-Remaining: 0\nX-RateLimit-Reset: 1700000009\nX-RateLimit-Bucket: abc123\n\n"
    ran = run_here("explain", "-p", "clever", "--now", "1700000000", "--draw", "0", stdin=stdin)
    assert re.search(r"^read +x-ratelimit-bucket +abc123 +the bucket, a name", ran.out, re.MULTILINE)
    assert re.search(r"^abc123, 1 min ", ran.out, re.MULTILINE)


def test_what_is_read_and_then_found_out_of_bounds_is_dropped_alone(run_here: Run) -> None:
    stdin = b"HTTP/1.1 503 X\nRetry-After: Fri, 31 Dec 2100 23:59:59 GMT\n\n"
    document = json.loads(run_here("explain", "--json", "--now", "1700000000", stdin=stdin).out)
    assert document["read"] == []
    assert [note["meaning"] for note in document["dropped"]] == ["dropped: further than 366 days from now"]


def test_a_policy_of_ones_own_is_a_path(run_here: Run, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[[dialect.waits]]\nheader = "x-come-back"\nread = "minutes"\n')
    ran = run_here(
        "explain", "--policy", str(own), "--draw", "0", stdin=b"HTTP/1.1 429 X\nx-come-back: 2\n\n"
    )
    assert "RETRY in 2 min (2:00)" in ran.out


def test_an_old_record_is_counted_from_its_date_and_a_new_one_from_now(run_here: Run) -> None:
    old = b"HTTP/1.1 429 X\nDate: Mon, 06 Oct 2025 12:00:00 GMT\nRetry-After: 5\n\n"
    new = f"HTTP/1.1 429 X\nDate: {formatdate(usegmt=True)}\nRetry-After: 5\n\n".encode()
    assert json.loads(run_here("explain", "--json", stdin=old).out)["now"] == 1759752000.0
    assert abs(json.loads(run_here("explain", "--json", stdin=new).out)["now"] - time.time()) < 30.0
    assert "came 2025-10-06" in run_here("explain", stdin=old).out


HOSTILE = (
    b"HTTP/1.1 429 \x1b]0;owned\x07\x1b[2J\r\n"
    b"Retry-After: \x1b[31m5\x07\x00\x9b2J\xe2\x80\xae\r\n"
    b"X-RateLimit-Bucket: \x1b[1mb\x9d\r\n"
    b"X-RateLimit-Limit: 5\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: \x08\x08\x7f" + b"9" * 100_000 + b"\r\n"
    b"\xff\xfe\x00: \x01\r\n\r\n\x1b[2J\xff\x00"
)  # fmt: skip


@pytest.mark.parametrize("options", [[], ["--json"], ["--policy", "clever"], ["--policy", "sentry"]])
def test_hostile_octets_are_survived_and_no_control_character_comes_out(
    run_process: Run, options: list[str]
) -> None:
    ran = run_process("explain", *options, stdin=HOSTILE)
    assert (ran.code, ran.err) == (0, "")
    assert all(character.isprintable() or character == "\n" for character in ran.out), ran.out
    assert len(ran.out) < 10_000


def test_no_secret_of_a_record_is_shown_not_even_where_a_policy_reads_it(
    run_here: Run, tmp_path: Path
) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[[dialect.windows]]\nremaining = "set-cookie"\nbucket = "authorization"\n')
    stdin = (
        b"> GET / HTTP/1.1\n> Authorization: Bearer hush1\n> Cookie: a=hush2\n> \n"
        b"< HTTP/1.1 429 X\n< Set-Cookie: hush3\n< Authorization: hush4\n< Retry-After: 3\n< \nhush5"
    )
    for options in ([], ["--json"], ["--policy", str(own)], ["--policy", str(own), "--json"]):
        ran = run_here("explain", *options, stdin=stdin)
        assert ran.code == 0
        assert "hush" not in ran.out + ran.err
    for stdin in (b"Authorization: hush\n", b"hush", b'{"hush": 1}', b"GET / HTTP/1.1\nCookie: hush\n\n"):
        ran = run_here("explain", stdin=stdin)
        assert ran.code == 2
        assert "hush" not in ran.out + ran.err


def test_get_asks_once_and_explains_what_comes(run_here: Run) -> None:
    refusal = answer_bytes(429, {"Retry-After": "9", "X-RateLimit-Limit": "5"}, b'{"error": "slow"}')
    with ScriptedServer([refusal, answer_bytes(429, {"Retry-After": "9"}, b"slow", head=True)]) as server:
        ran = run_here(
            "explain", "--get", f"{server.url}/a?b=c", "-H", "Authorization: Bearer hush", "--json"
        )
        head = run_here("explain", f"{server.url}/", "--get", "--method", "head", "--draw", "0")
        requests = server.requests
    assert json.loads(ran.out)["wait"] >= 9.0
    assert "hush" not in ran.out + ran.err
    assert [request.line for request in requests] == ["GET /a?b=c HTTP/1.1", "HEAD / HTTP/1.1"]
    assert ("authorization", "Bearer hush") in requests[0].fields
    assert "RETRY in 9 s (0:09.0)" in head.out


def test_get_explains_a_failure_to_get_a_response_too(run_here: Run) -> None:
    ran = run_here("explain", "--get", "http://127.0.0.1:9/")
    assert ran.code == 0
    assert "no response (ConnectionRefusedError" in ran.out
    assert "policy http, no policy has the host 127.0.0.1" in ran.out
    assert "RETRY" in ran.out


@pytest.mark.parametrize(
    ("words", "stdin", "message"),
    [
        (["explain"], b"", "standard input is empty; give what `curl -si URL` prints"),
        (["explain"], b"hello", "standard input: no HTTP response is in it; give what"),
        (["explain"], b"HTTP/1.1 429 X\n" + b"a: b\n" * 1001 + b"\n", "more than 1,000 fields, which no client reads"),
        (["explain", "missing.txt"], b"", "'missing.txt' cannot be read: No such file or directory"),
        (["explain", "/"], b"", "'/' cannot be read: Is a directory"),
        (["explain", "a\0b"], b"", "is no file's name"),
        (["explain", "https://api.github.com/"], b"", "that is an address: add --get"),
        (["explain", "--get"], b"", "--get needs an address such as https://"),
        (["explain", "--get", "ftp://x/"], b"", "--get needs an address such as https://"),
        (["explain", "--get", "http://[::1/"], b"", "--get needs an address such as https://"),
        (["explain", "--get", "http://127.0.0.1:99999/"], b"", "--get needs an address such as https://"),
        (["explain", "--get", "https://x/", "--method", "POST"], b"", "--get sends GET or HEAD"),
        (["explain", "--get", "http://127.0.0.1:9/", "-H", "hush"], b"", "written as 'Name: value'"),
        (["explain", "-H", "a: b"], REFUSED, "--header goes with --get"),
        (["explain", "--policy", "githob"], REFUSED, "there is no policy 'githob'; did you mean 'github'?"),
        (["explain", "--policy", "no.toml"], REFUSED, "no.toml: cannot be read"),
        (["explain", "--method", "a b"], REFUSED, "method is a token such as 'GET'"),
        (["explain", "--attempt", "0"], REFUSED, "'0'; write a whole number from 1 to"),
        (["explain", "--draw", "1"], REFUSED, "'1'; write a number from 0 to"),
        (["explain", "--now", "yesterday"], REFUSED, "'yesterday'; write a number from 0 to"),
        (["explain", "--what"], REFUSED, "No such option: --what"),
        (["explain", "--get", "http://127.0.0.1:9/", "-H", "a: \nhush"], b"", "written as 'Name: value'"),
        (["nothing"], b"", "No such command"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_says_what_to_write_and_exit_code_2(
    run_here: Run, words: list[str], stdin: bytes, message: str
) -> None:
    ran = run_here(*words, stdin=stdin)
    assert ran.code == 2
    assert ran.out == ""
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert "hush" not in ran.err


# In a terminal -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_it_fits_the_terminal_and_is_plain_on_a_dumb_one(
    run_in_terminal: Run, tmp_path: Path, columns: int, term: str
) -> None:
    file = tmp_path / "response"
    file.write_bytes(REFUSED)
    ran = run_in_terminal("explain", str(file), "-p", "github", columns=columns, term=term)
    assert ran.code == 0
    assert ("\x1b[" in ran.out) == (term != "dumb")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", ran.out)
    assert max(map(len, plain.splitlines())) <= columns
    assert "RETRY in" in plain


def test_a_wait_that_runs_is_counted_down_until_it_is_over(run_in_terminal: Run, tmp_path: Path) -> None:
    file = tmp_path / "response"
    file.write_bytes(b"HTTP/1.1 429 X\nRetry-After: 1\n\n")
    began = time.monotonic()
    ran = run_in_terminal("explain", str(file), "--draw", "0")
    assert time.monotonic() - began >= 1.0
    assert re.search(r"send in 0:0[01]\.\d  \(Ctrl-C ends this\)", ran.out)
    assert ran.out.rstrip().endswith("now: send it\x1b[0m")


def test_ctrl_c_ends_the_countdown_quietly(run_in_terminal: Run, tmp_path: Path) -> None:
    file = tmp_path / "response"
    file.write_bytes(b"HTTP/1.1 429 X\nRetry-After: 100\n\n")
    ran = run_in_terminal("explain", str(file), interrupt="Ctrl-C ends this")
    assert ran.code == 0
    assert "Traceback" not in ran.out


@pytest.mark.parametrize("how", ["--no-color", "NO_COLOR"])
def test_without_colours_no_escape_sequence_comes_out(
    run_in_terminal: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    file = tmp_path / "response"
    file.write_bytes(REFUSED)
    words = ["explain", str(file)]
    if how == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    else:
        words.append(how)
    assert "\x1b" not in run_in_terminal(*words).out
