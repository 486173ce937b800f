"""How the relaying of a request can end, and what is read or written then: the body of a 421, the answer in place of a lost owner."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.record import read
from trio_mcp.protocol.envelope import SUBSCRIPTION_ID_KEY
from trio_mcp.protocol.errors import LostCall
from trio_mcp.protocol.jsonrpc import InvalidMessage, Request, decode, encode_error, encode_result
from trio_mcp.protocol.methods import METHODS
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
    "is_harmless",
    "last_event",
    "lost_answer",
    "read_misdirection",
]

_OPENS = frozenset({"initialize", "subscriptions/listen"})
"""What begins something that a second one would begin again."""

STRANGER = ""
"""The boot of a process that does not know our secret, whatever it says."""


class Relayed(msgspec.Struct, frozen=True):
    """The response went to the client, or as much of it as the client waited for."""

    status: int
    """499 when the client left before the end of the response."""


class Refused(msgspec.Struct, frozen=True):
    """No process listens at the URL."""


class Unreachable(msgspec.Struct, frozen=True):
    """No connection could be made, and nothing was sent."""


class Unanswered(msgspec.Struct, frozen=True):
    """The request was sent, no response began, and the peer did not answer a probe. The call may still run."""


class Misdirected(msgspec.Struct, frozen=True):
    """The peer answered that it does not have the session (421)."""

    node: str
    boot: str
    """The process that answered."""
    owner: Owner | None
    """The owner, as far as that peer knows."""


class Broken(msgspec.Struct, frozen=True):
    """At least a byte of the request was sent, and the connection broke before a whole response: the call may have run."""


Outcome: TypeAlias = Relayed | Refused | Unreachable | Unanswered | Misdirected | Broken


class OwnerLost(Exception):
    """Nothing more will come from the owner. `outcome` is the result for a request whose response has not begun."""

    def __init__(self, outcome: Broken | Unanswered, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


# A peer's 421: its body tells who may have the session.


class _Body(msgspec.Struct):
    owner: Owner | None = None


def read_misdirection(process: bytes, body: bytes) -> Misdirected:
    """What a 421 says. `process` is `node.boot` of the peer; a body that cannot be read names no owner."""
    node, _, boot = process.decode().partition(".")
    said = read(body, _Body)
    return Misdirected(node, boot, None if said is None else said.owner)


# Answers in place of a lost owner, so that no client waits for one that will not come.


def lost_answer(content: bytes) -> bytes | None:
    """The JSON-RPC answer to the body of a request whose owner is lost: an error, or an array of them for a batch. None when the body
    holds no request."""
    match _decoded(content):
        case Request(id=id):
            return encode_error(id, LostCall())
        case list() as batch:
            lost = [msgspec.Raw(encode_error(each.id, LostCall())) for each in batch if isinstance(each, Request)]
            return msgspec.json.encode(lost) if lost else None
    return None


def is_harmless(content: bytes) -> bool:
    """Whether the body is one request that may run twice: it runs no handler, and leaves a session as it is or as it said before."""
    match _decoded(content):
        case Request(method=name):
            method = METHODS.get(name)
            return method is not None and not method.runs_user_code and name not in _OPENS
    return False


def last_event(content: bytes) -> bytes:
    """The last event of a stream that cannot be resumed: an error. A listen stream has lost nothing, and ends with its result."""
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
