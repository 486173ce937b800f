"""Headers that repeat what the body says, for proxies to route by. They must agree (2026-07-28 streamable-http, SEP-2243)."""

from __future__ import annotations

from trio_mcp.features.param_headers import SENTINEL, ParamHeader, decode_sentinel, mismatch
from trio_mcp.protocol.errors import HEADER_MISMATCH, RemoteProtocolError
from trio_mcp.protocol.jsonrpc import Request, optional_param
from trio_mcp.protocol.methods import Method
from trio_mcp.transports.http.exchange import HttpExchange

__all__ = ["check_mirrored", "check_param_headers"]


def check_mirrored(exchange: HttpExchange, request: Request, version: str, method: Method | None) -> None:
    """Raise -32020 unless the headers name the same version, method, and tool, resource or prompt as the body.

    `method` is what is known of the method, None for nothing.
    """
    name = None if method is None or method.name_param is None else request.params.get(method.name_param)
    # A body without a name has wrong params, which are refused later.
    said = version, request.method, name if isinstance(name, str) else None
    if said != exchange.head.mirrored:
        _require_all(exchange, *said)
        exchange.head.mirrored = said


def _require_all(exchange: HttpExchange, version: str, method: str, name: str | None) -> None:
    _require(exchange, b"mcp-protocol-version", "MCP-Protocol-Version", version)
    _require(exchange, b"mcp-method", "Mcp-Method", method)
    if name is not None:
        _require(exchange, b"mcp-name", "Mcp-Name", name, encoded=True)


def check_param_headers(exchange: HttpExchange, request: Request, params: tuple[ParamHeader, ...]) -> None:
    """Raise -32020 unless the `Mcp-Param-*` headers repeat the arguments that the tool's schema marks with `x-mcp-header`."""
    arguments = optional_param(request.params, "arguments", {})
    if not isinstance(arguments, dict):
        return  # Wrong params, which are refused later.
    fault = mismatch(lambda header: exchange.header_list(header.lower().encode()), arguments, params)
    if fault is not None:
        raise RemoteProtocolError(HEADER_MISMATCH, fault)


def _require(exchange: HttpExchange, name: bytes, label: str, expected: str, *, encoded: bool = False) -> None:
    if name in exchange.head.repeated:
        raise RemoteProtocolError(HEADER_MISMATCH, f"{label} comes more than once")
    raw = exchange.head.headers.get(name)
    if raw is None:
        raise RemoteProtocolError(HEADER_MISMATCH, f"{label} is missing")
    value = raw.strip(b" \t").decode("latin-1")
    if encoded and value.startswith(SENTINEL):
        # Decoded also where the body has the same text: a proxy that routed by this header has decoded it.
        value = _decoded(value, label)
    if value != expected:
        raise RemoteProtocolError(HEADER_MISMATCH, f"{label} does not match the body")


def _decoded(value: str, label: str) -> str:
    try:
        return decode_sentinel(value)
    except ValueError as fault:
        raise RemoteProtocolError(HEADER_MISMATCH, f"{label} is not valid: {fault}") from None
