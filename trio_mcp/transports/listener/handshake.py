"""Which heads are WebSocket handshakes that can be answered with 101; sans I/O. RFC 6455 §4.2.1."""

from __future__ import annotations

import binascii
from http import HTTPStatus

from trio_mcp.transports.listener.head import Head, Refusal

__all__ = ["Handshake"]

_KEY_BYTES = 16
_VERSION = b"13"

_HEAD = b"""GET / HTTP/1.1\r
Host: localhost\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Version: 13\r
Sec-WebSocket-Key: %b\r
%b\r
"""


class Handshake:
    """What `head` asks for; raises Refusal when it is not a handshake as it must be: 400, or 426 for another version."""

    __slots__ = ("_key", "protocols")

    def __init__(self, head: Head) -> None:
        if head.method != "GET" or head.http_version != "1.1":
            raise Refusal(HTTPStatus.BAD_REQUEST, "A WebSocket handshake is a GET request of HTTP/1.1")
        if head.content_length or head.chunked:
            raise Refusal(HTTPStatus.BAD_REQUEST, "A WebSocket handshake has no body")
        version = _only(head, b"sec-websocket-version")
        if not version:
            raise Refusal(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Version is required, once")
        if version != _VERSION:
            raise Refusal(HTTPStatus.UPGRADE_REQUIRED, "The only WebSocket version served is 13")
        self._key = _only(head, b"sec-websocket-key")
        if not _is_key(self._key):
            raise Refusal(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes in base64")
        self.protocols: list[str] = _protocols(head)
        """The subprotocols that the client offers, in its order."""

    def head(self, protocol: str | None) -> bytes:
        """A request head that asks for the same and for nothing else, and offers `protocol` alone.

        trio-websocket reads the head once more, by rules of its own: it gets this one, which cannot surprise it.
        """
        offer = b"Sec-WebSocket-Protocol: %b\r\n" % protocol.encode("latin-1") if protocol is not None else b""
        return _HEAD % (self._key, offer)


def _only(head: Head, name: bytes) -> bytes:
    """The value of a header that must come once; empty when it does not."""
    values = [value for key, value in head.headers if key == name]
    return values[0] if len(values) == 1 else b""


def _is_key(key: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(key, strict_mode=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def _protocols(head: Head) -> list[str]:
    offered = [value.decode("latin-1") for name, value in head.headers if name == b"sec-websocket-protocol"]
    return [name for each in offered for part in each.split(",") if (name := part.strip(" \t"))]
