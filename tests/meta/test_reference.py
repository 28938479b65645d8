"""The reference pages say what the data says: they are made anew in memory and compared with the files."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import bide

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = generator()
PAGES: dict[str, str] = GENERATOR.pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_reference_page_is_what_the_data_gives(name: str) -> None:
    path = REFERENCE / name
    written = path.read_text(encoding="utf-8") if path.is_file() else "(there is no such file)"
    if written != PAGES[name]:
        pairs = zip(written.splitlines(), PAGES[name].splitlines(), strict=False)
        line = next((number for number, (old, new) in enumerate(pairs, 1) if old != new), 0)
        pytest.fail(f"docs/reference/{name} is stale (line {line}): run make reference")


def test_no_reference_page_is_left_of_a_policy_that_is_gone() -> None:
    left = {path.relative_to(REFERENCE).as_posix() for path in REFERENCE.rglob("*.md")} - PAGES.keys()
    assert not left, "docs/reference has pages that nothing makes: run make reference"


@pytest.mark.parametrize("name", bide.policies.names())
def test_a_policys_page_names_every_field_that_the_policy_reads(name: str) -> None:
    """Seen from the compiled policy, which is what the engine walks, not from the way the page is made."""
    policy = bide.policies.load(name)
    fields = {"*".join(pattern) for pattern in policy.program.patterns} | set(policy.program.wanted)
    page = PAGES[f"policies/{name}.md"]
    assert not {field for field in fields - {"date", "age"} if f"`{field}`" not in page}


def test_the_unit_of_a_reset_is_in_words() -> None:
    unit = {name: PAGES[f"policies/{name}.md"] for name in ("clever", "linear", "openai", "discord")}
    assert "| reset | header `x-ratelimit-reset` | a Unix time in seconds |" in unit["clever"]
    assert "| a Unix time in milliseconds |" in unit["linear"]
    assert "| a delay as a Go duration, such as `6m0s` or `12ms` |" in unit["openai"]
    assert (
        "| reset | header `x-ratelimit-reset-after` | a delay in seconds, decimals allowed |"
        in unit["discord"]
    )


def test_what_makes_the_pages_has_words_for_every_reader_and_rule() -> None:
    from bide.policies import _words
    from bide.policy import _backoff, _dialect, _fields

    assert tuple(_words.TIMES) == _fields.TIME_READERS
    assert _words.LENGTHS.keys() == _fields.DELAYS.keys()
    assert _words.COUNTS.keys() == _fields.NUMBERS.keys()
    assert tuple(_words.COMBINE) == _dialect.COMBINE
    assert tuple(_words.CLOCKS) == _dialect.CLOCKS
    assert set(_words.JITTER) == set(_backoff.JITTERS)


def test_writing_again_mends_a_stale_page_and_removes_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "statuses.md").write_text("stale")
    (tmp_path / "policies" / "gone.md").write_text("left over")
    GENERATOR.write(tmp_path)
    found = {
        path.relative_to(tmp_path).as_posix(): path.read_text(encoding="utf-8")
        for path in tmp_path.rglob("*.md")
    }
    assert found == PAGES
