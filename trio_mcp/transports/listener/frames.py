"""Follows the frames of a WebSocket client: where each ends, and how large its message becomes; sans I/O.

Only headers are looked at, so that a frame is refused before its payload is read. The rest of RFC 6455 (UTF-8, the order of
fragments, control frames, close codes) is checked by wsproto, which gets the same bytes.
"""

from __future__ import annotations

__all__ = ["CLOSE_BYTE", "PING", "PONG_BYTE", "FrameRefusal", "Frames", "close_frame"]

MAX_FRAGMENTS = 64 * 1024
"""Of one message. Each takes memory however small it is, and an empty one does not count towards the size of its message."""

CLOSE_BYTE = 0x88
PONG_BYTE = 0x8A
"""What a close frame and a pong begin with, and no other frame that a server sends."""
PING = b"\x89\x00"
"""A ping without payload, as a server sends it."""

_FINAL = 0x80
_RESERVED = 0x70
_CONTROL = 0x08
_OPCODE = 0x0F
_CONTINUATION, _TEXT, _BINARY = 0, 1, 2
_MASKED = 0x80
_EXTENDED_LENGTHS = {126: 2, 127: 8}
"""By the seven bits of the short length: how many bytes of the long one follow."""
_MASK_BYTES = 4
_MAX_REASON_BYTES = 123


class FrameRefusal(Exception):
    """The connection is closed with `code` and `reason` (RFC 6455 §7.4.1)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Frames:
    """Reads frame headers. `limit`: bytes of the largest message."""

    __slots__ = ("_limit", "_parts", "in_data", "in_message", "message")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts = 0
        self.message: int = 0
        """Payload bytes of the present message, as its frames so far announce them."""
        self.in_message: bool = False
        """A message has begun, and its last frame has not."""
        self.in_data: bool = False
        """The present frame belongs to a message; the others are control frames."""

    def begin(self, data: bytes, at: int) -> int | None:
        """The length, with its header, of the frame that begins at `data[at]`; None while the header is not complete.

        Raises FrameRefusal: 1002 for frames that are not masked or have reserved bits, 1003 for binary, 1009 for a message beyond
        the limit.
        """
        if len(data) - at < 2:
            return None
        first, second = data[at], data[at + 1]
        if first & _RESERVED:
            raise FrameRefusal(1002, "reserved bits are set, and no extension was accepted")
        if not second & _MASKED:
            raise FrameRefusal(1002, "frames of a client must be masked")
        short = second & ~_MASKED
        extended = _EXTENDED_LENGTHS.get(short, 0)
        header = 2 + extended + _MASK_BYTES
        if len(data) - at < header:
            return None
        size = int.from_bytes(data[at + 2 : at + 2 + extended], "big") if extended else short
        self._note(first, size)
        return header + size

    def _note(self, first: int, size: int) -> None:
        opcode = first & _OPCODE
        self.in_data = opcode in (_CONTINUATION, _TEXT)
        if opcode == _BINARY:
            raise FrameRefusal(1003, "messages are text frames")
        if self.in_data:
            self._count(opcode, size)
            self.in_message = not first & _FINAL

    def _count(self, opcode: int, size: int) -> None:
        if opcode == _TEXT:
            self.message = self._parts = 0
        self.message += size
        self._parts += 1
        if self.message > self._limit:
            raise FrameRefusal(1009, f"a message has {self._limit} bytes at most")
        if self._parts > MAX_FRAGMENTS:
            raise FrameRefusal(1009, f"a message has {MAX_FRAGMENTS} fragments at most")


def close_frame(code: int, reason: str) -> bytes:
    """The close frame of a server; `reason` is cut to the 123 bytes that fit (RFC 6455 §5.5.1)."""
    text = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
    return bytes([CLOSE_BYTE, 2 + len(text)]) + code.to_bytes(2, "big") + text
