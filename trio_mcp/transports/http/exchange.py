"""One HTTP exchange: what is known of the request, its body within its bounds, and the client's disconnect."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import msgspec
import trio

from trio_mcp.auth.principal import ANONYMOUS, Principal
from trio_mcp.auth.tokens import AccessToken
from trio_mcp.streams.account import SMALL, Account
from trio_mcp.transports.asgi import DISCONNECT_EXTENSION, MOVE_EXTENSION, Message, Receive, Scope, Send
from trio_mcp.transports.carrier import Carrier
from trio_mcp.transports.request_head import HeaderList, RequestHead

__all__ = [
    "CLIENT",
    "HOP",
    "NODE_HEADERS",
    "WORKER",
    "AsgiCarrier",
    "BodyTooLarge",
    "BodyTooSlow",
    "ClientLeft",
    "HttpExchange",
    "read_head",
    "request_target",
    "send_within",
    "without_node_headers",
]

NODE_HEADERS = b"trio-mcp-"
"""What the names of headers between nodes begin with."""
HOP = b"trio-mcp-hop"
"""Of a relayed request: the node it comes from, signed."""
CLIENT = b"trio-mcp-client"
"""Of a relayed request: for which address that node counts its session, signed."""
WORKER = b"trio-mcp-worker"
"""Of a relayed request, and of a peer's challenge: which worker of the node is meant."""

_SESSION = b"mcp-session-id"
_VERSION = b"mcp-protocol-version"
_NONE: frozenset[bytes] = frozenset()
_NO_FIELDS: Mapping[bytes, bytes] = MappingProxyType({})
_NO_BODY = (204, 304)
"""Without a Content-Length: RFC 9110 §8.6."""
_NOT_IN_TARGETS = re.compile(rb"[^!-~]")


class BodyTooLarge(Exception):
    """413: the body is larger than the bound."""


class BodyTooSlow(Exception):
    """408: memory is short, and the body came so slowly that it was given up for others."""


class ClientLeft(Exception):
    """The client closed the connection before its request was complete."""


class HttpExchange(msgspec.Struct, eq=False):
    """One request and the way to answer it."""

    head: RequestHead
    carrier: Carrier
    content: bytes = b""
    """The body, once it is read."""
    body_ended: float = -math.inf
    """When its last byte was read (trio clock)."""
    charged_to: Account | None = None
    """The account that counts the body; None for a small one. `release` ends that."""
    completing: bool = False
    """The last part of the response is being sent. From then on a disconnect means nothing: ASGI reports one to every app."""
    left: bool = False
    """The client has disconnected, if anybody watched for it."""
    # Set by `gate.Gate.admit`:
    principal: Principal = ANONYMOUS
    """Who sent the request."""
    token: AccessToken | None = None
    """The verified token that it came with; None without authorization by tokens."""
    cors: HeaderList = []
    """Headers that every response gets: they let a page of an allowed Origin read it. Empty for other clients."""
    takes_json: bool = False
    """Whether `Accept` allows application/json."""
    takes_sse: bool = False
    """Whether `Accept` allows text/event-stream."""
    address: str | None = None
    """The client's, where it is known and counts: set by `legacy.LegacyFront` for what may begin a session here or at a peer."""

    @classmethod
    def over_asgi(
        cls, scope: Scope, receive: Receive, send: Send, *, write_seconds: float | None = None
    ) -> HttpExchange:
        """One that an ASGI server brings. `write_seconds`: the deadline of each `send`; None where `send` has one."""
        head = read_head(scope["method"], scope["path"], request_target(scope), scope["headers"])
        return cls(head, AsgiCarrier(scope, receive, send, write_seconds))

    @property
    def method(self) -> str:
        """The HTTP method, upper case."""
        return self.head.method

    @property
    def path(self) -> str:
        """The decoded path."""
        return self.head.path

    def header(self, name: str | bytes) -> str | None:
        """The value of a header, of several the last; None without one. `name` in bytes is in lower case. Decoded as Latin-1."""
        value = self.head.headers.get(name if isinstance(name, bytes) else name.lower().encode("latin-1", "replace"))
        return None if value is None else value.strip(b" \t").decode("latin-1")

    def header_list(self, name: bytes) -> list[str]:
        """Every value of a header, by its lower-case name."""
        return [value.strip(b" \t").decode("latin-1") for key, value in self.head.fields if key == name]

    async def body(self, limit: int, account: Account | None = None) -> bytes:
        """Read the whole body, `limit` bytes at most.

        What does not come in one piece waits unread until `account` has room for it. Raises BodyTooLarge, ClientLeft when the
        client disconnects before its end, NoRoom after 30 s without room, BodyTooSlow when others need the room.
        """
        content = self.carrier.whole_body()
        self.content = await self._receive_body(limit, account or Account()) if content is None else content
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

    async def _receive_body(self, limit: int, account: Account) -> bytes:
        declared = self.head.headers.get(b"content-length", b"0")
        # Python does not convert integers of some thousand digits.
        if declared.isdigit() and (len(declared) > 19 or int(declared) > limit):
            raise BodyTooLarge
        message = await self.carrier.receive()
        first = self._chunk(message)
        if not message.get("more_body"):
            return first
        size = int(declared) if declared.isdigit() else 0
        return await self._rest_of_body(first, limit, size or limit, account)

    async def _rest_of_body(self, first: bytes, limit: int, size: int, account: Account) -> bytes:
        # Not a list of its pieces: of those a client could make each as small as it likes, and a piece weighs more than its bytes.
        content = bytearray(first)
        await account.room_for_body(size, len(content))
        with account.receiving(size, len(content)) as transfer:
            more = True
            while more and len(content) <= limit:
                message = await self.carrier.receive()
                chunk = self._chunk(message)
                content += chunk
                transfer.progress(len(chunk))
                more = message.get("more_body", False)
        if transfer.cut:
            raise BodyTooSlow
        return bytes(content)

    def _chunk(self, message: Message) -> bytes:
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunk: bytes = message.get("body", b"")
        return chunk

    @asynccontextmanager
    async def cancelled_when_client_leaves(self) -> AsyncIterator[None]:
        """Cancel the block when the client disconnects."""
        with trio.CancelScope() as scope:
            if self.carrier.tell_when_client_leaves(scope.cancel):
                yield
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.watch_client, scope.cancel)
                yield
                nursery.cancel_scope.cancel("the exchange is over")

    async def watch_client(self, callback: Callable[[], object]) -> None:
        """Wait until the client disconnects, and call `callback`: the only way with ASGI servers that are not ours."""
        while (await self.carrier.receive())["type"] != "http.disconnect":
            pass
        if not self.completing:
            callback()


