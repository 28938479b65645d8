"""No dead link: every file and heading that a document points to is there. Other hosts are listed, not asked.

Rules of this file: headings become anchors as the site makes them. A link to another host must be written as one
(https, a host, no space); ``python tests/meta/test_links.py`` lists them with the documents that have them.
"""

import re
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benches").glob("*.md")),
]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$|<(https?://[^>\s]+)>", re.MULTILINE)
REFERENCE = re.compile(r"(?<!\])\[([^\]\n]+)\](?![(\[:])")


def prose(document: Path) -> str:
    return INLINE_CODE.sub("``", FENCED.sub("", document.read_text(encoding="utf-8")))


def links(document: Path) -> list[str]:
    return [next(filter(None, found)) for found in LINK.findall(prose(document))]


def anchors(document: Path) -> set[str]:
    """The anchors of its headings, as the site's Markdown makes them: letters, digits and hyphens."""
    found: set[str] = set()
    text = FENCED.sub("", document.read_text(encoding="utf-8"))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
        found.add(re.sub(r"[-\s]+", "-", plain))
    return found


def external() -> dict[str, list[str]]:
    """Each address on another host, and the documents that have it."""
    found = defaultdict(list)
    for document in DOCUMENTS:
        for link in links(document):
            if urlsplit(link).scheme:
                found[link].append(document.relative_to(ROOT).as_posix())
    return dict(sorted(found.items()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_inside_the_project_leads_to_a_file_and_a_heading(document: Path) -> None:
    for link in links(document):
        if urlsplit(link).scheme:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{document.relative_to(ROOT)}: {link}"
        assert ROOT in target.parents, f"{document.relative_to(ROOT)}: {link} leads out of the project"
        if anchor:
            assert anchor in anchors(target), f"{document.relative_to(ROOT)}: {link}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_reference_in_brackets_is_defined(document: Path) -> None:
    text = prose(document)
    defined = set(re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE))
    if defined:
        assert {name for name in REFERENCE.findall(text) if not name.startswith("^")} <= defined


def test_a_link_to_another_host_is_written_as_one() -> None:
    addresses = external()
    assert len(addresses) > 100
    for address in addresses:
        parts = urlsplit(address)
        assert parts.scheme in ("https", "http"), address
        assert re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?", parts.netloc), address


def test_the_site_has_every_document_in_its_navigation() -> None:
    """Those that are made from the policies are reached from their table."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    shown = set(re.findall(r"([\w/.-]+\.md)$", navigation, re.MULTILINE))
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {path for path in written - shown if not path.startswith("reference/policies/")} == set()
    from_elsewhere = {"changelog.md", "contributing.md", "measured.md", "security.md"}
    assert {path for path in shown - written if not path.startswith("examples/")} == from_elsewhere


if __name__ == "__main__":
    for address, documents in external().items():
        print(address, *documents, sep="\n    ")
