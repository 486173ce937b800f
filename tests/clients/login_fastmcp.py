"""FastMCP's client logs in: `login_fastmcp.py URL`; the environment's BROWSER is the browser."""

import sys

import anyio
from fastmcp import Client
from renewal import seconds_left
from steps import Steps


async def main(url: str) -> None:
    steps = Steps()
    async with steps.conversation(), Client(url, auth="oauth") as client:
        async with steps.step("connect"):
            assert client.is_connected()
        async with steps.step("list"):
            assert "add" in [tool.name for tool in await client.list_tools()]
        async with steps.step("call"):
            assert (await client.call_tool("add", {"a": 1, "b": 2})).data == 3
        async with steps.step("refresh"):
            first = (await client.call_tool("expires", {})).data
            if left := seconds_left(first):
                await anyio.sleep(left)
                assert (await client.call_tool("expires", {})).data > first
        async with steps.step("step-up"):
            assert (await client.call_tool("write", {"text": "a"})).data == "wrote a"
    if "connect" in steps.verdicts:
        steps.verdicts["login"] = steps.verdicts.pop("connect")
    steps.print()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
