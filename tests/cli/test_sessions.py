"""`trio-mcp sessions` over a real Redis, with records that the test writes and with those of real nodes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.rig.client import LegacyClient
from tests.rig.cluster import cluster
from tests.rig.records import on_record
from tests.rig.redis import RedisServer, redis_server
from tests.rig.waiting import PATIENCE, until
from trio_mcp.cli import execute
from trio_mcp.cli.cluster_view import RecordedSession
from trio_mcp.cli.session_table import labels
from trio_mcp.cluster.record import NodeCard, Record

pytestmark = [pytest.mark.sockets, pytest.mark.processes]

Printed = pytest.CaptureFixture[str]


@pytest.fixture
async def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as server:
        monkeypatch.setenv("TRIO_MCP_REDIS_URL", server.url)
        yield server


@pytest.fixture(autouse=True)
def no_other_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)


async def run(*words: str) -> int:
    """The command in a thread of its own: it brings its own Trio."""
    with trio.fail_after(PATIENCE):
        return await trio.to_thread.run_sync(execute, words)


async def shown(capsys: Printed, *words: str) -> dict[str, Any]:
    assert await run("sessions", "--json", *words) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def record(node: str = "node1", boot: str = "b1", **changes: Any) -> str:
    info = {"name": "desk", "version": "7"}
    made = Record(v=1, node=node, boot=boot, epoch=0, principal="p", version="2025-11-25", info=info, **changes)
    return msgspec.json.encode(made).decode()


async def put(redis: RedisServer, session_id: str, value: str, *, prefix: str = "mcp") -> None:
    await redis.ask("SET", f"{prefix}:session:{session_id}", value)


async def show_card(redis: RedisServer, node: str, boot: str, *, ago: float = 0, prefix: str = "mcp") -> None:
    card = NodeCard(boot, f"http://{node}:8000", "ready", 1, int((time.time() - 7200) * 1000))
    await redis.ask("ZADD", f"{prefix}:nodes", str(time.time() - ago), node)
    await redis.ask(
        "SET", f"{prefix}:node:{node}", msgspec.json.encode(card).decode(), "PX", str(int(15_000 - 1_000 * ago))
    )


async def test_what_redis_knows_is_shown(redis: RedisServer, capsys: Printed) -> None:
    await show_card(redis, "node1", "b1")
    await redis.ask("ZADD", "mcp:nodes", str(time.time() - 300), "node2")
    day_ago = int(time.time()) - 86_500
    await put(redis, "node1.aaaaaaaaaaaa", record(restorable=True, created=day_ago))
    await put(redis, "node1.bbbbbbbbbbbb", record(boot="dead"))
    await put(redis, "node2.cccccccccccc", record("node2", "b2"))
    await put(redis, "node2.dddddddddddd", record("node2", "b2", restorable=True, released=True))
    await put(redis, "node3.eeeeeeeeeeee", '{"v":9,"node":"node1","boot":"b1","epoch":2,"later":1}')
    await put(redis, "node3.ffffffffffff", "not ours")
    await put(redis, "node1.hhhhhhhhhhhh", record(transport="websocket"))
    await redis.ask("RPUSH", "mcp:session:node3.gggggggggggg", "not ours either")
    assert await run("sessions") == 0
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "Nodes (2)"
    assert re.fullmatch(r"node1 ready \d s ago 1 2 h b1 http://node1:8000", lines[2])
    assert lines[3] == "node2 gone 5 m ago - - - -"
    assert lines[4] == "Sessions (8)"
    assert sorted(lines[6:]) == [
        "aaaaaaaa node1 open, restorable 1 d 2025-11-25 desk 7",
        "bbbbbbbb node1 node gone - 2025-11-25 desk 7",
        "cccccccc node2 node gone - 2025-11-25 desk 7",
        "dddddddd node2 released, restorable - 2025-11-25 desk 7",
        "eeeeeeee node1 open - - -",
        "ffffffff - no record - - -",
        "gggggggg - no record - - -",
        "hhhhhhhh node1 open, websocket - 2025-11-25 desk 7",
    ]
    assert "aaaaaaaaa" not in out, "a whole id is a credential"


async def test_a_node_that_has_not_beaten_in_time_is_called_stale(redis: RedisServer, capsys: Printed) -> None:
    await show_card(redis, "node1", "b1", ago=1)
    await show_card(redis, "node2", "b2", ago=9)
    first, second = (await shown(capsys))["nodes"]
    assert (first["stale"], second["stale"]) == (False, True)
    assert 9 <= second["seen_seconds_ago"] <= 11
    await run("sessions")
    assert " s ago, stale" in capsys.readouterr().out


async def test_a_cluster_without_a_node_is_exit_code_1_and_says_what_to_look_at(
    redis: RedisServer, capsys: Printed
) -> None:
    await show_card(redis, "node1", "b1")
    assert await run("sessions", "--redis-prefix", "mpc") == 1
    said = capsys.readouterr()
    assert "Nodes (0)" in said.out
    assert all(word in said.err for word in ("mpc", "--redis-prefix", "database"))


async def test_only_the_prefix_asked_for_is_shown_however_it_is_spelt(redis: RedisServer, capsys: Printed) -> None:
    await show_card(redis, "node1", "b1", prefix="m[c]p")
    await put(redis, "node1.aaaaaaaa", record(), prefix="m[c]p")
    await put(redis, "node1.bbbbbbbb", record(), prefix="mcp")
    assert [each["session"] for each in (await shown(capsys, "--redis-prefix", "m[c]p"))["sessions"]] == ["aaaaaaaa"]


async def test_no_more_sessions_are_shown_than_asked_for_and_the_rest_is_told(
    redis: RedisServer, capsys: Printed
) -> None:
    await show_card(redis, "node1", "b1")
    for number in range(20):
        await put(redis, f"node1.{number:08}", record())
    found = await shown(capsys, "--limit", "5")
    assert (len(found["sessions"]), found["complete"]) == (5, False)
    assert await run("sessions", "--limit", "5") == 0
    assert "There are more than 5: --limit" in capsys.readouterr().out
    assert (await shown(capsys, "--limit", "20"))["complete"]


async def test_an_id_that_can_be_several_ends_none_of_them(redis: RedisServer, capsys: Printed) -> None:
    await put(redis, "node1.samesameX", record())
    await put(redis, "node2.samesameY", record("node2"))
    async with redis.monitor() as monitor:
        assert await run("sessions", "end", "samesame") == 2
        await redis.ask("ECHO", "over")
        await monitor.says("over")
    assert not [line for line in monitor.lines if "PUBLISH" in line]
    assert "\n  node1.samesame\n  node2.samesame\n" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nothere1", "node1.nothere1", "*", "a?c", "-x"])
async def test_an_id_nobody_has_is_told(redis: RedisServer, capsys: Printed, name: str) -> None:
    await put(redis, "node1.abcdefgh", record())
    assert await run("sessions", "end", name) == 1
    assert f"there is no session {name}" in capsys.readouterr().err


async def test_a_session_that_no_node_has_is_removed_for_good(redis: RedisServer, capsys: Printed) -> None:
    await show_card(redis, "node1", "a later process")
    await put(redis, "node1.-bcdefghij", record())
    assert await run("sessions", "end", "-bcdefgh") == 0
    assert "node1 is gone, and its record with it now" in capsys.readouterr().out
    assert await redis.ask("GET", "mcp:session:node1.-bcdefghij") is None
    stone = json.loads(await redis.ask("GET", "mcp:closed:node1.-bcdefghij"))
    assert stone == {"reason": "deleted", "principal": "p", "boot": "b1", "epoch": 0}


async def test_a_node_that_does_not_end_its_session_is_told_and_keeps_it(redis: RedisServer, capsys: Printed) -> None:
    await show_card(redis, "node1", "b1")
    await put(redis, "node1.abcdefghij", record())
    assert await run("sessions", "end", "abcdefgh") == 1
    assert "node1 has not ended abcdefgh within 3 s" in capsys.readouterr().err
    assert await redis.ask("GET", "mcp:session:node1.abcdefghij") is not None


async def test_redis_that_does_not_answer_is_named_without_its_password(capsys: Printed) -> None:
    assert await run("sessions", "--redis-url", "redis://me:hunter2@127.0.0.1:1/0") == 1
    err = capsys.readouterr().err
    assert err.startswith("trio-mcp: redis://127.0.0.1:1/0 does not answer: ")
    assert "hunter2" not in err
    assert "Traceback" not in err


async def test_a_command_that_redis_refuses_is_named(tmp_path: Path, capsys: Printed) -> None:
    async with redis_server(tmp_path, extra=["--rename-command", "SCAN", ""]) as redis:
        assert await run("sessions", "--redis-url", redis.url) == 1
    assert "refuses SCAN: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [([], "which Redis?"), (["--redis-url", "http://x"], "a Redis URL begins with"), (["--redis-prefix", "a:b"], "")],
)
async def test_a_question_that_makes_no_sense_is_exit_code_2(capsys: Printed, words: list[str], says: str) -> None:
    if "--redis-prefix" in words:
        words = [*words, "--redis-url", "redis://127.0.0.1:1"]
        says = "redis_prefix (flag --redis-prefix): "
    assert await run("sessions", *words) == 2
    assert says in capsys.readouterr().err


def test_short_ids_grow_only_where_they_must() -> None:
    ids = ["node1.samesameXY", "node2.samesameYY", "node1.other-one", "odd"]
    lines = [RecordedSession(each, None) for each in ids]
    assert labels(lines) == ["samesameX", "samesameY", "other-one", "odd"]
    assert labels(lines, with_node=True) == ["node1.samesame", "node2.samesame", "node1.other-on", "odd"]


@pytest.mark.slow
async def test_a_cluster_shows_who_is_where_and_ends_a_session_by_its_short_id(
    capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(2, routing=()) as found:
        monkeypatch.setenv("TRIO_MCP_REDIS_URL", found.redis.url)
        clients = [LegacyClient(f"{node.url}/mcp", fresh=True) for node in found.nodes for _ in range(2)]
        for number, client in enumerate(clients):
            assert not (await client.initialize(f"client{number}")).error
        await on_record(found, *(client.session for client in clients))
        told = await shown(capsys)
        assert {(each["client"], each["node"], each["state"]) for each in told["sessions"]} == {
            (f"client{number}", client.node, "open") for number, client in enumerate(clients)
        }
        assert [(each["node"], each["state"], each["url"]) for each in told["nodes"]] == [
            (node.name, "ready", node.url) for node in found.nodes
        ]
        assert told["nodes"][0]["boot"] == await found.nodes[0].boot()
        await _end_one(found.redis, capsys, clients[3])
        assert not (await clients[2].request("ping")).error

        found.node("node1").pause()
        assert await run("sessions", "end", clients[0].session) == 1
        found.node("node1").resume()

        async def heard_of_it() -> bool:
            return (await clients[0].request("ping")).status == 404

        await until(heard_of_it, "the node that was paused ends the session when it wakes")


async def _end_one(redis: RedisServer, capsys: Printed, client: LegacyClient) -> None:
    short = client.session.rpartition(".")[2][:8]
    assert await run("sessions", "end", short) == 0
    assert capsys.readouterr().out == f"{short} on {client.node} has ended\n"
    assert await redis.ask("EXISTS", f"mcp:session:{client.session}") == 0
    answer = await client.request("ping")
    assert (answer.status, answer.reason) == (404, "deleted")
