"""The documents under well-known paths, and the answer to every request for one: Protected Resource Metadata (RFC 9728)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from trio_mcp.auth.challenge import Header
from trio_mcp.auth.resource import metadata_paths

__all__ = ["ISSUER_METADATA", "MetadataAnswer", "ResourceMetadata", "public_document"]

ISSUER_METADATA = "/.well-known/oauth-authorization-server"
"""Where clients of 2025-03-26 look for the authorization server of a server: at the root of its own host."""

_CORS = (b"access-control-allow-origin", b"*")
_DEFAULT_ALLOWED_HEADERS = b"MCP-Protocol-Version"
_PREFLIGHT_SECONDS = 86400
_CACHE_SECONDS = 3600
_HEADER_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")


@dataclass(frozen=True, slots=True)
class MetadataAnswer:
    """A whole HTTP answer; a HEAD request gets the headers alone."""

    status: int
    headers: tuple[Header, ...]
    body: bytes = b""


class ResourceMetadata:
    """The metadata of one resource, ready to be sent.

    The same bytes under every path, on every node, without a token, also while the node drains: a balancer may send the
    request anywhere.

    Args:
        resource: The URL of the server, byte for byte what clients are told to use: VS Code compares it exactly.
        authorization_servers: The issuers, as each writes its own name.
        scopes_supported: The least that is useful (MCP 2026-07-28 scope-selection); left out when empty.
        resource_name: For people.
        resource_documentation: A URL for people.
    """

    def __init__(
        self,
        resource: str,
        authorization_servers: Sequence[str],
        *,
        scopes_supported: Sequence[str] = (),
        resource_name: str = "",
        resource_documentation: str = "",
    ) -> None:
        document = {
            "resource": resource,
            "authorization_servers": [*authorization_servers],
            "scopes_supported": [*scopes_supported],
            "bearer_methods_supported": ["header"],
            "resource_name": resource_name,
            "resource_documentation": resource_documentation,
        }
        # RFC 9728 §3.2: parameters with zero values are left out.
        self.document: bytes = json.dumps({name: value for name, value in document.items() if value}).encode()
        """The JSON text."""
        self.paths: frozenset[str] = metadata_paths(resource)
        """Every path, percent-decoded, that it is served under."""

    def answer(self, method: str, requested_headers: bytes = b"") -> MetadataAnswer:
        """The answer to a request for one of `paths`, see `public_document`."""
        return public_document(self.document, method, requested_headers)


def public_document(document: bytes, method: str, requested_headers: bytes = b"") -> MetadataAnswer:
    """The answer to a request for a document (JSON text) under a well-known path.

    `requested_headers` is the value of `Access-Control-Request-Headers`. Browsers of any origin may read the document,
    since it holds nothing that is not public.
    """
    match method:
        case "GET" | "HEAD":
            return _whole(document, with_body=method == "GET")
        case "OPTIONS":
            return _preflight(requested_headers)
        case _:
            allow = (b"allow", b"GET, HEAD, OPTIONS")
            return MetadataAnswer(405, (allow, (b"content-length", b"0"), _CORS))


def _whole(document: bytes, *, with_body: bool) -> MetadataAnswer:
    headers = (
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(document)),
        (b"cache-control", b"public, max-age=%d" % _CACHE_SECONDS),
        _CORS,
    )
    return MetadataAnswer(200, headers, document if with_body else b"")


def _preflight(requested_headers: bytes) -> MetadataAnswer:
    echoed = requested_headers if _HEADER_NAMES.fullmatch(requested_headers) else _DEFAULT_ALLOWED_HEADERS
    headers = (
        _CORS,
        (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
        (b"access-control-allow-headers", echoed),
        (b"access-control-max-age", b"%d" % _PREFLIGHT_SECONDS),
    )
    return MetadataAnswer(204, headers)
