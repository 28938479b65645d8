"""``bide policies``: lists them, shows one, checks a file, drafts one from a response.

Rules: what is shown of a policy is put into words by ``bide.policies._words``, as in the reference; what is
wrong with a file is found by ``bide.policies._check``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import bide
from bide.cli._draft import NAME, draft
from bide.cli._input import Mistake, host_of, named_policy, names_that_begin, read_bytes, recorded
from bide.cli._options import whole_number_between
from bide.cli._screen import console, plain_table, shown
from bide.policies import _words as words
from bide.policies._check import check_text
from bide.policy import Policy, StructuredWindows, Window
from bide.policy._types import Record

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["app"]


class _NameOrCommand(TyperGroup):
    """``bide policies github`` is ``bide policies show github``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = next((word for word in args if not word.startswith("-")), None)
        if first is not None and first not in self.commands:
            args = ["show", *args]
        return super().parse_args(ctx, args)


app: typer.Typer = typer.Typer(
    cls=_NameOrCommand, rich_markup_mode=None, subcommand_metavar="[NAME | COMMAND] [ARGS]..."
)


@app.callback(invoke_without_command=True)
def policies(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> int:
    """List, show, check and draft policies.

    With a NAME, or the path of a TOML file: what that policy reads, where, and how patient it is.

    \b
    Examples:
      bide policies
      bide policies github
      bide policies check my-api.toml
      curl -si https://api.example.org/things | bide policies from-response > my-api.toml
    """
    if context.invoked_subcommand is None:
        _list(as_json)
    return 0


def _list(as_json: bool) -> None:
    known = [bide.policies.load(name) for name in bide.policies.names()]
    if as_json:
        print(json.dumps({policy.name: _document(policy) for policy in known}, indent=2))
        return
    out = console()
    table = plain_table("policy", "published limits", "hosts")
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    for policy in known:
        hosts = policy.hosts if not out.is_terminal else policy.hosts[:3]
        more = f", {len(policy.hosts) - len(hosts)} more" if len(hosts) < len(policy.hosts) else ""
        # A policy without hosts is for servers that anybody runs: it is taken by its name.
        table.add_row(policy.name, ", ".join(policy.limits) or "-", (", ".join(hosts) or "-") + more)
    if out.is_terminal:
        table.columns[0].min_width = max(map(len, bide.policies.names()))  # what one must write is whole
        out.print(table)
        out.print(f"{len(known)} policies; bide policies NAME shows one", style="dim")
        return
    out.width = 10_000  # a line for each policy, for grep
    with out.capture() as captured:
        out.print(table)
    print("\n".join(map(str.rstrip, captured.get().splitlines())))


@app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            autocompletion=names_that_begin,
            help="A policy's name, or a TOML file.",
        ),
    ],
    toml: Annotated[bool, typer.Option("--toml", help="Write its TOML, to begin one's own with.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> int:
    """Show one policy in words.

    bide policies NAME is the same.

    \b
    Examples:
      bide policies show openai
      bide policies openai --toml > my-api.toml
    """
    policy = named_policy(name)
    if toml:
        inside = Path(bide.policies.__file__).parent / f"{name}.toml"
        path = inside if name in bide.policies.names() else Path(name)
        print(path.read_text("utf-8"), end="")
    elif as_json:
        print(json.dumps(_document(policy), indent=2))
    else:
        _show(console(), policy)
    return 0


def _show(out: Console, policy: Policy) -> None:
    out.print(shown(policy.name), style="bold")
    if policy.source:
        out.print(f"source: {shown(policy.source, 400)}", style="dim", soft_wrap=True)
    if policy.notes:
        out.print(shown(" ".join(policy.notes.split()), 2000))
    out.print()
    _rows(out, (), words.fact_rows(policy))
    for number, window in enumerate(policy.dialect.windows, 1):
        title = f"\nWindow {number}"
        if isinstance(window, Window) and window.name:
            title += f": {shown(window.name)}"
        out.print(title, style="bold")
        if isinstance(window, StructuredWindows):
            out.print(shown(_plain(words.structured(window)), 1000))
        else:
            _rows(out, ("what", "where", "how it is read"), words.window_rows(window, policy))
            for remark in words.window_remarks(window):
                out.print(shown(_plain(remark), 1000))
    if policy.dialect.waits:
        out.print("\nExplicit waits, the first that can be read", style="bold")
        _rows(out, ("", "where", "how it is read"), words.wait_rows(policy.dialect))
        for remark in words.wait_remarks(policy.dialect):
            out.print(remark)
    out.print("\nA refusal: the server did not act, and says later", style="bold")
    _items(out, map(words.condition, policy.dialect.refused_when))
    if policy.dialect.override:
        out.print("\nThe server itself says whether to repeat", style="bold")
        _items(out, map(words.override, policy.dialect.override))
    if policy.dialect.final:
        out.print("\nNever repeated", style="bold")
        _items(out, map(words.condition, policy.dialect.final))
    if policy.statuses:
        out.print("\nStatuses that differ from RFC 9110's", style="bold")
        table = plain_table("status", "action", "reason", "advice")
        for rule in policy.statuses:
            table.add_row(str(rule.status), str(rule.action), str(rule.reason), shown(rule.advice, 400))
        out.print(table)
    if policy.unconfirmed:
        out.print("\nNot confirmed by any source, so not read", style="bold")
        out.print(shown(", ".join(policy.unconfirmed), 1000))


def _rows(out: Console, titles: tuple[str, ...], rows: Any) -> None:
    rows = list(rows)
    table = plain_table(*(titles or ("",) * len(rows[0])))
    table.show_header = bool(titles)
    table.columns[0].no_wrap = bool(titles)
    for row in rows:
        table.add_row(*(shown(_plain(cell), 600) for cell in row))
    out.print(table)


def _items(out: Console, items: Any) -> None:
    for item in items:
        out.print(f"- {shown(_plain(item), 600)}")


def _plain(text: str) -> str:
    """Words without the backticks that Markdown has around names."""
    return text.replace("`` ", "").replace(" ``", "").replace("`", "")


def _document(policy: Policy) -> dict[str, Any]:
    """The policy's fields, as JSON has them; "no bound" is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Record):
            kind = {"kind": type(value).__name__} if isinstance(value, (Window, StructuredWindows)) else {}
            return kind | {key: plain(member) for key, member in value._asdict().items()}
        if isinstance(value, tuple):
            return [plain(member) for member in value]
        return None if value == float("inf") else value

    document: dict[str, Any] = plain(policy)
    return document


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="TOML files; - is standard input.")],
) -> int:
    """Check policies' TOML files.

    Tells every mistake with its line and what to write instead. Exit codes: 0 all are right, 1 a
    mistake was found, 2 a file cannot be read.

    \b
    Examples:
      bide policies check my-api.toml
      bide policies check policies/*.toml
    """
    mistaken = False
    for file in files:
        data = read_bytes(file, "a policy's TOML")
        name = "standard input" if file == "-" else shown(file)
        try:
            content = data.decode("utf-8")
        except UnicodeDecodeError as error:
            print(f"{name}:{data.count(10, 0, error.start) + 1}: is not UTF-8")
            mistaken = True
            continue
        policy, mistakes = check_text(content, Path("policy.toml" if file == "-" else file))
        if policy is not None:
            mistakes += _limits_that_are_none(policy)
        for mistake in mistakes:
            print(f"{name}:{mistake.line}: {shown(mistake.what, 600)}")
        mistaken = mistaken or bool(mistakes)
        if policy is not None and not mistakes:
            _say_what_it_reads(name, policy)
    return 1 if mistaken else 0


def _limits_that_are_none(policy: Policy) -> list[Any]:
    from bide.policies._check import Mistake as Wrong

    found = []
    for limit in policy.limits:
        try:
            bide.Limit.parse(limit)
        except ValueError as error:
            found.append(Wrong(1, f"limits: {error}"))
    return found


def _say_what_it_reads(name: str, policy: Policy) -> None:
    fields = sorted(
        {*policy.program.wanted, *("*".join(parts) for parts in policy.program.patterns)} - {"date", "age"}
    )
    told = ", ".join(fields) + (", the body" if policy.program.reads_bodies else "")
    print(f"{name}: right: policy {shown(policy.name)} reads {shown(told, 300)}")
    for host in policy.hosts:
        other = bide.policies.for_host(host.replace("*", "any"))
        if other is not bide.HTTP and other.name != policy.name:
            print(f"{name}: note: {shown(host)} also belongs to {other.name}, which comes with bide")
    if not policy.source:
        print(f"{name}: note: source is empty; give the page where the vendor says so")


@app.command("from-response")
def from_response(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="A recorded response; - or nothing is standard input.")
    ] = "-",
    host: Annotated[
        str, typer.Option("--url", "--host", metavar="URL|HOST", help="The API's host; else the record's.")
    ] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="What to call it; else by the host.")] = "",
    status: Annotated[
        int | None,
        typer.Option(
            parser=whole_number_between(100, 999), metavar="CODE", help="For a record that is headers alone."
        ),
    ] = None,
) -> int:
    """Draft a policy's TOML from a recorded response.

    A refusal says most. The draft is written to standard output, with a comment on everything that one
    response cannot tell; what the draft makes of the response stands at its top. No value of the
    response is written but numbers and times of its limits.

    \b
    Examples:
      curl -si https://api.example.org/things | bide policies from-response > my-api.toml
      bide policies from-response refused.txt --host api.example.org | bide policies check -
    """
    if name and not NAME.fullmatch(name):
        raise Mistake(f"--name {shown(name)!r}: write letters, digits, - and _, 64 at most")
    response = recorded(source, status)
    text = draft(response, host_of(host) or response.host, name)
    if text is None:
        raise Mistake(
            "the response has no field that tells of limits or waiting: record one with its headers (curl -si), "
            "a 429 at best"
        )
    sys.stdout.write(text)
    return 0
