"""Where the messages of a legacy request go: the stream of its POST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.questions import refuse
from trio_mcp.streams.account import Holder
from trio_mcp.streams.event_log import EventLog, Kind, Overflow

if TYPE_CHECKING:
    from trio_mcp.sessions.session import Session

__all__ = ["SessionOutbox"]


class SessionOutbox:
    """Never makes a handler wait for its reader; a stream that overflows closes the session."""

    __slots__ = ("_log", "_session", "_streams")

    answers_cancelled = True

    def __init__(self, session: Session, log: EventLog, *, streams: bool) -> None:
        self._session = session
        self._log = log
        self._streams = streams

    @property
    def holder(self) -> Holder:
        """All streams of the session."""
        return self._session.streams.budget

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

    async def settle(self) -> None:
        """A checkpoint, no more: on a session a slow reader costs the handler nothing."""
        await trio.lowlevel.checkpoint()

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Raises NoBackChannel when the client takes no stream."""
        if not self._streams:
            raise refuse(method)
        return await self._session.ask(self.emit, method, params)

    def close_stream(self) -> None:
        """The client resumes by `Last-Event-ID`; a head that is still held back goes out as a stream first."""
        if self._streams:
            self._log.close_reader()
