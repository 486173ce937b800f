"""The store as every part of the cluster asks it: measured, known to be there or away, and how far it can be believed.

The log names what operators have: Redis, or the supervisor of a node's workers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from trio_mcp.cluster.clock import now
from trio_mcp.cluster.store.port import Operation, OperationRefused, Store, StoreDown, StoreRefuses
from trio_mcp.cluster.store_trust import StoreTrust
from trio_mcp.observability.logs import event
from trio_mcp.observability.metrics import Metrics

__all__ = ["RETRY_SECONDS", "MeasuredStore"]

logger: logging.Logger = logging.getLogger("trio_mcp.cluster")

RETRY_SECONDS = 1.0
"""Between two attempts while Redis is away."""


class RedisState(Enum):
    """What became of the last operations."""

    UNKNOWN = "unknown"
    """None was sent yet."""
    UP = "up"
    AWAY = "away"
    """No answer."""
    REFUSES = "refuses"
    """It answers, and does not do what it is asked for: password, rights, memory, a cluster without a master."""


class MeasuredStore:
    """One node's way to the store, with metrics, and log lines for each change of its state."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._returned: list[Callable[[], None]] = []
        self._refused: set[str] = set()
        """Names of commands that were refused the last time."""
        self._state = RedisState.UNKNOWN
        self.down: bool = False
        """Whether the last `run` failed. Until one succeeds, requests do not wait for Redis."""
        self.trust: StoreTrust = StoreTrust(now)
        """What the absence of a record or card proves, and whether our records may be wrong."""
        metrics.directory_up_with(lambda: float(self._state is RedisState.UP))

    def on_return(self, callback: Callable[[], None]) -> None:
        """Have `callback` called whenever Redis is back."""
        self._returned.append(callback)

    def close(self) -> None:
        """See `Store.close`."""
        self._store.close()

    async def listen(self, *, hear: Callable[[bytes], None], joined: Callable[[], None]) -> None:
        """Hear the channel's messages until cancelled; see `Store.listen`."""
        await self._store.listen(hear=hear, joined=joined)

    async def run(self, operations: Sequence[Operation]) -> list[Any]:
        """Run operations; returns their results, in order. Raises StoreDown. See `Store.run`."""
        with self._metrics.directory_timed():
            try:
                replies = await self._store.run(operations)
            except StoreDown as fault:
                self._went(fault)
                raise
        self._heed_refusals(operations, replies)
        self._came_back()
        return replies

    def _heed_refusals(self, operations: Sequence[Operation], replies: list[Any]) -> None:
        """WRONGTYPE concerns the value of one key. Any other refusal concerns Redis, until it accepts that command again."""
        refusals = {
            self._store.name_of(operation): reply
            for operation, reply in zip(operations, replies, strict=True)
            if isinstance(reply, OperationRefused)
        }
        for name, reply in refusals.items():
            self._metrics.directory_failed("refused")
            if reply.code == "WRONGTYPE":
                event(logger, logging.ERROR, "redis refused a command", command=name, why=str(reply))
        lasting = {name: reply for name, reply in refusals.items() if reply.code != "WRONGTYPE"}
        self._refused -= set(map(self._store.name_of, operations))
        self._refused |= lasting.keys()
        if not self._refused:
            self._turn(RedisState.UP)
        elif lasting:
            self._turn(RedisState.REFUSES, "; ".join(dict.fromkeys(map(str, lasting.values()))))

    def _went(self, fault: StoreDown) -> None:
        refuses = isinstance(fault, StoreRefuses)
        self._metrics.directory_failed("refused" if refuses else "down")
        self._turn(RedisState.REFUSES if refuses else RedisState.AWAY, str(fault))
        self.down = True

    def _turn(self, to: RedisState, why: str = "") -> None:
        """Change the state; a log line for each change, and none while it stays."""
        before, self._state = self._state, to
        if before is to:
            return
        match to:
            case RedisState.REFUSES:
                self._say(logging.ERROR, "refuses", why)
            case RedisState.AWAY:
                self._say(logging.WARNING, "is away", why)
            case RedisState.UP if before is not RedisState.UNKNOWN:
                self._say(logging.INFO, "is back")

    def _say(self, level: int, what: str, why: str | None = None) -> None:
        noun, shown = self._store.noun, self._store.shown
        where: dict[str, Any] = {noun: shown} if shown else {}
        event(logger, level, f"{noun} {what}", why=why, **where)

    def _came_back(self) -> None:
        if self.down:
            self.down = False
            for callback in self._returned:
                callback()
