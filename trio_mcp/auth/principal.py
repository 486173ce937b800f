"""Who is asking. OAuth and whatever else comes later stands behind one port, `Authenticate`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

__all__ = ["ANONYMOUS", "Authenticate", "CannotTell", "HttpRequestView", "Principal", "form_of"]

_DIGEST_VERSION = "02"
"""In front of a digest. Records of form 1 hold 32 hex digits without it: see `Principal.known_as`."""
_DIGEST_CHARACTERS = 32


def form_of(digest: str) -> int:
    """The form of records that hold such a digest: 1 or 2."""
    return 1 if len(digest) == _DIGEST_CHARACTERS else 2


class CannotTell(Exception):
    """Raised by an `authenticate` function that cannot judge a request now, because its authorization server does not
    answer, say: the client gets 503 with `Retry-After` and keeps its credentials, where a 401 would make it drop them."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. Two principals are the same when issuer, client and subject are; claims are not compared.

    `subject` is the user (`sub` of a token), empty for a client that acts for nobody; `issuer` says who vouches for both;
    `client_id` is the OAuth client or the application, empty where there is no such thing.
    """

    subject: str
    issuer: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict, compare=False)
    client_id: str = field(default="", kw_only=True)

    @property
    def identity(self) -> Principal:
        """The same principal without claims: what may be kept beyond one request."""
        return replace(self, claims={}) if self.claims else self

    @property
    def digest(self) -> str:
        """Stands for the principal where its name is not kept; no other principal has the same."""
        # JSON keeps the three apart, whatever characters are in them.
        triple = json.dumps([self.issuer, self.client_id, self.subject]).encode()
        return _DIGEST_VERSION + hashlib.sha256(triple).hexdigest()[:_DIGEST_CHARACTERS]

    @property
    def known_as(self) -> tuple[str, ...]:
        """Every digest that can only be this principal's: today's, then that in records of form 1."""
        first = self._first_digest
        return (self.digest,) if first is None else (self.digest, first)

    @property
    def recorded_as(self) -> str:
        """The digest that records and sealed states get: of form 1 where that can only be this principal's.

        Nodes of the release before know no other. During a roll, or a roll back, they take up sessions of newer nodes, and
        get the answers to their questions.
        """
        return self._first_digest or self.digest

    @property
    def _first_digest(self) -> str | None:
        """Of issuer and subject with a NUL in between.

        None where it proves nothing: it names no client, and two pairs with a NUL in them share one.
        """
        if self.client_id or "\0" in self.issuer or "\0" in self.subject:
            return None
        pair = f"{self.issuer}\0{self.subject}".encode(errors="surrogatepass")
        return hashlib.sha256(pair).hexdigest()[:_DIGEST_CHARACTERS]


ANONYMOUS = Principal("")
"""Everybody, when no authentication is configured."""


class HttpRequestView(Protocol):
    """What an authenticator may look at."""

    @property
    def method(self) -> str:
        """The HTTP method."""

    @property
    def path(self) -> str:
        """The decoded path."""

    def header(self, name: str | bytes) -> str | None:
        """The value of the header of that name (bytes: in lower case), of several the last; None without one."""


Authenticate: TypeAlias = Callable[[HttpRequestView], Awaitable[Principal | None] | Principal | None]
"""Asked on every request, never remembered for a connection or session. A sync one runs in a worker thread.

None becomes a 401. `CannotTell`, `OSError` and a timeout become a 503, any other exception a 500.
"""
