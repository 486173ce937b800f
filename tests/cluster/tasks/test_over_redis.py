"""What only a real Redis can show of tasks: what it is told and keeps, and what becomes of them when it takes no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.nodes import Activity, in_process_cluster
from tests.cluster.tasks.nodes import seen, task_nodes
from tests.rig.leaks import redis_texts
from tests.rig.redis import RedisServer
from tests.rig.waiting import until
from tests.tasks.harness import TaskClient, with_tasks
from tests.tasks.runner import QUESTION, YES
from trio_mcp import Context, MCPServer, Task
from trio_mcp.tasks.changes import Answer, Ask, Complete, Progress
from trio_mcp.tasks.record import Status
from trio_mcp.tasks.store import TaskStoreAway

pytestmark = [pytest.mark.sockets, pytest.mark.processes]


@pytest.mark.requirement("tasks-35")
async def test_a_redis_that_is_full_is_owed_the_end_and_takes_no_new_task(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there, redis = nodes[1], nodes[2], nodes.cluster.redis
        task, asks = await here.task(), await here.task()
        here.store.own(asks.id, Ask("a", QUESTION))
        await here.flushed()
        await redis.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(TaskStoreAway):
            await here.task()
        with pytest.raises(TaskStoreAway):
            await there.store.tell(asks.id, Answer({"a": YES}))
        here.store.own(task.id, Complete(b"{}"))
        assert (await here.store.get(task.id) or task).status is Status.COMPLETED
        assert (await there.store.get(task.id) or task).status is Status.WORKING
        await redis.ask("CONFIG", "SET", "maxmemory", "0")
        await here.flushed()
        assert (await seen(there, task.id, Status.COMPLETED)).result == b"{}"
        assert here.runner.told == []


@pytest.mark.requirement("tasks-40")
async def test_no_key_is_without_an_expiry_and_a_node_lists_only_what_runs(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        redis = nodes.cluster.redis
        for number in range(200):
            task = await nodes[1].task()
            nodes[1].store.own(task.id, Progress(str(number)))
            nodes[1].store.own(task.id, Complete(b"{}"))
        runs = await nodes[1].task()
        await nodes[1].flushed()
        keys = [key.decode() for key in await redis.ask("KEYS", "mcp:task*")]
        assert len(keys) == 202
        for key in keys:
            assert 0 < await redis.ask("TTL", key) <= 86_400
        assert await redis.ask("SMEMBERS", "mcp:tasks:node1") == [runs.id.encode()]


def secretive(_: str, __: Activity) -> MCPServer:
    """Says a secret in every way that a tool can."""
    mcp = with_tasks()

    @mcp.tool(task=Task(after=0))
    async def whisper(text: str, ctx: Context) -> str:
        await ctx.report_progress(1, 2, "SECRET-progress")
        form = {"type": "object", "properties": {"word": {"type": "string"}}}
        answer = await ctx.elicit("SECRET-question", form)
        assert answer.data is not None
        return f"SECRET-result {text} {answer.data['word']}"

    return mcp


@pytest.mark.requirement("tasks-41")
async def test_redis_is_told_nothing_in_the_clear(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, 1, build=secretive) as cluster:
        redis = cluster.redis
        assert isinstance(redis, RedisServer)
        async with redis.monitor() as monitor:
            client = TaskClient(cluster[1].wire, headers={"authorization": "Bearer SECRET-token"})
            task = await client.begin("whisper", text="SECRET-argument")
            asked = await client.until(task, "input_required")
            (key,) = asked["inputRequests"]
            kept = await redis_texts(redis)
            await client.update(task, **{key: {"action": "accept", "content": {"word": "SECRET-answer"}}})
            ended = await client.until(task, "completed")
            assert "SECRET-result SECRET-argument SECRET-answer" in str(ended["result"])

            async def written() -> bool:
                return any("outcome" in line for line in monitor.lines)

            await until(written, "the end is written")
            everything = [*kept, *await redis_texts(redis), *monitor.lines]
        assert any("whisper" in line for line in everything), "it was looked at"
        assert not [line for line in everything if "SECRET" in line]
