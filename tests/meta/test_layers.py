"""The import rules: what each layer may load, seen in a bare interpreter, and read in the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bide

PACKAGE = Path(bide.__file__).parent

FORBIDDEN_TO_THE_POLICY = {
    "asyncio", "email", "http", "logging", "random", "secrets", "select", "selectors", "socket", "ssl",
    "subprocess", "threading", "tomllib", "urllib",
}  # fmt: skip

CLIENTS = {"aiohttp", "anyio", "httpcore", "httpx", "requests", "rich", "typer", "urllib3"}


def modules_loaded_by(code: str) -> set[str]:
    program = f"import sys; before = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))"
    # -S: site-packages' .pth files must not blur what the import itself loads.
    command = [
        sys.executable,
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n{program}",
    ]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def top_level(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def test_importing_bide_loads_nothing_else() -> None:
    assert {name for name in modules_loaded_by("import bide") if name.startswith("bide")} == {"bide"}


def test_importing_the_policy_loads_no_sockets_threads_asyncio_random_or_toml() -> None:
    loaded = modules_loaded_by("import bide.policy")
    assert not top_level(loaded) & FORBIDDEN_TO_THE_POLICY
    assert not {name for name in loaded if name.startswith("bide") and not name.startswith("bide.policy")} - {
        "bide"
    }


def test_a_decision_loads_no_http_client() -> None:
    loaded = modules_loaded_by("import bide; bide.decide(bide.Reply(429, {'Retry-After': '3'}), bide.CLEVER)")
    assert not top_level(loaded) & CLIENTS


def test_a_limiter_loads_no_http_client_and_no_policy() -> None:
    loaded = modules_loaded_by("import bide; bide.Limiter('1/minute').try_acquire('a')")
    assert not top_level(loaded) & CLIENTS
    assert not {name for name in loaded if name.startswith("bide.polic")}


def test_the_server_middlewares_load_no_framework_no_http_client_and_no_policy() -> None:
    code = "import bide; bide.asgi.RateLimit(print, '1/minute'); bide.wsgi.RateLimit(print, '1/minute')"
    loaded = modules_loaded_by(code)
    assert not top_level(loaded) & (
        CLIENTS | {"asyncio", "django", "fastapi", "flask", "starlette", "werkzeug"}
    )
    assert not {name for name in loaded if name.startswith("bide.polic")}


ALLOWED_BIDE_IMPORTS = {
    "policy": {"policy"},
    "policies": {"policies", "policy", "errors"},
    "limiter": {"limiter", "errors", "_native"},
    "errors.py": {"policy", "limiter"},  # for the types of attributes only
    "_driver.py": {"policy", "policies", "limiter", "errors", "_buckets", "_flow", "_foreign", "_ledger"},
    "_flow.py": {"policy"},  # for the type of a field only
    "_foreign.py": {"_flow", "errors", "policy"},
    "_buckets.py": set(),
    "_answer.py": {"limiter"},  # for types only
    "_gate.py": {"_answer", "limiter"},
    "asgi.py": {"_answer", "_gate"},
    "wsgi.py": {"_answer", "_gate"},
    "testing.py": {"policy", "limiter", "errors"},
}
"""Folder or file of the package -> the parts of bide that its source may name. Arrows point down only."""


def bide_imports(source: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            package = source.relative_to(PACKAGE).parent.parts
            target = ".".join((*package[: len(package) - node.level + 1], node.module or ""))
            found |= {target.partition(".")[0]} if target.strip(".") else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "bide":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bide."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("bide.")}
    return found


@pytest.mark.parametrize("part", sorted(ALLOWED_BIDE_IMPORTS))
def test_every_layer_names_only_what_lies_below_it(part: str) -> None:
    path = PACKAGE / part
    sources = [path] if path.suffix else sorted(path.rglob("*.py"))
    assert sources
    for source in sources:
        assert bide_imports(source) <= ALLOWED_BIDE_IMPORTS[part], source
