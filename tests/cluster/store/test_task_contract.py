"""What every store promises for tasks, tried on each."""

from __future__ import annotations

import pytest

from tests.cluster.store.both import Both
from tests.rig.redis import RedisServer
from trio_mcp.cluster.redis.store import RedisStore
from trio_mcp.cluster.store.port import OperationRefused
from trio_mcp.cluster.store.task_operations import (
    AddTask,
    FindTasks,
    ReadTask,
    RemoveTask,
    SwapTask,
    TaskRevision,
    TasksOf,
)


async def test_a_task_is_written_where_its_revision_is_the_one_that_was_seen(stores: Both) -> None:
    assert await stores.do(ReadTask("t")) == {}
    assert await stores.do(TaskRevision("t")) is None
    assert await stores.do(SwapTask("t", "r0", "r1", {"head": b"1"}, 60_000)) is False
    assert await stores.do(SwapTask("t", "", "r1", {"head": b"1", "talk": "a"}, 60_000)) is True
    assert await stores.there.run([SwapTask("t", "", "r2", {"head": b"2"}, 60_000)]) == [False]
    assert await stores.do(ReadTask("t")) == {b"rev": b"r1", b"head": b"1", b"talk": b"a"}
    assert await stores.there.run([SwapTask("t", "r1", "r2", {"head": b"2", "end": b"\0\xff"}, 60_000, ("talk",))]) == [
        True
    ]
    assert await stores.do(ReadTask("t")) == {b"rev": b"r2", b"head": b"2", b"end": b"\0\xff"}
    assert await stores.do(SwapTask("t", "r1", "r3", {"head": b"3"}, 60_000)) is False
    assert await stores.do(TaskRevision("t")) == b"r2"


async def test_a_task_expires(stores: Both) -> None:
    await stores.do(SwapTask("t", "", "r1", {"head": b"1"}, 60_000))
    await stores.do(SwapTask("t", "r1", "r2", {"head": b"2"}, 1))
    for _ in range(1_000):
        if not await stores.do(ReadTask("t")):
            return
    pytest.fail("the task stays")


async def test_a_node_has_a_list_of_tasks(stores: Both) -> None:
    assert await stores.do(TasksOf("node1", 10)) == []
    for number in range(5):
        await stores.do(AddTask("node1", f"t{number}"))
    await stores.do(AddTask("node1", "t0"))
    await stores.do(AddTask("node2", "x"))
    (listed,) = await stores.there.run([TasksOf("node1", 10)])
    assert sorted(listed) == [b"t0", b"t1", b"t2", b"t3", b"t4"]
    assert len(await stores.do(TasksOf("node1", 3))) == 3
    await stores.do(RemoveTask("node1", "t3"))
    await stores.do(RemoveTask("node3", "t3"))
    assert sorted(await stores.do(TasksOf("node1", 10))) == [b"t0", b"t1", b"t2", b"t4"]


async def test_tasks_are_found_by_a_part_of_their_ids_step_by_step(stores: Both) -> None:
    await stores.here.run([SwapTask(f"a{number}", "", "r", {"head": b"1"}, 60_000) for number in range(30)])
    await stores.do(AddTask("a1", "x"))

    async def found(pattern: str) -> set[str]:
        seen: set[str] = set()
        cursor = b"0"
        while True:
            cursor, names = await stores.do(FindTasks(cursor, pattern, 7))
            seen |= set(names)
            if cursor == b"0":
                return seen

    assert await found("*") == {f"a{number}" for number in range(30)}
    assert await found("a2*") == {"a2", *(f"a2{number}" for number in range(10))}


@pytest.mark.sockets
@pytest.mark.processes
async def test_in_redis_no_key_is_without_an_expiry_and_another_value_is_no_task(server: RedisServer) -> None:
    if server._process is None:
        await server.start()
    await server.ask("FLUSHALL")
    store = RedisStore(server.url)
    await store.run([SwapTask("t", "", "r1", {"head": b"1"}, 60_000), AddTask("node1", "t")])
    assert 59 <= int(await server.ask("TTL", "mcp:task:t")) <= 60
    assert 86_399 <= int(await server.ask("TTL", "mcp:tasks:node1")) <= 86_400
    await server.ask("SET", "mcp:task:u", "x")
    for reply in await store.run([ReadTask("u"), TaskRevision("u"), SwapTask("u", "", "r1", {"head": b"1"}, 1)]):
        assert isinstance(reply, OperationRefused)
    store.close()
