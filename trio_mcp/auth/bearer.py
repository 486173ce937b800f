"""Reading the `Authorization` header: one bearer token, or the reason why there is none (RFC 6750 §2.1, RFC 9110 §11.6.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trio_mcp import defaults
from trio_mcp.auth.reasons import Refusal

__all__ = ["MAX_TOKEN_BYTES", "mask_credentials", "read_bearer"]

MAX_TOKEN_BYTES = defaults.AUTH_MAX_TOKEN
"""Real tokens are 1 to 4 KiB. Reading 10 MB of base64 would take most of a second."""

# credentials = auth-scheme 1*SP token68; the scheme is a token of RFC 9110 §5.6.2.
_CREDENTIALS = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?: +([^ ].*))?", re.DOTALL)
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def read_bearer(values: Sequence[str], *, max_bytes: int = MAX_TOKEN_BYTES) -> str | Refusal:
    """The token in the `Authorization` headers of a request, or why there is none.

    `values` are the values of all `Authorization` headers, bytes decoded as Latin-1. The scheme is compared without regard
    to case. Two headers are refused, even equal ones: a proxy in front may have looked at the other one.
    """
    if len(values) > 1:
        return Refusal.REPEATED_HEADER
    value = values[0].strip(" \t") if values else ""
    if not value:
        return Refusal.NO_TOKEN
    credentials = _CREDENTIALS.fullmatch(value)
    if credentials is None:
        return Refusal.MALFORMED_HEADER
    scheme, token = credentials.groups()
    if scheme.lower() != "bearer":
        return Refusal.OTHER_SCHEME
    if token is None:
        return Refusal.NO_TOKEN
    if len(token) > max_bytes:
        return Refusal.TOO_LONG
    return token if _TOKEN68.fullmatch(token) else Refusal.MALFORMED_HEADER


def mask_credentials(value: str) -> str:
    """The value of an `Authorization` header with its scheme alone: `Bearer ***`."""
    scheme, space, _ = value.strip(" \t").partition(" ")
    # Without a space the value may be a bare token that somebody forgot the scheme of.
    return f"{scheme} ***" if space else "***"
