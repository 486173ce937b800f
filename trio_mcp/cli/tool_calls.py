"""From `tools/call` to the result: rounds of questions (2026-07-28 basic/patterns/mrtr), and tasks followed to their end (SEP-2663)."""

from __future__ import annotations

from typing import Any

import trio

from trio_mcp.cli.asking import Asker
from trio_mcp.cli.mcp_client import Client
from trio_mcp.cli.output import print_note
from trio_mcp.cli.refusals import Refused
from trio_mcp.http_client import HttpClientError
from trio_mcp.protocol.errors import MISSING_CLIENT_CAPABILITY, McpError

__all__ = ["TaskCancelled", "call_tool"]

TASKS = "io.modelcontextprotocol/tasks"

CANCEL_SECONDS = 5.0
"""How long Ctrl+C waits for the server to take `tasks/cancel`."""

_POLL_SECONDS = 1.0
"""Where the server does not say how often it wants to be asked."""
_QUICKEST_POLL_SECONDS = 0.1


class TaskCancelled(McpError):
    """The task was cancelled, by whomever."""


async def call_tool(
    client: Client, tool: dict[str, Any], arguments: dict[str, Any], *, asker: Asker | None
) -> dict[str, Any]:
    """The CallToolResult. What the tool asks is answered by `asker`; without one, it is told that it cannot ask.

    Raises Refused for a JSON-RPC error, that of a task too, and TaskCancelled.
    """
    try:
        return await _call(client, tool, arguments, asker)
    except Refused as refused:
        if refused.code == MISSING_CLIENT_CAPABILITY:
            refused.next_step = _instead(refused.data, asker)
        raise


async def _call(client: Client, tool: dict[str, Any], arguments: dict[str, Any], asker: Asker | None) -> dict[str, Any]:
    client.declare({"extensions": {TASKS: {}}, **({} if asker is None else asker.capabilities)})
    result = await client.call_tool(tool, arguments)
    while result.get("resultType") == "input_required" and asker is not None:
        answers = await asker.answer(result.get("inputRequests") or {})
        state = {"requestState": result["requestState"]} if "requestState" in result else {}
        result = await client.call_tool(tool, arguments, {"inputResponses": answers, **state})
    if result.get("resultType") != "task":
        return result
    try:
        return await _follow(client, result, asker)
    except KeyboardInterrupt:
        with trio.move_on_after(CANCEL_SECONDS, shield=True):
            await client.request("tasks/cancel", {"taskId": result["taskId"]})
            print_note(f"task {result['taskId']} is to be cancelled")
        raise


async def _follow(client: Client, task: dict[str, Any], asker: Asker | None) -> dict[str, Any]:
    """Poll until the task ends, with a line for each new message, and answers for each new question."""
    params = {"taskId": task["taskId"]}
    print_note(f"this is a task now: {task['taskId']}")
    if task["status"] in _ENDS:
        # It is told without its end, which only `tasks/get` has.
        task = await client.request("tasks/get", params)
    told: str | None = None
    asked: set[str] = set()
    while True:
        if task.get("statusMessage") not in (None, told):
            told = str(task["statusMessage"])
            print_note(f"{task['status']}: {told}")
        if task["status"] in _ENDS:
            return _result(task)
        new = {key: each for key, each in (task.get("inputRequests") or {}).items() if key not in asked}
        if new and asker is not None:
            asked |= new.keys()
            await client.request("tasks/update", {**params, "inputResponses": await asker.answer(new)})
        else:
            await trio.sleep(_interval(task))
        task = await client.request("tasks/get", params)


_ENDS = ("completed", "failed", "cancelled")


def _instead(data: Any, asker: Asker | None) -> str:
    """The next step where a tool needs of its client what `call` did not declare; empty where there is none."""
    required = data.get("requiredCapabilities") if isinstance(data, dict) else None
    if not isinstance(required, dict):
        return ""
    if "elicitation" in required:
        return ". The tool asks for something, and `call` asks on a terminal only" if asker is None else ""
    for capability, callback in (("sampling", "sampling_callback"), ("roots", "list_roots_callback")):
        if capability in required:
            return f". `call` has no {capability}: a test has, by trio_mcp.testing.connect(server, {callback}=…)"
    return ""


def _interval(task: dict[str, Any]) -> float:
    wanted = task.get("pollIntervalMs")
    return max(_QUICKEST_POLL_SECONDS, wanted / 1000) if isinstance(wanted, int | float) else _POLL_SECONDS


def _result(task: dict[str, Any]) -> dict[str, Any]:
    match task:
        case {"status": "completed", "result": dict(result)}:
            return result
        case {"status": "failed", "error": dict(error)}:
            raise Refused(200, error)
        case {"status": "cancelled"}:
            raise TaskCancelled("the task was cancelled")
    raise HttpClientError(f"the server says that the task is {task['status']}, and not how it ended")
