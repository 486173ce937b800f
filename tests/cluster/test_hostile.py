"""Who means harm: with forged hops, other people's sessions, and values in Redis that none of us wrote."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cluster.leaping import LeapingClock
from tests.cluster.nodes import InProcessCluster, Node, at, hops_of, in_process_cluster, stranger
from tests.cluster.parts import KEYS
from tests.cluster.peers import ok, raw_peer, read_request
from tests.cluster.test_bus import Ear, listening, say
from tests.cluster.test_router import reason_of, said_by, stand
from tests.rig.waiting import until
from tests.transports.http.harness import BOTH, HOST, JSON, SessionClient, request, two_users
from trio_mcp.streams.bus import ListChanged, Missed

OVER_BOTH_STORES = True

ALICE, BOB = {"authorization": "Bearer alice"}, {"authorization": "Bearer bob"}


# Hops.


def signed(session_id: str, method: str = "POST", path: bytes = b"/mcp", secret: bytes | None = None) -> str:
    """As a peer named node1 would."""
    hops = hops_of("node1") if secret is None else hops_of("node1", secret)
    return hops.sign(method, path, session_id).decode()


def expired(session_id: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Half a minute and a second old."""
    then = time.time() - 31
    with monkeypatch.context() as past:
        past.setattr("trio_mcp.cluster.hop.time.time", lambda: then)
        return signed(session_id)


