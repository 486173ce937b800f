"""FastMCP's client calls tools that become tasks: `tasks_fastmcp.py URL [timed]`. It declares the extension by itself, and polls.
With `timed` it does only the steps that are.

fastmcp-tasks 4.1.4 sends no `Mcp-Name` with its requests for tasks, which the extension demands; here its classes are told the
param, as the SDK has it for requests of extensions (docs/tasks.md says so, too).
"""

import sys
import time
from typing import Any

import anyio
from fastmcp import Client
from fastmcp_tasks.client_models import CancelTaskRequest, GetTaskRequest, UpdateTaskRequest
from steps import Steps, text_of

for request in (GetTaskRequest, UpdateTaskRequest, CancelTaskRequest):
    request.name_param = "taskId"

QUICK_SECONDS = 3.0


async def main(url: str, only: str = "") -> None:
    steps = Steps()
    asked: list[str] = []

    async def answer(message: str, response_type: Any, params: Any, context: Any) -> dict[str, Any]:
        asked.append(message)
        return {"confirm": True}

    async with steps.conversation(), Client(url, elicitation_handler=answer) as client:
        async with steps.step("connect"):
            assert client.is_connected()
        async with steps.step("plain"):
            assert text_of((await client.call_tool("greet", {"name": "ann"})).content) == "Hello, ann!"
        async with steps.step("task"):
            began = time.monotonic()
            result = await client.call_tool("slow_compute", {"seconds": 2, "label": "a"})
            assert text_of(result.content) == "Computed a for 2 s", result
            steps.took("task", began, QUICK_SECONDS)
        async with steps.step("question"):
            began = time.monotonic()
            result = await client.call_tool("confirm_delete", {"filename": "a.txt"})
            assert text_of(result.content) == "Deleted a.txt", result
            assert asked == ["Delete a.txt?"], asked
            steps.took("question", began, QUICK_SECONDS)
        if only != "timed":
            async with steps.step("failure"):
                result = await client.call_tool("failing_job", {}, raise_on_error=False)
                assert result.is_error
    steps.print()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], "".join(sys.argv[2:]))
