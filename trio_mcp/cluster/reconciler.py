"""The check of this node's records, in a task of its own, so that a slow Redis does not delay the heartbeat."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

__all__ = ["Reconciler"]


class Reconciler:
    """Runs `check` when somebody wants it, one at a time."""

    def __init__(self, check: Callable[[], Awaitable[None]]) -> None:
        self._check = check
        self._wanted = trio.Event()
        self._ended = trio.Event()
        """For the check that has not begun."""
        self.under_way: bool = False

    @property
    def due(self) -> bool:
        """Whether one is still to begin."""
        return self._wanted.is_set()

    def want(self) -> trio.Event:
        """One more, as soon as may be; the event is set when it has ended. All who want one before it begins get the same."""
        self._wanted.set()
        return self._ended

    async def work(self) -> None:
        """Until cancelled."""
        while True:
            await self._wanted.wait()
            ended, self._wanted, self._ended = self._ended, trio.Event(), trio.Event()
            self.under_way = True
            await self._check()
            self.under_way = False
            ended.set()
