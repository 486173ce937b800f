"""`tasks/get`, `tasks/update`, `tasks/cancel`: each finds the caller's task on whichever node it runs (ext-tasks)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from trio_mcp.dispatch.call import Call
from trio_mcp.protocol.errors import Busy
from trio_mcp.tasks.changes import Answer, AskCancel, ClientChange
from trio_mcp.tasks.limits import PollRate
from trio_mcp.tasks.record import TaskRecord, is_task_id
from trio_mcp.tasks.store import TaskStore, TaskStoreAway
from trio_mcp.tasks.wire import detailed, responses_param, task_id_param, unknown

if TYPE_CHECKING:
    from trio_mcp.auth.checks import Requirements

__all__ = ["TaskMethods"]


STORE_SECONDS = 30.0
"""Far more than a store may take to answer, or to fail: on a process that stood still, too."""


class TaskMethods:
    """The methods, on the store of one node. They raise InvalidParams for a task that is not the caller's, Busy to be asked later."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._polls = PollRate(store.limits)

    async def get(self, call: Call) -> dict[str, Any]:
        """DetailedTask."""
        task_id = task_id_param(call.params)
        if not self._polls.allows(task_id, trio.current_time()):
            raise Busy(429, "This task is asked for too often: wait pollIntervalMs between two requests")
        return detailed(await self._of_caller(call, task_id), self._store.now())

    async def update(self, call: Call) -> dict[str, Any]:
        """Take answers; those for no open question are ignored. The result says nothing."""
        responses = responses_param(call.params)
        return await self._tell(call, Answer(responses))

    async def cancel(self, call: Call) -> dict[str, Any]:
        """Ask the task to end; one that has ended stays as it is. The result says nothing."""
        return await self._tell(call, AskCancel())

    async def _tell(self, call: Call, change: ClientChange) -> dict[str, Any]:
        task = await self._of_caller(call, task_id_param(call.params))
        try:
            told = await self._store.tell(task.id, change)
        except TaskStoreAway as away:
            raise _away() from away
        if told is None:
            raise unknown()
        return {}

    async def requirements(self, call: Call) -> tuple[Requirements, ...]:
        """What the tool of the task asks of the caller's token; nothing for a task that the method will not find."""
        if not any(tool.requirements for tool in call.service.registry.tools):
            return ()
        task_id = call.params.get("taskId")
        task = await self.find(call, task_id) if isinstance(task_id, str) and is_task_id(task_id) else None
        return () if task is None else _asked(call, task)

    def may_use(self, call: Call, task: TaskRecord) -> bool:
        """Whether the caller's token has what the tool of the task asks for: what a task sends is what its tool returns."""
        auth = call.service.auth
        return auth is None or auth.refusal_for(_asked(call, task), call.token, "") is None

    async def find(self, call: Call, task_id: str) -> TaskRecord | None:
        """The task, if it is the caller's; raises Busy while nobody can say."""
        # A store that does not answer is an HTTP status: no stream may begin before that is known.
        call.outbox.hold_back(trio.current_time() + STORE_SECONDS)
        try:
            task = await self._store.get(task_id)
        except TaskStoreAway as away:
            raise _away() from away
        return task if task is not None and task.is_of(call.principal) else None

    async def _of_caller(self, call: Call, task_id: str) -> TaskRecord:
        task = await self.find(call, task_id)
        if task is None:
            raise unknown()
        return task


def _asked(call: Call, task: TaskRecord) -> tuple[Requirements, ...]:
    tool = call.service.registry.tools.get(task.start.tool)
    return () if tool is None or tool.requirements is None else (tool.requirements,)


def _away() -> Busy:
    """Not -32602, which would tell the client that the task is lost."""
    data = {"reason": "directory_unavailable"}
    return Busy(503, "The tasks of other nodes cannot be read now; try again later", data)
