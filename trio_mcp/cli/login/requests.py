"""What is sent to an authorization server, and what its answers mean: OAuth 2.1 with PKCE, RFC 7591, 8707, 9207. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode

from trio_mcp.auth.jws import json_object
from trio_mcp.cli.login.discovery import AuthorizationServer, LoginError

__all__ = [
    "Client",
    "Tokens",
    "authorization_url",
    "challenge_of",
    "choose_registration",
    "read_callback",
    "read_registration",
    "read_tokens",
    "registration_document",
    "token_request",
]

Form = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Client:
    """This command, as an authorization server knows it."""

    client_id: str
    client_secret: str = field(default="", repr=False)
    """Empty for a public client."""
    auth_method: str = "none"
    """How the token endpoint is shown the secret."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a token endpoint has granted."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False, default="")
    expires_in: float | None = None
    """In seconds."""
    scopes: tuple[str, ...] = ()


def choose_registration(
    server: AuthorizationServer, *, client_id: str | None, client_secret: str, metadata_url: str | None
) -> Client | None:
    """The client to be: a registered one, else one whose id is the URL of a document; None to register now.

    The order is that of MCP 2025-11-25 client-registration-approaches. Raises LoginError when nothing of it is possible.
    """
    if client_id is not None:
        return Client(client_id, client_secret, _auth_method(server, client_secret))
    if metadata_url is not None and server.takes_metadata_urls:
        return Client(metadata_url)
    if server.registration_endpoint:
        return None
    step = "" if metadata_url is None else ", and takes no metadata URL for one"
    raise LoginError(
        f"{server.issuer} registers no clients by itself{step}: register one there, and name it with --client-id"
    )


def _auth_method(server: AuthorizationServer, secret: str) -> str:
    if not secret:
        return "none"
    known = [each for each in ("client_secret_basic", "client_secret_post") if each in server.token_auth_methods]
    return known[0] if known else "client_secret_basic"


def registration_document(redirect_uri: str, scopes: Sequence[str]) -> dict[str, Any]:
    """The body of a registration (RFC 7591): a native application (RFC 8252) that can keep no secret."""
    document = {
        "client_name": "trio-mcp",
        "application_type": "native",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    }
    return {**document, "scope": " ".join(scopes)} if scopes else document


def read_registration(status: int, body: bytes) -> Client:
    """The client that was registered; raises LoginError."""
    answer = json_object(body) or {}
    client_id, secret = answer.get("client_id"), answer.get("client_secret", "")
    if status not in (200, 201) or not isinstance(client_id, str) or not isinstance(secret, str):
        raise LoginError(
            f"the authorization server registered no client: {_why(status, answer)}. "
            "Name one that is registered with --client-id"
        )
    method = answer.get("token_endpoint_auth_method", "client_secret_basic" if secret else "none")
    return Client(client_id, secret if method != "none" else "", str(method))


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636 §4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def authorization_url(
    server: AuthorizationServer,
    client: Client,
    *,
    redirect_uri: str,
    resource: str,
    scopes: Sequence[str],
    state: str,
    verifier: str,
) -> str:
    """Where the person logs in. Raises LoginError for a server without PKCE: MCP clients must refuse it."""
    if not server.authorization_endpoint:
        raise LoginError(f"{server.issuer} has no page to log in at: use --client-credentials")
    if "S256" not in server.challenge_methods:
        raise LoginError(f"{server.issuer} does not offer PKCE with S256, without which a login is not safe")
    query = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(scopes),
        "state": state,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
        "resource": resource,
        # OpenID Connect §11: without it there is no offline access.
        "prompt": "consent" if "offline_access" in scopes else "",
    }
    joint = "&" if "?" in server.authorization_endpoint else "?"
    return server.authorization_endpoint + joint + urlencode({key: value for key, value in query.items() if value})


def read_callback(query: str, server: AuthorizationServer, state: str) -> str | None:
    """The code that came with a redirect; None for a request that is not the answer to ours.

    Raises LoginError for a refusal, and for an answer of another authorization server (RFC 9207 §2.4).
    """
    answer = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items() if len(values) == 1}
    if answer.get("state") != state:
        return None
    issuer = answer.get("iss")
    if issuer is None and server.names_itself:
        raise LoginError(f"an answer came that does not say who gave it, though {server.issuer} always says so")
    if issuer is not None and issuer != server.issuer:
        raise LoginError(f"the answer is from {issuer[:256]!r}, not from {server.issuer}")
    if "error" in answer:
        raise LoginError(f"{server.issuer} refused: {_described(answer)}")
    if "code" not in answer:
        raise LoginError(f"{server.issuer} answered without a code")
    return answer["code"]


def token_request(client: Client, fields: Mapping[str, str]) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of a POST to the token endpoint. A field that is empty is left out."""
    form = {name: value for name, value in fields.items() if value}
    headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json")]
    match client.auth_method:
        case "client_secret_basic":
            # RFC 6749 §2.3.1: both are form-encoded first.
            pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
            headers.append(("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}"))
        case "client_secret_post":
            form |= {"client_id": client.client_id, "client_secret": client.client_secret}
        case _:
            form["client_id"] = client.client_id
    return headers, urlencode(form).encode()


def read_tokens(status: int, body: bytes, asked: Sequence[str]) -> Tokens:
    """What was granted; the scopes are those `asked` for, unless the answer says otherwise (RFC 6749 §5.1). Raises LoginError."""
    answer = json_object(body) or {}
    token = answer.get("access_token")
    if status != 200 or not isinstance(token, str) or not token:
        raise LoginError(f"the authorization server gave no token: {_why(status, answer)}")
    if str(answer.get("token_type", "")).lower() != "bearer":
        raise LoginError(f"the token is not a bearer token but {str(answer.get('token_type'))[:64]!r}")
    refresh, seconds, scope = answer.get("refresh_token"), answer.get("expires_in"), answer.get("scope")
    return Tokens(
        token,
        refresh if isinstance(refresh, str) else "",
        float(seconds) if isinstance(seconds, int | float) and not isinstance(seconds, bool) else None,
        tuple(scope.split()) if isinstance(scope, str) else tuple(asked),
    )


def _why(status: int, answer: Mapping[str, Any]) -> str:
    return _described(answer) if isinstance(answer.get("error"), str) else f"it answered {status}"


def _described(answer: Mapping[str, Any]) -> str:
    description = answer.get("error_description")
    return f"{answer['error']}: {description}"[:300] if isinstance(description, str) else str(answer["error"])[:300]
