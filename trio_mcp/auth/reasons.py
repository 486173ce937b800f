"""Why a request is refused: one name per reason for logs and metrics, and what HTTP tells the client for each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Self

__all__ = ["Refusal", "TokenRefused"]

_INVALID_REQUEST = "invalid_request"
_INVALID_TOKEN = "invalid_token"
_INSUFFICIENT_SCOPE = "insufficient_scope"


class Refusal(Enum):
    """A reason; its value is the label in logs and metrics.

    The status and the `error` attribute follow RFC 6750 §3.1: without credentials there is no `error`. The description is
    sent to the client as `error_description`, so it never repeats anything that came with the request.
    """

    NO_TOKEN = ("no_token", 401, "", "A bearer token is required")
    OTHER_SCHEME = ("other_scheme", 401, "", "Only bearer tokens are accepted")
    REPEATED_HEADER = ("repeated_header", 400, _INVALID_REQUEST, "Authorization comes more than once")
    MALFORMED_HEADER = ("malformed_header", 400, _INVALID_REQUEST, "Authorization is not a bearer token")

    TOO_LONG = ("too_long", 401, _INVALID_TOKEN, "The token is too long")
    MALFORMED = ("malformed_token", 401, _INVALID_TOKEN, "The token cannot be read")
    UNSUPPORTED = ("unsupported_token", 401, _INVALID_TOKEN, "The token uses an extension this server does not know")
    ALGORITHM = ("algorithm", 401, _INVALID_TOKEN, "The token is signed with an algorithm this server does not accept")
    TYPE = ("token_type", 401, _INVALID_TOKEN, "The token is not an access token")
    UNKNOWN_KEY = ("unknown_key", 401, _INVALID_TOKEN, "The token is signed with an unknown key")
    SIGNATURE = ("signature", 401, _INVALID_TOKEN, "The signature of the token is wrong")

    ISSUER = ("issuer", 401, _INVALID_TOKEN, "The token comes from another issuer")
    AUDIENCE = ("audience", 401, _INVALID_TOKEN, "The token is for another audience")
    EXPIRED = ("expired", 401, _INVALID_TOKEN, "The token has expired")
    NOT_YET_VALID = ("not_yet_valid", 401, _INVALID_TOKEN, "The token is not valid yet")
    CLAIMS = ("claims", 401, _INVALID_TOKEN, "A claim of the token is missing or has the wrong form")
    IDENTITY = ("identity", 401, _INVALID_TOKEN, "The token names neither a subject nor a client")
    SENDER_CONSTRAINED = (
        "sender_constrained",
        401,
        _INVALID_TOKEN,
        "The token is bound to a key: it is no bearer token",
    )

    INACTIVE = ("inactive", 401, _INVALID_TOKEN, "The token is not active")
    NOT_ACCEPTED = ("not_accepted", 401, _INVALID_TOKEN, "The token is not accepted")

    SCOPE = ("scope", 403, _INSUFFICIENT_SCOPE, "The token lacks a scope")
    FORBIDDEN = ("forbidden", 403, "", "The caller may not use this")

    status: int
    """The HTTP status."""
    error: str
    """The `error` attribute of the challenge; empty where there is none."""
    description: str
    """One sentence for a person."""

    def __new__(cls, label: str, status: int, error: str, description: str) -> Self:
        member = object.__new__(cls)
        member._value_ = label
        member.status = status
        member.error = error
        member.description = description
        return member


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """The answer no of a verifier, with its reason. `kid` and `issuer` are for the log line; neither was verified."""

    reason: Refusal
    kid: str | None = None
    issuer: str | None = None
