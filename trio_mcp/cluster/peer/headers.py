"""What of a message's head a relay passes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from trio_mcp.transports.http.exchange import HOP, NODE_HEADERS, HttpExchange

__all__ = ["Fields", "request_bytes", "response_fields"]

Fields: TypeAlias = list[tuple[bytes, bytes]]

_CONNECTION = b"connection"
_HOP_BY_HOP = frozenset(
    {_CONNECTION, b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""RFC 9110 §7.6.1; and Trailer, for we drop those."""
_NEVER_DROPPED = {b"host"}
"""Without it there is no request, whatever its sender says of it."""
_NOT_IN_REQUESTS = _HOP_BY_HOP | {b"content-length", b"expect"}
"""The body is here already, as a whole: its expectation was met, its framing is ours."""


def request_bytes(exchange: HttpExchange, target: bytes, content: bytes, hop: bytes) -> bytes:
    """The request as it goes to the owner; raises ValueError for headers that would end early."""
    fields = _end_to_end(exchange.scope["headers"], _NOT_IN_REQUESTS)
    lines = b"".join([b"%b: %b\r\n" % field for field in fields])
    # Our listener lets none of these pass, but it is not the only server; at the owner it would be another request.
    if not lines.count(b"\n") == lines.count(b"\r") == len(fields):
        raise ValueError("a request header holds a line break")
    # HTTP/1.0 needs no Host, and what we speak does.
    host = b"" if b"host" in exchange.headers else b"host: \r\n"
    return b"%b %b HTTP/1.1\r\n%b%b%b: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        exchange.method.encode(),
        target,
        lines,
        host,
        HOP,
        hop,
        len(content),
        content,
    )


def response_fields(fields: Fields, names: Mapping[bytes, bytes]) -> Fields:
    """The headers of the owner's response as they go to the client. `names` has a key for each of them, in lower case."""
    if _HOP_BY_HOP.isdisjoint(names) and not any(map(_is_of_nodes, names)):
        return fields
    # A Content-Length beside Transfer-Encoding means nothing (RFC 9112 §6.3), and the client would believe it, for it gets no
    # Transfer-Encoding.
    return _end_to_end(fields, _HOP_BY_HOP | {b"content-length"} if b"transfer-encoding" in names else _HOP_BY_HOP)


def _is_of_nodes(name: bytes) -> bool:
    return name.startswith(NODE_HEADERS)


def _end_to_end(fields: Fields, dropped: frozenset[bytes]) -> Fields:
    for name, value in fields:
        if name == _CONNECTION:
            dropped |= {option.strip(b" \t") for option in value.lower().split(b",")} - _NEVER_DROPPED
    return [field for field in fields if field[0] not in dropped and not field[0].startswith(NODE_HEADERS)]
