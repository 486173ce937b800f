"""Tasks when a message, a write or a moment is lost: what each node does by itself then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import trio
from trio.testing import MockClock

from tests.cluster.tasks.nodes import TaskNode, task_nodes
from tests.tasks.runner import QUESTION, YES
from trio_mcp.cluster.clock import Moment
from trio_mcp.cluster.failure_detector import FailureDetector
from trio_mcp.cluster.membership import BEAT_SECONDS, Verdict
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peers import Peers
from trio_mcp.cluster.record import Identity
from trio_mcp.cluster.siblings import Siblings
from trio_mcp.cluster.store.port import Operation, Publish, StoreDown
from trio_mcp.cluster.store.task_operations import TasksOf
from trio_mcp.cluster.tasks.owners import ASK_SECONDS, TaskOwners
from trio_mcp.tasks.changes import Answer, Ask, Release
from trio_mcp.tasks.record import TaskOwner

OVER_MEMORY = True


def hears_nothing(here: TaskNode) -> None:
    """What the bus brings of tasks is lost."""
    here.node.cluster._bus._tasks = lambda changed, left: None


async def test_a_write_that_another_node_has_overtaken_takes_its_answer_in_without_a_message(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        hears_nothing(here)
        task = await here.task()
        here.store.own(task.id, Ask("a", QUESTION))
        await here.flushed()
        await there.store.tell(task.id, Answer({"a": YES}))
        began = trio.current_time()
        here.store.own(task.id, Ask("b", QUESTION))
        await here.flushed()
        assert trio.current_time() - began < 1
        assert here.runner.tasks[task.id].answers == {"a": YES}
        written = await there.store.get(task.id)
        assert written is not None
        assert list(written.questions) == ["b"]


async def test_a_task_is_left_to_another_node_also_when_redis_is_away_just_then(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        here.node.stop_asked()
        await nodes.cluster.meet()
        task = await here.task(idempotent=True)
        run, lost = here.node.store.run, list[Publish]()

        async def lose_the_first(operations: Sequence[Operation]) -> list[Any]:
            told = [each for each in operations if isinstance(each, Publish)]
            if told and not lost:
                lost.extend(told)
                raise StoreDown("the connection broke")
            return await run(operations)

        here.node.store.run = lose_the_first  # type: ignore[method-assign]
        began = trio.current_time()
        await here.store.leave(task.id, Release())
        await there.is_told(("run", task.id))
        assert lost
        # It is told again, and not only found when the node looks at its list.
        assert trio.current_time() - began < BEAT_SECONDS / 2


async def test_a_process_that_stood_still_does_not_answer_for_a_task_that_another_has_taken(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        hears_nothing(here)
        task = await here.task(idempotent=True)
        found = await there.store._reader.read(task.id)
        assert found is not None
        taken = msgspec.structs.replace(found.task, owner=TaskOwner("node2", there.node.boot, 1))
        assert await there.store._reader.replace(found, taken)
        here.store._looked = Moment(-100.0, -100.0)
        told = await here.store.get(task.id)
        assert told is not None
        assert told.owner.node == "node2"
        await here.is_told(("lost", task.id))


async def test_a_task_that_is_taken_over_is_on_the_list_of_its_new_node(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        task = await here.task(idempotent=True)
        await here.node.die()
        await there.is_told(("run", task.id))
        (listed,) = await there.node.store.run([TasksOf("node2", 10)])
        assert listed == [task.id.encode()]


async def test_whether_a_process_is_gone_is_asked_once_a_second_and_never_again_once_it_is(
    autojump_clock: MockClock,
) -> None:
    asked: list[str] = []
    gone: set[str] = set()

    class Detector:
        async def look(self, owner: Owner) -> Verdict:
            await trio.lowlevel.checkpoint()
            asked.append(owner.boot)
            return Verdict.GONE if owner.boot in gone else Verdict.UNKNOWN

    owners = TaskOwners(cast("FailureDetector", Detector()), Peers(Identity("node1", "b1"), Siblings()))
    other = TaskOwner("node2", "b2")
    for _ in range(3):
        assert not await owners.is_gone(other)
    assert asked == ["b2"]
    gone.add("b2")
    await trio.sleep(ASK_SECONDS)
    for _ in range(3):
        assert await owners.is_gone(other)
    assert asked == ["b2", "b2"]
    assert not await owners.is_gone(TaskOwner("node1", "b1"))
