"""The URL that names this server as a protected resource: its form, the audiences that mean it, where its metadata is."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from trio_mcp.auth.errors import AuthConfigurationError

__all__ = [
    "WELL_KNOWN",
    "audience_key",
    "check_audiences",
    "check_url",
    "covers",
    "is_loopback",
    "matching_audience",
    "metadata_paths",
    "metadata_url",
]

WELL_KNOWN = "/.well-known/oauth-protected-resource"
"""Where RFC 9728 §3 puts the metadata; the path of the resource comes after it."""

_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)", re.DOTALL)
_PRINTABLE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""Of a URL in a header: no space, quote, backslash or control character."""


def check_url(url: str, what: str) -> str:
    """`url` as it is, when it may name a resource or an issuer: absolute, https (http on loopback), no user, no fragment.

    `what` names the setting in the error. The string is never rewritten: clients compare it byte for byte.

    Raises AuthConfigurationError.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises when it is not a port
    except ValueError as error:
        raise AuthConfigurationError(f"{what} is not a URL: {url!r}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not _PRINTABLE.fullmatch(url):
        raise AuthConfigurationError(f"{what} must be an absolute URL, beginning with https://, not {url!r}")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise AuthConfigurationError(f"{what} must begin with https:// unless its host is loopback: {url!r}")
    if "@" in parts.netloc:
        raise AuthConfigurationError(f"{what} must not contain a user or password")
    if "#" in url:
        raise AuthConfigurationError(f"{what} must not contain a fragment (#): {url!r}")
    return url


def covers(resource: str, url: str) -> bool:
    """Whether tokens for `resource` are for the server at `url`: the same URL, or one below it on the same origin."""
    own, asked = audience_key(resource), audience_key(url.partition("?")[0])
    return asked == own or asked.startswith(f"{own}/")


def check_audiences(audience: str | Iterable[str] | None) -> tuple[str, ...]:
    """The accepted audiences; none where they are to be those of the resource. Raises AuthConfigurationError for empty ones."""
    if audience is None:
        return ()
    found = (audience,) if isinstance(audience, str) else tuple(audience)
    if not found or not all(found):
        raise AuthConfigurationError(
            "audience is empty: set it to who the tokens are for, or leave it out for the resource"
        )
    return found


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine: `localhost`, or an address of 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def audience_key(audience: str) -> str:
    """What is compared of an audience: of a URL, scheme and host in lower case and without one trailing slash.

    MCP 2025-06-18 canonical-server-uri: "implementations SHOULD accept uppercase scheme and host components". What is not a
    URL, such as the id of a client, is compared as it is.
    """
    origin = _ORIGIN.match(audience)
    if origin is None:
        return audience
    return origin[0].lower() + audience[origin.end() :].removesuffix("/")


def matching_audience(claimed: object, accepted: Iterable[str]) -> str | None:
    """The accepted audience that an `aud` claim names, as it was configured; None when it names none of them.

    The claim is a string or a list of strings (RFC 7519 §4.1.3); anything else names nobody.
    """
    names = [claimed] if isinstance(claimed, str) else claimed
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    claimed_keys = {audience_key(name) for name in names}
    return next((each for each in accepted if audience_key(each) in claimed_keys), None)


def metadata_url(resource: str) -> str:
    """The absolute URL of the metadata: the well-known path put between host and path of the resource (RFC 9728 §3.1)."""
    origin, path, query = _split(resource)
    return f"{origin}{WELL_KNOWN}{'' if path == '/' else path}{query}"


def metadata_paths(resource: str) -> frozenset[str]:
    """Every path, percent-decoded, under which the metadata is served: root form, and path form with and without slash."""
    path = unquote(_split(resource)[1]).rstrip("/")
    forms = {WELL_KNOWN, WELL_KNOWN + path}
    return frozenset(forms | {f"{form}/" for form in forms})


def _split(resource: str) -> tuple[str, str, str]:
    origin = _ORIGIN.match(resource)
    if origin is None:
        raise ValueError(f"not an absolute URL: {resource!r}")
    path, question, query = resource[origin.end() :].partition("?")
    return origin[0], path, question + query
