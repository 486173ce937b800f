"""Where to log in for a server: its metadata (RFC 9728), and that of its authorization server (RFC 8414); nothing is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from trio_mcp.auth.challenge_reader import BearerChallenge
from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.jws import json_object
from trio_mcp.auth.resource import WELL_KNOWN, check_url, covers, metadata_url
from trio_mcp.protocol.errors import McpError

__all__ = [
    "AuthorizationServer",
    "LoginError",
    "ProtectedResource",
    "places_of_metadata",
    "read_authorization_server",
    "read_protected_resource",
    "scopes_to_ask_for",
]


class LoginError(McpError):
    """A login that cannot be done; the text says why, and what to change."""


@dataclass(frozen=True, slots=True)
class ProtectedResource:
    """What a server says about its authorization."""

    resource: str
    issuers: tuple[str, ...]
    scopes: tuple[str, ...] = ()

    def issuer(self, wanted: str | None) -> str:
        """The issuer to log in at: the one that is `wanted`, else the first. Raises LoginError for one it does not name."""
        if wanted is None:
            return self.issuers[0]
        if wanted not in self.issuers:
            raise LoginError(f"{self.resource} takes no tokens of {wanted}. It names: {', '.join(self.issuers)}")
        return wanted


@dataclass(frozen=True, slots=True)
class AuthorizationServer:
    """What is used of an authorization server's metadata. An endpoint that it has not is ""."""

    issuer: str
    token_endpoint: str
    authorization_endpoint: str = ""
    registration_endpoint: str = ""
    revocation_endpoint: str = ""
    scopes: tuple[str, ...] = ()
    challenge_methods: tuple[str, ...] = ()
    token_auth_methods: tuple[str, ...] = ("client_secret_basic",)
    """RFC 8414 §2: this is the default."""
    takes_metadata_urls: bool = False
    """Whether the URL of a document may serve as a client's id."""
    names_itself: bool = False
    """Whether each of its answers to an authorization request has `iss` (RFC 9207)."""


def places_of_metadata(url: str, challenge: BearerChallenge | None) -> tuple[str, ...]:
    """The URLs where the metadata of the server at `url` may be, best first.

    What the challenge names counts only on the server's own origin: a server must not choose whom this command asks.
    """
    parts = urlsplit(url)
    named = challenge.resource_metadata if challenge is not None else ""
    places = [named] if named and _origin(named) == _origin(url) else []
    places += [metadata_url(url.partition("?")[0]), f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}"]
    return tuple(dict.fromkeys(places))


def read_protected_resource(body: bytes, url: str) -> ProtectedResource:
    """What a metadata document says; raises LoginError for one that is none, or is not of the server at `url`."""
    document = _document(body, f"the authorization metadata of {url}")
    resource = _text(document, "resource")
    issuers = _texts(document, "authorization_servers")
    if not resource or not issuers:
        raise LoginError(f"the authorization metadata of {url} names no resource, or no authorization server")
    if not covers(resource, url):
        raise LoginError(
            f"the metadata is that of {resource!r}, not of {url}: tokens for it would not be for this server. "
            "The server's TRIO_MCP_AUTH_RESOURCE must be the URL that clients use"
        )
    return ProtectedResource(resource, issuers, _texts(document, "scopes_supported"))


def read_authorization_server(body: bytes, issuer: str) -> AuthorizationServer:
    """What a metadata document says, if it is the one of `issuer` (RFC 8414 §3.3: identical). Raises LoginError."""
    document = _document(body, f"the metadata of {issuer}")
    named = document.get("issuer")
    if named != issuer:
        raise LoginError(
            f"the server names the issuer {issuer!r}, whose metadata says {str(named)[:256]!r}: they must be equal"
        )
    endpoints = {name: _endpoint(document, name, issuer) for name in _ENDPOINTS}
    if not endpoints["token_endpoint"]:
        raise LoginError(f"the metadata of {issuer} has no token_endpoint")
    return AuthorizationServer(
        issuer,
        **endpoints,
        scopes=_texts(document, "scopes_supported"),
        challenge_methods=_texts(document, "code_challenge_methods_supported"),
        token_auth_methods=_texts(document, "token_endpoint_auth_methods_supported") or ("client_secret_basic",),
        takes_metadata_urls=document.get("client_id_metadata_document_supported") is True,
        names_itself=document.get("authorization_response_iss_parameter_supported") is True,
    )


_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "registration_endpoint", "revocation_endpoint")


def scopes_to_ask_for(
    given: str | None, challenge: BearerChallenge | None, resource: ProtectedResource, server: AuthorizationServer
) -> tuple[str, ...]:
    """Those on the command line; else those of the challenge, else of the resource (MCP 2025-11-25 scope-selection-strategy).

    `offline_access` is added where the authorization server knows it and none were given: without it some give no refresh
    token (MCP 2026-07-28 refresh-tokens).
    """
    if given is not None:
        return tuple(dict.fromkeys(given.replace(",", " ").split()))
    scopes = (challenge.scopes if challenge is not None else ()) or resource.scopes
    offline = ("offline_access",) if "offline_access" in server.scopes else ()
    return tuple(dict.fromkeys((*scopes, *offline)))


def _document(body: bytes, what: str) -> Mapping[str, Any]:
    document = json_object(body)
    if document is None:
        raise LoginError(f"{what} is not a JSON object")
    return document


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def _texts(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = document.get(name)
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def _endpoint(document: Mapping[str, Any], name: str, issuer: str) -> str:
    url = _text(document, name)
    if not url:
        return ""
    if issuer.startswith("https:") and not url.startswith("https:"):
        raise LoginError(f"the {name} of {issuer} is {url[:256]!r}, which is not https")
    try:
        return check_url(url, name)
    except AuthConfigurationError as error:
        raise LoginError(str(error)) from error


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()