@pytest.mark.parametrize(
    "kind", ["forged", "of another session", "of another method", "of another path", "expired", "nonsense"]
)
async def test_a_hop_that_does_not_verify_is_a_clients_word_and_counted(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        hop = {
            "forged": signed(client.id, secret=b"guessed"),
            "of another session": signed("node1.other"),
            "of another method": signed(client.id, "DELETE"),
            "of another path": signed(client.id, path=b"/mcp/"),
            "expired": expired(client.id, monkeypatch),
            "nonsense": "node1..." + "0" * 400,
        }[kind]
        # Believed, it would be refused with 421: one hop is all there is.
        assert await said_by(at(nodes[2], client).tool("where", headers={"trio-mcp-hop": hop})) == "node1"
        assert nodes[2].metric("trio_mcp_hops_refused_total") == 1
        assert nodes[1].metric("trio_mcp_hops_refused_total") == 0


async def test_a_hop_that_verifies_is_believed(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        exchange = at(nodes[2], client).tool("where", headers={"trio-mcp-hop": signed(client.id)})
        assert await exchange.head() == 421
        assert nodes[1].heard == []


async def test_a_hop_opens_no_session_to_anybody(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, app={"authenticate": two_users}) as nodes:
        client = await nodes[1].wire.open(headers=ALICE)
        hop = {"trio-mcp-hop": signed(client.id)}
        assert await reason_of(stranger(nodes[1], client.id).tool("where", headers=BOB | hop)) == "unknown"
        assert await stranger(nodes[1], client.id).start("ping", headers=hop).head() == 401


# Other people's sessions.


async def test_a_relayed_session_is_its_principals_alone(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, app={"authenticate": two_users}) as nodes:
        client = await nodes[1].wire.open(headers=ALICE)
        far = at(nodes[2], client)
        bob = stranger(nodes[2], client.id)
        assert await reason_of(bob.tool("where", headers=BOB)) == "unknown"
        assert await said_by(far.tool("where")) == "node1"
        # Now its owner is remembered, and says the same.
        assert await reason_of(bob.tool("where", headers=BOB)) == "unknown"
        assert await reason_of(bob.listen(headers=BOB)) == "unknown"
        assert await reason_of(bob.delete(headers=BOB)) == "unknown"
        assert await said_by(far.tool("where")) == "node1"
        assert nodes[1].activity.ran == ["where", "where"]


async def test_nobody_restores_or_deletes_another_principals_session(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True, app={"authenticate": two_users}) as nodes:
        client = await nodes[1].wire.open(headers=ALICE)
        await nodes[1].die()
        before = await nodes.record(client.id)
        bob = stranger(nodes[2], client.id)
        assert await reason_of(bob.tool("where", headers=BOB)) == "unknown"
        assert await reason_of(bob.delete(headers=BOB)) == "unknown"
        assert await nodes.record(client.id) == before
        assert await said_by(at(nodes[2], client).tool("where")) == "node2"
        assert await reason_of(bob.tool("where", headers=BOB)) == "unknown"


async def test_how_a_session_ended_is_its_principals_business(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, app={"authenticate": two_users}) as nodes:
        client = await nodes[1].wire.open(headers=ALICE)
        assert await client.delete().nothing() == 204
        await ended(nodes[1], client)
        for node in nodes.nodes:
            assert await reason_of(stranger(node, client.id).tool("where", headers=BOB)) == "unknown"
            assert await reason_of(at(node, client).tool("where")) == "deleted"


async def ended(node: Node, client: SessionClient) -> None:
    async def gone() -> bool:
        return node.app.hub.local(client.id) is None

    await until(gone, "the session has ended")
    await node.flushed()


# Requests.


async def test_a_body_over_the_bound_goes_nowhere(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, app={"max_body": 2_000}) as nodes:
        client = await nodes[1].wire.open()
        far = at(nodes[2], client)
        assert await far.post(request(1, "ping", {"padding": "x" * 2_000})).head() == 413
        assert nodes[1].heard == []
        assert await said_by(far.tool("where")) == "node1"


async def test_two_session_ids_are_one_too_many(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client, other = await nodes[1].wire.open(), await nodes[1].wire.open()
        usual = [("host", HOST), ("accept", BOTH), ("content-type", JSON), ("mcp-protocol-version", "2025-11-25")]
        ids = [("mcp-session-id", client.id), ("mcp-session-id", other.id)]
        for method in ("POST", "GET", "DELETE"):
            exchange = nodes[2].wire.start(method, [*usual, *ids], request(1, "ping") if method == "POST" else b"")
            assert await exchange.head() == 400
        assert nodes[1].heard == []


ODD_IDS = {
    "a key": "mcp:session:node1.abc",
    "a colon": "node1.a:b",
    "a pattern": "node1.*",
    "a star": "*",
    "a path": "../../etc/passwd",
    "an encoded line end": "node1.abc%0d%0aDEL",
    "a next line": "node1.abc\x85def",
    "a null": "node1.abc\x00def",
    "Latin-1": "n\xf6de1.\xe9\xff",
    "two dots": "node1.abc.def",
    "no node": ".abc",
    "nothing random": "node1.",
    "long": "node1." + "a" * 10_000,
    "a long node": "n" * 64 + ".abc",
    "braces": "{node}.abc",
}


@pytest.mark.parametrize("session_id", ODD_IDS.values(), ids=ODD_IDS.keys())
async def test_an_id_that_cannot_be_ours_reaches_neither_redis_nor_peers(tmp_path: Path, session_id: str) -> None:
    async with in_process_cluster(tmp_path, peer_url="http://{node}:1") as nodes:
        who = stranger(nodes[2], session_id)
        assert await reason_of(who.tool("where")) == "unknown"
        assert await reason_of(who.listen()) == "unknown"
        assert await reason_of(who.delete()) == "unknown"
        assert nodes[2].asked == []
        assert nodes[1].heard == []


@pytest.mark.parametrize(
    "said",
    [
        b'{"jsonrpc":"2.0","id":1,"result":{"secret":"of an inner service"}}',
        b'{"status":"ready","boot":"0123456789abcdef","proof":"0123"}',
    ],
    ids=["no node", "a node it cannot prove to be"],
)
async def test_an_id_that_names_a_host_makes_no_node_send_it_anything_of_a_client(tmp_path: Path, said: bytes) -> None:
    came: list[bytes] = []

    async def handle(stream: trio.SocketStream) -> None:
        came.append(await read_request(stream))
        await stream.send_all(ok(said))

    async with raw_peer(handle) as url:
        port = url.rpartition(":")[2]
        async with in_process_cluster(tmp_path, peer_url=f"http://{{node}}:{port}") as nodes:
            who = stranger(nodes[2], "127-0-0-1.abc")
            assert await reason_of(who.tool("where")) == "unknown"
            who = stranger(nodes[2], "localhost.abc")
            assert await reason_of(who.tool("where", headers={"authorization": "Bearer secret"})) == "unknown"
    assert [each.split(b"\r\n")[0] for each in came] == [b"GET /livez HTTP/1.1"]
    assert b"secret" not in came[0]


# Records.


async def test_a_record_of_a_later_release_tells_where_a_session_is_and_no_more(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True, app={"authenticate": two_users}) as nodes:
        client = await nodes[1].wire.open(headers=ALICE)
        await nodes[1].cut_off()
        await nodes.change_record(client.id, v=2, principal={"new": "form"})
        far = at(nodes[2], client)
        assert await said_by(far.tool("where")) == "node1"
        await nodes[1].die()
        before = await nodes.record(client.id)
        assert await reason_of(far.tool("where")) == "node_gone"
        assert await reason_of(stranger(nodes[2], client.id).delete(headers=BOB)) == "node_gone"
        await nodes[2].flushed()
        assert await nodes.record(client.id) == before
        assert await nodes.tombstone(client.id) is None


@pytest.mark.parametrize(
    "changes", [{"version": "1999-01-01"}, {"version": ""}, {"log_level": "loud"}, {"principal": None}], ids=str
)
async def test_a_record_that_holds_what_we_do_not_know_is_not_restored(tmp_path: Path, changes: dict[str, Any]) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        await nodes.change_record(client.id, **changes)
        assert await reason_of(at(nodes[2], client).tool("where")) == "node_gone"


async def test_an_address_that_is_somebody_elses_by_now_is_sent_nothing_of_the_client(
    tmp_path: Path, clock: LeapingClock
) -> None:
    came: list[bytes] = []

    async def handle(stream: trio.SocketStream) -> None:
        came.append(await read_request(stream))
        await stream.send_all(ok(b"<html>Welcome to nginx!</html>", "Content-Type: text/html"))

    async with raw_peer(handle) as url, in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await stand(nodes, clock)
        await nodes[1].die()
        await nodes.change_record(client.id, url=url)
        far = at(nodes[2], client)
        assert await reason_of(far.tool("where"), 503) == "unreachable"
        await nodes.drop_card("node1")
        assert await said_by(far.tool("where")) == "node2"
    assert {each.split(b"\r\n")[0] for each in came} == {b"GET /livez HTTP/1.1"}
    assert not any(client.id.encode() in each for each in came)


@pytest.mark.parametrize(
    "url", ["", "file:///etc/passwd", "http://", "http://[", "http://a@b:1", "redis", "http://x:99999"]
)
async def test_an_address_that_makes_no_sense_is_a_node_that_cannot_be_reached(tmp_path: Path, url: str) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].cut_off()
        await nodes.change_record(client.id, url=url)
        assert await reason_of(at(nodes[2], client).tool("where"), 503) == "unreachable"


@pytest.mark.only_redis("its port")
async def test_redis_itself_is_no_node(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].cut_off()
        await nodes.change_record(client.id, url=f"http://127.0.0.1:{nodes.redis.port}")  # type: ignore[union-attr]
        assert await reason_of(at(nodes[2], client).tool("where"), 503) == "unreachable"


# Values in Redis.


GARBAGE = {
    "nothing": "return redis.call('SET', KEYS[1], '')",
    "text": "return redis.call('SET', KEYS[1], 'text')",
    "no text": r"return redis.call('SET', KEYS[1], '{\"boot\":\"\255\"}')",
    "a list": "return redis.call('SET', KEYS[1], '[]')",
    "null": "return redis.call('SET', KEYS[1], 'null')",
    "a number": "return redis.call('SET', KEYS[1], '1e400')",
    "other members": "return redis.call('SET', KEYS[1], '{\"a\":1}')",
    "a boot alone": 'return redis.call(\'SET\', KEYS[1], \'{"boot":"b9","started":"1"}\')',
    "a boot of another type": 'return redis.call(\'SET\', KEYS[1], \'{"boot":1,"node":[],"epoch":"0","v":1}\')',
    "deep": "return redis.call('SET', KEYS[1], '{\"zz\":' .. string.rep('[', 9000) .. string.rep(']', 9000) .. '}')",
    "another type": "redis.call('DEL', KEYS[1]) return redis.call('RPUSH', KEYS[1], 'x')",
    "a set": "redis.call('DEL', KEYS[1]) return redis.call('SADD', KEYS[1], 'x')",
}
kinds = pytest.mark.parametrize("script", GARBAGE.values(), ids=GARBAGE.keys())


async def spoil(nodes: InProcessCluster, key: str, script: str) -> None:
    await nodes.redis.ask("EVAL", script, "1", key)


@pytest.mark.only_redis("a script writes what no node would, also values of other types")
@kinds
async def test_a_record_that_is_none_harms_no_session(tmp_path: Path, script: str) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await spoil(nodes, KEYS.session(client.id), script)
        assert await said_by(at(nodes[2], client).tool("where")) == "node1"
        await client.start("logging/setLevel", {"level": "error"}).result()
        await nodes[1].flushed()
        assert await said_by(client.tool("where")) == "node1"
        assert await client.delete().nothing() == 204
        await ended(nodes[1], client)
        other = await nodes[1].wire.open()
        assert await said_by(at(nodes[2], other).tool("where")) == "node1"


@pytest.mark.only_redis("a script writes what no node would, also values of other types")
@kinds
async def test_a_tombstone_that_is_none_says_nothing(tmp_path: Path, script: str) -> None:
    async with in_process_cluster(tmp_path, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await spoil(nodes, KEYS.closed(client.id), script)
        await spoil(nodes, KEYS.closed("node1.neverwas"), script)
        assert await reason_of(stranger(nodes[2], "node1.neverwas").tool("where")) == "unknown"
        nodes[1].trust.doubt_records()
        await nodes[1].beat()
        assert await said_by(at(nodes[2], client).tool("where")) == "node1"
        assert await client.delete().nothing() == 204
        await ended(nodes[1], client)


@pytest.mark.only_redis("a script writes what no node would, also values of other types")
@kinds
async def test_a_card_that_is_none_stops_no_heart(tmp_path: Path, script: str) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        for name in ("node1", "node2"):
            await spoil(nodes, KEYS.node(name), script)
        await nodes.meet()
        assert not nodes[1].cluster.doubled.is_set()
        if "'SET'" in script:
            assert nodes[2].membership.boot("node1") == nodes[1].boot
        assert await said_by(at(nodes[2], client).tool("where")) == "node1"


@pytest.mark.only_redis("a script writes what no node would, also values of other types")
@pytest.mark.parametrize("command", [("SET", "x"), ("RPUSH", "x"), ("ZADD", "inf", "a\r\nb"), ("ZADD", "nan", "x")])
async def test_a_list_of_nodes_that_is_none_stops_no_heart(tmp_path: Path, command: tuple[str, ...]) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        client = await nodes[1].wire.open()
        name, *words = command
        if name != "ZADD":
            # In one step: a heart that beats in between would put the list up again.
            script = "redis.call('DEL', KEYS[1]) return redis.call(ARGV[1], KEYS[1], ARGV[2])"
            await nodes.redis.ask("EVAL", script, "1", KEYS.nodes, *command)
        elif "nan" not in words:
            await nodes.redis.ask(name, KEYS.nodes, *words)
        else:
            await nodes.redis.ask("ZADD", KEYS.nodes, "1e300", "n" * 10_000, "-1e300", "mcp:node:node1", "1e300", "*")
        await nodes.meet()
        assert await said_by(at(nodes[2], client).tool("where")) == "node1"


@pytest.mark.only_redis("a script writes what no node would, also values of other types")
async def test_what_is_said_on_the_bus_and_makes_no_sense_is_counted_and_passed_over(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as nodes:
        await listening(nodes)
        there = Ear(nodes[2])
        for script in GARBAGE.values():
            if "'SET'" in script:
                await nodes.redis.ask("EVAL", script.replace("'SET'", "'PUBLISH'"), "1", KEYS.bus)
        for changes in ([["uri", "\ud800"]], [["uri"]], "tools", [["list", 3]], {"list": "tools"}):
            await nodes.redis.ask("PUBLISH", KEYS.bus, json.dumps({"boot": "b9", "n": 1, "changes": changes}))
        for odd in ({"n": -1}, {"n": 10**40, "changes": [["list", "prompts"]]}, {"n": "1"}, {"end": "*"}, {"end": 1}):
            await nodes.redis.ask("PUBLISH", KEYS.bus, json.dumps({"boot": "b8", **odd}))
        await say(nodes, boot="b7", n=1, changes=[["list", "tools"]])
        await there.hears(Missed(), ListChanged("prompts"), ListChanged("tools"))
        assert nodes[2].metric("trio_mcp_bus_errors_total") > 10
