"""Server-sent events, as much as MCP uses (WHATWG HTML §9.2): written by servers, read by the command line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["COMMENT", "EventReader", "ServerSentEvent", "event", "event_pieces", "priming", "retry"]

COMMENT = b": \n\n"
"""Bytes without meaning, for proxies: some wait for a stream's first byte, and close streams that are silent."""


def event(data: bytes, id: str | None = None) -> bytes:
    """One message; `data` is one line of JSON."""
    if id is None:
        return b"event: message\ndata: " + data + b"\n\n"
    return b"id: " + id.encode() + b"\nevent: message\ndata: " + data + b"\n\n"


def event_pieces(data: bytes, id: str | None, size: int) -> Iterator[bytes]:
    """One event (see `event`) in pieces of about `size` bytes, so that a large message is not copied whole."""
    before = event(b"", id)[:-2]
    for at in range(0, len(data), size):
        end = b"\n\n" if at + size >= len(data) else b""
        yield b"".join((before, data[at : at + size], end))
        before = b""


def priming(id: str, milliseconds: int) -> bytes:
    """An id to resume from before the first message (2025-11-25 transports; older clients fail on empty data)."""
    return b"id: %b\nretry: %d\ndata: \n\n" % (id.encode(), milliseconds)


def retry(milliseconds: int) -> bytes:
    """How long the client is to wait before it reconnects; it needs no event to take effect."""
    return b"retry: %d\n\n" % milliseconds


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event; `id` is the last id that the stream has set so far."""

    data: str
    id: str | None


class EventReader:
    """Takes the bytes of a stream as they come; `retry` is its reconnection time in milliseconds, None until it set one."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.retry: int | None = None
        self._pending = b""
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that these bytes complete."""
        *lines, self._pending = _lines(self._pending + data)
        return [event for line in lines if (event := self._line(line.decode("utf-8", "replace"))) is not None]

    def _line(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self.last_id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry = int(value)
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        data, self._data = "\n".join(self._data), []
        return ServerSentEvent(data, self.last_id) if data else None


def _lines(data: bytes) -> list[bytes]:
    """Split at CR LF, LF or CR. A CR at the very end is kept for later: its LF may be in the next bytes."""
    held = data.endswith(b"\r")
    lines = (data[:-1] if held else data).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    if held:
        lines[-1] += b"\r"
    return lines
