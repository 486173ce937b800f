"""What commands print: tables, JSON and results on stdout; notifications and notes on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trio_mcp.observability.logs import printable

__all__ = [
    "LISTINGS",
    "Listing",
    "print_contents",
    "print_json",
    "print_listings",
    "print_messages",
    "print_note",
    "print_notification",
    "print_result",
    "print_rows",
    "print_section",
    "print_server",
]

PIPE_WIDTH = 10_000
"""In columns, off a terminal: nothing is wrapped, since `grep` and the like read lines."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Something a server lists: the key in its result, the capability that announces it, the method, and a title."""

    key: str
    capability: str
    method: str
    title: str


LISTINGS = (
    Listing("tools", "tools", "tools/list", "Tools"),
    Listing("resources", "resources", "resources/list", "Resources"),
    Listing("resourceTemplates", "resources", "resources/templates/list", "Resource templates"),
    Listing("prompts", "prompts", "prompts/list", "Prompts"),
)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_note(text: str) -> None:
    """A line on stderr, beside what was asked for."""
    print(printable(f"trio-mcp: {text}"), file=sys.stderr)


def print_rows(rows: Sequence[Sequence[str]], *, head: Sequence[str] = (), indent: int = 0) -> None:
    """Aligned columns under `head`; on a terminal, long cells are wrapped."""
    table = Table(box=None, show_header=bool(head), pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, name in enumerate(head or rows[0]):
        table.add_column(name if head else "", style="cyan" if number == 0 else None, overflow="fold")
    for row in rows:
        table.add_row(Text(" " * indent + printable(row[0])), *(Text(printable(cell)) for cell in row[1:]))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPE_WIDTH)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_section(title: str, rows: Sequence[Sequence[str]], *, head: Sequence[str] = ()) -> None:
    """A title with the number of rows, and the rows below it."""
    print(f"{title} ({len(rows)})")
    if rows:
        print_rows(rows, head=head, indent=2)


def print_listings(lists: dict[str, list[dict[str, Any]]], *, parameters: bool = False) -> None:
    """Tools, resources, templates and prompts, each with the first line of its description.

    `lists` are by the keys of `LISTINGS`; with `parameters`, tools are shown with theirs.
    """
    for listing in LISTINGS:
        if listing.key in lists:
            entries = lists[listing.key]
            print_section(listing.title, [(_name(each, parameters), _first_line(each)) for each in entries])
    if not lists:
        print_note("the server offers no tools, resources or prompts")


def print_server(
    info: dict[str, Any], instructions: str | None, versions: Sequence[str], extensions: Iterable[str] = ()
) -> None:
    """Who the server is; `extensions` are those that it declares."""
    title = f" - {info['title']}" if info.get("title") else ""
    print(printable(f"{info.get('name', '(unnamed)')} {info.get('version', '')}{title}"))
    print(f"  speaks  MCP {printable(', '.join(versions))}")
    rows = (("adds", ", ".join(extensions)), ("about", info.get("description")), ("says", instructions))
    for name, text in (*rows, ("web", info.get("websiteUrl"))):
        if text:
            print(f"  {name:<7} {printable(' '.join(str(text).split()))}")


def print_notification(method: str, params: dict[str, Any]) -> None:
    """Progress and log messages, as they come; other notifications are not shown."""
    match method:
        case "notifications/progress":
            total = f"/{params['total']:g}" if isinstance(params.get("total"), int | float) else ""
            line = f"progress {params.get('progress', 0):g}{total}  {params.get('message') or ''}"
        case "notifications/message":
            data = params.get("data")
            line = f"{params.get('level', 'info')}  {data if isinstance(data, str) else json.dumps(data)}"
        case _:
            return
    print(printable(line.rstrip()), file=sys.stderr, flush=True)


