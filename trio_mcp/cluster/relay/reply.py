"""A peer's response as it arrives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from trio_mcp.cluster.relay.answer import Answer, AnswerHead
from trio_mcp.cluster.relay.outcomes import Broken, OwnerLost

__all__ = ["Reply"]


class Reply:
    """Reads the response to one request of `method` from `receive`; every method raises OwnerLost."""

    __slots__ = ("_answer", "_receive")

    def __init__(self, method: str, receive: Callable[[], Awaitable[bytes]], data: bytes | None = None) -> None:
        """`data` has been received already."""
        self._answer = Answer(method)
        self._receive = receive
        if data is not None:
            self._answer.take(data)

    async def head(self) -> AnswerHead:
        """Wait for the head."""
        while (head := self._answer.head()) is None:
            self._answer.take(await self._receive())
        return head

    def here(self) -> tuple[bytes, bool]:
        """What has come of the body and nobody had yet, and whether that is its end."""
        return self._answer.body()

    async def more(self) -> tuple[bytes, bool]:
        """The same, once there is something."""
        while True:
            self._answer.take(await self._receive())
            body, ended = self._answer.body()
            if body or ended:
                return body, ended

    async def whole(self, limit: int) -> bytes:
        """Wait for the whole body; one over `limit` bytes is not read."""
        body, ended = self.here()
        while not ended and len(body) <= limit:
            more, ended = await self.more()
            body += more
        if len(body) > limit:
            raise OwnerLost(Broken(), f"a body over {limit} bytes where none was expected")
        return body

    @property
    def leaves_connection_usable(self) -> bool:
        """It is complete, and the connection may serve another request."""
        return self._answer.leaves_connection_usable
