"""Stand-ins for what a request or a session is given by its transport, each remembering what it was told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVarTuple

import msgspec
import trio

from tests.oracle import Oracle
from trio_mcp import MCPServer
from trio_mcp.auth.principal import ANONYMOUS, Principal
from trio_mcp.dispatch.call import Call, Client, Service
from trio_mcp.dispatch.dispatcher import respond
from trio_mcp.dispatch.options import Options
from trio_mcp.dispatch.session import Session
from trio_mcp.protocol.errors import SlowReader
from trio_mcp.protocol.versions import V2026_07_28
from trio_mcp.streams.account import Holder
from trio_mcp.streams.backlog import Kind
from trio_mcp.streams.bus import Change
from trio_mcp.streams.loop import Loop

__all__ = ["DispatchHarness", "FakeConversation", "FakeOutbox", "kept_cancelled"]

Ts = TypeVarTuple("Ts")


@dataclass
class FakeOutbox:
    """Judges and keeps what a call says; `answer` is the client's answer to whatever it is asked."""

    oracle: Oracle
    answers_cancelled: bool = True
    answer: Callable[[str, dict[str, Any]], Any] | None = None
    reads: bool = True
    said: list[dict[str, Any]] = field(default_factory=list)
    kinds: list[tuple[Kind, Any]] = field(default_factory=list)
    reply: Any = None
    status: int | None = None
    finished: int = 0
    closed_streams: int = 0
    holder: Holder | None = None

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        """Take one message."""
        assert not self.finished, "nothing follows the reply"
        self.said.append(self.oracle.heard(msgspec.json.decode(data)))
        self.kinds.append((kind, key))

    def finish(self, body: bytes | None, status: int) -> None:
        """Take the reply, once."""
        self.finished += 1
        assert self.finished == 1, "one reply"
        self.reply = None if body is None else self.oracle.heard(msgspec.json.decode(body))
        self.status = status

    async def wait_for_reader(self) -> None:
        """Wait for the reader, who may never read."""
        await trio.lowlevel.checkpoint()
        if not self.reads:
            raise SlowReader("The client read nothing for 20 s")

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """The client's answer."""
        await trio.lowlevel.checkpoint()
        assert self.answer is not None, "nobody was to be asked"
        return self.answer(method, params)

    def hold_back(self, until: float) -> None:
        """There is no stream."""

    def close_stream(self) -> None:
        """Count it."""
        self.closed_streams += 1


@dataclass
class FakeConversation:
    """A session as a request sees it."""

    log_level: str = "info"
    short_id: str = "abcdefgh"
    uris: set[str] = field(default_factory=set)

    id: str = "node.abcdefgh"
    principal: Principal = ANONYMOUS
    protocol_version: str = "2025-11-25"
    client_info: dict[str, Any] = field(default_factory=dict)
    client_capabilities: dict[str, Any] = field(default_factory=dict)
    restored: bool = False
    loop: Loop = field(default_factory=Loop)
    notified: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.user_session = Session(self)

    def start_soon(self, fn: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """No request of these tests starts a task."""
        raise NotImplementedError

    def notify(self, change: Change) -> None:
        """Note it."""
        self.notified.append(change)

    def send_log(self, level: str, data: Any, logger: str | None) -> None:
        """No request of these tests logs on its session's stream."""
        raise NotImplementedError

    def close_for_user(self, reason: str) -> None:
        """No request of these tests closes its session."""
        raise NotImplementedError

    def subscribe(self, uri: str) -> None:
        """Remember it."""
        self.uris.add(uri)

    def unsubscribe(self, uri: str) -> None:
        """Forget it."""
        self.uris.discard(uri)


class DispatchHarness:
    """Where a test hands in requests: each is run by the dispatcher, its reply judged by the official types."""

    def __init__(self, server: MCPServer, version: str = "2025-11-25", *, options: Options | None = None) -> None:
        self.service: Service = server.service(options)
        self.version = version
        self.oracle = Oracle(version)
        self.capabilities: dict[str, Any] = {}
        self.principal: Principal = ANONYMOUS
        self.conversation = None if version >= V2026_07_28 else FakeConversation()
        self.log_level: str | None = None
        self.outbox = FakeOutbox(self.oracle)
        self._last_id = 0

    def call(self, method: str, params: dict[str, Any] | None = None, **outbox: Any) -> Call:
        """A call that has not run."""
        self._last_id += 1
        self.oracle.asked(self._last_id, method)
        self.outbox = FakeOutbox(self.oracle, **outbox)
        return Call(
            self.service,
            self._last_id,
            method,
            {} if params is None else params,
            self.version,
            self.principal,
            Client({"name": "test", "version": "1"}, self.capabilities),
            self.outbox,
            session=self.conversation,
            log_level=self.log_level,
        )

    async def request(self, method: str, params: dict[str, Any] | None = None, **outbox: Any) -> dict[str, Any]:
        """Run one request; the whole response."""
        call = self.call(method, params, **outbox)
        await respond(call)
        assert self.outbox.finished == 1
        reply: dict[str, Any] = self.outbox.reply
        return reply

    async def result(self, method: str, params: dict[str, Any] | None = None, **outbox: Any) -> dict[str, Any]:
        """Run one request that must succeed; its result."""
        reply = await self.request(method, params, **outbox)
        assert "result" in reply, reply
        result: dict[str, Any] = reply["result"]
        return result

    async def error(self, method: str, params: dict[str, Any] | None = None, **outbox: Any) -> dict[str, Any]:
        """Run one request that must fail; its error."""
        reply = await self.request(method, params, **outbox)
        assert "error" in reply, reply
        error: dict[str, Any] = reply["error"]
        return error

    async def tool(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that must give a result."""
        return await self.result("tools/call", {"name": name, "arguments": arguments})


async def kept_cancelled() -> BaseException:
    """A `Cancelled` whose scope has ended, for code that kept it and raises it again."""
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            kept = cancelled
            raise
    return kept
