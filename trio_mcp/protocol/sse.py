"""Server-sent events, as much as MCP uses (WHATWG HTML §9.2): events, ids, `retry:` and comments."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["COMMENT", "event", "event_pieces", "priming", "retry"]

COMMENT = b": \n\n"
"""Moves bytes without meaning: opens the stream for proxies that wait for the first one, and keeps it open."""


def event(data: bytes, id: str | None = None) -> bytes:
    """One message; `data` is one line of JSON."""
    if id is None:
        return b"event: message\ndata: " + data + b"\n\n"
    return b"id: " + id.encode() + b"\nevent: message\ndata: " + data + b"\n\n"


def event_pieces(data: bytes, id: str | None, size: int) -> Iterator[bytes]:
    """The same in pieces of about `size` bytes, so that a large message is not copied whole."""
    before = event(b"", id)[:-2]
    for at in range(0, len(data), size):
        end = b"\n\n" if at + size >= len(data) else b""
        yield b"".join((before, data[at : at + size], end))
        before = b""


def priming(id: str, milliseconds: int) -> bytes:
    """An id to resume from before anything was said (2025-11-25 transports; older clients choke on empty data)."""
    return b"id: %b\nretry: %d\ndata: \n\n" % (id.encode(), milliseconds)


def retry(milliseconds: int) -> bytes:
    """How long the client is to wait before it comes back; takes effect without an event."""
    return b"retry: %d\n\n" % milliseconds
