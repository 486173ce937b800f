"""Server-sent events, read as the WHATWG says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Event", "Events"]


@dataclass(slots=True)
class Event:
    """One event; `id` and `retry` are None when it set none."""

    data: str = ""
    id: str | None = None
    retry: float | None = None

    @property
    def message(self) -> dict[str, Any] | None:
        """The JSON-RPC message in it; None for an event without data."""
        return json.loads(self.data) if self.data else None


@dataclass(slots=True)
class Events:
    """Takes bytes as they come and gives events as they are complete."""

    _rest: bytes = b""
    comments: int = 0
    last_id: str | None = None
    retry: float | None = None
    _open: list[str] = field(default_factory=list)

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes; remembers the last id and the retry (seconds)."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = []
        for line in lines:
            text = line.decode().rstrip("\r")
            if text:
                self._open.append(text)
            elif self._open:
                found.append(self._event())
        return found

    def _event(self) -> Event:
        event, data = Event(), []
        for line in self._open:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "":
                    self.comments += 1
                case "data":
                    data.append(value)
                case "id":
                    event.id = self.last_id = value
                case "retry":
                    event.retry = self.retry = int(value) / 1000
        self._open.clear()
        event.data = "\n".join(data)
        return event
