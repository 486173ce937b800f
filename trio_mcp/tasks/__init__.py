"""Tasks: tool calls that go on without their request (SEP-2663).

    from trio_mcp.tasks import TaskLimits, Tasks

    mcp = MCPServer("site", extensions=[Tasks(limits=TaskLimits(per_node=100))])

A server that leaves the bounds as they are needs neither: its first `@mcp.tool(task=…)` gives it the extension. Names are
imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trio_mcp.tasks.extension import Tasks as Tasks
    from trio_mcp.tasks.limits import TaskLimits as TaskLimits

_HOME = {"Tasks": "extension", "TaskLimits": "limits"}

__all__ = ["TaskLimits", "Tasks"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'trio_mcp.tasks' has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
