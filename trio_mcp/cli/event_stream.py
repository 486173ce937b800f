"""Server-sent events, read: bytes in, events out (WHATWG HTML §9.2.6)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EventReader", "ServerSentEvent"]


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One dispatched event; `id` is the last id the stream has named so far."""

    data: str
    id: str | None


class EventReader:
    """Feed it bytes as they come; `retry` is the stream's own reconnection time in milliseconds, once it named one."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.retry: int | None = None
        self._pending = b""
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events these bytes completed."""
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
    """Split at CR LF, LF or CR; a CR at the very end waits, its LF may be in the next bytes."""
    held = data.endswith(b"\r")
    lines = (data[:-1] if held else data).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    if held:
        lines[-1] += b"\r"
    return lines
