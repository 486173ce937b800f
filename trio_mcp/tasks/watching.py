"""`notifications/tasks` on a `subscriptions/listen` stream: each says what `tasks/get` would say at that moment (ext-tasks)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import trio

from trio_mcp.dispatch.extension_port import Listening, Send
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.store import TaskStore, TaskStoreAway
from trio_mcp.tasks.wire import detailed

__all__ = ["listening"]

_METHOD = "notifications/tasks"


def listening(store: TaskStore, tasks: Sequence[TaskRecord]) -> Listening:
    """What a stream adds that listens to these tasks, which are the caller's: their states now, and then each change."""
    return Listening({"taskIds": [task.id for task in tasks]}, partial(_run, store, tasks))


async def _run(store: TaskStore, tasks: Sequence[TaskRecord], send: Send) -> None:
    shown: dict[str, tuple[Any, ...]] = {}
    faults: list[Exception] = []
    failed = trio.Event()

    def heard(task: TaskRecord) -> None:
        """Called by the task of the store, which tells all streams: what goes wrong ends this stream, and not that task."""
        try:
            show(task)
        except Exception as fault:
            faults.append(fault)
            failed.set()

    def show(task: TaskRecord) -> None:
        visible = (task.status, task.message, task.updated, task.ttl, task.questions)
        if shown.get(task.id) == visible:
            return  # What changed is nothing that clients see.
        shown[task.id] = visible
        # A client that reads slowly gets the last of several states: each of them is whole.
        send(_METHOD, detailed(task, store.now()), key=(_METHOD, task.id))

    with ExitStack() as watches:
        for task in tasks:
            watches.callback(store.watch(task.id, heard))
        for task in tasks:
            # The acknowledgement took a moment, in which the task may have changed.
            heard(await _now(store, task))
        await failed.wait()
        raise faults[0]


async def _now(store: TaskStore, task: TaskRecord) -> TaskRecord:
    try:
        return await store.get(task.id) or task
    except TaskStoreAway:
        return task  # Its changes are heard when the store is back.
