"""Recorded responses are read back as they were, whatever recorded them; hostile ones are survived."""

import base64
import json
import time
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bide.cli._recorded import MAX_BYTES, Recorded, read_response

HEAD = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\n"

FORMS = [
    pytest.param(HEAD + b"\r\nslow down", id="HTTP/1.1, CRLF"),
    pytest.param(HEAD.replace(b"\r\n", b"\n") + b"\nslow down", id="LF"),
    pytest.param(b"HTTP/2 429 \r\nretry-after: 7\r\n\r\nslow down", id="HTTP/2, as curl writes it"),
    pytest.param(b"HTTP/3 429\nretry-after: 7\n\nslow down", id="HTTP/3"),
    pytest.param(b"HTTP/1.0 429\r\nRETRY-AFTER:7\r\n\r\nslow down", id="no reason, no space"),
    pytest.param(b"\n\n  \n" + HEAD + b"\r\nslow down", id="empty lines before it"),
    pytest.param(b"\xef\xbb\xbf" + HEAD + b"\r\nslow down", id="a byte order mark"),
    pytest.param(b"$ curl -si https://api.example.org/\n" + HEAD + b"\r\nslow down", id="the command, too"),
    pytest.param(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n" + HEAD + b"\r\nslow down", id="a redirect"),
    pytest.param(
        b"HTTP/1.1 301 Moved\nA: b\n\n<html>moved</html>\n" + HEAD + b"\r\nslow down", id="with a body"
    ),
    pytest.param(
        b"HTTP/1.1 503 X\r\nRetry-After: 1\r\n\r\n{}" + HEAD + b"\r\nslow down",
        id="a body without a last newline",
    ),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"\r\nslow down", id="100 Continue"),
    pytest.param(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + HEAD + b"\r\nslow down", id="early hints"
    ),
    pytest.param(b"HTTP/1.1 200 Connection established\r\n\r\n" + HEAD + b"\r\nslow down", id="a proxy"),
    pytest.param(
        b"* Connected to h\n> GET / HTTP/2\n> Host: h\n> \n< HTTP/2 429 \n< retry-after: 7\n< \n"
        b"* Connection #0 left intact\nslow down",
        id="curl -v",
    ),
    pytest.param(
        b"GET / HTTP/1.1\nHost: h\nAuthorization: Bearer x\n\n\n" + HEAD + b"\r\nslow down", id="http -v"
    ),
    pytest.param(b"  HTTP/1.1 429 Too Many Requests\n  Retry-After: 7\n\nslow down", id="wget -S"),
    pytest.param(
        b"\x1b[1mHTTP/2 429\x1b[0m\r\n\x1b[1mretry-after\x1b[0m: 7\r\n\r\nslow down",
        id="coloured for a terminal",
    ),
    pytest.param(b":status: 429\nretry-after: 7\n\nslow down", id="pseudo-fields of a browser"),
    pytest.param(b"Status: 429 Too Many Requests\nRetry-After: 7\n\nslow down", id="a Status field"),
    pytest.param(HEAD + b"Content-Length: 9\r\n\r\nslow down", id="Content-Length"),
    pytest.param((HEAD + b"\r\nslow down").decode().encode("utf-16"), id="UTF-16, as PowerShell writes"),
    pytest.param(b'{"status": 429, "headers": {"Retry-After": "7"}, "body": "slow down"}', id="JSON"),
    pytest.param(
        json.dumps(
            {
                "log": {
                    "entries": [
                        {"request": {}, "response": {"status": 200, "headers": []}},
                        {
                            "request": {"method": "GET", "url": "https://h/x"},
                            "response": {
                                "status": 429,
                                "headers": [{"name": "Retry-After", "value": "7"}],
                                "content": {
                                    "text": base64.b64encode(b"slow down").decode(),
                                    "encoding": "base64",
                                },
                            },
                        },
                    ]
                }
            }
        ).encode(),
        id="HAR",
    ),
]


@pytest.mark.parametrize("data", FORMS)
def test_the_last_response_of_a_record_is_read_whatever_recorded_it(data: bytes) -> None:
    found = read_response(data)
    assert found.status == 429
    assert found.get("retry-after") == "7"
    assert found.body.strip() == b"slow down"


