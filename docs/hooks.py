"""What the site shows of files that lie elsewhere in the project, for mkdocs.

Rules of this file: a file is written once, where a reader of the project expects it; here it only becomes a page.
Links are written as they work between the files, and are turned into links between pages; one that leads to a file
that is no page ends the build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]

PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benches/README.md": "measured.md",
}
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
CHARTS = sorted(ROOT.glob("benches/*.svg"))

SITE = {
    **PAGES,
    **{f"examples/{path.name}": f"examples/{path.stem}.md" for path in EXAMPLES},
    **{f"benches/{path.name}": f"benches/{path.name}" for path in CHARTS},
    "examples": "examples/clever_sync.md",
    "README.md": "index.md",
}
"""Path in the project -> path in the site, for what lies outside of ``docs``."""

WIDE = {"compared.md", "measured.md", "reference/policies.md", "security.md"}
"""Pages whose tables need the room of the table of contents."""

LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")


def on_files(files: Files, config: Any) -> Files:
    for source, target in PAGES.items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text(encoding="utf-8")))
    for path in EXAMPLES:
        files.append(File.generated(config, f"examples/{path.stem}.md", content=example(path)))
    for path in CHARTS:
        files.append(File.generated(config, f"benches/{path.name}", content=path.read_bytes()))
    return files


def example(path: Path) -> str:
    return f"# {path.name}\n\n```python\n{path.read_text(encoding='utf-8')}```\n"


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["toc"]
    here = next((source for source, target in PAGES.items() if target == page.file.src_uri), "")
    folder = posixpath.dirname(here or f"docs/{page.file.src_uri}")
    start = posixpath.dirname(page.file.src_uri)

    def link(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        target = path.removeprefix("docs/") if path.startswith("docs/") else SITE.get(path)
        if target is None:
            raise PluginError(f"{here or page.file.src_uri}: the site has no page for {match[1]}")
        return posixpath.relpath(target, start or ".") + (match[2] or "")

    return LINK.sub(link, markdown)
