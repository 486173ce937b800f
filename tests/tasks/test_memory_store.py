"""The store of a single node."""

from __future__ import annotations

import pytest

from tests.tasks.runner import HOUR, QUESTION, YES, NotingRunner, WallClock, task_of
from trio_mcp.tasks.changes import Answer, Ask, AskCancel, ChangeRefused, Complete, Fail, Progress, Refusal
from trio_mcp.tasks.limits import TaskLimits
from trio_mcp.tasks.memory import MemoryTaskStore
from trio_mcp.tasks.record import FailReason, Status, TaskError, TaskRecord
from trio_mcp.tasks.store import TaskStoreAway


class Node:
    """A store, its runner, and a clock."""

    def __init__(self, limits: TaskLimits | None = None) -> None:
        self.clock = WallClock()
        self.store = MemoryTaskStore("node1", "b1", limits=limits, clock=self.clock)
        self.runner = NotingRunner()
        self.store.attach(self.runner)

    async def task(self, *, ttl: int = HOUR) -> TaskRecord:
        task = task_of(self.store.owner, self.clock(), ttl=ttl)
        await self.store.create(task)
        return task


async def test_a_question_is_open_until_it_is_answered_and_the_handler_goes_on() -> None:
    node = Node()
    task = await node.task()
    asked = node.store.own(task.id, Ask("k", QUESTION))
    assert asked.status is Status.INPUT_REQUIRED
    assert await node.store.get(task.id) == asked
    assert await node.store.tell(task.id, Answer({"other": YES})) == asked
    assert node.runner.told == []
    answered = await node.store.tell(task.id, Answer({"k": YES}))
    assert answered is not None
    assert (answered.status, answered.answers, answered.waits) == (Status.WORKING, {"k": YES}, False)
    assert node.runner.told == [("changed", task.id)]


async def test_a_client_asks_for_the_end_and_the_runner_ends_it() -> None:
    node = Node()
    task = await node.task()
    told = await node.store.tell(task.id, AskCancel())
    assert told is not None
    assert told.status is Status.WORKING
    assert node.runner.tasks[task.id].cancel
    await node.store.tell(task.id, AskCancel())
    assert node.runner.told == [("changed", task.id)]


async def test_an_unknown_task_is_none() -> None:
    store = Node().store
    assert await store.get("x") is None
    assert await store.tell("x", AskCancel()) is None
    with pytest.raises(ChangeRefused) as refused:
        store.own("x", Progress("1"))
    assert refused.value.reason is Refusal.NOT_OWNER


async def test_watchers_hear_each_change_until_they_stop() -> None:
    node = Node()
    task, other = await node.task(), await node.task()
    heard: list[TaskRecord] = []
    stop = node.store.watch(task.id, heard.append)
    node.store.own(task.id, Progress("1"))
    node.store.own(other.id, Progress("2"))
    node.store.own(task.id, Complete(b"{}"))
    assert [(each.id, each.status) for each in heard] == [(task.id, Status.WORKING), (task.id, Status.COMPLETED)]
    stop()
    stop()
    await node.store.tell(task.id, AskCancel())
    assert len(heard) == 2


@pytest.mark.requirement("tasks-39")
async def test_an_ended_task_can_be_read_until_its_ttl_is_over_and_a_running_one_is_moved_on() -> None:
    node = Node(TaskLimits(ttl=3_600, max_ttl=7_200, working_left=900, ended_left=3_600))
    task = await node.task()
    node.clock.ms += HOUR - 899_000
    node.store.look()
    moved = await node.store.get(task.id)
    assert moved is not None
    assert moved.expires >= node.clock.ms + 900_000
    ended = node.store.own(task.id, Complete(b"{}"))
    assert ended.expires == node.clock.ms + HOUR
    node.clock.ms = ended.expires - 1_000
    node.store.look()
    assert await node.store.get(task.id) == ended
    node.clock.ms = ended.expires
    assert await node.store.get(task.id) is None
    node.store.look()
    assert len(node.store) == 0


async def test_a_task_that_runs_beyond_all_ttl_fails_and_its_handler_is_cancelled() -> None:
    node = Node(TaskLimits(max_ttl=7_200))
    task = await node.task()
    for _ in range(10):
        node.clock.ms += 720_000
        node.store.look()
    failed = await node.store.get(task.id)
    assert failed is not None
    assert failed.error == FailReason.EXPIRED.error
    assert node.runner.told == [("lost", task.id)]
    assert node.store.here() == []


@pytest.mark.requirement("tasks-40")
async def test_nothing_is_left_of_10_000_tasks_after_their_ttl() -> None:
    node = Node()
    for _ in range(10_000):
        task = await node.task()
        node.store.own(task.id, Complete(b"{}"))
    assert (len(node.store), node.store.here()) == (10_000, [])
    node.clock.ms += HOUR
    node.store.look()
    assert len(node.store) == 0


@pytest.mark.parametrize(
    "end",
    [Complete(b"x" * 5_000), Fail(TaskError(-32000, "x" * 5_000)), Fail(TaskError(-32000, "x", {"more": "x" * 5_000}))],
    ids=["result", "error", "data of an error"],
)
async def test_ended_tasks_take_no_more_room_than_they_may_and_give_it_back(end: Complete | Fail) -> None:
    node = Node(TaskLimits(kept=12_000))
    first, second = await node.task(), await node.task()
    node.store.own(first.id, end)
    third = await node.task()
    node.store.own(second.id, end)
    with pytest.raises(TaskStoreAway):
        await node.task()
    node.store.own(third.id, Complete(b"{}"))
    node.clock.ms += HOUR
    node.store.look()
    assert len(node.store) == 0
    await node.task()


async def test_small_results_are_bounded_in_number() -> None:
    node = Node(TaskLimits(kept=100_000))
    with pytest.raises(TaskStoreAway):
        for _ in range(100):
            task = await node.task()
            node.store.own(task.id, Complete(b"{}"))


async def test_the_arguments_of_a_task_that_has_ended_are_not_kept() -> None:
    node = Node()
    task = await node.task()
    assert task.start.arguments
    ended = node.store.own(task.id, Complete(b"{}"))
    assert (ended.start.tool, ended.start.arguments) == (task.start.tool, {})
    assert await node.store.get(task.id) == ended
