"""The port to a call that may go on without its request, as its handler meets it: what `Context` and questions need of a task.

`tasks/run` implements it. A call without one, as almost all are, lives as long as its request.
"""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["BackgroundCall"]


class BackgroundCall(Protocol):
    """A call of a tool that may become a task (SEP-2663)."""

    @property
    def task_id(self) -> str | None:
        """Its id once it is a task; None before."""

    async def become_task(self) -> bool:
        """Go on without the request, whose client is told the id. Returns whether it is a task now: not where none can be kept."""

    async def settled(self) -> bool:
        """Wait while it is being made a task; returns whether it is one."""

    def report(self, text: str) -> None:
        """Show the text as the status message of the task; never blocks."""

    async def wait_for_answer(self, method: str, params: dict[str, Any], key: str) -> Any:
        """Ask the client of the task, and wait here for its answer; raises NoBackChannel where it may ask no more."""
