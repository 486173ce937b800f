"""Redis as every part of the cluster asks it: measured, and known to be there or away."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from trio_mcp.cluster.redis.link import Command, CommandRefused, RedisDown, RedisLink
from trio_mcp.observability.logs import event
from trio_mcp.observability.metrics import Metrics

__all__ = ["RETRY_SECONDS", "Store"]

logger = logging.getLogger("trio_mcp.cluster")

RETRY_SECONDS = 1.0
"""Between two attempts while Redis is away."""


class Store:
    """One link, shared."""

    def __init__(self, link: RedisLink, metrics: Metrics) -> None:
        self._link = link
        self._metrics = metrics
        self._returned: list[Callable[[], None]] = []
        self.down = False
        """The last command failed: nobody need wait for Redis until one succeeds."""

    def on_return(self, callback: Callable[[], None]) -> None:
        """Call this whenever Redis is back."""
        self._returned.append(callback)

    async def run(self, commands: list[Command]) -> list[Any]:
        """As the link's `run`. Raises RedisDown."""
        with self._metrics.directory_timed():
            try:
                replies = await self._link.run(commands)
            except RedisDown as fault:
                self._went(fault)
                raise
        for reply in replies:
            if isinstance(reply, CommandRefused):
                event(logger, logging.ERROR, "redis refused a command", why=str(reply))
                self._metrics.directory_failed("refused")
        self._came_back()
        return replies

    def _went(self, fault: RedisDown) -> None:
        self._metrics.directory_failed("down")
        if not self.down:
            self.down = True
            event(logger, logging.WARNING, "redis is away", why=str(fault), redis=self._link.shown)

    def _came_back(self) -> None:
        if self.down:
            self.down = False
            event(logger, logging.INFO, "redis is back", redis=self._link.shown)
            for callback in self._returned:
                callback()
