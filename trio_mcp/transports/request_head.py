"""What an endpoint knows of a request before its body: found in the head once, and shared by all requests with an equal head."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

__all__ = ["HeaderList", "Passed", "RequestHead", "with_length"]

HeaderList: TypeAlias = list[tuple[bytes, bytes]]
"""Lower-case names and values, as ASGI has them."""

_LENGTH = b"content-length"


class Passed(msgspec.Struct, frozen=True):
    """That the gate lets requests with this head in, as far as the head alone decides it."""

    rules: object
    """The rules it was decided by: under others it means nothing."""
    cors: HeaderList
    """Headers that every response gets: they let a page of an allowed Origin read it. Empty for other clients."""
    takes_json: bool
    """Whether `Accept` allows application/json."""
    takes_sse: bool
    """Whether `Accept` allows text/event-stream."""


class RequestHead(msgspec.Struct, eq=False):
    """The facts. Nothing of it changes but what is kept in `passed`, `caller`, `mirrored` and `relayed`."""

    method: str
    path: str
    """Decoded."""
    target: bytes
    """The path as it was sent, with its query."""
    fields: Sequence[tuple[bytes, bytes]]
    """All headers in their order, without those between nodes."""
    headers: MappingProxyType[bytes, bytes]
    """By lower-case name; of one that is repeated the last. Read-only."""
    repeated: frozenset[bytes]
    """The names of headers that come more than once."""
    session_id: str | None
    """What `Mcp-Session-Id` says; None where it is left out or empty."""
    version: str | None
    """What `MCP-Protocol-Version` says; None where it is left out or empty."""
    hop: bytes | None = None
    """The hop header of a request that a peer has relayed, not verified; it is not among `headers`."""
    worker: bytes = b""
    """Which worker of this node that peer means; empty where it does not say."""
    client: bytes = b""
    """The client's address as that peer tells it, not verified; empty where it does not."""
    caller: object = None
    """What whoever judges callers has kept with it, to judge the next request with this head sooner; None for nothing."""
    passed: Passed | None = None
    """The gate's decision, kept for the next request with this head; None until there is one, and where it is a refusal."""
    mirrored: tuple[str, str, str | None] | None = None
    """Version, method and name of the last body that its headers agreed with, kept likewise (2026-07-28)."""
    relayed: object = None
    """The head as other nodes get it, kept likewise by whoever relays; None until a request is sent there."""

    def with_content_length(self, length: bytes, fields: Sequence[tuple[bytes, bytes]] | None = None) -> RequestHead:
        """The head of a request that differs in its one Content-Length alone; `fields` with that length, where they are there already."""
        if fields is None:
            fields = with_length(self.fields, length)
        # `{**a, …}` would ask a read-only mapping for its keys one by one.
        return replace(self, fields=fields, headers=MappingProxyType(self.headers | {_LENGTH: length}))


def with_length(fields: Sequence[tuple[bytes, bytes]], length: bytes) -> HeaderList:
    """The same headers with another Content-Length in its place."""
    return [field if field[0] != _LENGTH else (_LENGTH, length) for field in fields]
