"""Seals values that clients keep between requests: AEAD under a ring of keys, newest first.

`requestState` and cursors are in the hands of clients (2026-07-28 mrtr): a value that was changed is refused. What a value is
bound to (method, target, principal…) is authenticated and not stored in it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Sequence

from trio_mcp.protocol.errors import McpError

__all__ = ["BrokenSeal", "Keyring"]

_NONCE_BYTES = 12
_STAMP_BYTES = 8


class BrokenSeal(McpError):
    """The value was not sealed here, or for something else, or was altered, or is too old."""


class Keyring:
    """Seals with the first secret and opens with any; without secrets it uses a random key, which ends with the process."""

    def __init__(self, secrets: Sequence[bytes] = ()) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        material = list(secrets) or [os.urandom(32)]
        self._ciphers = [AESGCM(hashlib.blake2b(m, digest_size=32, person=b"trio-mcp seal").digest()) for m in material]

    def seal(self, plain: bytes, bound_to: bytes) -> str:
        """The value as URL-safe text, which `open` accepts only with the same `bound_to`."""
        nonce = os.urandom(_NONCE_BYTES)
        stamped = int(time.time()).to_bytes(_STAMP_BYTES) + plain
        return base64.urlsafe_b64encode(nonce + self._ciphers[0].encrypt(nonce, stamped, bound_to)).decode().rstrip("=")

    def open(self, sealed: str, bound_to: bytes, *, max_age: float) -> bytes:
        """The plain bytes; `max_age` is in seconds, by the wall clocks of the nodes. Raises BrokenSeal."""
        stamped = self._decrypt(_decode(sealed), bound_to)
        age = time.time() - int.from_bytes(stamped[:_STAMP_BYTES])
        if age > max_age:
            raise BrokenSeal(f"It is older than {max_age:g} s")
        return stamped[_STAMP_BYTES:]

    def _decrypt(self, raw: bytes, bound_to: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        for cipher in self._ciphers:
            try:
                return cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], bound_to)
            except (InvalidTag, ValueError):
                continue
        raise BrokenSeal("It was altered, or sealed by another server or for another request")


def _decode(sealed: str) -> bytes:
    try:
        raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise BrokenSeal("It is not something this server issued") from None
    # Base64 has several texts for the same bytes: only the canonical one was issued.
    if base64.urlsafe_b64encode(raw).decode().rstrip("=") != sealed:
        raise BrokenSeal("It is not something this server issued")
    return raw
