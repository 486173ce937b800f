"""Redis as every part of the cluster asks it: measured, and known to be there or away."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import Any

from trio_mcp.cluster.redis.link import Command, CommandRefused, RedisDown, RedisLink, RedisRefuses
from trio_mcp.observability.logs import event
from trio_mcp.observability.metrics import Metrics

__all__ = ["RETRY_SECONDS", "Store"]

logger = logging.getLogger("trio_mcp.cluster")

RETRY_SECONDS = 1.0
"""Between two attempts while Redis is away."""


class RedisState(Enum):
    """What became of the last commands."""

    UNKNOWN = "unknown"
    """None was sent yet."""
    UP = "up"
    AWAY = "away"
    """No answer."""
    REFUSES = "refuses"
    """It answers, and does not do what it is asked for: password, rights, memory, a cluster without a master."""


class Store:
    """One link, shared."""

    def __init__(self, link: RedisLink, metrics: Metrics) -> None:
        self._link = link
        self._metrics = metrics
        self._returned: list[Callable[[], None]] = []
        self._refused: set[str] = set()
        """Names of commands that were refused the last time."""
        self._state = RedisState.UNKNOWN
        self.down = False
        """The last command failed: nobody need wait for Redis until one succeeds."""
        metrics.directory_up_with(lambda: float(self._state is RedisState.UP))

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
        self._heed_refusals(commands, replies)
        self._came_back()
        return replies

    def _heed_refusals(self, commands: list[Command], replies: list[Any]) -> None:
        """A value of another type is one key's trouble; anything else is Redis', until it takes such a command again."""
        refusals = {
            str(command[0]): reply
            for command, reply in zip(commands, replies, strict=True)
            if isinstance(reply, CommandRefused)
        }
        for name, reply in refusals.items():
            self._metrics.directory_failed("refused")
            if reply.code == "WRONGTYPE":
                event(logger, logging.ERROR, "redis refused a command", command=name, why=str(reply))
        lasting = {name: reply for name, reply in refusals.items() if reply.code != "WRONGTYPE"}
        self._refused -= {str(command[0]) for command in commands}
        self._refused |= lasting.keys()
        if not self._refused:
            self._turn(RedisState.UP)
        elif lasting:
            self._turn(RedisState.REFUSES, "; ".join(dict.fromkeys(map(str, lasting.values()))))

    def _went(self, fault: RedisDown) -> None:
        refuses = isinstance(fault, RedisRefuses)
        self._metrics.directory_failed("refused" if refuses else "down")
        self._turn(RedisState.REFUSES if refuses else RedisState.AWAY, str(fault))
        self.down = True

    def _turn(self, to: RedisState, why: str = "") -> None:
        """A line for each change of state, and none for what goes on."""
        before, self._state = self._state, to
        if before is to:
            return
        match to:
            case RedisState.REFUSES:
                event(logger, logging.ERROR, "redis refuses", why=why, redis=self._link.shown)
            case RedisState.AWAY:
                event(logger, logging.WARNING, "redis is away", why=why, redis=self._link.shown)
            case RedisState.UP if before is not RedisState.UNKNOWN:
                event(logger, logging.INFO, "redis is back", redis=self._link.shown)

    def _came_back(self) -> None:
        if self.down:
            self.down = False
            for callback in self._returned:
                callback()
