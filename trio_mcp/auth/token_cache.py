"""What was found out about tokens, kept for a while: bounded, least recently used first out, never the token itself."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["CACHED_TOKENS", "TokenCache", "token_digest"]

Found = TypeVar("Found")

CACHED_TOKENS = 4096
"""About 8 MiB with claims of usual size."""


def token_digest(token: str) -> bytes:
    """Stands for a token where the token itself must not be kept."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


class TokenCache(Generic[Found]):
    """Values by token, each until a time; the clock is the caller's."""

    def __init__(self, limit: int = CACHED_TOKENS) -> None:
        self._limit = limit
        self._entries: OrderedDict[bytes, tuple[Found, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, token: str, now: float) -> Found | None:
        """What is known of the token; None where nothing is, or no longer."""
        digest = token_digest(token)
        entry = self._entries.get(digest)
        if entry is None:
            return None
        found, until = entry
        if now >= until:
            del self._entries[digest]
            return None
        self._entries.move_to_end(digest)
        return found

    def put(self, token: str, found: Found, until: float) -> None:
        """Keep `found` until that time; what was not asked for longest makes room for it."""
        digest = token_digest(token)
        self._entries[digest] = (found, until)
        self._entries.move_to_end(digest)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)
