"""The headers that are relayed: of a request to the owner, and of its response to the client."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from trio_mcp.transports.http.exchange import CLIENT, HOP, NODE_HEADERS, WORKER
from trio_mcp.transports.request_head import RequestHead

__all__ = ["Fields", "SentHead", "request_head", "response_fields", "worker_header"]

Fields: TypeAlias = list[tuple[bytes, bytes]]

_NAME = re.compile(r"[A-Za-z0-9-]{1,63}")
_CONNECTION = b"connection"
_HOP_BY_HOP = frozenset(
    {_CONNECTION, b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""RFC 9110 §7.6.1; and Trailer, since trailers are not relayed."""
_NEVER_DROPPED = {b"host"}
"""A request without Host is invalid, so it stays even if a Connection header names it."""
_NOT_IN_REQUESTS = _HOP_BY_HOP | {b"content-length", b"expect"}
"""The whole body has been received: its expectation was met, and it is sent with a length of ours."""


def worker_header(worker: str) -> bytes:
    """The line that says which worker of a node is meant; empty for a node of one process."""
    return b"%b: %b\r\n" % (WORKER, worker.encode()) if _NAME.fullmatch(worker) else b""


class SentHead(msgspec.Struct, frozen=True):
    """A request's head as it goes to the owner, for all requests within a second whose heads are equal."""

    second: int
    """When it was signed."""
    session_id: str
    url: str
    """The owner's."""
    address: str | None
    """The client's, which it tells the owner; None where it does not."""
    before_length: bytes
    """All of it up to the value of Content-Length."""


def request_head(head: RequestHead, hop: bytes, worker: str = "", client: bytes = b"") -> bytes:
    """The head as it goes to the owner, up to the value of Content-Length, which comes last. `hop` is the signature.

    `worker` is which worker of its node is meant; `client` tells the client's address (`Hops.sign_client`), empty where that is not told.
    Raises ValueError when a header holds a line break.
    """
    return b"%b %b HTTP/1.1\r\n%b%b%b%b: %b\r\ncontent-length: " % (
        head.method.encode(),
        head.target,
        _lines(head),
        worker_header(worker) if worker else b"",
        b"%b: %b\r\n" % (CLIENT, client) if client else b"",
        HOP,
        hop,
    )


def _lines(head: RequestHead) -> bytes:
    fields = _end_to_end(head.fields, _NOT_IN_REQUESTS)
    lines = b"".join([b"%b: %b\r\n" % field for field in fields])
    # Our listener refuses such headers, other servers may not: the owner would read the rest as a second request.
    if not lines.count(b"\n") == lines.count(b"\r") == len(fields):
        raise ValueError("a request header holds a line break")
    # A client of HTTP/1.0 may send no Host; HTTP/1.1, which we send, requires it.
    return lines if b"host" in head.headers else lines + b"host: \r\n"


def response_fields(fields: Fields, names: Mapping[bytes, bytes]) -> Fields:
    """The headers of the owner's response as they go to the client. `names` has a key for each of them, in lower case."""
    if _HOP_BY_HOP.isdisjoint(names) and not any(map(_is_of_nodes, names)):
        return fields
    # Transfer-Encoding overrides Content-Length (RFC 9112 §6.3). The client gets no Transfer-Encoding, so it would believe a wrong length.
    return _end_to_end(fields, _HOP_BY_HOP | {b"content-length"} if b"transfer-encoding" in names else _HOP_BY_HOP)


def _is_of_nodes(name: bytes) -> bool:
    return name.startswith(NODE_HEADERS)


def _end_to_end(fields: Sequence[tuple[bytes, bytes]], dropped: frozenset[bytes]) -> Fields:
    for name, value in fields:
        if name == _CONNECTION:
            dropped |= {option.strip(b" \t") for option in value.lower().split(b",")} - _NEVER_DROPPED
    return [field for field in fields if field[0] not in dropped and not field[0].startswith(NODE_HEADERS)]
