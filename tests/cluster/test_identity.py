"""Whose session it is when another node answers: relayed, restored, and from records of the first form."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.cluster.nodes import Activity, at, demo, in_process_cluster, stranger
from tests.cluster.parts import KEYS
from tests.cluster.test_record import FORM_1, STONE_OF_FORM_1
from tests.cluster.test_router import reason_of, said_by
from tests.transports.http.harness import two_users
from tests.transports.http.test_identity import by_token, token
from trio_mcp import Context, MCPServer

OVER_BOTH_STORES = True

ALICE, BOB = {"authorization": "Bearer alice"}, {"authorization": "Bearer bob"}


def scoped(name: str, activity: Activity) -> MCPServer:
    mcp = demo(name, activity)
    mcp.auth = by_token

    @mcp.tool
    async def scope(ctx: Context) -> str:
        return f"{ctx.principal.claims['scope']} on {name}"

    @mcp.tool
    async def kept(ctx: Context) -> str:
        assert ctx.session is not None
        return str(dict(ctx.session.principal.claims))

    return mcp


async def test_a_relayed_call_has_the_token_it_came_with(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, build=scoped) as nodes:
        client = await nodes[1].wire.open(headers=token(scope="read"))
        far = at(nodes[2], client)
        assert await said_by(far.tool("scope", headers=token(scope="write"))) == "write on node1"
        assert await said_by(far.tool("scope")) == "read on node1"
        assert await reason_of(far.tool("scope", headers=token(client="c2"))) == "unknown"


async def test_a_restored_session_goes_by_the_token_of_each_call(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, build=scoped, restore=True) as nodes:
        client = await nodes[1].wire.open(headers=token(scope="read"))
        await nodes[1].die()
        far = at(nodes[2], client)
        assert await reason_of(far.tool("scope", headers=token(client="c2"))) == "unknown"
        assert await said_by(far.tool("scope", headers=token(scope="write"))) == "write on node2"
        assert await said_by(far.tool("scope")) == "read on node2"
        assert await said_by(far.tool("kept")) == "{}"


async def test_redis_holds_no_claim(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, build=scoped, restore=True) as nodes:
        client = await nodes[1].wire.open(headers=token("somebody", "someclient", "somescope"))
        await client.tool("scope").result()
        await nodes[1].flushed()
        record = msgspec.json.encode(await nodes.record(client.id))
        assert b"somebody" not in record
        assert b"someclient" not in record
        assert b"somescope" not in record


async def test_a_session_of_form_1_goes_on_for_its_principal_and_nobody_else(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True, app={"authenticate": two_users}) as nodes:
        client = await nodes[1].wire.open(headers=ALICE)
        await nodes[1].die()
        form_1 = msgspec.json.decode(FORM_1)
        await nodes.change_record(client.id, v=1, principal=form_1["principal"])
        bob = stranger(nodes[2], client.id)
        assert await reason_of(bob.tool("where", headers=BOB)) == "unknown"
        assert await reason_of(bob.delete(headers=BOB)) == "unknown"
        assert await said_by(at(nodes[2], client).tool("where")) == "node2"
        await nodes[2].flushed()
        record = await nodes.record(client.id)
        assert (record["v"], record["principal"]) == (1, form_1["principal"])
        assert await reason_of(bob.tool("where", headers=BOB)) == "unknown"


async def test_a_tombstone_of_form_1_is_told_to_its_principal(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, app={"authenticate": two_users}) as nodes:
        await nodes.redis.ask("SET", KEYS.closed("node1.abc"), STONE_OF_FORM_1.decode())
        stranger_here = stranger(nodes[2], "node1.abc")
        assert await reason_of(stranger_here.tool("where", headers=ALICE)) == "expired"
        assert await reason_of(stranger_here.tool("where", headers=BOB)) == "unknown"


async def test_the_node_that_has_a_session_asks_redis_for_another_principal_as_for_any_unknown_id(
    tmp_path: Path,
) -> None:
    async with in_process_cluster(tmp_path, app={"authenticate": two_users}) as nodes:
        client = await nodes[1].wire.open(headers=ALICE)
        asked = []
        for session_id in (client.id, "node1.AAAAAAAAAAAAAAAAAAAAAAAA"):
            nodes[1].asked.clear()
            assert await reason_of(stranger(nodes[1], session_id).tool("where", headers=BOB)) == "unknown"
            asked.append([type(each) for each in nodes[1].asked])
        assert asked[0] == asked[1] != []
