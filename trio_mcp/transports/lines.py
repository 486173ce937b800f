"""Lines from a byte stream, none longer than a bound."""

from __future__ import annotations

import trio

__all__ = ["LineReader", "LineTooLong"]

_CHUNK = 64 * 1024


class LineTooLong(Exception):
    """A line exceeds the bound; the next call continues behind it."""


class LineReader:
    """Reads `\\n`-terminated lines of at most `limit` bytes; blank ones are skipped."""

    def __init__(self, stream: trio.abc.ReceiveStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._buffer = bytearray()
        self._skipping = False
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
            if self._skipping:
                self._skipping = False
            elif len(line) > self._limit:
                raise LineTooLong
            elif line.strip():
                return line
        return None

    async def _fill(self) -> None:
        chunk = await self._stream.receive_some(_CHUNK)
        if not chunk:
            self._ended = True
            chunk = b"\n"
        if self._skipping and b"\n" not in chunk:
            return
        self._buffer += chunk
        if len(self._buffer) > self._limit and b"\n" not in self._buffer:
            self._buffer.clear()
            self._skipping = True
            raise LineTooLong
