"""Every result of `promises.py` in the official Python client: `results_python_2_3.py URL legacy|auto`."""

import sys

import anyio
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from steps import Steps


async def main(url: str, mode: str) -> None:
    steps = Steps()
    async with steps.conversation(), Client(streamable_http_client(url), mode=mode) as client:
        async with steps.step("connect"):
            assert client.protocol_version
        tools = []
        async with steps.step("list"):
            tools = (await client.list_tools()).tools
            assert len(tools) > 100, len(tools)
        for tool in tools:
            if tool.input_schema.get("properties"):
                continue
            async with steps.step(tool.name):
                result = await client.call_tool(tool.name, {})
                assert not result.is_error, result.content
                assert not tool.output_schema or result.structured_content is not None
    steps.print()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], backend="trio")
