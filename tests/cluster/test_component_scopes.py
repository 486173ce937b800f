"""What components ask of tokens, on the node that has the session: its 403 comes back unchanged over a relay."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.auth.issuer import token
from tests.cluster.nodes import Activity, at, demo, in_process_cluster
from tests.transports.http.harness import Exchange
from tests.transports.http.test_authorization import bearer, sent
from trio_mcp import Context, MCPServer
from trio_mcp.auth import require_scopes

OVER_BOTH_STORES = True

READ = sent(token())
WRITE = sent(token(scope="mcp:read mcp:write"))


def guarded(name: str, activity: Activity) -> MCPServer:
    mcp = demo(name, activity)
    mcp.auth = bearer()

    @mcp.tool(auth=require_scopes("mcp:write"))
    async def w(ctx: Context) -> str:
        activity.ran.append("w")
        await ctx.report_progress(1)
        return name

    return mcp


async def challenge(exchange: Exchange) -> str:
    assert await exchange.head() == 403
    return exchange.headers["www-authenticate"]


@pytest.mark.requirement("auth-36", "auth-41", "auth-42")
async def test_the_owner_judges_what_its_components_ask(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, build=guarded) as nodes:
        client = await nodes[1].wire.open(headers=READ)
        relayed = at(nodes[2], client).tool("w", id=5)
        told = await challenge(relayed)
        assert 'error_description="w needs mcp:write", scope="mcp:read mcp:write"' in told
        assert (await relayed.json())["id"] == 5
        assert told == await challenge(client.tool("w", id=6))
        assert nodes[1].activity.ran == []
        result = await at(nodes[2], client).tool("w", headers=WRITE).result()
        assert result["content"][0]["text"] == "node1"


@pytest.mark.requirement("auth-48")
async def test_a_stream_is_resumed_over_a_relay_with_the_scopes_of_its_call(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, build=guarded) as nodes:
        client = await nodes[1].wire.open(headers=READ)
        params = {"name": "w", "arguments": {}, "_meta": {"progressToken": 1}}
        with trio.fail_after(60):
            stream = client.start("tools/call", params, headers=WRITE)
            first = await stream.event()
            assert first is not None
            stream.disconnect()
            other = at(nodes[2], client)
            assert 'error_description="The stream needs mcp:write"' in await challenge(other.listen(first["id"]))
            messages = await other.listen(first["id"], WRITE).messages()
        assert messages[-1]["result"]["content"][0]["text"] == "node1"
