"""What a JSON message too long to be taken still says at its top level: its id, and whether it wants an answer.

Bytes go in as they come and are not kept, except those of the outermost object; what is nested in it is left empty. So
`{"params":{"text":"…"},"id":7}` becomes `{"params":{},"id":7}`, which is read as JSON in the end.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from trio_mcp.protocol.jsonrpc import RequestId, is_request_id

__all__ = ["Outline"]

OUTLINE_BYTES = 16 * 1024
"""A message whose top level alone is larger is not read: methods and ids are short."""

_OUTSIDE_STRINGS = re.compile(rb'["{}\[\]]')
_INSIDE_STRINGS = re.compile(rb'["\\]')


class Outline:
    """Sans I/O: `feed` every byte of one message, then ask."""

    __slots__ = ("_depth", "_escaped", "_in_string", "_kept")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._kept = bytearray()

    def feed(self, data: bytes | bytearray) -> None:
        """The next bytes of the message."""
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
        """The id of the request that this is; None for anything else, or where it cannot be read."""
        message = self._read()
        return message["id"] if "method" in message and is_request_id(message.get("id")) else None

    def reply_id(self) -> RequestId | None:
        """The id of the request that this answers; None for anything else, or where it cannot be read."""
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
