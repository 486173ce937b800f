"""A client that takes tasks, over a server in memory. What the server says of them is judged by the draft of the extension."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal

import msgspec
import trio
from msgspec import UNSET, UnsetType

from tests.oracle import Oracle
from tests.transports.http.harness import MODERN, Exchange, ModernClient, Wire, serving
from trio_mcp import MCPServer
from trio_mcp.features.task_options import TASKS
from trio_mcp.tasks.extension import Tasks, node_of
from trio_mcp.tasks.limits import TaskLimits
from trio_mcp.tasks.node import TaskNode
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.store import TaskStoreAway

__all__ = [
    "DECLARED",
    "FORMS",
    "TaskClient",
    "TaskOracle",
    "judged",
    "running_tasks",
    "task_client",
    "virtual_clock",
    "with_tasks",
]

DECLARED: dict[str, Any] = {"extensions": {TASKS: {}}}
FORMS: dict[str, Any] = {**DECLARED, "elicitation": {}, "sampling": {}, "roots": {}}


class _Task(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A Task of the draft's schema; a DetailedTask with what its status brings along."""

    taskId: str
    status: Literal["working", "input_required", "completed", "failed", "cancelled"]
    createdAt: datetime
    lastUpdatedAt: datetime
    ttlMs: int | None
    pollIntervalMs: int
    statusMessage: str | UnsetType = UNSET
    resultType: Literal["task", "complete"] | UnsetType = UNSET
    meta: dict[str, Any] | UnsetType = msgspec.field(name="_meta", default=UNSET)
    inputRequests: dict[str, dict[str, Any]] | UnsetType = UNSET
    result: dict[str, Any] | UnsetType = UNSET
    error: dict[str, Any] | UnsetType = UNSET


_BROUGHT = {"input_required": "inputRequests", "completed": "result", "failed": "error"}


def judged(found: dict[str, Any]) -> dict[str, Any]:
    """A DetailedTask, checked; returns it."""
    task = msgspec.convert(found, _Task)
    for status, member in _BROUGHT.items():
        assert (member in found) == (task.status == status), found
    assert task.inputRequests is UNSET or task.inputRequests, "an empty inputRequests"
    assert "io.modelcontextprotocol/related-task" not in found.get("result", {}).get("_meta", {})
    return found


class TaskOracle(Oracle):
    """Judges tasks by the draft, and everything else by the official types, which know no tasks."""

    def _result(self, message: dict[str, Any]) -> None:
        method, result = self._asked[message["id"]], message["result"]
        if method == "tasks/get":
            assert result["resultType"] == "complete"
            judged(result)
            if "result" in result:
                super()._result({"jsonrpc": "2.0", "id": self._plain(), "result": result["result"]})
        elif method in ("tasks/update", "tasks/cancel"):
            assert set(result) == {"resultType", "_meta"}
            assert result["resultType"] == "complete"
        elif result.get("resultType") == "task":
            task = msgspec.convert(result, _Task)
            assert (task.inputRequests, task.result, task.error) == (UNSET, UNSET, UNSET)
        elif method == "server/discover":
            assert result["capabilities"].get("extensions", {TASKS: {}}) == {TASKS: {}}
        else:
            super()._result(message)

    def _plain(self) -> int:
        """The id of a call whose result is that of a task."""
        self._asked[-1] = "tools/call"
        return -1

    def _said(self, message: dict[str, Any]) -> None:
        if message.get("method") == "notifications/tasks":
            judged(message["params"])
        elif message.get("method") != "notifications/subscriptions/acknowledged":
            super()._said(message)


class TaskClient(ModernClient):
    """A client of 2026-07-28 that declares the extension, unless it is given other capabilities."""

    def __init__(
        self, wire: Wire, capabilities: dict[str, Any] | None = None, headers: Mapping[str, str | None] | None = None
    ) -> None:
        super().__init__(wire, FORMS if capabilities is None else capabilities, headers or {})
        self.oracle = TaskOracle(MODERN)

    def headers(self, method: str, params: dict[str, Any]) -> Mapping[str, str | None]:
        """What mirrors the body, the task's id too."""
        named = {"mcp-name": params["taskId"]} if isinstance(params.get("taskId"), str) else {}
        return {**super().headers(method, params), **named}

    @property
    def node(self) -> TaskNode:
        """The tasks of the server."""
        return node_of(self.wire.app.service)

    @property
    def store(self) -> Any:
        """Where they are recorded."""
        return self.node.store

    def slow_creation(self, seconds: float) -> list[TaskRecord]:
        """From now on a record takes that long to be written; those that were."""
        create, created = self.store.create, []

        async def slowly(task: TaskRecord) -> None:
            created.append(task)
            await trio.sleep(seconds)
            await create(task)

        self.store.create = slowly
        return created

    def no_creation(self) -> None:
        """From now on no record can be written."""

        async def away(task: TaskRecord) -> None:
            await trio.lowlevel.checkpoint()
            raise TaskStoreAway("no answer")

        self.store.create = away

    async def begin(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that must become a task."""
        result: dict[str, Any] = await self.tool(name, **arguments).result()
        assert result["resultType"] == "task", result
        return result

    def get(self, task: dict[str, Any] | str) -> Exchange:
        """Begin a tasks/get."""
        return self.start("tasks/get", {"taskId": _id(task)})

    async def state(self, task: dict[str, Any] | str) -> dict[str, Any]:
        """The state of a task that must be known."""
        result: dict[str, Any] = await self.get(task).result()
        return result

    async def update(self, task: dict[str, Any] | str, **answers: Any) -> dict[str, Any]:
        """Answer questions by their keys."""
        result: dict[str, Any] = await self.start(
            "tasks/update", {"taskId": _id(task), "inputResponses": answers}
        ).result()
        return result

    async def cancel(self, task: dict[str, Any] | str) -> dict[str, Any]:
        """Ask a task to end."""
        result: dict[str, Any] = await self.start("tasks/cancel", {"taskId": _id(task)}).result()
        return result

    async def until(self, task: dict[str, Any] | str, *statuses: str, questions: int = 0) -> dict[str, Any]:
        """Poll until the task is in one of these states, or has ended, and has at least as many open questions."""
        while True:
            found = await self.state(task)
            if found["status"] in (statuses or _ENDED) and len(found.get("inputRequests", ())) >= questions:
                return found
            assert found["status"] not in _ENDED, found
            await trio.sleep(found["pollIntervalMs"] / 1000)


_ENDED = ("completed", "failed", "cancelled")


def running_tasks(client: TaskClient) -> list[str]:
    """The ids of the tasks that run on the server."""
    return list(client.node.runs)


def _id(task: dict[str, Any] | str) -> str:
    return task if isinstance(task, str) else str(task["taskId"])


def virtual_clock() -> int:
    """Milliseconds of Trio's clock, which tests make jump, as those of the wall clock."""
    return 1_700_000_000_000 + int(trio.current_time() * 1000)


def with_tasks(
    limits: TaskLimits | None = None, clock: Callable[[], int] = virtual_clock, **arguments: Any
) -> MCPServer:
    """A server whose tasks run by Trio's clock."""
    return MCPServer("t", extensions=[Tasks(limits=limits, clock=clock)], **arguments)


@asynccontextmanager
async def task_client(
    mcp: MCPServer, capabilities: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[TaskClient]:
    """Serve in memory, with a client that takes tasks."""
    async with serving(mcp, **options) as wire:
        yield TaskClient(wire, capabilities)
