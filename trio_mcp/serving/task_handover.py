"""How a draining node leaves its tasks: those that wait for their client at once, idempotent ones at the end of the window.

 waits for answers ──▶ parked: runs again, from its start, on the node that reads the last one
 runs ───────────────▶ may be done by the end of the window ─┬─ idempotent ──▶ released: runs again on a ready peer
                                                              └─ any other ───▶ fails with the reason `shutdown`

A store that ends with the process keeps nothing for others: there all tasks have the window, and then fail.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from trio_mcp.dispatch.call import Service
from trio_mcp.features.task_options import TASKS
from trio_mcp.sessions.stop_times import POLL_SECONDS, TASK_RELEASE_SECONDS
from trio_mcp.tasks.changes import Park, Release
from trio_mcp.tasks.node import TaskNode
from trio_mcp.tasks.record import TaskRecord

__all__ = ["end_tasks", "hand_over_tasks", "tasks_are_recorded"]


async def hand_over_tasks(service: Service, window: float) -> None:
    """Leave tasks to other nodes; returns when none runs here, after `window` seconds at most."""
    node = _node_of(service)
    if node is None:
        return
    release_at = trio.current_time() + max(0.0, window - TASK_RELEASE_SECONDS)
    with trio.move_on_at(release_at):
        await _empty(node, lambda task: task.waits)
    with trio.move_on_after(min(window, TASK_RELEASE_SECONDS)):
        await _empty(node, lambda task: task.waits or task.idempotent)


def end_tasks(service: Service) -> None:
    """End what still runs, with the reason `shutdown`."""
    node = _node_of(service)
    if node is not None:
        node.end_all()


async def tasks_are_recorded(service: Service) -> None:
    """Wait until the store has what it is owed; while it is away that takes for ever."""
    node = _node_of(service)
    if node is not None:
        await node.store.flushed()


async def _empty(node: TaskNode, may_leave: Callable[[TaskRecord], bool]) -> None:
    """Leave each task as soon as it may; returns when none runs here."""
    async with trio.open_nursery() as nursery:
        left: set[str] = set()
        while running := node.store.here():
            for task in running:
                if task.id not in left and may_leave(task):
                    left.add(task.id)
                    nursery.start_soon(_leave, node, task)
            await trio.sleep(POLL_SECONDS)


async def _leave(node: TaskNode, task: TaskRecord) -> None:
    await node.store.leave(task.id, Park() if task.waits else Release())


def _node_of(service: Service) -> TaskNode | None:
    """The tasks of the service; None where no tool has any."""
    found: TaskNode | None = service.extension_state.get(TASKS)
    return found
