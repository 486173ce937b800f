"""Lines from a byte stream, none longer than a bound."""

from __future__ import annotations

import trio

from trio_mcp.transports.outline import Outline

__all__ = ["LineReader", "LineTooLong"]

_CHUNK = 64 * 1024


class LineTooLong(Exception):
    """A line exceeded the bound and was skipped; the next call continues behind it. `outline` is what it said in short."""

    def __init__(self, outline: Outline) -> None:
        super().__init__("a line exceeds the bound")
        self.outline = outline


class LineReader:
    """Reads `\\n`-terminated lines of at most `limit` bytes; blank ones are skipped."""

    def __init__(self, stream: trio.abc.ReceiveStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._buffer = bytearray()
        self._skipped: Outline | None = None
        self._ended = False

    async def next_line(self) -> bytes | None:
        """The next line without its end, None at the stream's end. Raises LineTooLong."""
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
