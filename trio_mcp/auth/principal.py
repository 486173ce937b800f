"""Who is asking. OAuth and whatever else comes later stands behind one port, `Authenticate`."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

__all__ = ["ANONYMOUS", "Authenticate", "HttpRequestView", "Principal"]


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. Two principals are the same when issuer and subject are."""

    subject: str
    issuer: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def digest(self) -> str:
        """What a record or a sealed state holds in the principal's place."""
        return hashlib.sha256(f"{self.issuer}\0{self.subject}".encode()).hexdigest()[:32]


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

    def header(self, name: bytes) -> str | None:
        """The value of the header of that lower-case name, of several the last; None without one."""


Authenticate: TypeAlias = Callable[[HttpRequestView], Awaitable[Principal | None]]
"""Asked on every request, never remembered for a connection or session; None becomes a 401."""
