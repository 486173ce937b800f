"""The handshake of a WebSocket as an HTTP exchange: it passes the same gate as a GET, and is refused with the same responses.

ASGI `websocket` scope ─▶ as_request ─┬─▶ a GET that the HTTP app answers: probes, routes, 404, refusals
                                      └─▶ accepted: the conversation (`connection`)

A browser sets no headers on a WebSocket. It sends its token as a subprotocol beside `mcp`: `mcp.bearer.<token in base64url>`, which is
turned into an `Authorization` header here, before anything else sees it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from trio_mcp.transports.asgi import Message, Receive, Scope, Send

__all__ = ["RESPONSE_EXTENSION", "SUBPROTOCOL", "as_request", "bearer_of", "offered"]

SUBPROTOCOL = "mcp"
"""The only one that is ever chosen; the SDKs have it."""

RESPONSE_EXTENSION = "websocket.http.response"
"""Of servers that can answer a handshake with any HTTP response (ASGI extensions)."""

_BEARER = "mcp.bearer."
_PROTOCOLS = b"sec-websocket-protocol"
_VISIBLE = re.compile(rb"[!-~]+")


def offered(scope: Scope) -> list[str]:
    """The subprotocols that the client offers, without a token among them."""
    return [each for each in scope.get("subprotocols", ()) if not each.startswith(_BEARER)]


def bearer_of(subprotocols: Sequence[str]) -> list[bytes]:
    """A value of `Authorization` for each subprotocol that carries a token: two are refused as two headers are.

    One that is not base64url stays as it is, and will be refused as a token.
    """
    return [b"Bearer " + _token(each.removeprefix(_BEARER)) for each in subprotocols if each.startswith(_BEARER)]


def _token(text: str) -> bytes:
    raw = text.encode("latin-1", "replace")
    try:
        token = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return raw
    return token if _VISIBLE.fullmatch(token) else raw


def as_request(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    """The handshake as the GET it is, with a `send` for the response that refuses it."""
    headers = [header for header in scope["headers"] if header[0] != _PROTOCOLS]
    headers += [(b"authorization", value) for value in bearer_of(scope.get("subprotocols", ()))]
    request = {**scope, "type": "http", "method": "GET", "headers": headers}
    refuse = _Refusing(send) if RESPONSE_EXTENSION in scope.get("extensions", {}) else _Closing(send)
    return request, _Receiving(receive), refuse


class _Receiving:
    """`receive` of an HTTP request without a body: what comes next is the disconnect."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._asked = False

    async def __call__(self) -> Message:
        message = await self._receive()
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        while message["type"] != "websocket.disconnect":
            message = await self._receive()
        return {"type": "http.disconnect"}


class _Refusing:
    """`send` of an HTTP response that takes the place of the 101."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        await self._send({**message, "type": f"websocket.{message['type']}"})


class _Closing:
    """The same where the server has no such extension: a close before the 101 is its 403 (ASGI WebSocket)."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send({"type": "websocket.close"})
