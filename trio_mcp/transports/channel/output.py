"""What goes to the client of a channel: one event log for all messages, the writer that sends it, and the outboxes of calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import trio

from trio_mcp.protocol.errors import NoBackChannel
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.streams.account import Account, Holder
from trio_mcp.streams.backlog import Kind
from trio_mcp.streams.budget import Budget
from trio_mcp.streams.event_log import EventLog

__all__ = ["BatchOutbox", "ModernOutbox", "Output", "SessionOutbox", "WriteMessage"]

WriteMessage: TypeAlias = Callable[[bytes, Callable[[], None]], Awaitable[None]]
"""Writes one message to the client, and calls its second argument whenever a part of a long one is through."""


class Output:
    """The messages to the client, in order."""

    def __init__(
        self,
        account: Account,
        *,
        max_events: int,
        max_bytes: int,
        write_timeout: float,
        give_up: Callable[[], None],
    ) -> None:
        """`max_events` and `max_bytes` bound the notifications that wait; `write_timeout` in seconds.

        `give_up` is called when memory is short and the client reads nothing.
        """
        self.log: EventLog = EventLog(
            Budget(max_bytes, account=account, give_up=give_up),
            max_events=max_events,
            max_bytes=max_bytes,
            replays=False,
        )
        self._write_timeout = write_timeout

    def send(self, data: bytes, kind: Kind = Kind.VITAL, key: Any = None) -> None:
        """Append one encoded message; never blocks."""
        self.log.append(data, kind, key)

    async def wait_for_reader(self) -> None:
        """Wait until the client has read all messages, the write timeout at most."""
        await self.log.flushed(self._write_timeout)

    def discard(self) -> None:
        """Give back the memory of what will not be read, and of the answers of batches that were never completed."""
        self.log.discard()
        self.log.budget.remove_unfinished(self.log.budget.unfinished)

    async def write(self, write_message: WriteMessage) -> None:
        """Write until the log ends. Raises what `write_message` raises."""
        reader = self.log.open_reader()
        while batch := await reader.batch():
            batch.reverse()
            while batch:
                entry = batch.pop()
                await write_message(entry.data, reader.moved)
                reader.wrote(entry)


class ModernOutbox:
    """The outbox of a 2026-07-28 request: its handler waits until the client has read what it sent. A cancelled request gets no answer."""

    answers_cancelled = False

    def __init__(self, output: Output, ended: Callable[[], None]) -> None:
        """`ended` is called when the request has its answer."""
        self._output = output
        self._ended = ended

    @property
    def holder(self) -> Holder:
        """The budget of the channel, which all calls share."""
        return self._output.log.budget

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        self._output.send(data, kind, key)

    def finish(self, body: bytes | None, status: int) -> None:
        self._ended()
        if body:
            self._output.send(body)

    async def wait_for_reader(self) -> None:
        await self._output.wait_for_reader()

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        raise NoBackChannel(f"{method}: 2026-07-28 has no requests to the client")

    def hold_back(self, until: float) -> None:
        """Does nothing: no stream begins by time."""

    def close_stream(self) -> None:
        """Does nothing: the channel is the only stream."""


class SessionOutbox(ModernOutbox):
    """The outbox of a request of the session: its handler never waits for the client to read, and may send requests to it."""

    def __init__(self, output: Output, ended: Callable[[], None], session: LiveSession) -> None:
        super().__init__(output, ended)
        self._session = session

    async def wait_for_reader(self) -> None:
        await trio.lowlevel.checkpoint()

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        return await self._session.ask(self.emit, method, params)


class BatchOutbox(SessionOutbox):
    """Answers a batch with a batch, when the last of its requests is done (2025-03-26, JSON-RPC 2.0 §6)."""

    def __init__(self, output: Output, ended: Callable[[], None], session: LiveSession, wanted: int) -> None:
        super().__init__(output, ended, session)
        self._wanted = wanted
        self._bodies: list[bytes] = []

    def finish(self, body: bytes | None, status: int) -> None:
        self._ended()
        self.add(body)

    def add(self, body: bytes | None) -> None:
        """Take the answer of one element of the batch; None when it gets none."""
        log = self._output.log
        if log.ended:
            return
        self._wanted -= 1
        if body:
            self._bodies.append(body)
            log.budget.add_unfinished(len(body))
        if not self._wanted and self._bodies:
            log.budget.remove_unfinished(sum(map(len, self._bodies)))
            self._output.send(b"[" + b",".join(self._bodies) + b"]")
