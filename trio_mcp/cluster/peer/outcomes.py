"""How the relaying of a request can end; what a peer's 421 tells; and what a client is told in place of a peer that is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.protocol.envelope import SUBSCRIPTION_ID_KEY
from trio_mcp.protocol.errors import LostCall
from trio_mcp.protocol.jsonrpc import InvalidMessage, Request, decode, encode_error, encode_result
from trio_mcp.protocol.sse import event

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
    "last_event",
    "lost_answer",
    "read_misdirection",
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


# A peer's 421: its body tells who may have the session.


class _Body(msgspec.Struct):
    owner: Owner | None = None


def read_misdirection(process: bytes, body: bytes) -> Misdirected:
    """`process` is `node.boot` of the peer; from a body that makes no sense one learns nothing."""
    node, _, boot = process.decode().partition(".")
    try:
        owner = msgspec.json.decode(body, type=_Body).owner
    except (msgspec.DecodeError, UnicodeDecodeError):
        owner = None
    return Misdirected(node, boot, owner)


# In place of an owner that is lost, so that no client waits for what will not come.


def lost_answer(content: bytes) -> bytes | None:
    """The JSON-RPC answer to a request body whose owner is lost: an error, of a batch an array; None when it wants none."""
    match _decoded(content):
        case Request(id=id):
            return encode_error(id, LostCall())
        case list() as batch:
            lost = [msgspec.Raw(encode_error(each.id, LostCall())) for each in batch if isinstance(each, Request)]
            return msgspec.json.encode(lost) if lost else None
    return None


def last_event(content: bytes) -> bytes:
    """What ends a stream that cannot be resumed, as an event; a listen stream has lost nothing, and ends with its result."""
    match _decoded(content):
        case Request(id=id, method="subscriptions/listen"):
            return event(encode_result(id, {"resultType": "complete", "_meta": {SUBSCRIPTION_ID_KEY: id}}))
    answer = lost_answer(content)
    return b"" if answer is None else event(answer)


def _decoded(content: bytes) -> object:
    try:
        return decode(content) if content else None
    except InvalidMessage:
        return None
