"""`inspect`, `list` and `call`: look at a server and use it, by URL or in memory."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from trio_mcp.cli.arguments import ClientFlags, UsageError, parse_arguments, parse_headers, refuse_undeclared
from trio_mcp.cli.asking import Asker
from trio_mcp.cli.credentials import Credentials, credentials_for
from trio_mcp.cli.mcp_client import Client, connect
from trio_mcp.cli.output import (
    LISTINGS,
    print_json,
    print_listings,
    print_notification,
    print_result,
    print_server,
)
from trio_mcp.cli.refusals import AuthorizationRequired
from trio_mcp.cli.tool_calls import call_tool
from trio_mcp.http_client import HttpClient, HttpTransport
from trio_mcp.observability.logs import configure

if TYPE_CHECKING:
    from trio_mcp.transports.http.app import HttpApp

__all__ = ["DEFAULT_FLAGS", "call", "inspect", "list_", "print_as", "with_client"]

T = TypeVar("T")

_HALF_URL = re.compile(r"(localhost|\[[0-9a-fA-F:.]+\]|[\w-]+(\.[\w-]+)+)(:\d+(/\S*)?|/\S*)")
"""A host with a port or a path. A module has neither; a server in one is named by a word behind its colon."""

DEFAULT_FLAGS = ClientFlags()


def inspect(target: str, /, *, flags: ClientFlags = DEFAULT_FLAGS) -> int:
    """Show who a server is and everything it offers, with the parameters of its tools.

    Parameters
    ----------
    target
        A URL, `file.py[:name]` or `package.module[:name]`.
    """

    async def show(client: Client) -> int:
        lists = await _lists(client)
        about = {"serverInfo": client.server_info, "instructions": client.instructions, "versions": client.versions}
        if flags.as_json:
            print_json({**about, "capabilities": client.capabilities, **lists})
        else:
            extensions = client.capabilities.get("extensions")
            declared = extensions if isinstance(extensions, dict) else ()
            print_server(client.server_info, client.instructions, client.versions, declared)
            print_listings(lists, parameters=True)
        return 0

    return with_client(show, target, flags)


def list_(target: str, /, *, flags: ClientFlags = DEFAULT_FLAGS) -> int:
    """List a server's tools, resources and prompts.

    Parameters
    ----------
    target
        A URL, `file.py[:name]` or `package.module[:name]`.
    """

    async def show(client: Client) -> int:
        lists = await _lists(client)
        print_as(flags, lists, print_listings)
        return 0

    return with_client(show, target, flags)


def call(target: str, tool: str, /, *arguments: str, flags: ClientFlags = DEFAULT_FLAGS) -> int:
    """Call a tool; progress and log messages go to stderr, the result to stdout. One that becomes a task is followed to its end.

    On a terminal, what the tool asks is asked here. Ctrl+C cancels the call, and the task that it has become.

    Parameters
    ----------
    target
        A URL, `file.py[:name]` or `package.module[:name]`.
    tool
        Its name, as `list` shows it.
    arguments
        `name=value`; the value is JSON where it parses as JSON and the tool does not want text. A name that the tool does not declare is refused.
    """

    async def use(client: Client) -> int:
        definition = await _find(client, tool)
        schema = definition.get("inputSchema", {})
        parsed = parse_arguments(arguments, schema)
        refuse_undeclared(tool, parsed, schema)
        result = await call_tool(client, definition, parsed, asker=Asker() if sys.stdin.isatty() else None)
        print_as(flags, result, print_result)
        return 1 if result.get("isError") else 0

    return with_client(use, target, flags)


async def _lists(client: Client) -> dict[str, list[dict[str, Any]]]:
    """Everything the server offers, by the key of each list."""
    return {
        listing.key: await client.list_all(listing.method, listing.key)
        for listing in LISTINGS
        if listing.capability in client.capabilities
    }


async def _find(client: Client, name: str) -> dict[str, Any]:
    # A server that has none does not know `tools/list`.
    listed = await client.list_all("tools/list", "tools") if "tools" in client.capabilities else []
    tools = {tool["name"]: tool for tool in listed}
    if name not in tools:
        raise UsageError(f"there is no tool {name!r}. There are: {', '.join(tools) or 'none'}")
    return tools[name]


def print_as(flags: ClientFlags, found: T, print_it: Callable[[T], None]) -> None:
    """Print what a server gave: as JSON where `flags` ask for that, else by `print_it`."""
    if flags.as_json:
        print_json(found)
    else:
        print_it(found)


def with_client(use: Callable[[Client], Awaitable[T]], target: str, flags: ClientFlags) -> T:
    """Connect to `target`, a URL or an importable server, and use the client. Raises what `use` and the connection raise, for a file in a group."""
    _refuse_half_url(target)
    credentials = credentials_for(
        target, parse_headers(flags.headers), flags.bearer, os.environ, insecure=flags.insecure
    )
    # Imported outside of `trio.run`, as `serve` imports it: a module may start something of its own at import.
    app = None if "://" in target else _app(target)

    async def main() -> T:
        async with _transport(target, app, credentials, flags.insecure) as transport:
            try:
                async with connect(
                    transport, legacy=flags.legacy, notify=print_notification, silence=flags.timeout
                ) as client:
                    return await use(client)
            except AuthorizationRequired as error:
                error.url = target
                # No login is for a file.
                error.login_offered &= app is None
                raise

    return trio.run(main)


def _refuse_half_url(target: str) -> None:
    """Of `127.0.0.1:8000/mcp` the scheme is missing; it names no module."""
    if _HALF_URL.fullmatch(target) and ".py" not in target and not Path(target).exists():
        raise UsageError(f"{target!r} is no URL and no file: did you mean http://{target} or https://{target}?")


def _app(target: str) -> HttpApp:
    # Imported here: for a URL neither servers nor settings are needed.
    from trio_mcp.serving.loader import load_target

    configure(logging.WARNING, "text")
    return load_target(target).http_app(path="/mcp", resource="http://localhost/mcp", in_memory=True)


@asynccontextmanager
async def _transport(
    target: str, app: HttpApp | None, credentials: Credentials, insecure: bool
) -> AsyncIterator[HttpTransport]:
    if app is None:
        yield credentials.over(HttpClient(target, credentials.headers, insecure=insecure))
        return
    from trio_mcp.cli.in_memory import running

    async with running(app, "/mcp", credentials.headers) as transport:
        yield transport
