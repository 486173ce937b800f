"""The keys of an issuer: reading a key set within bounds, and choosing the key for a token (RFC 7517 §5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from trio_mcp.auth.errors import FetchError
from trio_mcp.auth.jws import json_object
from trio_mcp.auth.signatures import KeyUnusable, VerificationKey, key_from_jwk

__all__ = ["MAX_KEYS", "MAX_KEY_SET_BYTES", "KeyMiss", "KeySet", "read_key_set"]

MAX_KEYS = 50
"""Issuers publish 2 to 10."""
MAX_KEY_SET_BYTES = 256 * 1024


class KeyMiss(Enum):
    """Why there is no key for a token."""

    UNKNOWN = auto()
    """No key of that id: the issuer may have a new one, so it is worth asking."""
    AMBIGUOUS = auto()
    """The token names no key, and several would fit."""
    ALGORITHM = auto()
    """The key of that id is for another algorithm."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys that can be used, and a sentence for each entry that cannot."""

    keys: tuple[VerificationKey, ...]
    complaints: tuple[str, ...] = ()

    def choose(self, kid: str | None, algorithm: str) -> VerificationKey | KeyMiss:
        """The key for a token whose header names `kid` and `algorithm`."""
        if kid is None:
            return self._only_key_for(algorithm)
        named = [key for key in self.keys if key.kid == kid]
        if not named:
            return KeyMiss.UNKNOWN
        return next((key for key in named if key.fits(algorithm)), KeyMiss.ALGORITHM)

    def _only_key_for(self, algorithm: str) -> VerificationKey | KeyMiss:
        match [key for key in self.keys if key.fits(algorithm)]:
            case [key]:
                return key
            case []:
                return KeyMiss.UNKNOWN
            case _:
                return KeyMiss.AMBIGUOUS


def read_key_set(body: bytes) -> KeySet:
    """The keys in a JWKS document. An entry that cannot be used is left out; the others still count.

    Raises FetchError for what is no key set, and for one without any usable key: an issuer always has one, so this is a
    fault, and the keys that were read before are better than none.
    """
    if len(body) > MAX_KEY_SET_BYTES:
        raise FetchError(f"the key set is longer than {MAX_KEY_SET_BYTES >> 10} KiB")
    document = json_object(body)
    entries = None if document is None else document.get("keys")
    if not isinstance(entries, list):
        raise FetchError('the key set is not a JSON object with a list "keys"')
    key_set = _usable(entries)
    if not key_set.keys:
        raise FetchError("; ".join(["the key set holds no key that can be used", *key_set.complaints[:3]]))
    return key_set


def _usable(entries: Sequence[object]) -> KeySet:
    keys, complaints = [], []
    for number, entry in enumerate(entries[:MAX_KEYS]):
        try:
            keys.append(key_from_jwk(entry))
        except KeyUnusable as error:
            complaints.append(f"{_name(entry, number)}: {error}")
    if len(entries) > MAX_KEYS:
        complaints.append(f"{len(entries)} keys: those after the first {MAX_KEYS} are left out")
    return KeySet(tuple(keys), tuple(complaints))


def _name(entry: object, number: int) -> str:
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return f"key {kid[:64]!r}" if isinstance(kid, str) else f"key number {number + 1}"
