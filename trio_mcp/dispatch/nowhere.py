"""The outbox of a call that nobody waits for: a notification to an extension, a task that runs again."""

from __future__ import annotations

from typing import Any

import trio

from trio_mcp.protocol.errors import NoBackChannel
from trio_mcp.streams.backlog import Kind

__all__ = ["Nowhere"]


class Nowhere:
    """Nothing is sent."""

    answers_cancelled = True
    holder = None

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        """Nothing: nobody reads."""

    def finish(self, body: bytes | None, status: int) -> None:
        """Nothing: nobody waits for an answer."""

    async def wait_for_reader(self) -> None:
        """Nobody reads."""
        await trio.lowlevel.checkpoint()

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Nobody could answer."""
        raise NoBackChannel(f"{method}: there is no request that its client could be asked on")

    def hold_back(self, until: float) -> None:
        """There is no stream."""

    def close_stream(self) -> None:
        """There is none."""
