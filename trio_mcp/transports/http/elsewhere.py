"""The port to the other nodes: who takes the exchange of a session that is not here, and of a node that stops."""

from __future__ import annotations

from typing import Protocol

from trio_mcp.auth.principal import Principal
from trio_mcp.protocol.errors import SessionError
from trio_mcp.sessions.session import Session
from trio_mcp.transports.http.request import HttpExchange
from trio_mcp.transports.http.responses import HeaderList

__all__ = ["Elsewhere", "Misdirected", "Unavailable"]


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


class Elsewhere(Protocol):
    """The rest of the cluster, as one node's HTTP front needs it."""

    @property
    def overslept(self) -> bool:
        """Whether this process stood still so long that its sessions may live on another node by now."""

    async def catch_up(self) -> None:
        """Wait until that is known, and what is not ours any more is closed; bounded."""

    async def find(
        self, exchange: HttpExchange, session_id: str, who: Principal, headers: HeaderList
    ) -> Session | None:
        """The session, restored to this node; None when the exchange has been answered, by its owner's response as a rule.

        Raises SessionNotFound, TooManySessions, Unavailable and Misdirected.
        """

    async def open_at_peer(self, exchange: HttpExchange) -> bool:
        """Have a peer with room answer an `initialize` that finds none here; False when no peer has."""

    async def pass_on(self, exchange: HttpExchange) -> bool:
        """While this node stops: have a ready peer answer what belongs to no session; False when that is for us to do."""
