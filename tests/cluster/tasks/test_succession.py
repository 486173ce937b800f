"""Tasks whose owner is gone, or has left them: what may not run twice does not, and what waits goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.cluster.tasks.nodes import seen, task_nodes
from tests.rig.waiting import until
from tests.tasks.runner import QUESTION, YES
from trio_mcp.cluster.tasks.reading import Found
from trio_mcp.tasks.changes import (
    Answer,
    Ask,
    ChangeRefused,
    Complete,
    Progress,
    Refusal,
    Release,
)
from trio_mcp.tasks.record import FailReason, Status, TaskRecord

OVER_MEMORY = True


async def test_progress_is_written_once_a_second_and_an_end_at_once(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here = nodes[1]
        task = await here.task()
        for number in range(100):
            here.store.own(task.id, Progress(str(number)))
        written = await nodes[2].store.get(task.id)
        assert written is not None
        assert written.message == ""

        async def last() -> bool:
            return (await nodes[2].store.get(task.id) or task).message == "99"

        await until(last, "the last message is written")


@pytest.mark.requirement("tasks-31")
async def test_without_the_bus_the_owner_finds_the_answer_by_itself(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        here.node.cluster._bus._tasks = lambda changed, left: None
        task = await here.task()
        here.store.own(task.id, Ask("a", QUESTION))
        await here.flushed()
        began = trio.current_time()
        await there.store.tell(task.id, Answer({"a": YES}))
        await here.is_told(("changed", task.id))
        assert trio.current_time() - began < 30


@pytest.mark.requirement("tasks-32")
async def test_the_owner_is_killed_and_what_may_not_run_twice_has_failed(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        plain = await here.task()
        await here.node.die()
        failed = await seen(there, plain.id, Status.FAILED)
        assert failed.error == FailReason.NODE_GONE.error
        assert there.runner.told == []
        assert (await seen(there, plain.id, Status.FAILED)).error == failed.error


@pytest.mark.requirement("tasks-32")
async def test_the_owner_is_killed_and_an_idempotent_task_runs_again_without_a_poll(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        task = await here.task(idempotent=True)
        await here.node.die()
        await there.is_told(("run", task.id))
        again = there.runner.tasks[task.id]
        assert (again.owner.node, again.owner.epoch, again.attempts) == ("node2", 1, 2)
        assert again.start == task.start
        there.store.own(task.id, Complete(b"{}"))
        assert (await seen(there, task.id, Status.COMPLETED)).result == b"{}"


@pytest.mark.requirement("tasks-32")
async def test_the_owner_is_killed_while_its_task_waits_and_it_goes_on_at_the_last_answer(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        task = await here.task()
        for key in ("a", "b"):
            here.store.own(task.id, Ask(key, QUESTION))
        await here.flushed()
        await here.node.die()

        async def parked() -> bool:
            found = await there.store.get(task.id)
            assert found is not None
            assert found.status is Status.INPUT_REQUIRED
            return found.parked

        await until(parked, "it is kept for its answers")
        await there.store.tell(task.id, Answer({"a": YES}))
        assert there.runner.told == []
        await there.store.tell(task.id, Answer({"b": YES}))
        assert there.runner.told == [("run", task.id)]
        again = there.runner.tasks[task.id]
        assert again.answers == {"a": YES, "b": YES}
        assert (again.owner.node, again.attempts) == ("node2", 1)


async def test_an_answer_that_comes_before_anybody_saw_the_death_is_not_lost(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        task = await here.task()
        here.store.own(task.id, Ask("a", QUESTION))
        await here.flushed()
        await here.node.die()
        await there.store.tell(task.id, Answer({"a": YES}))
        await there.is_told(("run", task.id))


@pytest.mark.requirement("tasks-33")
async def test_an_owner_that_was_cut_off_finds_its_task_claimed_and_drops_its_copy(tmp_path: Path) -> None:
    async with task_nodes(tmp_path) as nodes:
        here, there = nodes[1], nodes[2]
        task, plain = await here.task(idempotent=True), await here.task()
        here.node.proxy.cut()
        await here.node.refuse()
        await there.is_told(("run", task.id))
        await seen(there, plain.id, Status.FAILED)
        # It knows nothing of that, and ends both.
        here.store.own(task.id, Complete(b'"late"'))
        here.store.own(plain.id, Progress("late"))
        here.node.proxy.mend()
        await here.is_told(("lost", plain.id))
        await here.flushed()
        there.store.own(task.id, Complete(b'"right"'))
        assert (await seen(here, task.id, Status.COMPLETED)).result == b'"right"'
        assert (await seen(here, plain.id, Status.FAILED)).error == FailReason.NODE_GONE.error


async def test_a_released_task_runs_on_the_node_that_looks_after_it(tmp_path: Path) -> None:
    async with task_nodes(tmp_path, 3) as nodes:
        here = nodes[1]
        task = await here.task(idempotent=True)
        await here.store.leave(task.id, Release())
        with pytest.raises(ChangeRefused) as refused:
            here.store.own(task.id, Complete(b"{}"))
        assert refused.value.reason is Refusal.NOT_OWNER

        async def runs() -> list[str]:
            return [node.node.name for node in nodes.nodes if ("run", task.id) in node.runner.told]

        (owner,) = await until(runs, "one of them runs it")
        assert ((await nodes[2].store.get(task.id)) or task).owner.node == owner
        assert ("stop", task.id) in here.runner.told


async def test_a_parked_task_runs_where_its_last_answer_is_read(tmp_path: Path) -> None:
    async with task_nodes(tmp_path, 2) as nodes:
        here, there = nodes[1], nodes[2]
        task = await here.leaves_waiting()
        waiting = await there.store.get(task.id)
        assert waiting is not None
        assert (waiting.status, waiting.parked) == (Status.INPUT_REQUIRED, True)
        await there.store.tell(task.id, Answer({"a": YES}))
        assert there.runner.told == [("run", task.id)]


async def test_a_node_that_begins_to_stop_while_it_claims_a_task_gives_it_back_unrun(tmp_path: Path) -> None:
    async with task_nodes(tmp_path, 3) as nodes:
        here, stops, third = nodes[1], nodes[2], nodes[3]
        task = await here.leaves_waiting()
        reader = stops.store._reader
        replace = reader.replace

        async def stop_meanwhile(found: Found, task: TaskRecord) -> Found | None:
            if task.owner.node == "node2":
                stops.node.stop_asked()
            return await replace(found, task)

        reader.replace = stop_meanwhile  # type: ignore[method-assign]
        await stops.store.tell(task.id, Answer({"a": YES}))
        await third.is_told(("run", task.id))
        assert ("run", task.id) not in stops.runner.told
        assert third.runner.tasks[task.id].answers == {"a": YES}


async def test_a_node_that_stops_takes_over_nothing_and_tells_another(tmp_path: Path) -> None:
    async with task_nodes(tmp_path, 3) as nodes:
        here, stops, third = nodes[1], nodes[2], nodes[3]
        task = await here.leaves_waiting()
        stops.node.stop_asked()
        await nodes.cluster.meet()
        await stops.store.tell(task.id, Answer({"a": YES}))
        await third.is_told(("run", task.id))
        assert stops.runner.told == []
