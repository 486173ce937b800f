"""`trio-mcp tasks` over a real Redis, with tasks that the test writes and with one of a real node."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from tests.rig.cluster import cluster
from tests.rig.nodes import SERVER
from tests.rig.redis import RedisServer, redis_server
from tests.rig.task_traffic import TaskTraffic
from tests.rig.waiting import PATIENCE
from tests.tasks.runner import HOUR, QUESTION, task_of
from trio_mcp.auth.keyring import Keyring
from trio_mcp.cli import execute
from trio_mcp.cluster.redis.store import RedisStore
from trio_mcp.cluster.tasks.fields import TaskFields, swap
from trio_mcp.tasks.changes import Ask, Fail, Park
from trio_mcp.tasks.memory import wall_clock
from trio_mcp.tasks.record import FailReason, TaskOwner, TaskRecord
from trio_mcp.tasks.transitions import apply

pytestmark = [pytest.mark.sockets, pytest.mark.processes]

Printed = pytest.CaptureFixture[str]
ME = TaskOwner("node1", "b1", 2)


@pytest.fixture
async def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as server:
        monkeypatch.setenv("TRIO_MCP_REDIS_URL", server.url)
        yield server


async def run(*words: str) -> int:
    """The command in a thread of its own: it brings its own Trio."""
    with trio.fail_after(PATIENCE):
        return await trio.to_thread.run_sync(execute, words)


async def put(redis: RedisServer, task: TaskRecord) -> None:
    store = RedisStore(redis.url)
    await store.run([swap(TaskFields(Keyring([b"secret"])), task, None, "", wall_clock())])
    store.close()


async def test_what_redis_knows_is_shown_and_nothing_that_was_said(redis: RedisServer, capsys: Printed) -> None:
    now = round(time.time() * 1000)
    asks = replace(task_of(ME, now - 65_000), id="aaaaaaaa-1")
    asks = apply(apply(asks, Ask("k", QUESTION), now, by=ME), Park(), now, by=ME)
    gone = replace(task_of(ME, now - 3_700_000, idempotent=True, ttl=2 * HOUR), id="aaaaaaaa-2")
    await put(redis, asks)
    await put(redis, apply(gone, Fail(FailReason.NODE_GONE.error), now - 90_000, by=ME))
    await redis.ask("SET", "mcp:task:zzzzzzzzzzzz", "not ours")
    assert await run("tasks") == 0
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "Tasks (3)"
    assert lines[2:] == [
        "zzzzzzzzzz - - no task - -",
        "aaaaaaaa-2 count node1 failed (node_gone) 1 h 58 m idempotent, run 3",
        "aaaaaaaa-1 count node1 input_required 1 m 58 m parked, 1 open, run 3",
    ]
    assert "Go on" not in out
    assert await run("tasks", "--json", "--limit", "2") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (len(found["tasks"]), found["complete"]) == (2, False)


async def test_an_id_that_names_none_or_several_is_told(redis: RedisServer, capsys: Printed) -> None:
    for number in (1, 2):
        await put(redis, replace(task_of(ME, wall_clock()), id=f"-aaaaaaaa{number}"))
    assert await run("tasks", "end", "nothing") == 1
    assert "there is no task nothing" in capsys.readouterr().err
    assert await run("tasks", "end", "*") == 1
    assert await run("tasks", "end", "-aaaa") == 2
    assert "-aaaaaaaa1\n" in capsys.readouterr().err


async def test_a_task_ends_on_its_node(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(1, server=SERVER.with_name("tasks.py"), routing=()) as standing:
        monkeypatch.setenv("TRIO_MCP_REDIS_URL", standing.redis.url)
        traffic = TaskTraffic([standing.nodes[0].url], 1)
        begun = await traffic.ask("tools/call", {"name": "plain", "arguments": {"name": "t", "seconds": 600}})
        task_id = begun.result["taskId"]
        assert await run("tasks", "end", task_id[:8]) == 0
        assert capsys.readouterr().out == f"{task_id[:8]} has ended\n"
        told = await traffic.ask("tasks/get", {"taskId": task_id})
        assert told.result["status"] == "cancelled"
        assert await run("tasks", "end", task_id) == 0
        assert "has ended before" in capsys.readouterr().out