@pytest.mark.parametrize(
    ("data", "method", "host"),
    [
        (b"> POST /x HTTP/1.1\n> Host: api.example.org:84\n> \n< HTTP/1.1 200 OK\n< A: b\n", "POST",
         "api.example.org:84"),
        (b"$ curl -si 'https://u:p@api.example.org/x?y'\nHTTP/1.1 200 OK\nA: b\n", None, "api.example.org"),
        (b"PUT /x HTTP/1.1\nhost: h\n\n\nHTTP/1.1 200 OK\nA: b\n", "PUT", "h"),
        (b"HTTP/1.1 200 OK\nA: b\n\nDELETE /x HTTP/1.1\nHost: evil\n", None, ""),
        (b"HTTP/1.1 200 OK\nA: b\n\nhttps://evil/\n", None, ""),
    ],
)  # fmt: skip
def test_method_and_host_are_the_requests_and_never_taken_from_a_body(
    data: bytes, method: str | None, host: str
) -> None:
    found = read_response(data)
    assert (found.method, found.host) == (method, host)


def test_headers_alone_need_the_status_that_is_given() -> None:
    headers = b"Retry-After: 7\r\nDate: x\r\n\r\nbody"
    assert read_response(headers, status=503) == Recorded(503, (("Retry-After", "7"), ("Date", "x")), b"body")
    with pytest.raises(ValueError, match="--status"):
        read_response(headers)


def test_a_body_that_quotes_a_response_is_no_response_where_its_length_is_told() -> None:
    quoted = b"\nHTTP/1.1 200 OK\nA: b\n\n"
    data = HEAD + b"Content-Length: %d\r\n\r\n" % len(quoted) + quoted
    found = read_response(data)
    assert (found.status, found.body, found.responses) == (429, quoted, 1)


def test_a_field_over_several_lines_is_one_value_and_no_line_of_it_is_lost() -> None:
    found = read_response(b"HTTP/1.1 200 OK\r\nX-A: one\r\n  two\r\n\tthree\r\nX-A: four\r\nno field\r\n\r\n")
    assert found.headers == (("X-A", "one two three"), ("X-A", "four"))


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"{", b"[]", b"{}", b"[" * 100_000, b'{"status": "429"}', b'{"status": true}',
     b'{"log": {"entries": [{}]}}', b'{"log": 1}', b'{"status": 429, "headers": [1]}', b"HTTP/1.1 42 x\n\n",
     b"HTTP/1.1 4290 x\n\n", b"\x00\xff\x80" * 1000, b"7", b'{"status": 200, "headers": {"a": 1}, "log": 5}'],
)  # fmt: skip
def test_what_is_no_response_is_refused_with_what_to_give_and_shows_nothing_of_it(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"HTTP response|HAR") as refused:
        read_response(data)
    assert "hello" not in str(refused.value)


def test_a_record_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 8 MiB"):
        read_response(b"x" * (MAX_BYTES + 1))


@given(st.binary(max_size=200), st.binary(max_size=50))
@example(b"HTTP/1.1 200 OK\nContent-Length: 99999999999999\n\n", b"")
def test_whatever_the_bytes_are_they_are_read_or_refused(data: bytes, more: bytes) -> None:
    for whole in (data, HEAD + data, HEAD + data + HEAD + more, b"{" + data, b"\x1b" + data + HEAD):
        try:
            found = read_response(whole)
        except ValueError:
            continue
        assert 100 <= found.status <= 999
        assert all(isinstance(name, str) and isinstance(value, str) for name, value in found.headers)


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\n",
        b"a: b\n",
        b"< ",
        b"\x1b[",
        b" \n",
    ],
)
def test_a_record_takes_time_in_proportion_to_its_length(data: bytes) -> None:
    """A pattern that goes back over what it has read would take minutes here."""
    began = time.process_time()
    with suppress(ValueError):
        read_response(data * (2**20 // len(data)))
    assert time.process_time() - began < 10.0
