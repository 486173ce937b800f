"""How the relaying of a request can end; what to do next is for whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from trio_mcp.cluster.owner_cache import Owner

__all__ = [
    "STRANGER",
    "Broken",
    "Misdirected",
    "Outcome",
    "OwnerLost",
    "Refused",
    "Relayed",
    "Unanswered",
    "Unreachable",
]

STRANGER = ""
"""The boot of somebody who does not know our secret, whatever they say it is."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """The response went to the client, or as much of it as the client stayed for."""

    status: int
    """499 when the client left before it had all."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Nobody listens at the URL."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No connection came about, and nothing was sent."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The request went out, no response began, and the peer does not show that it lives: it may run yet."""


@dataclass(frozen=True, slots=True)
class Misdirected:
    """The peer does not have the session."""

    node: str
    boot: str
    """Which peer says so."""
    owner: Owner | None
    """Who has it, as far as the peer knows."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The request went out, a byte of it at least, and no response came back: it may or may not have run."""


Outcome: TypeAlias = Relayed | Refused | Unreachable | Unanswered | Misdirected | Broken


class OwnerLost(Exception):
    """No more will come from the owner; `outcome` is what that means for a response that has not begun."""

    def __init__(self, outcome: Broken | Unanswered, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
