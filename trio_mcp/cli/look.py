"""`inspect`, `list` and `call`: look at a server and use it, by URL or in memory."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import trio
from cyclopts import Parameter

from trio_mcp.cli.arguments import UsageError, parse_arguments, unnamed
from trio_mcp.cli.client import SILENCE_SECONDS, Client, connect
from trio_mcp.cli.options import Extra, Insecure, Json, parse_headers
from trio_mcp.cli.show import print_catalog, print_json, print_note, print_notification, print_result, print_server
from trio_mcp.cli.wire import HttpWire, Wire
from trio_mcp.observability.logs import configure

if TYPE_CHECKING:
    from trio_mcp.transports.http.app import HttpApp

__all__ = ["call", "inspect", "list_"]

T = TypeVar("T")

_CATALOG = {
    "tools": ("tools", "tools/list"),
    "resources": ("resources", "resources/list"),
    "resourceTemplates": ("resources", "resources/templates/list"),
    "prompts": ("prompts", "prompts/list"),
}
"""What a server can list: the key of its page, the capability that announces it, the method."""

LegacyOnly = Annotated[
    bool,
    Parameter("--legacy", negative=(), show_default=False, help="Open a session (2025-11-25), do not try 2026-07-28."),
]
Silence = Annotated[float, Parameter("--timeout", help="Give up after this many seconds without a byte.")]


def inspect(
    target: str,
    /,
    *,
    as_json: Json = False,
    legacy: LegacyOnly = False,
    headers: Extra = (),
    insecure: Insecure = False,
    timeout: Silence = SILENCE_SECONDS,
) -> int:
    """Show who a server is and everything it offers, with the parameters of its tools.

    Parameters
    ----------
    target
        A URL, `file.py[:name]` or `package.module[:name]`.
    """

    async def look(client: Client) -> int:
        catalog = await _catalog(client)
        about = {"serverInfo": client.server_info, "instructions": client.instructions, "versions": client.versions}
        if as_json:
            print_json({**about, "capabilities": client.capabilities, **catalog})
        else:
            print_server(client.server_info, client.instructions, client.versions)
            print_catalog(catalog, parameters=True)
        return 0

    return _with_client(look, target, legacy, headers, timeout, insecure=insecure)


def list_(
    target: str,
    /,
    *,
    as_json: Json = False,
    legacy: LegacyOnly = False,
    headers: Extra = (),
    insecure: Insecure = False,
    timeout: Silence = SILENCE_SECONDS,
) -> int:
    """List a server's tools, resources and prompts.

    Parameters
    ----------
    target
        A URL, `file.py[:name]` or `package.module[:name]`.
    """

    async def look(client: Client) -> int:
        catalog = await _catalog(client)
        if as_json:
            print_json(catalog)
        else:
            print_catalog(catalog)
        return 0

    return _with_client(look, target, legacy, headers, timeout, insecure=insecure)


def call(
    target: str,
    tool: str,
    /,
    *arguments: str,
    as_json: Json = False,
    legacy: LegacyOnly = False,
    headers: Extra = (),
    insecure: Insecure = False,
    timeout: Silence = SILENCE_SECONDS,
) -> int:
    """Call a tool; progress and log messages go to stderr, the result to stdout.

    Parameters
    ----------
    target
        A URL, `file.py[:name]` or `package.module[:name]`.
    tool
        Its name, as `list` shows it.
    arguments
        `name=value`; the value is JSON where it parses as JSON and the tool does not want text.
    """

    async def use(client: Client) -> int:
        definition = await _find(client, tool)
        schema = definition.get("inputSchema", {})
        parsed = parse_arguments(arguments, schema)
        if strange := unnamed(parsed, schema):
            print_note(
                f"{tool} names no argument {', '.join(strange)} in its schema; it has: {', '.join(schema['properties']) or 'none'}"
            )
        result = await client.call_tool(definition, parsed)
        if as_json:
            print_json(result)
        else:
            print_result(result)
        return 1 if result.get("isError") else 0

    return _with_client(use, target, legacy, headers, timeout, insecure=insecure)


async def _catalog(client: Client) -> dict[str, list[dict[str, Any]]]:
    return {
        key: await client.list_all(method, key)
        for key, (capability, method) in _CATALOG.items()
        if capability in client.capabilities
    }


async def _find(client: Client, name: str) -> dict[str, Any]:
    tools = {tool["name"]: tool for tool in await client.list_all("tools/list", "tools")}
    if name not in tools:
        raise UsageError(f"there is no tool {name!r}. There are: {', '.join(tools) or 'none'}")
    return tools[name]


def _with_client(
    use: Callable[[Client], Awaitable[T]],
    target: str,
    legacy: bool,
    headers: tuple[str, ...],
    timeout: float,
    *,
    insecure: bool,
) -> T:
    sent = parse_headers(headers)
    # Outside of `trio.run`, as `serve` imports it: a module may well run something while it is imported.
    app = None if "://" in target else _app(target)

    async def main() -> T:
        async with _wire(target, app, sent, insecure) as wire:
            async with connect(wire, legacy=legacy, notify=print_notification, silence=timeout) as client:
                return await use(client)

    return trio.run(main)


def _app(target: str) -> HttpApp:
    # Late: a URL needs neither a server nor its settings.
    from trio_mcp.serving.loader import load_target

    configure(logging.WARNING, "text")
    return load_target(target).http_app(path="/mcp")


@asynccontextmanager
async def _wire(
    target: str, app: HttpApp | None, headers: list[tuple[str, str]], insecure: bool
) -> AsyncIterator[Wire]:
    if app is None:
        yield HttpWire(target, headers, insecure=insecure)
        return
    from trio_mcp.cli.in_memory import running

    async with running(app, "/mcp", headers) as wire:
        yield wire
