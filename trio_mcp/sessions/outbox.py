"""How a request of a session sends to its client: messages on the stream of its POST, and questions that wait for a reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import trio

from trio_mcp.protocol.errors import ClientRefused, ClientTimeout, NoBackChannel
from trio_mcp.protocol.jsonrpc import Reply, RequestId, encode_notification, encode_request
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.streams import SessionStreams
from trio_mcp.streams.account import Holder
from trio_mcp.streams.backlog import Kind, Overflow
from trio_mcp.streams.event_log import EventLog

__all__ = ["PendingQuestions", "StreamOutbox"]


_EPOCH_BITS = 32
"""The low bits of an id count the requests of one epoch. 21 bits are left for the epoch: JavaScript has integers of 53 bits."""


_LONGEST_ID = 19
"""Digits of an id of ours, at most: longer text is not parsed as a number."""


class _Session(Protocol):
    @property
    def streams(self) -> SessionStreams: ...
    def close(self, reason: CloseReason) -> None: ...
    async def ask(self, emit: Callable[[bytes, Kind], None], method: str, params: dict[str, Any]) -> Any: ...


class StreamOutbox:
    """Where the messages of a request go: the stream of its POST. Never makes a handler wait for its reader.

    A stream that overflows closes the session.
    """

    __slots__ = ("_log", "_session", "_streams", "holder")

    answers_cancelled = True

    def __init__(self, session: _Session, log: EventLog, *, streams: bool) -> None:
        self._session = session
        self._log = log
        self._streams = streams
        self.holder: Holder = session.streams.budget
        """All streams of the session together."""

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        """A client that accepts only JSON gets its notifications on the GET stream."""
        log = self._log if self._streams else self._session.streams.standalone
        try:
            log.append(data, kind, key)
        except Overflow:
            self._session.close(CloseReason.OVERFLOW)

    def finish(self, body: bytes | None, status: int) -> None:
        """The reply goes on this request's stream, always."""
        try:
            self._log.finish(body or b"", status)
        except Overflow:
            self._session.close(CloseReason.OVERFLOW)

    async def wait_for_reader(self) -> None:
        """A checkpoint, no more: on a session a slow reader costs the handler nothing."""
        await trio.lowlevel.checkpoint()

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Raises NoBackChannel when the client takes no stream."""
        if not self._streams:
            raise NoBackChannel(f"{method} needs a stream, and the client accepts only application/json")
        return await self._session.ask(self.emit, method, params)

    def hold_back(self, until: float) -> None:
        """Does nothing: no call of a session becomes a task."""

    def close_stream(self) -> None:
        """The client resumes by `Last-Event-ID`; a head that is still held back goes out as a stream first."""
        if self._streams:
            self._log.close_reader()


class _Pending:
    __slots__ = ("answered", "reply")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.reply: Reply | None = None


class PendingQuestions:
    """Server-to-client requests of one session, by id. An id is never used twice in a session, on whichever node it is."""

    def __init__(self, epoch: int = 0) -> None:
        self._last_id = epoch << _EPOCH_BITS
        self._pending: dict[RequestId, _Pending] = {}

    def __len__(self) -> int:
        """Questions that have no answer yet."""
        return len(self._pending)

    async def ask(
        self, emit: Callable[[bytes, Kind], None], method: str, params: dict[str, Any], *, patience: float
    ) -> Any:
        """Send a request with `emit` and wait for the client's result.

        Raises ClientRefused, or ClientTimeout after `patience` seconds; then the client gets `notifications/cancelled`.
        """
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

    def resolve(self, reply: Reply) -> bool:
        """Hand a reply to the task that waits for it; False where none does."""
        pending = self._pending.get(_own_id(reply.id))
        if pending is None or pending.reply is not None:
            return False
        pending.reply = reply
        pending.answered.set()
        return True


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
