"""A Redis that answers and refuses is another trouble than one that is away, and is told as such, once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio

from tests.cluster.nodes import Node, demo, in_process_cluster
from tests.cluster.parts import KEYS
from tests.rig.redis import redis_server
from tests.rig.waiting import until
from trio_mcp.cluster.redis.client import RedisClient
from trio_mcp.cluster.store.measured import MeasuredStore
from trio_mcp.cluster.store.port import Leave, Operation, OperationRefused, ReadCard, StoreDown, StoreRefuses
from trio_mcp.observability.metrics import Metrics
from trio_mcp.sessions.node_state import NodeState

Reply = list[Any] | StoreDown

OK: Reply = [b"OK"]
AWAY = StoreDown("Connection refused")
PASSWORD = StoreRefuses("WRONGPASS invalid username-password pair or user is disabled.")
RIGHTS: Reply = [OperationRefused("NOPERM this user has no permissions to run the 'get' command")]
NO_MASTER: Reply = [OperationRefused("CLUSTERDOWN Hash slot not served")]
WRONG_TYPE: Reply = [OperationRefused("WRONGTYPE Operation against a key holding the wrong kind of value")]


class Link:
    """Plays Redis: each run has the next reply."""

    shown = "redis://redis:6379"
    noun = "redis"

    def __init__(self, replies: Sequence[Reply]) -> None:
        self._replies = list(replies)

    def name_of(self, operation: Operation) -> str:
        return type(operation).__name__

    async def run(self, operations: Sequence[Operation]) -> list[Any]:
        await trio.lowlevel.checkpoint()
        reply = self._replies.pop(0)
        if isinstance(reply, StoreDown):
            raise reply
        return reply


async def told(replies: Sequence[Reply], caplog: pytest.LogCaptureFixture) -> tuple[list[tuple[str, str]], float, str]:
    """What the log says (level, words and reason), and the metrics, after these replies."""
    metrics = Metrics()
    store = MeasuredStore(Link(replies), metrics)  # type: ignore[arg-type]
    caplog.clear()
    with caplog.at_level(logging.INFO, "trio_mcp.cluster"):
        for _ in replies:
            with suppress(StoreDown):
                await store.run([ReadCard("node1")])
    lines = [(each.levelname, each.message) for each in caplog.records]
    rendered = metrics.render()[0].decode()
    up = next(line for line in rendered.splitlines() if line.startswith("trio_mcp_directory_up "))
    return lines, float(up.split()[1]), rendered


@pytest.mark.parametrize("refusal", [PASSWORD, RIGHTS, NO_MASTER])
async def test_a_refusal_is_an_error_in_redis_words_once_for_as_long_as_it_lasts(
    refusal: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    lines, up, metrics = await told([refusal] * 3, caplog)
    assert lines == [("ERROR", "redis refuses")]
    words = str(refusal[0] if isinstance(refusal, list) else refusal)
    assert caplog.records[0].__dict__["mcp_fields"]["why"] == words
    assert up == 0
    assert 'trio_mcp_directory_errors_total{kind="refused"} 3.0' in metrics
    assert 'kind="down"' not in metrics


@pytest.mark.parametrize(
    ("replies", "said", "is_up"),
    [
        ([], [], 0),
        ([OK, OK], [], 1),
        ([AWAY, AWAY, OK, OK], ["redis is away", "redis is back"], 1),
        ([PASSWORD, PASSWORD, OK], ["redis refuses", "redis is back"], 1),
        ([AWAY, PASSWORD, AWAY], ["redis is away", "redis refuses", "redis is away"], 0),
        ([OK, RIGHTS, RIGHTS, OK, RIGHTS], ["redis refuses", "redis is back", "redis refuses"], 0),
        ([WRONG_TYPE, OK], ["redis refused a command"], 1),
    ],
)
async def test_each_change_of_state_is_a_line(
    replies: list[Reply], said: list[str], is_up: float, caplog: pytest.LogCaptureFixture
) -> None:
    lines, up, _ = await told(replies, caplog)
    assert [message for _, message in lines] == said
    assert up == is_up


async def test_a_command_that_is_refused_while_others_are_done_is_lasting_until_it_is_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused = OperationRefused("NOPERM this user has no permissions to run the 'get' command")
    operations: list[Operation] = [Leave("node1", "b1"), ReadCard("node1")]
    script: list[list[Any]] = [[b"OK", refused], [b"OK"], [b"OK", refused], [b"OK", b"OK"]]
    store = MeasuredStore(Link([*script]), Metrics())  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO, "trio_mcp.cluster"):
        for replies in script:
            await store.run(operations[: len(replies)])
    assert caplog.messages == ["redis refuses", "redis is back"]


def test_a_node_without_redis_has_no_such_gauge() -> None:
    assert "trio_mcp_directory_up" not in Metrics().render()[0].decode()


# A real one.


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize(
    ("account", "words"), [("node:wrong@", "WRONGPASS"), ("", "NOAUTH"), ("node:right@", "NOPERM")]
)
async def test_what_a_real_redis_refuses_is_told_in_its_words(tmp_path: Any, account: str, words: str) -> None:
    rules = ("--requirepass", "other", "--user", "node", "on", ">right", "~mcp:*", "+get")
    async with redis_server(tmp_path, extra=rules) as server:
        link = RedisClient(f"redis://{account}127.0.0.1:{server.port}")
        try:
            (reply,) = await link.run([("SET", "mcp:a", 1)])
            assert isinstance(reply, OperationRefused)
            said = str(reply)
        except StoreRefuses as refusal:
            said = str(refusal)
        finally:
            link.close()
    assert said.startswith(words)


# Who must have it.


@pytest.mark.sockets
@pytest.mark.processes
async def test_a_node_that_requires_redis_is_ready_once_it_was_joined_and_stays_so(tmp_path: Any) -> None:
    async with in_process_cluster(tmp_path) as nodes, trio.open_nursery() as nursery:
        other = Node("node3", nodes[1].proxy, demo, {}, {"require_redis": True})
        other.joins = False
        other.proxy.cut()
        await nodes._nursery.start(other.run, 0)
        nursery.start_soon(other.cluster.join, other.url)
        await other.beat()
        assert not await _is_ready(other)
        other.proxy.mend()
        await until(partial(_is_ready, other), "Redis has taken its card")
        other.proxy.cut()
        await other.beat()
        assert await _is_ready(other)
        assert await nodes.redis.ask("EXISTS", KEYS.node("node3")) == 1
        other._whole.cancel()


async def _is_ready(node: Node) -> bool:
    return node.app.life.state is NodeState.READY
