"""Finding the keys of an issuer: its metadata document, where it may be, and what of it is believed (RFC 8414, OIDC Discovery)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from trio_mcp.auth.errors import AuthConfigurationError, FetchError
from trio_mcp.auth.fetching import Fetch, Response, fetch_within
from trio_mcp.auth.jws import json_object
from trio_mcp.auth.resource import check_url

__all__ = ["IssuerMetadata", "discover", "metadata_urls", "read_issuer_metadata"]


@dataclass(frozen=True, slots=True)
class IssuerMetadata:
    """What is used of the document."""

    issuer: str
    jwks_uri: str
    document: bytes
    """The whole document, for `legacy_metadata`."""


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Where the document of an issuer may be, in the order of MCP 2026-07-28 authorization-server-metadata-discovery."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    if not path:
        return (f"{origin}/.well-known/oauth-authorization-server", f"{origin}/.well-known/openid-configuration")
    return (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}/.well-known/openid-configuration{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    )


async def discover(fetch: Fetch, issuer: str) -> IssuerMetadata:
    """The metadata of `issuer`, from the first of its URLs that answers 200.

    Raises FetchError when none does, and AuthConfigurationError when the document contradicts the configuration.
    """
    answers = []
    for url in metadata_urls(issuer):
        response = await fetch_within(fetch, "GET", url, [("Accept", "application/json")])
        if response.status == 200:
            return read_issuer_metadata(response, issuer)
        answers.append(f"{response.status} for {url}")
    raise FetchError(f"no metadata of the issuer {issuer}: {', '.join(answers)}")


def read_issuer_metadata(response: Response, issuer: str) -> IssuerMetadata:
    """What a document says, if it is the one of `issuer`.

    Raises FetchError for what is no such document, AuthConfigurationError for one of another issuer (RFC 8414 §3.3: the
    values MUST be identical) and for keys that would be fetched without TLS.
    """
    document = json_object(response.body)
    if document is None:
        raise FetchError(f"the metadata of the issuer {issuer} is not a JSON object")
    named, jwks_uri = document.get("issuer"), document.get("jwks_uri")
    if named != issuer:
        raise AuthConfigurationError(
            f"the issuer is configured as {issuer!r}, but its metadata says {str(named)[:256]!r}: set the issuer to exactly that"
        )
    if not isinstance(jwks_uri, str):
        raise FetchError(f"the metadata of the issuer {issuer} has no jwks_uri")
    if issuer.startswith("https:") and not jwks_uri.startswith("https:"):
        raise AuthConfigurationError(f"the issuer {issuer} has its keys at {jwks_uri[:256]!r}, which is not https")
    return IssuerMetadata(issuer, check_url(jwks_uri, "jwks_uri"), response.body)
