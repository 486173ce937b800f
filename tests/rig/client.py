"""A legacy MCP client that does only what it is told: with a cookie jar or without, over kept or fresh connections."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

import trio

from tests.rig.events import Events
from tests.rig.http_connection import Broken, HttpConnection, Response

__all__ = ["LEGACY", "Answer", "LegacyClient", "ListenEnd", "NewClient", "OpenClient", "Tokens"]

LEGACY = "2025-11-25"
_ACCEPT = "application/json, text/event-stream"
_RETRY = 1.0
"""Before a stream is asked for again, unless its server says otherwise."""
_RESUMES = 10
"""How often one call's stream is asked for again."""


@dataclass(slots=True)
class Answer:
    """The answer to a request: `message` is the JSON-RPC response, `status` is 0 when there was none."""

    status: int = 0
    message: dict[str, Any] = field(default_factory=dict)
    relay: str = ""
    resumed: int = 0
    broken: str = ""
    """Why there is no response."""
    set_cookies: list[str] = field(default_factory=list)

    @property
    def result(self) -> dict[str, Any]:
        """The result; {} for an error."""
        found: dict[str, Any] = self.message.get("result", {})
        return found

    @property
    def told(self) -> dict[str, Any]:
        """The structured content of a tool's result: the tools of `served/server.py` put their node there."""
        found: dict[str, Any] = self.result.get("structuredContent", {})
        return found

    @property
    def error(self) -> str:
        """Why the request failed; "" when it succeeded."""
        if self.broken:
            return self.broken
        if fault := self.message.get("error"):
            return f"{self.status} {fault.get('code')} {fault.get('message')}"
        if self.result.get("isError"):
            return f"{self.status} {self.result['content']}"
        return "" if self.status in (200, 202, 204) else f"{self.status} without a JSON-RPC response"

    @property
    def reason(self) -> str:
        """`data.reason` of an error: node_gone, deleted …"""
        data = self.message.get("error", {}).get("data")
        return str(data.get("reason", "")) if isinstance(data, dict) else ""


@dataclass(frozen=True, slots=True)
class ListenEnd:
    """How a GET stream went: its status, whether it ended cleanly, and the seconds to wait before the next."""

    status: int
    clean: bool
    retry: float
    refusal: str = ""
    """The answer in place of a stream."""


class Tokens(Protocol):
    """Where a client has its access token from."""

    async def current(self) -> str:
        """The token to send. Raises OSError when there is none to be had."""

    async def renewed(self, refused: str) -> bool:
        """Whether there is another one now, after this one was answered with a 401."""


