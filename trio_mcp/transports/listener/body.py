"""Request bodies: which of the bytes are payload, and where a body ends; sans I/O."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Protocol

from trio_mcp.transports.listener.head import Head, Refusal

__all__ = ["Body", "begin_body"]

_LINE_BYTES = 256
"""Of a chunk-size line with its extensions, which no client needs: long ones are sent to keep the server busy."""
_TRAILER_BYTES = 8 * 1024
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t -~]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")


class Body(Protocol):
    """Takes bytes as they were read, and gives the payload in them."""

    complete: bool
    """Whether the whole body was taken."""

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """The payload in `data`, and the bytes that follow the body; raises Refusal."""


def begin_body(head: Head, data: bytes, limit: int) -> tuple[Body, bytes, bytes]:
    """The body that `head` announces, its payload in `data`, which was read behind the head, and the bytes that follow the body.

    Raises Refusal: 413 when it announces more than `limit` bytes, 400 for what is wrong from the first bytes on.
    """
    length = head.content_length
    if head.chunked:
        chunked = ChunkedBody(limit)
        return (chunked, *chunked.take(data))
    if length > limit:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Request body too large")
    if length <= len(data):
        return _COMPLETE, data[:length], data[length:]
    body = FixedBody(length)
    return (body, *body.take(data))


class FixedBody:
    """Content-Length bytes, or none."""

    __slots__ = ("_missing", "complete")

    def __init__(self, length: int) -> None:
        self._missing = length
        self.complete: bool = length == 0

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        missing = self._missing
        if len(data) < missing:
            self._missing = missing - len(data)
            return data, b""
        self._missing = 0
        self.complete = True
        return data[:missing], data[missing:]


_COMPLETE = FixedBody(0)
"""For all requests whose body came with the head, as most do."""


class ChunkedBody:
    """`Transfer-Encoding: chunked`; extensions are ignored, trailers dropped."""

    __slots__ = ("_allowed", "_chunk", "_pending", "_state", "_trailers", "complete")

    def __init__(self, limit: int) -> None:
        self.complete: bool = False
        self._allowed = limit
        self._chunk = 0
        self._trailers = 0
        self._pending = b""
        self._state = self._read_size

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        payload: list[bytes] = []
        data = self._pending + data
        at: int | None = 0
        start = 0
        while at is not None and not self.complete:
            start = at
            at = self._state(data, start, payload)
        if at is None:
            self._pending = data[start:]
            return b"".join(payload), b""
        self._pending = b""
        return b"".join(payload), data[at:]

    def _line(self, data: bytes, at: int, limit: int) -> bytes | None:
        end = data.find(b"\r\n", at, at + limit + 2)
        if end >= 0:
            return data[at:end]
        # A bare LF is refused now: it would wait for a CR until the deadline.
        if len(data) - at > limit + 1 or b"\n" in data[at:]:
            raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid chunk")
        return None

    def _read_size(self, data: bytes, at: int, payload: list[bytes]) -> int | None:
        line = self._line(data, at, _LINE_BYTES)
        if line is None:
            return None
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid chunk size")
        self._chunk = int(size[1], 16)
        self._allowed -= self._chunk
        if self._allowed < 0:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Request body too large")
        self._state = self._read_data if self._chunk else self._read_trailers
        return at + len(line) + 2

    def _read_data(self, data: bytes, at: int, payload: list[bytes]) -> int | None:
        piece = data[at : at + self._chunk]
        if not piece:
            return None
        payload.append(piece)
        self._chunk -= len(piece)
        if not self._chunk:
            self._state = self._read_data_end
        return at + len(piece)

    def _read_data_end(self, data: bytes, at: int, payload: list[bytes]) -> int | None:
        end = data[at : at + 2]
        if end == b"\r\n":
            self._state = self._read_size
            return at + 2
        if not b"\r\n".startswith(end):
            raise Refusal(HTTPStatus.BAD_REQUEST, "Chunk longer than its size")
        return None

    def _read_trailers(self, data: bytes, at: int, payload: list[bytes]) -> int | None:
        line = self._line(data, at, _TRAILER_BYTES - self._trailers)
        if line is None:
            return None
        if not line:
            self.complete = True
        elif not _TRAILER.fullmatch(line):
            raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid trailer")
        self._trailers += len(line) + 2
        return at + len(line) + 2