def read_head(method: str, path: str, target: bytes, fields: Sequence[tuple[bytes, bytes]]) -> RequestHead:
    """What is known by the head, from the headers as they came: those between nodes are taken out, whoever sent them."""
    fields, said = without_node_headers(fields)
    headers = dict(fields)
    repeated = _repeated(fields) if len(headers) < len(fields) else _NONE
    session_id, version = _said(headers, _SESSION), _said(headers, _VERSION)
    head = RequestHead(method, path, target, fields, MappingProxyType(headers), repeated, session_id, version)
    if said:
        head.hop, head.worker, head.client = said.get(HOP), said.get(WORKER, b""), said.get(CLIENT, b"")
    return head


def request_target(scope: Scope) -> bytes:
    """The path of a request as it was sent, with its query; safe to put into a request line."""
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    query: bytes = scope.get("query_string", b"")
    target = b"%b?%b" % (path, query) if query else path
    # In HTTP/2 the path is a header field, and servers pass on spaces and control characters in it.
    return _NOT_IN_TARGETS.sub(lambda found: b"%%%02X" % ord(found[0]), target)


def without_node_headers(
    fields: Sequence[tuple[bytes, bytes]],
) -> tuple[Sequence[tuple[bytes, bytes]], Mapping[bytes, bytes]]:
    """The headers without those between nodes; and those, by name.

    User code must not see these: they are signed, and a handler that sent them on would let others replay them.
    """
    for name, _ in fields:
        if name.startswith(NODE_HEADERS):
            break
    else:
        return fields, _NO_FIELDS
    kept = [field for field in fields if not field[0].startswith(NODE_HEADERS)]
    return kept, {name: value for name, value in fields if name.startswith(NODE_HEADERS)}


def _said(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.strip(b" \t").decode("latin-1") or None


def _repeated(fields: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    return frozenset(name for name, count in Counter(name for name, _ in fields).items() if count > 1)


class AsgiCarrier:
    """The `Carrier` of one ASGI call. `write_seconds`: the deadline of each `send`; None where `send` has one."""

    __slots__ = ("_extensions", "client", "receive", "send")

    kept = None

    def __init__(self, scope: Scope, receive: Receive, send: Send, write_seconds: float | None = None) -> None:
        self._extensions: Mapping[str, Any] = scope.get("extensions") or {}
        self.client: tuple[str, int | None] | None = scope.get("client")
        self.receive: Receive = receive
        # Our own listener, which is known by its extension, has that deadline.
        if write_seconds is not None and DISCONNECT_EXTENSION not in self._extensions:
            send = partial(send_within, send, write_seconds)
        self.send: Send = send

    def whole_body(self) -> None:
        """None: a server tells only by `receive`."""

    async def reply(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole response."""
        head = [*headers] if status in _NO_BODY else [*headers, (b"content-length", b"%d" % len(body))]
        await self.send({"type": "http.response.start", "status": status, "headers": head})
        await self.send({"type": "http.response.body", "body": body})

    def tell_when_client_leaves(self, callback: Callable[[], object]) -> bool:
        """Call `callback` once when the client disconnects. False on servers other than ours."""
        ours = self._extensions.get(DISCONNECT_EXTENSION)
        if ours is not None:
            ours["register"](callback)
        return ours is not None

    def abort(self) -> bool:
        """Break off a response that has begun. False on servers other than ours: there an exception does it, which they log."""
        ours = self._extensions.get(DISCONNECT_EXTENSION)
        if ours is not None:
            ours["abort"]()
        return ours is not None

    @property
    def may_move(self) -> bool:
        """Whether the connection can go to another process of the node, with this request."""
        return MOVE_EXTENSION in self._extensions

    def move(self, content: bytes, to: str) -> bool:
        """See MOVE_EXTENSION."""
        moved: bool = self._extensions[MOVE_EXTENSION](content, to)
        return moved


async def send_within(send: Send, seconds: float, message: Message) -> None:
    """ASGI's `send` with a deadline, for servers that have none of their own; raises trio.TooSlowError."""
    with trio.fail_after(seconds):
        await send(message)
