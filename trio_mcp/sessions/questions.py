"""Requests of ours that wait for the client's answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from trio_mcp.protocol.errors import ClientRefused, ClientTimeout, NoBackChannel
from trio_mcp.protocol.jsonrpc import Reply, RequestId, encode_notification, encode_request
from trio_mcp.streams.backlog import Kind

__all__ = ["PendingQuestions"]


_EPOCH_BITS = 32
"""For the ids of each life; with 21 bits left for the epoch, JavaScript still reads them as the integers they are."""


_LONGEST_ID = 19
"""Digits of an id of ours, at most."""


class _Pending:
    __slots__ = ("answered", "reply")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.reply: Reply | None = None


class PendingQuestions:
    """Server-to-client requests of one session, by id; ids are never used twice in it, whatever node it lives on."""

    def __init__(self, epoch: int = 0) -> None:
        self._last_id = epoch << _EPOCH_BITS
        self._pending: dict[RequestId, _Pending] = {}

    def __len__(self) -> int:
        """Questions that have no answer yet."""
        return len(self._pending)

    async def ask(
        self, emit: Callable[[bytes, Kind], None], method: str, params: dict[str, Any], *, patience: float
    ) -> Any:
        """The client's result. Raises ClientRefused, or ClientTimeout after `patience` seconds; the client is told."""
        self._last_id += 1
        own_id = self._last_id
        message = encode_request(own_id, method, params)
        pending = self._pending[own_id] = _Pending()
        emit(message, Kind.VITAL)
        try:
            with trio.move_on_after(patience):
                await pending.answered.wait()
        finally:
            del self._pending[own_id]
            if pending.reply is None:
                reason = {"requestId": own_id, "reason": "The server no longer waits for an answer"}
                emit(encode_notification("notifications/cancelled", reason), Kind.VITAL)
        return _result(pending.reply, method, patience)

    def resolve(self, reply: Reply) -> None:
        """Hand a reply to whoever waits for it; one nobody waits for is ignored."""
        pending = self._pending.get(_own_id(reply.id))
        if pending is not None:
            pending.reply = reply
            pending.answered.set()


def _own_id(id: RequestId) -> RequestId:
    """The id of ours that a reply means: some clients send back 1 as "1"."""
    is_number = isinstance(id, str) and len(id) <= _LONGEST_ID and id.isascii() and id.isdigit()
    return int(id) if is_number else id


def _result(reply: Reply | None, method: str, patience: float) -> Any:
    if reply is None:
        raise ClientTimeout(f"The client did not answer {method} within {patience:g} s")
    if reply.error is not None:
        code = reply.error.get("code")
        raise ClientRefused(
            code if isinstance(code, int) else 0, str(reply.error.get("message", "")), reply.error.get("data")
        )
    return reply.result


def refuse(method: str) -> NoBackChannel:
    """Why a client that accepts only JSON cannot be asked."""
    return NoBackChannel(f"{method} needs a stream, and the client accepts only application/json")
