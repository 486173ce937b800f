"""The extension `io.modelcontextprotocol/tasks` (SEP-2663, 2026-07-28): declared while a tool has `task=`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import trio

from trio_mcp.dispatch.call import Call, Ending, Service
from trio_mcp.dispatch.extension import Extension, require_declared
from trio_mcp.dispatch.extension_port import Answer, Listening
from trio_mcp.features.task_options import TASKS, Task
from trio_mcp.protocol.errors import Busy
from trio_mcp.protocol.versions import V2026_07_28
from trio_mcp.tasks.limits import TaskLimits
from trio_mcp.tasks.memory import MemoryTaskStore, wall_clock
from trio_mcp.tasks.node import TaskNode
from trio_mcp.tasks.record import is_task_id
from trio_mcp.tasks.store import TaskStore
from trio_mcp.tasks.watching import listening
from trio_mcp.tasks.wire import watched_param

__all__ = ["TASK_STORE", "Tasks", "node_of"]

TASK_STORE = f"{TASKS} store"
"""Where a cluster puts an `OpenTaskStore` into `extension_state`; without one the tasks are in memory."""

OpenTaskStore: TypeAlias = Callable[[TaskLimits, Callable[[], int]], TaskStore]
"""Opens it, with its bounds and a clock in ms of the wall clock."""


def node_of(service: Service) -> TaskNode:
    """The tasks of a service that runs and has the extension."""
    found: TaskNode = service.extension_state[TASKS]
    return found


class Tasks(Extension):
    """Given to a server by its first `@mcp.tool(task=…)`; give it yourself to set bounds: `MCPServer(extensions=[Tasks(limits=…)])`.

    `always`: answer for tasks even while no tool here has `task=`, so that the nodes of a cluster can get their first one by one. `clock` is in
    ms of the wall clock.
    """

    def __init__(
        self, *, limits: TaskLimits | None = None, always: bool = False, clock: Callable[[], int] = wall_clock
    ) -> None:
        # Declared as {} whatever its settings are: the official requester takes any member for "no tasks".
        super().__init__(TASKS, since=V2026_07_28, when_used=not always)
        self.limits: TaskLimits = limits or TaskLimits()
        self._clock = clock
        for name in ("get", "update", "cancel"):
            self.add_method(f"tasks/{name}", partial(_answer, name), name_param="taskId", guard=_requirements)

    async def call_tool(self, call: Call, options: Task, proceed: Callable[[Call], Awaitable[Answer]]) -> Answer:
        """The task that the call became, or its result. Raises MissingClientCapability where the tool runs as a task or not at all."""
        if call.background is not None:
            # No line of a handler runs whose client has left by now, or that needs a task and got none.
            await trio.lowlevel.checkpoint_if_cancelled()
            return await proceed(call)
        if call.client_extension(self.identifier) is None:
            if options.required:
                require_declared(call, self.identifier)
            return await proceed(call)
        node: TaskNode | None = call.service.extension_state.get(self.identifier)
        if node is None:
            # The first tool with `task=` was registered while the server runs, and nothing runs tasks.
            if options.required:
                raise Busy(503, Ending.NO_TASK.value)
            return await proceed(call)
        return await node.call(call, options) or await proceed(call)

    async def listen(self, call: Call, asked: Mapping[str, Any]) -> Listening | None:
        """The tasks that a stream listens to; those that are not the caller's, or need scopes that it lacks, are left out."""
        ids = watched_param(asked)
        if ids is None:
            return None
        require_declared(call, self.identifier)
        node = node_of(call.service)
        found = [await node.methods.find(call, task_id) for task_id in ids if is_task_id(task_id)]
        return listening(node.store, [task for task in found if task is not None and node.methods.may_use(call, task)])

    @asynccontextmanager
    async def running(self, service: Service) -> AsyncIterator[TaskNode]:
        """The tasks of a service; what it yields is its `TaskNode`."""
        open_store: OpenTaskStore = service.extension_state.get(TASK_STORE, _in_memory)
        store = open_store(self.limits, self._clock)
        async with TaskNode(service, store).running() as node:
            yield node


def _in_memory(limits: TaskLimits, clock: Callable[[], int]) -> MemoryTaskStore:
    return MemoryTaskStore("", secrets.token_hex(8), limits=limits, clock=clock)


async def _answer(name: str, call: Call) -> Answer:
    answer: Answer = await getattr(node_of(call.service).methods, name)(call)
    return answer


async def _requirements(call: Call) -> Any:
    return await node_of(call.service).methods.requirements(call)
