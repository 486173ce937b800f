"""The store at the other end of a link: how the workers of a node reach the `SharedMemory` of their supervisor.

A link that has broken never comes back: the process ends with its supervisor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import msgspec
import trio

from trio_mcp.cluster.store.encoding import decode_results, encode_operations
from trio_mcp.cluster.store.port import Operation, StoreDown

__all__ = ["Link", "LinkedStore"]

PATIENCE_SECONDS = 1.5
"""How long operations wait for their results: as long as for Redis."""


class Link(Protocol):
    """What carries operations to the store."""

    async def request(self, operations: bytes) -> bytes:
        """The encoded results of encoded operations; raises OSError when the link has broken."""
        ...

    async def subscribe(self, hear: Callable[[bytes], None]) -> None:
        """Have `hear` called with each message that is published from now on; raises OSError when the link has broken.

        Asked for again, as where no answer came in time, it is still one subscription.
        """
        ...


class LinkedStore:
    """One worker's way to the store; implements `Store`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def shown(self) -> str:
        """Empty: a worker has one supervisor."""
        return ""

    @property
    def noun(self) -> str:
        """Always the same."""
        return "supervisor"

    def name_of(self, operation: Operation) -> str:
        """The name of its type."""
        return type(operation).__name__

    async def run(self, operations: Sequence[Operation]) -> list[Any]:
        """The results, in order; raises StoreDown."""
        with trio.move_on_after(PATIENCE_SECONDS):
            try:
                return decode_results(operations, await self._link.request(encode_operations(operations)))
            except OSError as error:
                raise StoreDown(str(error)) from error
            except (msgspec.MsgspecError, ValueError) as error:
                raise StoreDown(f"results that cannot be read: {error}") from error
        raise StoreDown(f"no answer within {PATIENCE_SECONDS:g} s")

    async def listen(self, *, hear: Callable[[bytes], None], joined: Callable[[], None]) -> None:
        """Hear the channel's messages until cancelled; see `Store.listen`."""
        # OSError: the link has broken, and never comes back.
        with suppress(OSError):
            while not await self._subscribed(hear):
                pass
            joined()
        await trio.sleep_forever()

    async def _subscribed(self, hear: Callable[[bytes], None]) -> bool:
        """Whether the subscription has begun, for which the other end has `PATIENCE_SECONDS`."""
        with trio.move_on_after(PATIENCE_SECONDS):
            await self._link.subscribe(hear)
            return True
        return False

    def close(self) -> None:
        """Do nothing: the link is another's."""
