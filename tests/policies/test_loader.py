"""Loading policies: by name, by host, from a file of one's own; and what is said when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bide
from bide.policies._schema import schema
from bide.policy import (
    Backoff,
    Dialect,
    Field,
    Override,
    Policy,
    Reason,
    Refill,
    Rule,
    StructuredWindows,
    When,
    Window,
)
from bide.policy._fields import NUMBERS, TIME_READERS

FOLDER = Path(bide.policies.__file__).parent


@pytest.mark.parametrize("name", bide.policies.names())
def test_every_policy_loads_and_names_itself_and_its_source(name: str) -> None:
    policy = bide.policies.load(name)
    assert policy.name == name
    assert policy.source
    assert not policy.hosts or bide.policies.for_host(policy.hosts[0].replace("*", "any")).name == name


@pytest.mark.parametrize("name", bide.policies.names())
def test_every_limit_that_a_policy_publishes_is_one_for_the_limiter(name: str) -> None:
    for limit in bide.policies.load(name).limits:
        assert bide.Limit.parse(limit)


@pytest.mark.parametrize("policy", [bide.HTTP, bide.CLEVER], ids=["HTTP", "CLEVER"])
def test_the_two_policies_that_need_no_file_are_those_of_their_files(policy: Policy) -> None:
    assert bide.policies.load(policy.name) == policy


def test_no_host_is_claimed_by_two_policies() -> None:
    hosts = [host for name in bide.policies.names() for host in bide.policies.load(name).hosts]
    assert sorted(hosts) == sorted(set(hosts))


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.github.com", "github"),
        ("API.GitHub.com", "github"),
        ("api.github.com:443", "github"),
        ("api.github.com.", "github"),
        ("acme.okta.com", "okta"),
        ("a.b.okta.com", "okta"),
        ("okta.com.example.org", "http"),
        ("notokta.com", "http"),
        ("[::1]:8080", "http"),
        ("", "http"),
    ],
)
def test_a_host_leads_to_its_policy(host: str, name: str) -> None:
    assert bide.policies.for_host(host).name == name


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(bide.PolicyError, match="there is no policy 'githob'; did you mean 'github'"):
        bide.policies.load("githob")
    with pytest.raises(bide.PolicyError, match=r"there are .*clever"):
        bide.policies.load("")


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    return path


def test_a_file_of_ones_own_extends_a_policy_and_says_what_differs(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'extends = "github"\nhosts = ["github.example.org"]\nretries = 2\n[dialect]\nmargin = 5\n',
    )
    policy = bide.policies.read(path)
    github = bide.policies.load("github")
    assert (policy.name, policy.retries, policy.dialect.margin) == ("mine", 2, 5)
    assert policy.hosts == ("github.example.org",)
    assert policy.dialect.replace(margin=github.dialect.margin) == github.dialect


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("retries = \nname = 'a'", "at line 1, column 11"),
        ('name = "a"\nretrys = 3', "retrys: there is no such key; did you mean 'retries'?"),
        ('retries = "three"', "retries: must be a whole number, not 'three'"),
        ("retries = true", "retries: must be a whole number, not true"),
        ("retries = -1", "retries: must be 0 or more, not -1"),
        ("max_wait = nan", "max_wait: must be 0 or more, not nan"),
        ("dialect = 3", "dialect: must be a table, not 3"),
        ("[dialect]\nmargin = 99", "dialect.margin: must be 60 or less, not 99"),
        ('[dialect]\ncombine = "frist"', "dialect.combine: 'frist' is not known; did you mean 'first'"),
        ('[[dialect.windows]]\nlimit = "X-Limit"', r"dialect.windows\[0\].limit: .*'x-limit', not 'X-Limit'"),
        ('[[dialect.windows]]\nremaning = "a"', r"dialect.windows\[0\].remaning: .*'remaining'"),
        ('[[dialect.windows]]\nname = "a"', r"dialect.windows\[0\]: a Window reads at least one field"),
        (
            '[[dialect.windows]]\nreset = { header = "a", read = "unix" }',
            r"dialect.windows\[0\].reset.read: .*unix_seconds",
        ),
        ('[[dialect.windows]]\nreset = { header = "a" }', "the unit of a reset must be declared"),
        ('[[dialect.windows]]\nratelimit = "a"\nlimit = "b"', "ratelimit stands for a whole window"),
        ("[[dialect.waits]]\nread = 3", r"dialect.waits\[0\].read"),
        ("[[dialect.refused_when]]\nstatus = [4290]", r"refused_when\[0\].status\[0\]: must be 599 or less"),
        ("[[dialect.refused_when]]\nreason = 'ok'", "a condition needs one of status"),
        ("[[dialect.override]]\nretry = ['yes']", r"dialect.override\[0\]: needs 'header'"),
        (
            "[statuses.42]\naction = 'fail'",
            "statuses.42: there is no such key; there are a status such as 429",
        ),
        ("[statuses.429]\naction = 'retry'", "statuses.429: needs 'reason'"),
        ("[backoff]\nbase = 5\ncap = 1", "backoff: Backoff needs 0 < base <= cap"),
        ("[backoff]\njitter = 'ful'", "did you mean 'full'?"),
        ("limits = ['many']", 'limits: a limit is written like "1200/minute"'),
        ("extends = 'githup'", "extends: there is no policy 'githup'; did you mean 'github'?"),
    ],
)
def test_a_mistake_is_told_with_the_file_the_place_and_what_would_be_right(
    tmp_path: Path, text: str, words: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(bide.PolicyError, match=words) as caught:
        bide.policies.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(bide.PolicyError, match="cannot be read: No such file"):
        bide.policies.read(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(bide.PolicyError, match="is not UTF-8 at byte 8"):
        bide.policies.read(tmp_path / "bytes.toml")


def keys(definition: str) -> set[str]:
    return set(schema()["$defs"][definition]["properties"])


def test_the_schema_has_a_key_for_every_field_of_the_values_and_no_other() -> None:
    assert set(schema()["properties"]) == {*Policy._fields, "extends"}
    assert set(schema()["properties"]["backoff"]["properties"]) == set(Backoff._fields)
    assert keys("status") == {*Rule._fields} - {"status"}
    assert keys("field") == set(Field._fields)
    assert keys("wait") == {*Field._fields, *Refill._fields}
    assert keys("window") == {*Window._fields, "ratelimit", *StructuredWindows._fields} - {"header"}
    assert keys("when") == set(When._fields)
    assert keys("override") == set(Override._fields)
    assert keys("dialect") == set(Dialect._fields)


def test_the_schema_lists_every_reader_and_reason() -> None:
    readers = schema()["$defs"]["field"]["properties"]["read"]["anyOf"][0]["enum"]
    assert readers == [*TIME_READERS, *NUMBERS, "text"]
    reasons = set(schema()["$defs"]["when"]["properties"]["reason"]["enum"])
    assert reasons <= {reason.value for reason in Reason}


def test_the_schema_is_one_for_editors() -> None:
    described = json.loads((FOLDER / "policy.schema.json").read_text("utf-8"))
    assert described["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert all("description" in part for part in described["properties"].values() if "$ref" not in part)
