"""What the HTTP front asks of the cluster: the port, and the results and errors that cross it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from trio_mcp.auth.principal import Principal
from trio_mcp.protocol.errors import SessionError
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.transports.http.exchange import HeaderList, HttpExchange

__all__ = ["Answered", "ClusterPort", "Local", "Misdirected", "Route", "Unavailable"]


@dataclass(frozen=True, slots=True)
class Local:
    """The session is on this node, restored to it if need be: the caller answers the exchange."""

    session: LiveSession


@dataclass(frozen=True, slots=True)
class Answered:
    """The exchange has been answered, as a rule with the response of the node that has the session."""


Route: TypeAlias = Local | Answered


class Unavailable(SessionError):
    """503: where the session is, or whether it is, cannot be told now; `reason` is for machines."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Misdirected(SessionError):
    """421, said to a peer: it relayed to a node that does not have the session; the headers and body tell who may."""

    def __init__(self, headers: HeaderList, body: bytes) -> None:
        super().__init__("This node does not have the session")
        self.headers = headers
        self.body = body


class ClusterPort(Protocol):
    """The rest of the cluster, as one node's HTTP front needs it."""

    @property
    def overslept(self) -> bool:
        """Whether this process stood still so long that its sessions may live on another node by now."""

    async def catch_up(self) -> None:
        """Wait until that is known, and what is not ours any more is closed; bounded."""

    async def route(self, exchange: HttpExchange, session_id: str, who: Principal, headers: HeaderList) -> Route:
        """Find a session that is not on this node, and have its node answer, or restore it here.

        `headers` go on any response that is made here. Raises SessionNotFound, TooManySessions, Unavailable and Misdirected.
        """

    async def open_at_peer(self, exchange: HttpExchange) -> bool:
        """Have a peer with room answer an `initialize` that finds none here; False when no peer has."""

    async def pass_on(self, exchange: HttpExchange) -> bool:
        """Have a ready peer answer what belongs to no session; False when there is none, or a peer has relayed it to this node."""
