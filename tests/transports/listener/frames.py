"""Writes and reads WebSocket frames by hand, so that a test can break any rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x11\x22\x33\x44"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    size: int | None = None,
) -> bytes:
    """One frame of a client. `size` is what its header claims, where that is a lie."""
    size = len(payload) if size is None else size
    short, more = (
        (size, b"")
        if size < 126
        else (126, size.to_bytes(2, "big"))
        if size < 1 << 16
        else (127, size.to_bytes(8, "big"))
    )
    head = bytes([final << 7 | rsv << 4 | opcode, (mask is not None) << 7 | short]) + more
    if mask is None:
        return head + payload
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return head + mask + masked.to_bytes(len(payload), "big")


def text(what: str) -> bytes:
    return frame(TEXT, what.encode())


def close(code: int | None = 1000, reason: str = "") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason.encode())


@dataclass(frozen=True, slots=True)
class Heard:
    """One frame of the server."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int | None:
        """Of a close frame."""
        return int.from_bytes(self.payload[:2], "big") if self.payload else None


def frames(data: bytes) -> Iterator[Heard]:
    """The frames in `data`, which must be whole, final, and not masked."""
    while data:
        first, size, at = data[0], data[1], 2
        assert first & 0xF0 == 0x80, data[:16]
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(data[2:at], "big")
        assert len(data) >= at + size, "a frame is cut short"
        yield Heard(first & 0xF, data[at : at + size])
        data = data[at + size :]


HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "mcp",
}


def handshake(line: str = "GET / HTTP/1.1", **changed: str | None) -> bytes:
    """The head of a handshake. `changed`: headers by name with `_` for `-`; None leaves one out."""
    headers: dict[str, str | None] = {"Host": "a", **HANDSHAKE}
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([line, *lines, "", ""]).encode()
