"""`read` and `prompt`: what a resource or a prompt of a server gives to a client, by URL or in memory."""

from __future__ import annotations

from trio_mcp.cli.arguments import ClientFlags, UsageError, parse_arguments, refuse_undeclared
from trio_mcp.cli.client_commands import DEFAULT_FLAGS, print_as, with_client
from trio_mcp.cli.mcp_client import Client
from trio_mcp.cli.output import print_contents, print_messages

__all__ = ["prompt", "read"]


def read(target: str, uri: str, /, *, flags: ClientFlags = DEFAULT_FLAGS) -> int:
    """Read a resource. Text goes to stdout; of bytes only their type and number, unless `--json` asks for all.

    Parameters
    ----------
    target
        A URL, `file.py[:name]` or `package.module[:name]`.
    uri
        As `list` shows it, or a template's with values in place of its variables.
    """

    async def use(client: Client) -> int:
        if "resources" not in client.capabilities:
            raise UsageError("the server has no resources")
        result = await client.request("resources/read", {"uri": uri})
        print_as(flags, result, print_contents)
        return 0

    return with_client(use, target, flags)


def prompt(target: str, name: str, /, *arguments: str, flags: ClientFlags = DEFAULT_FLAGS) -> int:
    """Get a prompt: its messages, each behind the role of who says it.

    Parameters
    ----------
    target
        A URL, `file.py[:name]` or `package.module[:name]`.
    name
        As `list` shows it.
    arguments
        `name=value`; values are text.
    """

    async def use(client: Client) -> int:
        known = {each: {"type": "string"} for each in await _arguments_of(client, name)}
        schema = {"properties": known, "additionalProperties": False}
        values = parse_arguments(arguments, schema)
        refuse_undeclared(name, values, schema)
        result = await client.request("prompts/get", {"name": name, "arguments": values})
        print_as(flags, result, print_messages)
        return 0

    return with_client(use, target, flags)


async def _arguments_of(client: Client, name: str) -> list[str]:
    # A server that has none does not know `prompts/list`.
    listed = await client.list_all("prompts/list", "prompts") if "prompts" in client.capabilities else []
    prompts = {each["name"]: each for each in listed}
    if name not in prompts:
        raise UsageError(f"there is no prompt {name!r}. There are: {', '.join(prompts) or 'none'}")
    return [each["name"] for each in prompts[name].get("arguments") or ()]
