"""One HTTP exchange over ASGI: headers by name, the body within its bounds, and the client's disconnect."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

import trio

from trio_mcp.auth.principal import ANONYMOUS, Principal
from trio_mcp.auth.tokens import AccessToken
from trio_mcp.streams.account import SMALL, Account
from trio_mcp.transports.asgi import DISCONNECT_EXTENSION, MOVE_EXTENSION, Message, Receive, Scope, Send

__all__ = [
    "HOP",
    "NODE_HEADERS",
    "BodyTooLarge",
    "BodyTooSlow",
    "ClientLeft",
    "HeaderList",
    "HttpExchange",
]

HeaderList: TypeAlias = list[tuple[bytes, bytes]]
"""Lower-case names and values, as ASGI has them."""

NODE_HEADERS = b"trio-mcp-"
"""What the names of headers between nodes begin with."""
HOP = b"trio-mcp-hop"
"""Of a relayed request: the node it comes from, signed."""

_SESSION = b"mcp-session-id"
_VERSION = b"mcp-protocol-version"
_NONE: frozenset[bytes] = frozenset()


class BodyTooLarge(Exception):
    """413: the body is larger than the bound."""


class BodyTooSlow(Exception):
    """408: memory is short, and the body came so slowly that it was given up for others."""


class ClientLeft(Exception):
    """The client closed the connection before its request was complete."""


class HttpExchange:
    """One request and the way to answer it. `scope`, `receive` and `send` are ASGI's; every `send` has a deadline (`HttpApp`)."""

    __slots__ = (
        "_extension",
        "body_ended",
        "charged_to",
        "completing",
        "content",
        "cors",
        "headers",
        "hop",
        "left",
        "method",
        "path",
        "principal",
        "receive",
        "repeated",
        "scope",
        "send",
        "session_id",
        "takes_json",
        "takes_sse",
        "token",
        "version",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, hop: bytes | None = None) -> None:
        self.scope: Scope = scope
        self.receive: Receive = receive
        self.send: Send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        """By lower-case name; of one that is repeated the last."""
        self.repeated: frozenset[bytes] = (
            _repeated(scope["headers"]) if len(self.headers) < len(scope["headers"]) else _NONE
        )
        """The names of headers that come more than once."""
        self.session_id: str | None = self._said(_SESSION)
        """What `Mcp-Session-Id` says; None where it is left out or empty."""
        self.version: str | None = self._said(_VERSION)
        """What `MCP-Protocol-Version` says; None where it is left out or empty."""
        self.hop: bytes | None = hop
        """The hop header of a request that a peer has relayed, not verified; it is not among `headers`."""
        self.content: bytes = b""
        """The body, once it is read."""
        self.body_ended: float = -math.inf
        """When its last byte was read (trio clock)."""
        self.charged_to: Account | None = None
        """The account that counts the body; None for a small one. `release` ends that."""
        self.completing: bool = False
        """The last part of the response is being sent. From then on a disconnect means nothing: ASGI reports one to every app."""
        self._extension: Mapping[str, Callable[..., None]] | None = scope.get("extensions", {}).get(
            DISCONNECT_EXTENSION
        )
        """Of our own listener, which tells of a disconnect without a task that waits for it, and whose writes have deadlines."""
        self.left: bool = False
        """The client has disconnected, if anybody watched for it."""
        # Set by `gate.Gate.admit`:
        self.principal: Principal = ANONYMOUS
        """Who sent the request."""
        self.token: AccessToken | None = None
        """The verified token that it came with; None without authorization by tokens."""
        self.cors: HeaderList = []
        """Headers that every response gets: they let a page of an allowed Origin read it. Empty for other clients."""
        self.takes_json: bool = False
        """Whether `Accept` allows application/json."""
        self.takes_sse: bool = False
        """Whether `Accept` allows text/event-stream."""

    def _said(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.strip(b" \t").decode("latin-1") or None

    def header(self, name: str | bytes) -> str | None:
        """The value of a header, of several the last; None without one. `name` in bytes is in lower case. Decoded as Latin-1."""
        value = self.headers.get(name if isinstance(name, bytes) else name.lower().encode("latin-1", "replace"))
        return None if value is None else value.strip(b" \t").decode("latin-1")

    def header_list(self, name: bytes) -> list[str]:
        """Every value of a header, by its lower-case name."""
        return [value.strip(b" \t").decode("latin-1") for key, value in self.scope["headers"] if key == name]

    async def body(self, limit: int, account: Account | None = None) -> bytes:
        """Read the whole body, `limit` bytes at most.

        What does not come in one piece waits unread until `account` has room for it. Raises BodyTooLarge, ClientLeft when the
        client disconnects before its end, NoRoom after 30 s without room, BodyTooSlow when others need the room.
        """
        declared = self.headers.get(b"content-length", b"0")
        # Python does not convert integers of some thousand digits.
        if declared.isdigit() and (len(declared) > 19 or int(declared) > limit):
            raise BodyTooLarge
        message = await self.receive()
        self.content = self._chunk(message)
        if message.get("more_body"):
            await self._rest_of_body(limit, int(declared) if declared.isdigit() else 0, account or Account())
        if len(self.content) > limit:
            raise BodyTooLarge
        self.body_ended = trio.current_time()
        if account is not None and len(self.content) > SMALL:
            account.charge_request(len(self.content))
            self.charged_to = account
        return self.content

    def release(self) -> None:
        """The exchange is over: its body is no longer counted."""
        if self.charged_to is not None:
            self.charged_to.release_request(len(self.content))
            self.charged_to = None

    async def _rest_of_body(self, limit: int, declared: int, account: Account) -> None:
        size = declared or limit
        chunks = [self.content]
        received = len(self.content)
        await account.room_for_body(size, received)
        with account.receiving(size, received) as transfer:
            more = True
            while more and received <= limit:
                message = await self.receive()
                chunks.append(self._chunk(message))
                received += len(chunks[-1])
                transfer.progress(len(chunks[-1]))
                more = message.get("more_body", False)
        if transfer.cut:
            raise BodyTooSlow
        self.content = b"".join(chunks)

    def _chunk(self, message: Message) -> bytes:
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunk: bytes = message.get("body", b"")
        return chunk

    @asynccontextmanager
    async def cancelled_when_client_leaves(self) -> AsyncIterator[None]:
        """Cancel the block when the client disconnects."""
        with trio.CancelScope() as scope:
            if self.tell_when_client_leaves(scope.cancel):
                yield
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.watch_client, scope.cancel)
                yield
                nursery.cancel_scope.cancel("the exchange is over")

    def tell_when_client_leaves(self, callback: Callable[[], object]) -> bool:
        """Have `callback` called at once when the client disconnects. False where the server cannot: `watch_client` is for that."""
        if self._extension is None:
            return False
        self._extension["register"](callback)
        return True

    async def watch_client(self, callback: Callable[[], object]) -> None:
        """Wait until the client disconnects, and call `callback`: the only way with ASGI servers that are not ours."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
        if not self.completing:
            callback()

    @property
    def may_move(self) -> bool:
        """Whether the connection can go to another process of the node, with this request."""
        return MOVE_EXTENSION in self.scope.get("extensions", ())

    async def move(self, to: str) -> bool:
        """Have the process at `to` answer the request, and serve the connection from now on; False when it does not."""
        moved: bool = await self.scope["extensions"][MOVE_EXTENSION](self.content, to)
        return moved

    def abort(self) -> bool:
        """Break off a response that has begun. False where the server cannot: there an exception does it, which it logs."""
        if self._extension is None:
            return False
        self._extension["abort"]()
        return True


def _repeated(headers: HeaderList) -> frozenset[bytes]:
    return frozenset(name for name, count in Counter(name for name, _ in headers).items() if count > 1)