def print_result(result: dict[str, Any]) -> None:
    """A tool's result: its content, else its structured content; an error result goes to stderr."""
    stream = sys.stderr if result.get("isError") else sys.stdout
    blocks = [_block(block) for block in result.get("content", [])]
    if not blocks and "structuredContent" in result:
        blocks = [json.dumps(result["structuredContent"], ensure_ascii=False, indent=2)]
    for block in blocks:
        print(block, file=stream)


def print_contents(result: dict[str, Any]) -> None:
    """What a resource holds: its text, and of bytes their type and number."""
    for each in result.get("contents", []):
        if "text" in each:
            print(printable(str(each["text"]), keep="\n\t"))
        else:
            print(f"[{printable(str(each.get('mimeType')))}, {_size(each.get('blob', ''))}]")


def print_messages(result: dict[str, Any]) -> None:
    """The messages of a prompt, each behind its role."""
    for message in result.get("messages", []):
        print(f"{printable(str(message.get('role')))}: {_block(message.get('content') or {})}")


def _size(encoded: str) -> str:
    """The bytes of some base64: `12 bytes`."""
    count = len(encoded) * 3 // 4 - encoded[-2:].count("=")
    return f"{count} byte{'' if count == 1 else 's'}"


def _block(block: dict[str, Any]) -> str:
    match block.get("type"):
        case "text":
            return printable(str(block.get("text", "")), keep="\n\t")
        case "image" | "audio" as kind:
            return f"[{kind} {printable(str(block.get('mimeType')))}, {_size(block.get('data', ''))}]"
        case "resource":
            resource = block.get("resource", {})
            return printable(str(resource.get("text") or f"[resource {resource.get('uri')}]"), keep="\n\t")
        case "resource_link":
            return f"[resource {printable(str(block.get('uri')))}]"
        case _:
            return json.dumps(block, ensure_ascii=False)


def _name(entry: dict[str, Any], parameters: bool) -> str:
    name = str(entry.get("uri") or entry.get("uriTemplate") or entry.get("name", "?"))
    if not parameters or "inputSchema" not in entry:
        return name
    return f"{name}({', '.join(_parameters(entry['inputSchema']))})"


def _parameters(schema: dict[str, Any]) -> list[str]:
    required = schema.get("required", [])
    definitions = schema.get("$defs", {})
    return [
        f"{name}: {_type(declared, definitions)}"
        + ("" if name in required else f" = {json.dumps(declared.get('default'))}")
        for name, declared in schema.get("properties", {}).items()
        if isinstance(declared, dict)
    ]


def _type(declared: Any, definitions: dict[str, Any]) -> str:
    """A schema's type in words: choices by their values, a model by its name, an array with its items' type."""
    match declared:
        case {"$ref": str(ref)}:
            name = ref.rpartition("/")[2]
            target = definitions.get(name)
            return _type(target, {}) if isinstance(target, dict) and "enum" in target else name
        case {"enum": list(choices)}:
            return " | ".join(json.dumps(each, ensure_ascii=False) for each in choices)
        case {"const": only}:
            return json.dumps(only, ensure_ascii=False)
        case {"anyOf": list(options)} | {"oneOf": list(options)}:
            return " | ".join(_type(each, definitions) for each in options)
        case {"allOf": [only]}:
            return _type(only, definitions)
        case {"type": "array", "items": dict(items)}:
            kind = _type(items, definitions)
            return f"({kind})[]" if " | " in kind else f"{kind}[]"
        case {"type": "object", "title": str(title)}:
            return title
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"object of {_type(values, definitions)}"
        case {"type": "object", "properties": dict(properties)} if properties:
            return "{" + ", ".join(properties) + "}"
        case {"type": list(kinds)}:
            return " | ".join(map(str, kinds))
        case {"type": kind}:
            return str(kind)
    return "any"


def _first_line(entry: dict[str, Any]) -> str:
    text = entry.get("description") or entry.get("title") or ""
    return str(text).strip().partition("\n")[0]
