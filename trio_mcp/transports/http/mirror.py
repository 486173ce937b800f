"""Headers mirror the body, for intermediaries: they must say the same (2026-07-28 streamable-http, SEP-2243)."""

from __future__ import annotations

from trio_mcp.features.param_headers import decode_sentinel, mismatch
from trio_mcp.features.registry import Registry
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


def check_param_headers(exchange: HttpExchange, request: Request, registry: Registry) -> None:
    """Raise -32020 unless every `x-mcp-header` argument of the tool stands in its `Mcp-Param-*` header."""
    name = request.params.get("name")
    tool = registry.tools.get(name) if isinstance(name, str) else None
    arguments = optional_param(request.params, "arguments", {})
    if tool is None or not tool.param_headers or not isinstance(arguments, dict):
        return
    fault = mismatch(lambda header: exchange.header_list(header.lower().encode()), arguments, tool.param_headers)
    if fault is not None:
        raise RemoteProtocolError(HEADER_MISMATCH, fault)


def _require(exchange: HttpExchange, name: bytes, label: str, expected: str, *, encoded: bool = False) -> None:
    if exchange.repeats(name):
        raise RemoteProtocolError(HEADER_MISMATCH, f"{label} comes more than once")
    value = exchange.header(name)
    if value is None:
        raise RemoteProtocolError(HEADER_MISMATCH, f"{label} is missing")
    if encoded:
        # Always: whoever routed by this header decoded it too, and must have seen what the body says.
        value = _decoded(value, label)
    if value != expected:
        raise RemoteProtocolError(HEADER_MISMATCH, f"{label} does not match the body")


def _decoded(value: str, label: str) -> str:
    try:
        return decode_sentinel(value)
    except ValueError as fault:
        raise RemoteProtocolError(HEADER_MISMATCH, f"{label} is not valid: {fault}") from None
