"""What the HTTP front asks of the cluster: the port, and the results and errors that cross it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from trio_mcp.protocol.errors import SessionError
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.request_head import HeaderList

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
    """503: whether the session exists, or where, cannot be found out now. `reason` is for machines, `message` for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Misdirected(SessionError):
    """421, for a peer that has relayed to this node a request whose session it does not have. The response names a better node."""

    def __init__(self, headers: HeaderList, body: bytes) -> None:
        super().__init__("This node does not have the session")
        self.headers = headers
        self.body = body


class ClusterPort(Protocol):
    """The rest of the cluster, as one node's HTTP front needs it."""

    @property
    def overslept(self) -> bool:
        """Whether this process was suspended for so long that other nodes may have taken over its sessions."""

    async def catch_up(self) -> None:
        """Wait until that is known, and sessions that were taken over are closed here. The wait is bounded."""

    async def route(self, exchange: HttpExchange, session_id: str) -> Route:
        """Find a session that is not on this node, and have its node answer, or restore it here.

        Raises SessionNotFound, TooManySessions, Unavailable and Misdirected.
        """

    def told_address(self, exchange: HttpExchange, *, seen: str | None) -> str | None:
        """The client's address, as the peer tells it that has relayed the request: None where it does not, and `seen` where no peer has."""

    async def open_at_peer(self, exchange: HttpExchange) -> bool:
        """Have a peer with room answer an `initialize` that finds none here; False when no peer has."""

    async def pass_on(self, exchange: HttpExchange) -> bool:
        """Have a ready peer answer what belongs to no session; False when there is none, or a peer has relayed it to this node."""
