"""Lines to and from a byte stream. Of a line that is longer than a bound only the `Outline` is kept, so that it can be answered.

That is the outermost object; what is nested in it is left empty. So `{"params":{"text":"…"},"id":7}` becomes `{"params":{},"id":7}`,
which is read as JSON in the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from trio_mcp.protocol.jsonrpc import RequestId, is_request_id

__all__ = ["OUTLINE_BYTES", "LineReader", "LineTooLong", "Outline", "write_line"]

_CHUNK = 64 * 1024

OUTLINE_BYTES = 16 * 1024
"""A message whose outermost object alone is larger has no outline: methods and ids are short."""

PIECE_BYTES = 16 * 1024
"""Written at once. The write deadline is for each piece, so that a slow reader that makes progress is not given up."""

_OUTSIDE_STRINGS = re.compile(rb'["{}\[\]]')
_INSIDE_STRINGS = re.compile(rb'["\\]')


class LineTooLong(Exception):
    """A line exceeded the bound and was skipped; the next call of `next_line` continues behind it."""

    def __init__(self, outline: Outline) -> None:
        super().__init__("a line exceeds the bound")
        self.outline = outline


class LineReader:
    """Reads `\\n`-terminated lines of at most `limit` bytes; blank lines are skipped."""

    def __init__(self, stream: trio.abc.ReceiveStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._buffer = bytearray()
        self._skipped: Outline | None = None
        self._ended = False

    async def next_line(self) -> bytes | None:
        """The next line without its end; None at the end of the stream. Raises LineTooLong."""
        while True:
            line = self._take_line()
            if line is not None:
                return line
            if self._ended:
                return None
            await self._fill()

    def _take_line(self) -> bytes | None:
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if self._skipped is not None or len(line) > self._limit:
                outline, self._skipped = self._skipped or Outline(), None
                outline.feed(line)
                raise LineTooLong(outline)
            if line.strip():
                return line
        return None

    async def _fill(self) -> None:
        chunk = await self._stream.receive_some(_CHUNK)
        if not chunk:
            self._ended = True
            chunk = b"\n"
        self._buffer += chunk
        if b"\n" in chunk or (self._skipped is None and len(self._buffer) <= self._limit):
            return
        self._skipped = self._skipped or Outline()
        self._skipped.feed(self._buffer)
        self._buffer.clear()


async def write_line(stream: trio.abc.SendStream, seconds: float, line: bytes, moved: Callable[[], None]) -> None:
    """Write a line and its end, each piece within `seconds`; `moved` is called when a piece is through.

    Raises TooSlowError, and BrokenResourceError when nobody reads any more.
    """
    for at in range(0, len(line), PIECE_BYTES):
        piece = line[at : at + PIECE_BYTES]
        with trio.fail_after(seconds):
            await stream.send_all(piece if at + PIECE_BYTES < len(line) else piece + b"\n")
        moved()


class Outline:
    """The id of one message, and whether it is a request: `feed` it all the bytes first. Sans I/O."""

    __slots__ = ("_depth", "_escaped", "_in_string", "_kept")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._kept = bytearray()

    def feed(self, data: bytes | bytearray) -> None:
        """Take the next bytes of the message."""
        at = 0
        while at < len(data) and len(self._kept) <= OUTLINE_BYTES:
            if self._escaped:
                self._escaped = False
                self._keep(data[at : at + 1])
                at += 1
                continue
            found = (_INSIDE_STRINGS if self._in_string else _OUTSIDE_STRINGS).search(data, at)
            end = len(data) if found is None else found.start()
            self._keep(data[at:end])
            if found is not None:
                self._mark(found[0])
            at = end + 1

    def request_id(self) -> RequestId | None:
        """The id, if the message is a request; None for anything else, or where it cannot be read."""
        message = self._read()
        return message["id"] if "method" in message and is_request_id(message.get("id")) else None

    def reply_id(self) -> RequestId | None:
        """The id of the request that the message answers; None for anything else, or where it cannot be read."""
        message = self._read()
        answers = "method" not in message and ("result" in message or "error" in message)
        return message["id"] if answers and is_request_id(message.get("id")) else None

    def _mark(self, mark: bytes) -> None:
        if mark == b'"':
            self._in_string = not self._in_string
        elif mark == b"\\":
            self._escaped = True
        elif mark in b"{[":
            self._depth += 1
            if self._depth == 2:
                self._kept += mark
        elif mark in b"}]":
            self._depth -= 1
            if self._depth == 1:
                self._kept += mark
            return self._keep(mark) if self._depth == 0 else None
        if self._depth == 1:
            self._kept += mark

    def _keep(self, data: bytes | bytearray) -> None:
        if self._depth <= 1:
            self._kept += data[: OUTLINE_BYTES + 1]

    def _read(self) -> dict[str, Any]:
        if len(self._kept) > OUTLINE_BYTES:
            return {}
        try:
            message = msgspec.json.decode(bytes(self._kept))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}
        return message if isinstance(message, dict) else {}
