"""Nodes with workers that share a Redis with other nodes, as clients and peers meet them: real processes on loopback."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.rig.client import Answer, LegacyClient
from tests.rig.nodes import SERVER, Node
from tests.rig.redis import RedisServer, redis_server
from tests.rig.waiting import until

pytestmark = [pytest.mark.sockets, pytest.mark.processes]

WORKERS = ("--workers", "2", "--drain-delay", "1")


@dataclass
class Standing:
    """Redis, node1 with two workers, and node2."""

    redis: RedisServer
    first: Node
    second: Node
    clients: list[LegacyClient] = field(default_factory=list)

    async def open(self, *, at: Node, count: int = 4, processes: int = 2) -> list[LegacyClient]:
        """Sessions that were opened at that node: so many, and more until that many processes have some."""
        opened: list[LegacyClient] = []
        owners: set[str] = set()

        async def spread() -> bool:
            client = LegacyClient(f"{at.url}/mcp", cookies=False, fresh=True)
            answer = await client.initialize()
            assert not answer.error, answer
            opened.append(client)
            owners.add(client.node)
            return len(opened) >= count and len(owners) == processes

        await until(spread, "every worker has sessions", pause=0)
        self.clients += opened
        return opened

    async def cards(self) -> dict[str, dict[str, Any]]:
        """What stands in Redis of each node."""
        names = [name.decode() for name in await self.redis.ask("ZRANGE", "mcp:nodes", "0", "-1")]
        raw = {name: await self.redis.ask("GET", f"mcp:node:{name}") for name in names}
        return {name: json.loads(card) for name, card in raw.items() if card}

    async def workers_on_cards(self) -> dict[str, dict[str, Any]]:
        """Wait until two workers of node1 are shown to other nodes, and node2."""

        async def shown() -> dict[str, dict[str, Any]]:
            cards = {name: card for name, card in (await self.cards()).items() if card["url"]}
            ready = [name for name, card in cards.items() if card["state"] == "ready"]
            return cards if sum(name.startswith("node1-") for name in ready) == 2 and "node2" in ready else {}

        return await until(shown, "all are known to Redis")


@asynccontextmanager
async def standing(folder: Path, *flags: str, second: Sequence[str] = ()) -> AsyncIterator[Standing]:
    """All of them for the length of the block."""
    async with redis_server(folder) as redis, trio.open_nursery() as nursery:
        shared = {
            "TRIO_MCP_SECRET": "shared-by-all-nodes-of-this-test-and-long",
            "TRIO_MCP_REDIS_URL": redis.url,
        }
        found = Standing(
            redis,
            Node("node1", nursery, SERVER, (*WORKERS, *flags), shared),
            Node("node2", nursery, SERVER, (*second, *flags), shared),
        )
        try:
            async with trio.open_nursery() as starting:
                starting.start_soon(found.first.start)
                starting.start_soon(found.second.start)
            yield found
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 60):
                for node in (found.first, found.second):
                    await node.stop()
            nursery.cancel_scope.cancel("the nodes are gone")


async def asked(client: LegacyClient, *, at: Node) -> Answer:
    """What `where` answers, on a connection of its own to that node. On a busy machine it may be told to try again."""
    other = LegacyClient(f"{at.url}/mcp", cookies=False, fresh=True)
    other.session = client.session

    async def answered() -> list[Answer]:
        answer = await other.tool("where")
        return [] if answer.status == 503 else [answer]

    (answer,) = await until(answered, "an answer")
    return answer


async def told(client: LegacyClient, *, at: Node) -> dict[str, Any]:
    """The same, where it is no error."""
    answer = await asked(client, at=at)
    assert not answer.error, answer
    return answer.told


async def test_every_session_is_found_through_any_node_and_goes_on_whatever_ends(tmp_path: Path) -> None:
    async with standing(tmp_path, "--restore") as there:
        first, second = there.first, there.second
        cards = await there.workers_on_cards()
        workers = sorted(name for name in cards if name.startswith("node1-"))
        assert {cards[name]["url"] for name in workers} == {f"{first.url}#{name}" for name in workers}
        assert cards["node2"]["url"] == second.url

        await there.open(at=first)
        await there.open(at=second, count=2, processes=1)
        owners = {}
        for client in there.clients:
            record = json.loads(await there.redis.ask("GET", f"mcp:session:{client.session}"))
            assert (record["node"], record["boot"]) == (client.node, cards[client.node]["boot"])
            # Whichever node and worker accepts, the process that has the session answers.
            answers = [await told(client, at=node) for node in (first, second) for _ in range(4)]
            (owners[client.session],) = {each["process"] for each in answers}
            assert {each["restored"] for each in answers} == {False}
        assert await first.metric("trio_mcp_moves_total") > 0

        # Connections of one node to another's workers lead where they should, once they have moved.
        kept = LegacyClient(f"{second.url}/mcp", cookies=False)
        for client in there.clients:
            kept.session = client.session
            assert {(await kept.tool("where")).told["process"] for _ in range(3)} == {owners[client.session]}
        kept.close()

        await _a_worker_that_is_killed(there, owners)
        await _a_roll(there)
        assert await first.terminate() == 0
        for client in there.clients:
            assert (await told(client, at=second))["node"] == "node2"
        assert set(await there.cards()) == {"node2"}
        assert not [line for node in (first, second) for line in node.lines if '"level":"error"' in line]


async def _a_worker_that_is_killed(there: Standing, owners: dict[str, int]) -> None:
    first, second = there.first, there.second
    victim = next(client for client in there.clients if client.node != "node2")
    os.kill(owners[victim.session], signal.SIGKILL)
    # Until the kernel has ended all its threads, what it is sent is lost with it.
    await first.run.says('"worker died"')
    for number, client in enumerate(there.clients):
        answer = await told(client, at=(first, second)[number % 2])
        assert (answer["process"] == owners[client.session]) is (client.node != victim.node), answer
        assert answer["restored"] is (client.node == victim.node)

    async def taken_down() -> bool:
        return victim.node not in await there.cards()

    await until(taken_down, "the other worker has taken its card down", patience=10)
    (died,) = first.events("worker died")
    # It is what the test did, and no fault.
    first.run.lines.remove(next(line for line in first.run.lines if "worker died" in line))
    assert died["worker"] == victim.node
    await there.workers_on_cards()


async def _a_roll(there: Standing) -> None:
    first, second = there.first, there.second
    failed: Counter[str] = Counter()
    calls = 0
    rolled = trio.Event()

    async def call_all_the_time(client: LegacyClient, node: Node) -> None:
        nonlocal calls
        kept = LegacyClient(f"{node.url}/mcp", cookies=False)
        kept.session = client.session
        while not rolled.is_set():
            answer = await kept.tool("where")
            calls += 1
            # 503 asks to try again: on a busy machine Redis may seem to be away.
            if answer.error and answer.status != 503:
                failed[answer.error] += 1
        kept.close()

    async with trio.open_nursery() as nursery:
        for number, client in enumerate(there.clients):
            nursery.start_soon(call_all_the_time, client, (first, second)[number % 2])
        first.process.send_signal(signal.SIGHUP)
        await first.run.says('"rolled"')
        rolled.set()
    assert not failed
    assert calls > len(there.clients)
    await there.workers_on_cards()


async def test_without_restore_the_sessions_of_a_worker_end_with_it_on_every_node(tmp_path: Path) -> None:
    async with standing(tmp_path) as there:
        await there.workers_on_cards()
        await there.open(at=there.first)
        before = {client.session: (await told(client, at=there.second))["process"] for client in there.clients}
        victim = there.clients[0].node
        os.kill(before[there.clients[0].session], signal.SIGKILL)
        await there.first.run.says('"worker died"')
        for number, client in enumerate(there.clients):
            node = (there.second, there.first)[number % 2]
            if client.node != victim:
                assert (await told(client, at=node))["process"] == before[client.session]
                continue
            answer = await asked(client, at=node)
            assert (answer.status, answer.reason) == (404, "node_gone"), answer


async def test_while_redis_is_away_a_session_is_still_found_by_any_connection(tmp_path: Path) -> None:
    async with standing(tmp_path, "--restore") as there:
        await there.workers_on_cards()
        await there.open(at=there.first)
        async with there.redis.monitor() as monitor:

            async def beaten() -> bool:
                return len([line for line in monitor.lines if "ZADD" in line.upper() and '"node2"' in line]) == 2

            await until(beaten, "node2 has read the cards of the workers")
        await there.redis.stop()
        await there.open(at=there.first)
        for client in there.clients:
            assert {(await told(client, at=there.first))["node"] for _ in range(4)} == {"node1"}
            (owner,) = {(await told(client, at=there.first))["process"] for _ in range(4)}
            assert (await told(client, at=there.second))["process"] == owner
        await there.redis.start()


async def test_two_nodes_of_workers_open_sessions_for_each_other_and_stop_as_nodes_do(tmp_path: Path) -> None:
    async with standing(tmp_path, "--restore", "--max-sessions", "4", second=WORKERS) as there:

        async def known() -> bool:
            cards = await there.cards()
            return len([card for card in cards.values() if card["url"] and card["state"] == "ready"]) == 4

        await until(known, "four workers are known to Redis")
        clients = [LegacyClient(f"{there.first.url}/mcp", cookies=False, fresh=True) for _ in range(7)]
        for client in clients:

            async def opened(client: LegacyClient = client) -> bool:
                # A node learns with each beat which workers have room. A session that is used is not ended for another.
                return not (await client.initialize()).error and not (await client.tool("where")).error

            await until(opened, "some worker has room")
        assert len({client.node for client in clients}) == 4
        assert {client.node.partition("-")[0] for client in clients} == {"node1", "node2"}
        for client in clients:
            answers = [await told(client, at=node) for node in (there.first, there.second) for _ in range(2)]
            assert len({each["process"] for each in answers}) == 1
