"""The example of docs/extensions.md does what the page says."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from tests.test_readme import REPOSITORY, python_of
from tests.transports.http.harness import LEGACY, serving
from trio_mcp import MCPServer

GLOSSARY = "com.example/glossary"
DECLARED: dict[str, Any] = {"extensions": {GLOSSARY: {}}}


def example() -> MCPServer:
    namespace: dict[str, Any] = {}
    page = REPOSITORY / "docs" / "extensions.md"
    exec(compile(python_of(page), str(page), "exec"), namespace)
    server = namespace["mcp"]
    assert isinstance(server, MCPServer)
    return server


async def test_the_example_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(example()) as wire:
        hop = {"word": "hop"}
        for capabilities, code in ((DECLARED, None), ({}, -32021)):
            client = wire.modern(capabilities)
            answer = await client.start("glossary/explain", hop, headers={"mcp-name": "hop"}).answer()
            assert answer.get("error", {}).get("code") == code
            assert (await client.start("glossary/explain", hop).error())["code"] == -32020
            meta = (await client.tool("status").result())["_meta"]
            assert (GLOSSARY in meta) == (capabilities is DECLARED)
            declared = (await client.start("server/discover").result())["capabilities"]
            assert declared["extensions"] == {GLOSSARY: {"languages": ["en"]}}
        session = await wire.open(LEGACY, DECLARED)
        assert await session.start("glossary/explain", hop).result() == {"meaning": "A request from node to node."}
        assert (await session.start("glossary/explain").error())["data"] == {"known": ["hop"]}
        assert (await (await wire.open(LEGACY)).start("glossary/explain", hop).error())["code"] == -32601
        await session.notify("notifications/glossary/unclear", {"word": "node"})
        await trio.testing.wait_all_tasks_blocked()
    assert capsys.readouterr().out == "test did not understand node\n"
