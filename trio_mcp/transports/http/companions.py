"""Tasks beside an exchange's own: the front owns them, and their exchange waits for them or dismisses them.

Few exchanges need a second task, and a nursery for each would cost a sixth of a whole call. So the nursery is the front's,
and the exchange keeps the promise a nursery makes: its companion does not outlive it, and fails where it would have.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

__all__ = ["DISMISSAL_SECONDS", "Companion", "Companions"]

DISMISSAL_SECONDS = 1.0
"""For the cleanup of a cancelled companion, which awaits nothing: reached only by a bug."""


class Companion:
    """One task, as its exchange holds it."""

    __slots__ = ("_ended", "_failure", "_scope")

    def __init__(self) -> None:
        self._ended = trio.Event()
        self._failure: Exception | None = None
        self._scope = trio.CancelScope()

    async def run(self, fn: Callable[[], Awaitable[None]], on_failure: Callable[[], object]) -> None:
        """Run `fn`; what it raises is kept for `finished`, and `on_failure` called."""
        try:
            with self._scope:
                await fn()
        except Exception as failure:  # not a boundary: `finished` raises it in the exchange
            self._failure = failure
            on_failure()
        finally:
            self._ended.set()

    def cancel(self) -> None:
        """Stop it; `finished` then returns."""
        self._scope.cancel("its exchange wants no more of it")

    async def finished(self) -> None:
        """Wait for its end; raises what it raised."""
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    async def dismiss(self) -> None:
        """Stop it and wait until it has stopped; to be shielded for `DISMISSAL_SECONDS`, so that it is also when cancelled."""
        self.cancel()
        await self._ended.wait()


class Companions:
    """The nursery they live in."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Own them until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def start(self, fn: Callable[[], Awaitable[None]], on_failure: Callable[[], object]) -> Companion:
        """Start one; whoever does must see to its end."""
        assert self._nursery is not None, "exchanges are refused before the app runs"
        companion = Companion()
        self._nursery.start_soon(companion.run, fn, on_failure)
        return companion
