"""Tasks of several nodes: any of them answers, one of them owns, and nothing runs twice that may not."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.cluster.nodes import SECRET, in_process_cluster
from tests.cluster.tasks.nodes import TaskNode, seen, task_nodes
from tests.rig.waiting import until
from tests.tasks.runner import HOUR, QUESTION, YES
from trio_mcp.auth.keyring import Keyring
from trio_mcp.tasks.changes import (
    Answer,
    Ask,
    AskCancel,
    Cancelled,
    ChangeRefused,
    Complete,
    Park,
)
from trio_mcp.tasks.record import Status, TaskRecord
from trio_mcp.tasks.store import TaskStoreAway

OVER_BOTH_STORES = True


@pytest.mark.requirement("tasks-9")
async def test_a_task_is_found_on_every_node_as_soon_as_it_is_created(tmp_path: Path) -> None:
    async with task_nodes(tmp_path, 3) as nodes:
        for number in range(334):
            task = await nodes[1 + number % 3].task()
            for node in nodes.nodes:
                assert await node.store.get(task.id) == task


async def test_what_its_owner_does_is_seen_there_at_once_and_elsewhere_soon(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        task = await here.task()
        here.store.own(task.id, Ask("k", QUESTION))
        assert (await here.store.get(task.id) or task).questions == {"k": QUESTION}
        asked = await seen(there, task.id, Status.INPUT_REQUIRED)
        assert asked.questions == {"k": QUESTION}
        done = here.store.own(task.id, Complete(b'{"content":[]}'))
        assert here.store.here() == []
        found = await here.store.get(task.id)
        assert found is not None
        assert (found.status, found.result) == (Status.COMPLETED, b'{"content":[]}')
        ended = await seen(there, task.id, Status.COMPLETED)
        assert (ended.result, ended.expires, ended.updated) == (b'{"content":[]}', done.expires, done.updated)
        assert here.store.here() == []
        with pytest.raises(ChangeRefused):
            here.store.own(task.id, Cancelled())


async def test_the_owner_does_not_show_a_question_that_another_node_has_taken_the_answer_to(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        task = await here.task()
        for key in "abc":
            here.store.own(task.id, Ask(key, QUESTION))
        await here.flushed()
        for key, left in (("a", ["b", "c"]), ("b", ["c"])):
            await there.store.tell(task.id, Answer({key: YES}))
            found = await here.store.get(task.id)
            assert found is not None
            assert list(found.questions) == left


@pytest.mark.requirement("tasks-31")
async def test_an_answer_and_a_cancel_by_another_node_reach_the_owner(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        task = await here.task()
        here.store.own(task.id, Ask("a", QUESTION))
        here.store.own(task.id, Ask("b", QUESTION))
        await here.flushed()
        told = await there.store.tell(task.id, Answer({"a": YES, "x": YES}))
        assert told is not None
        assert (list(told.questions), told.status) == (["b"], Status.INPUT_REQUIRED)
        await here.is_told(("changed", task.id))
        assert here.runner.tasks[task.id].answers == {"a": YES}
        assert list(here.runner.tasks[task.id].questions) == ["b"]
        await there.store.tell(task.id, Answer({"b": YES}))
        await here.is_told(*[("changed", task.id)] * 2)
        assert here.runner.tasks[task.id].status is Status.WORKING
        await there.store.tell(task.id, AskCancel())
        await here.is_told(*[("changed", task.id)] * 3)
        assert here.runner.tasks[task.id].cancel
        here.store.own(task.id, Cancelled())
        await seen(there, task.id, Status.CANCELLED)


async def test_an_answer_at_the_owner_is_written_before_the_handler_has_it(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        task = await here.task()
        here.store.own(task.id, Ask("a", QUESTION))
        answered = await here.store.tell(task.id, Answer({"a": YES}))
        assert answered is not None
        assert (answered.answers, answered.waits) == ({"a": YES}, False)
        assert here.runner.told == [("changed", task.id)]
        written = await there.store.get(task.id)
        assert written is not None
        assert (written.answers, written.waits) == ({"a": YES}, False)


async def test_two_nodes_answer_at_the_same_time_and_both_answers_stay(tmp_path: Path) -> None:
    async with task_nodes(tmp_path, 3) as nodes:
        here = nodes[1]
        task = await here.task()
        keys = [f"k{number}" for number in range(9)]
        for key in keys:
            here.store.own(task.id, Ask(key, QUESTION))
        await here.flushed()
        async with trio.open_nursery() as nursery:
            for number, key in enumerate(keys):
                nursery.start_soon(nodes[1 + number % 3].store.tell, task.id, Answer({key: YES}))

        async def all_there() -> bool:
            found = here.runner.tasks.get(task.id)
            return found is not None and found.answers == dict.fromkeys(keys, YES)

        await until(all_there, "the owner has all answers")


async def test_cancel_ends_a_parked_task_at_once(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        task = await nodes[1].task()
        nodes[1].store.own(task.id, Ask("a", QUESTION))
        await nodes[1].store.leave(task.id, Park())
        cancelled = await nodes[2].store.tell(task.id, AskCancel())
        assert cancelled is not None
        assert cancelled.status is Status.CANCELLED


@pytest.mark.requirement("tasks-35", "tasks-47")
async def test_while_redis_is_away_the_owner_answers_and_the_others_say_that_they_cannot(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        task, ends = await here.task(), await here.task()
        here.store.own(task.id, Ask("a", QUESTION))
        await here.flushed()
        await nodes.cluster.redis.stop()
        with pytest.raises(TaskStoreAway):
            await here.task()
        for ask in (there.store.get(task.id), there.store.tell(task.id, AskCancel())):
            with pytest.raises(TaskStoreAway):
                await ask
        assert (await here.store.get(task.id) or task).status is Status.INPUT_REQUIRED
        with pytest.raises(TaskStoreAway):
            await here.store.tell(task.id, Answer({"a": YES}))
        assert here.runner.told == []
        here.store.own(ends.id, Complete(b"{}"))
        assert (await here.store.get(ends.id) or ends).status is Status.COMPLETED
        await here.store.tell(task.id, AskCancel())
        assert here.runner.told == [("changed", task.id)]
        await nodes.cluster.redis.start()
        await here.flushed()

        async def back() -> bool:
            try:
                return (await there.store.get(ends.id) or ends).status is Status.COMPLETED
            except TaskStoreAway:
                return False

        await until(back, "the others can read it")


@pytest.mark.requirement("tasks-35")
async def test_a_redis_that_was_emptied_gets_the_tasks_that_run(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        task = await here.task()
        here.store.own(task.id, Ask("a", QUESTION))
        await here.flushed()
        await nodes.cluster.redis.stop()
        await nodes.cluster.redis.start(empty=True)

        async def back() -> bool:
            try:
                found = await there.store.get(task.id)
            except TaskStoreAway:
                return False
            assert found is not None, "a task is not lost because Redis has lost it"
            return found.questions == {"a": QUESTION}

        await until(back, "the task is there again")


async def test_watchers_hear_of_a_task_of_another_node(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        task = await here.task()
        heard: list[TaskRecord] = []
        stop = there.store.watch(task.id, heard.append)

        async def watching() -> bool:
            return task.id in there.store._seen

        await until(watching, "it looks")
        here.store.own(task.id, Ask("a", QUESTION))

        async def has_heard(count: int) -> bool:
            return len(heard) >= count

        await until(lambda: has_heard(1), "it hears of the question")
        assert heard[0].status is Status.INPUT_REQUIRED
        here.store.own(task.id, Complete(b"{}"))
        await until(lambda: has_heard(2), "it hears of the end")
        assert heard[1].status is Status.COMPLETED
        stop()


async def test_an_expired_task_is_unknown(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        task = await nodes[1].task(ttl=HOUR, age=HOUR)
        for node in nodes.nodes:
            assert await node.store.get(task.id) is None
            assert await node.store.tell("unknown", AskCancel()) is None


@pytest.mark.requirement("tasks-42")
async def test_a_task_under_a_secret_that_a_node_does_not_have_is_not_said_to_be_unknown(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path) as cluster:
        cluster[2].app.service.keyring = Keyring([b"new", SECRET])
        old, new = TaskNode(cluster[1]), TaskNode(cluster[2])
        before, after = await old.task(), await new.task()
        assert await new.store.get(before.id) == before
        with pytest.raises(TaskStoreAway):
            await old.store.get(after.id)
        old.store.own(before.id, Ask("a", QUESTION))
        await old.flushed()
        await new.store.tell(before.id, Answer({"a": YES}))
        # What the other node has written cannot be read here: the question stays open, and the task is not lost.
        await old.flushed()
        await old.store.tell(before.id, Answer({"a": YES}))
        assert old.runner.told == [("changed", before.id)]