class LegacyClient:
    """One session at a time. Requests come one after the other; a GET stream has a connection of its own.

    With `tokens` each request has one, and one that is answered with a 401 is sent again with another, once.
    """

    def __init__(self, url: str, *, cookies: bool = True, fresh: bool = False, tokens: Tokens | None = None) -> None:
        self.url = url
        self.tokens = tokens
        self.session = ""
        self.last_event_id: str | None = None
        self.heard: list[dict[str, Any]] = []
        """Every message that came on a stream and was no response."""
        self.jar: dict[str, str] = {}
        self._path = urlsplit(url).path
        self._keeps_cookies = cookies
        self._fresh = fresh
        self._connection: HttpConnection | None = None
        self._ids = count(1)
        self._name = secrets.token_hex(4)
        """Part of its request ids: several clients may use one session at the same time."""

    @property
    def node(self) -> str:
        """The node that opened the session."""
        return self.session.rpartition(".")[0]

    async def initialize(self, name: str = "rig") -> Answer:
        """Open a session, forgetting the one before; on success `session` is set."""
        self.session, self.last_event_id = "", None
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": name, "version": "1"}}
        answer = await self.post(self._message("initialize", params))
        if not answer.error:
            await self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer

    async def tool(self, tool: str, **arguments: Any) -> Answer:
        """Call a tool."""
        return await self.request("tools/call", {"name": tool, "arguments": arguments})

    async def request(self, method: str, params: Mapping[str, Any] | None = None) -> Answer:
        """Send a request of the session and wait for its response."""
        return await self.post(self._message(method, params or {}))

    async def delete(self) -> Answer:
        """End the session."""
        return await self._answered("DELETE", {}, b"", None)

    async def post(self, message: Mapping[str, Any]) -> Answer:
        """Send a message; a response that comes on a stream is read there, also when the stream was cut."""
        headers = {"content-type": "application/json", "accept": _ACCEPT}
        return await self._answered("POST", headers, json.dumps(message).encode(), message.get("id"))

    async def listen(self, opened: Callable[[Response], object] = lambda _: None) -> ListenEnd:
        """Hold the GET stream until it ends, from `last_event_id` on; what comes is in `heard`."""
        connection = await HttpConnection.open(self.url)
        events = Events()
        try:
            headers = {"accept": "text/event-stream"}
            if self.last_event_id is not None:
                headers["last-event-id"] = self.last_event_id
            sent, head = await self._asked(connection, "GET", headers)
            if head.status == 401 and self.tokens is not None and await self.tokens.renewed(sent):
                connection.close()
                connection = await HttpConnection.open(self.url)
                _, head = await self._asked(connection, "GET", headers)
            opened(head)
            if head.status != 200:
                return ListenEnd(head.status, True, _RETRY, (await _whole(connection)).decode())
            await _read(connection, events, self.heard.append)
        except Broken:
            return ListenEnd(200, False, events.retry or _RETRY)
        finally:
            self.last_event_id = events.last_id or self.last_event_id
            connection.close()
        return ListenEnd(200, True, events.retry or _RETRY)

    def close(self) -> None:
        """Close the kept connection; the session stays."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _answered(self, method: str, headers: dict[str, str], content: bytes, id: Any) -> Answer:
        answer = Answer()
        try:
            connection, head = await self._sent(method, headers, content)
            await self._take(connection, head, answer, id)
        except (Broken, OSError) as error:
            answer.broken = f"{answer.status} {type(error).__name__}: {error}"
            self.close()
        except trio.Cancelled:
            self.close()  # in the middle of an exchange: of no more use
            raise
        if self._fresh:
            self.close()
        return answer

    async def _take(self, connection: HttpConnection, head: Response, answer: Answer, id: Any) -> None:
        answer.status, answer.relay = head.status, head.header("trio-mcp-relay")
        answer.set_cookies = head.cookies
        if head.status == 200 and (session := head.header("mcp-session-id")):
            self.session = session
        if head.is_stream:
            return await self._follow(connection, answer, id)
        body = await _whole(connection)
        if head.header("content-type").startswith("application/json"):
            answer.message = json.loads(body)

    async def _follow(self, connection: HttpConnection, answer: Answer, id: Any) -> None:
        """Read a call's stream to its response, resuming it by Last-Event-ID as the specification's clients do."""
        events = Events()
        while True:
            try:
                if await self._found(connection, events, answer, id):
                    return
            except Broken:
                if events.last_id is None:
                    raise
            self.close()
            if events.last_id is None or answer.resumed == _RESUMES:
                raise Broken("the call's stream ended without its response")
            await trio.sleep(events.retry or _RETRY)
            answer.resumed += 1
            headers = {"accept": "text/event-stream", "last-event-id": events.last_id}
            connection, head = await self._sent("GET", headers)
            answer.status = head.status
            if head.status != 200:
                return await self._take(connection, head, answer, id)

    async def _found(self, connection: HttpConnection, events: Events, answer: Answer, id: Any) -> bool:
        def take(message: dict[str, Any]) -> None:
            if message.get("id") == id and "method" not in message:
                answer.message = message
            else:
                self.heard.append(message)

        await _read(connection, events, take)
        return bool(answer.message)

    async def _sent(
        self, method: str, headers: Mapping[str, str], content: bytes = b""
    ) -> tuple[HttpConnection, Response]:
        """The kept connection, or another, and the head of the answer."""
        connection = await self._connected()
        sent, head = await self._asked(connection, method, headers, content)
        if head.status == 401 and self.tokens is not None and await self.tokens.renewed(sent):
            await _whole(connection)
            connection = await self._connected()
            _, head = await self._asked(connection, method, headers, content)
        return connection, head

    async def _asked(
        self, connection: HttpConnection, method: str, headers: Mapping[str, str], content: bytes = b""
    ) -> tuple[str, Response]:
        """The token that was sent, and the head of the answer."""
        token = "" if self.tokens is None else await self.tokens.current()
        bearer = {"authorization": f"Bearer {token}"} if token else {}
        await connection.request(method, self._path, self._headers({**headers, **bearer}), content)
        head = await connection.head()
        self._keep_cookies(head)
        return token, head

    async def _connected(self) -> HttpConnection:
        if self._connection is None or not self._connection.reusable:
            self.close()
            self._connection = await HttpConnection.open(self.url)
        return self._connection

    def _headers(self, given: Mapping[str, str]) -> dict[str, str]:
        session = {"mcp-session-id": self.session, "mcp-protocol-version": LEGACY} if self.session else {}
        cookie = {"cookie": "; ".join(f"{name}={value}" for name, value in self.jar.items())} if self.jar else {}
        return {**given, **session, **cookie}

    def _keep_cookies(self, head: Response) -> None:
        if self._keeps_cookies:
            self.jar |= dict(cookie.split(";", 1)[0].split("=", 1) for cookie in head.cookies)

    def _message(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": f"{self._name}-{next(self._ids)}", "method": method, "params": params}


NewClient: TypeAlias = Callable[..., LegacyClient]
"""Makes a client of a URL; a fixture of that type closes it after the test."""
OpenClient: TypeAlias = Callable[..., Awaitable[LegacyClient]]
"""The same, and its session is open."""


async def _whole(connection: HttpConnection) -> bytes:
    body = b""
    while part := await connection.chunk():
        body += part
    return body


async def _read(connection: HttpConnection, events: Events, take: Callable[[dict[str, Any]], object]) -> None:
    """Hand on the messages of a stream until it ends; raises Broken when it does not end cleanly."""
    while part := await connection.chunk():
        for event in events.feed(part):
            if (message := event.message) is not None:
                take(message)
