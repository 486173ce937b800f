"""The compact form of a signed token, read without verifying anything (RFC 7515 §7.1)."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from trio_mcp.auth.bearer import MAX_TOKEN_BYTES
from trio_mcp.auth.reasons import Refusal

__all__ = ["Jws", "claimed_issuer", "json_object", "looks_like_jws", "read_jws"]

MAX_KEY_ID_CHARACTERS = 256
"""Longer ones are in no key set; they would only fill log lines."""

# No padding: RFC 7515 §2 leaves it out, and a token with it would be a second spelling of the same token.
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]*)")
_JWE_PARTS = 5


@dataclass(frozen=True, slots=True)
class Jws:
    """The parts of a signed token. Nothing here is verified: the header chooses a key, the payload waits for it."""

    algorithm: str
    kid: str | None
    type: str | None
    """`typ` in lower case, without `application/` (RFC 7515 §4.1.9)."""
    payload: bytes
    signed: bytes
    """The octets that the signature is over (RFC 7515 §5.2)."""
    signature: bytes


def looks_like_jws(token: str) -> bool:
    """Whether a token has three parts, as signed ones have."""
    return token.count(".") == 2


def read_jws(token: str, *, max_bytes: int = MAX_TOKEN_BYTES) -> Jws | Refusal:
    """The parts of a token, or why it is refused before any key is looked for.

    `jku`, `x5u`, `jwk` and `x5c` are not looked at: no key and no URL comes from a token. `crit`, `zip` and `b64: false`
    change how the token is to be read, and are refused as RFC 7515 §4.1.11 demands.
    """
    if len(token) > max_bytes:
        return Refusal.TOO_LONG
    parts = _COMPACT.fullmatch(token)
    if parts is None:
        return Refusal.UNSUPPORTED if token.count(".") == _JWE_PARTS - 1 else Refusal.MALFORMED
    header = json_object(_decoded(parts[1]))
    payload, signature = _decoded(parts[2]), _decoded(parts[3])
    if header is None or payload is None or signature is None:
        return Refusal.MALFORMED
    if "crit" in header or "zip" in header or header.get("b64", True) is not True:
        return Refusal.UNSUPPORTED
    named = _from_header(header)
    if isinstance(named, Refusal):
        return named
    return Jws(*named, payload, token[: parts.end(2)].encode("ascii"), signature)


def claimed_issuer(token: str) -> str | None:
    """The `iss` of a signed token, unverified: good for choosing who verifies it, and for nothing else.

    The length is not bounded here: who calls this has a bound, which may be configured.
    """
    jws = read_jws(token, max_bytes=len(token))
    claims = json_object(jws.payload) if isinstance(jws, Jws) else None
    issuer = claims.get("iss") if claims else None
    return issuer if isinstance(issuer, str) else None


def json_object(text: bytes | None) -> dict[str, Any] | None:
    """The JSON object in `text`; None for anything else, for NaN, and for what nests too deep to be read."""
    if text is None:
        return None
    try:
        value = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _from_header(header: dict[str, Any]) -> tuple[str, str | None, str | None] | Refusal:
    """`alg`, `kid` and `typ`."""
    algorithm, kid, typ = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str) or not isinstance(kid, str | None) or not isinstance(typ, str | None):
        return Refusal.MALFORMED
    if kid is not None and len(kid) > MAX_KEY_ID_CHARACTERS:
        return Refusal.UNKNOWN_KEY
    return algorithm, kid, None if typ is None else typ.lower().removeprefix("application/")


def _decoded(segment: str) -> bytes | None:
    try:
        return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        return None  # a length of 4n + 1


def _refuse_constant(name: str) -> NoReturn:
    # Python's parser takes NaN and Infinity, which are not JSON.
    raise ValueError(f"{name} is not JSON")
