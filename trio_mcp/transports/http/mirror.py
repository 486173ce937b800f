"""Headers mirror the body, for intermediaries: they must say the same (2026-07-28 streamable-http, SEP-2243)."""

from __future__ import annotations

from trio_mcp.features.param_headers import SENTINEL, ParamHeader, decode_sentinel, mismatch
from trio_mcp.protocol.errors import HEADER_MISMATCH, RemoteProtocolError
from trio_mcp.protocol.jsonrpc import Request, optional_param
from trio_mcp.protocol.methods import METHODS
from trio_mcp.transports.http.request import HttpExchange

__all__ = ["check_mirrored", "check_param_headers"]


def check_mirrored(exchange: HttpExchange, request: Request, version: str) -> None:
    """Raise -32020 unless version, method and name stand in the headers as in the body."""
    _require(exchange, b"mcp-protocol-version", "MCP-Protocol-Version", version)
    _require(exchange, b"mcp-method", "Mcp-Method", request.method)
    method = METHODS.get(request.method)
    if method is not None and method.name_param is not None:
        name = request.params.get(method.name_param)
        # Where the body has no name to mirror, the params are wrong, and say so themselves later.
        if isinstance(name, str):
            _require(exchange, b"mcp-name", "Mcp-Name", name, encoded=True)


def check_param_headers(exchange: HttpExchange, request: Request, params: tuple[ParamHeader, ...]) -> None:
    """Raise -32020 unless every `x-mcp-header` argument of the tool stands in its `Mcp-Param-*` header."""
    arguments = optional_param(request.params, "arguments", {})
    if not isinstance(arguments, dict):
        return  # The tool's own checks say so.
    fault = mismatch(lambda header: exchange.header_list(header.lower().encode()), arguments, params)
    if fault is not None:
        raise RemoteProtocolError(HEADER_MISMATCH, fault)


def _require(exchange: HttpExchange, name: bytes, label: str, expected: str, *, encoded: bool = False) -> None:
    if name in exchange.repeated:
        raise RemoteProtocolError(HEADER_MISMATCH, f"{label} comes more than once")
    raw = exchange.headers.get(name)
    if raw is None:
        raise RemoteProtocolError(HEADER_MISMATCH, f"{label} is missing")
    value = raw.strip(b" \t").decode("latin-1")
    if encoded and value.startswith(SENTINEL):
        # Always: whoever routed by this header decoded it too, and must have seen what the body says.
        value = _decoded(value, label)
    if value != expected:
        raise RemoteProtocolError(HEADER_MISMATCH, f"{label} does not match the body")


def _decoded(value: str, label: str) -> str:
    try:
        return decode_sentinel(value)
    except ValueError as fault:
        raise RemoteProtocolError(HEADER_MISMATCH, f"{label} is not valid: {fault}") from None
