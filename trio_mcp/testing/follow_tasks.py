"""`FollowTasks`: the official client takes tasks (SEP-2663), and a call of a tool that becomes one returns its result all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Literal

import mcp_types as types
import trio
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.shared.exceptions import MCPError
from pydantic import ConfigDict, Field

__all__ = ["FollowTasks"]

ENDS = ("completed", "failed", "cancelled")


class _Created(types.Result):
    """CreateTaskResult, as much of it as is needed."""

    model_config = ConfigDict(populate_by_name=True, extra="allow")
    result_type: Literal["task"] = Field(alias="resultType")
    task_id: str = Field(alias="taskId")


class _State(types.Result):
    """A DetailedTask, or an acknowledgement."""

    model_config = ConfigDict(extra="allow")


class _Params(types.RequestParams):
    model_config = ConfigDict(populate_by_name=True)
    task_id: str = Field(serialization_alias="taskId")


class _Responses(_Params):
    input_responses: dict[str, Any] = Field(serialization_alias="inputResponses")


class _Get(types.Request[_Params, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    name_param: ClassVar[str | None] = "taskId"


class _Update(types.Request[_Responses, Literal["tasks/update"]]):
    method: Literal["tasks/update"] = "tasks/update"
    name_param: ClassVar[str | None] = "taskId"


Answer = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


class FollowTasks(ClientExtension):
    """An extension of the official client: `connect(mcp, extensions=[FollowTasks(answer)])`.

    `answer` gets method and params of each question of a task, and gives the result that the client sends, such as
    `{"action": "accept", "content": {…}}`. Without it a question raises AssertionError. With it the client declares that its user
    can be asked (elicitation), and what a tool asks before it is a task goes to `answer` too, unless `connect` is given an
    `elicitation_callback`; that it can sample or has roots is declared by their callbacks alone. A task that fails raises MCPError,
    and so does one that is cancelled.
    """

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, answer: Answer | None = None) -> None:
        self.states: list[dict[str, Any]] = []
        """Each state that was seen of a task, as `tasks/get` gave it."""
        self._answer = answer

    @property
    def callbacks(self) -> dict[str, Any]:
        """Arguments of the client, by which it declares what `answer` can be asked."""
        return {} if self._answer is None else {"elicitation_callback": self._elicit}

    async def _elicit(self, context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert self._answer is not None
        told = await self._answer(
            "elicitation/create", params.model_dump(by_alias=True, mode="json", exclude_none=True)
        )
        return types.ElicitResult.model_validate(told)

    def claims(self) -> Sequence[ResultClaim[Any]]:
        """Results of `tools/call` that are tasks."""
        return [ResultClaim(result_type="task", model=_Created, resolve=self._follow)]

    async def _follow(self, created: _Created, context: ClaimContext) -> types.CallToolResult:
        params = _Params(task_id=created.task_id)
        answered: set[str] = set()
        while True:
            found = await context.session.send_request(_Get(params=params), _State)
            task = found.model_dump(by_alias=True)
            self.states.append(task)
            if task["status"] in ENDS:
                return _result(task)
            new = {key: each for key, each in task.get("inputRequests", {}).items() if key not in answered}
            if new:
                answered |= new.keys()
                await self._update(created.task_id, new, context)
            else:
                await trio.sleep(task["pollIntervalMs"] / 1000)

    async def _update(self, task_id: str, requests: dict[str, Any], context: ClaimContext) -> None:
        assert self._answer is not None, f"the task asks, and FollowTasks() has no function that answers: {requests}"
        answers = {key: await self._answer(each["method"], each["params"]) for key, each in requests.items()}
        params = _Responses(task_id=task_id, input_responses=answers)
        await context.session.send_request(_Update(params=params), _State)


def _result(task: dict[str, Any]) -> types.CallToolResult:
    match task["status"]:
        case "completed":
            return types.CallToolResult.model_validate(task["result"])
        case "failed":
            error = task["error"]
            raise MCPError(error["code"], error["message"], error.get("data"))
    raise MCPError(-32800, "The task was cancelled")
