"""Who sends a request: `Principal`, and `Authenticate`, the function that tells it from the request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

__all__ = ["ANONYMOUS", "Authenticate", "CannotTell", "HttpRequestView", "Principal", "form_of"]

_DIGEST_VERSION = "02"
"""Begins a digest of form 2. Those of form 1 are 32 hex digits without it, see `Principal.known_as`."""
_DIGEST_CHARACTERS = 32


def form_of(digest: str) -> int:
    """The form, 1 or 2, of the records that have such a digest."""
    return 1 if len(digest) == _DIGEST_CHARACTERS else 2


class CannotTell(Exception):
    """Raise it in an `authenticate` function that cannot decide now, for example because its authorization server is down.

    The client gets 503 with `Retry-After` and keeps its credentials; after a 401 it would drop them.
    """


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. Two principals are the same when issuer, client and subject are; claims are not compared.

    `subject` is the user (`sub` of a token), empty for a client without one; `issuer` is the authority that named them; `client_id`
    is the OAuth client or the application, empty where there is none. `claims` are those of the request, and not kept beyond it.
    """

    subject: str
    issuer: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    client_id: str = field(default="", kw_only=True)

    @property
    def identity(self) -> Principal:
        """The same principal without claims, which may be kept beyond the request."""
        return replace(self, claims={}) if self.claims else self

    def with_claims(self, claims: Mapping[str, Any]) -> Principal:
        """The same principal with other claims. Each request may pay for this: `replace` takes three times as long."""
        new, put = object.__new__(Principal), object.__setattr__
        put(new, "subject", self.subject)
        put(new, "issuer", self.issuer)
        put(new, "claims", claims)
        put(new, "client_id", self.client_id)
        return new

    @property
    def digest(self) -> str:
        """A digest of issuer, client and subject, for places that must not have their names; no two principals share one."""
        return _digest(self.issuer, self.client_id, self.subject)

    @property
    def log_name(self) -> str | None:
        """What stands for it in log lines, 8 hex digits of the digest: names of people do not belong there. None for `ANONYMOUS`."""
        return self.digest[2:10] if self.subject or self.client_id else None

    @property
    def known_as(self) -> tuple[str, ...]:
        """Every digest that only this principal has: that of form 2 and, where it is unique, that of form 1."""
        first = self._first_digest
        return (self.digest,) if first is None else (self.digest, first)

    @property
    def recorded_as(self) -> str:
        """The digest for records and sealed states: of form 1 where only this principal has it, else of form 2.

        Nodes of the previous version of trio-mcp know form 1 only. During a roll, or a roll back, they take over sessions of newer nodes and
        open states that those sealed.
        """
        return self._first_digest or self.digest

    @property
    def _first_digest(self) -> str | None:
        """The digest of form 1, of issuer and subject with a NUL in between.

        None where another principal could have the same: it leaves out the client, and a NUL in the names makes it ambiguous.
        """
        if self.client_id or "\0" in self.issuer or "\0" in self.subject:
            return None
        return _digest_of_pair(self.issuer, self.subject)


@lru_cache(maxsize=4096)
def _digest(issuer: str, client_id: str, subject: str) -> str:
    # JSON separates the three unambiguously, whatever characters they have. Each log line of a call has a part of it.
    triple = json.dumps([issuer, client_id, subject]).encode()
    return _DIGEST_VERSION + hashlib.sha256(triple).hexdigest()[:_DIGEST_CHARACTERS]


@lru_cache(maxsize=4096)
def _digest_of_pair(issuer: str, subject: str) -> str:
    pair = f"{issuer}\0{subject}".encode(errors="surrogatepass")
    return hashlib.sha256(pair).hexdigest()[:_DIGEST_CHARACTERS]


ANONYMOUS = Principal("")
"""The principal of all requests when no authentication is configured."""


class HttpRequestView(Protocol):
    """The part of a request that an `authenticate` function gets."""

    @property
    def method(self) -> str:
        """The HTTP method."""

    @property
    def path(self) -> str:
        """The decoded path."""

    def header(self, name: str | bytes) -> str | None:
        """The value of the header of that name (bytes: in lower case), of several the last; None without one."""


Authenticate: TypeAlias = Callable[[HttpRequestView], Awaitable[Principal | None] | Principal | None]
"""Called for every request: its answer is not kept for a connection or session. One that is not async runs in a worker thread.

None becomes a 401. `CannotTell`, `OSError` and a timeout become a 503, any other exception a 500.
"""
