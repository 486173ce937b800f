"""Where a request goes whose session is not on this node: decided from what is known, without waiting or asking.

`decide` returns the next step. `router` does it, adds what it learned to the `Facts`, and asks again, until a step ends the
request. The order of the questions:

1. Has this node a copy of the session that is about to end?            serve · wait · 404
2. Has another node answered for the session before (the owner cache)?  relay to it
3. What does Redis say?
   - It cannot be asked, or has lost data.  relay to the cached owner or the node in the id · 503
   - No record.                             relay to the node in the id, which may not have written it yet · 404
   - Owned by this process.                 restore it again (a claim whose reply was lost) · 404
   - Owned by another process.              relay · when that process is gone: as the next
   - Released, or its process is gone.      restore · relay to a ready peer, or one with room · remove (DELETE) · 404
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

import msgspec

from trio_mcp.cluster.facts import Cached, Copy, Facts, Recorded, Target, Tried
from trio_mcp.cluster.membership import Verdict
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.node_state import Claims

__all__ = [
    "LOOKS",
    "Await",
    "Full",
    "Judge",
    "LookUp",
    "MoveTo",
    "NotFound",
    "RelayTo",
    "Remove",
    "Restore",
    "SendBack",
    "Serve",
    "Step",
    "TryAgain",
    "decide",
]

LOOKS = 4
"""How often one request reads the record of its session. Each further look means that the session moved in between."""


class Serve(msgspec.Struct, frozen=True):
    """The session is here. Ends the request's routing."""


class NotFound(msgspec.Struct, frozen=True):
    """404 with this reason. With `bury`, a tombstone replaces the record of a session that ended with its node."""

    reason: CloseReason
    bury: bool = False


class SendBack(msgspec.Struct, frozen=True):
    """421 to the peer that relayed the request, with the owner it should ask instead, if one is known."""

    owner: Target | None = None


class TryAgain(Enum):
    """503: where the session is cannot be told now. The value is the machine-readable reason and the message."""

    MOVING = "moving", "The session is moving between nodes; try again"
    STOPPING = "moving", "The node of this session stops; try again"
    DIRECTORY = "directory_unavailable", "Where this session is cannot be told now; try again"
    OWNER_SILENT = "unreachable", "The node that has this session does not answer; try again"
    HOME_SILENT = "unreachable", "The node that may have this session does not answer; try again"
    NONE_READY = "unreachable", "No node is ready to take up this session; try again"


class Await(Enum):
    """Wait for an event of this node, for a bounded time."""

    RELEASE = "release"
    """The release of this node's copy has worked, or not."""
    RECORD = "record"
    """The release of a session of this stopping node is written to Redis."""
    JOIN = "join"
    """This node has joined the cluster, or is asked to stop."""


class LookUp(msgspec.Struct, frozen=True):
    """Read the record and the tombstone from Redis."""

    patiently: bool = False
    """Wait for a slow Redis until it counts as away."""
    after_pause: bool = False
    """The record is about to change."""


class RelayTo(msgspec.Struct, frozen=True):
    """Have that node answer the request; ends the request if it does."""

    target: Target


class MoveTo(msgspec.Struct, frozen=True):
    """Have that process of this node take over the connection, with the request; ends the request if it does."""

    target: Target


class Judge(msgspec.Struct, frozen=True):
    """Have the failure detector say whether that process is gone."""

    target: Target
    at_once: bool = False
    """From what can be told now; else it waits for evidence as long as the request may."""


class Restore(msgspec.Struct, frozen=True):
    """Claim the record and continue the session on this node."""


class Full(msgspec.Struct, frozen=True):
    """503: neither this node nor a peer has room to restore the session."""


class Remove(msgspec.Struct, frozen=True):
    """Do what the client's DELETE asks for in place of a node that cannot, and answer 204."""


Step: TypeAlias = (
    Serve | NotFound | SendBack | TryAgain | Await | LookUp | RelayTo | MoveTo | Judge | Restore | Full | Remove
)


def decide(facts: Facts) -> Step:
    """The next step for a request whose session was not found on this node."""
    step = _decide(facts)
    if facts.movable and isinstance(step, RelayTo) and step.target in _OWNERS and step.target in facts.near:
        return MoveTo(step.target)
    return step


_OWNERS = frozenset({Target.CACHED, Target.NAMED, Target.RECORDED})
"""A connection goes to a process that is known to have the session, not to one that may have it or take it up."""


def _may_ask(facts: Facts, target: Target) -> bool:
    """A request that a peer relayed goes no further, but to a worker of the same node."""
    return not facts.hop or target in facts.near


def _decide(facts: Facts) -> Step:
    if facts.copy is not Copy.NONE:
        return _with_copy(facts.copy)
    return _before_redis(facts) if facts.recorded is Recorded.NOT_READ else _recorded(facts)


def _with_copy(copy: Copy | CloseReason) -> Step:
    match copy:
        case Copy.RELEASE_PENDING:
            return Await.RELEASE
        case Copy.SHUT_DOWN:
            return Await.RECORD
        case Copy.NOT_RELEASED:
            # A 404 would make the client open a second session while this node still holds the record.
            return TryAgain.STOPPING
        case CloseReason() as reason:
            return NotFound(reason.as_seen_by_peers)
    return Serve()


def _recorded(facts: Facts) -> Step:
    match facts.recorded:
        case Recorded.REFUSED:
            return TryAgain.DIRECTORY
        case Recorded.UNKNOWN:
            return _without_redis(facts)
        case Recorded.NOTHING | Recorded.FOREIGN:
            # Another principal's session is answered for by the same node as an id that never was, with the same bytes.
            return _without_record(facts, CloseReason.UNKNOWN)
        case CloseReason() as reason:
            return _without_record(facts, reason)
        case Recorded.OURS:
            return _owned_here(facts)
        case Recorded.FREE:
            return _free(facts)
    return _owned_by_peer(facts)


def _before_redis(facts: Facts) -> Step:
    untried = facts.looks == 0 and facts.tried is Tried.NOTHING
    if untried and facts.cached is Cached.OWNER and _may_ask(facts, Target.CACHED):
        return RelayTo(Target.CACHED)
    if facts.claims is Claims.NOT_YET and not facts.join_awaited:
        # Until it has joined, a record under this node's id may be another process'.
        return Await.JOIN
    return _look_again(facts)


def _look_again(facts: Facts, *, after_pause: bool = False) -> Step:
    return LookUp(after_pause=after_pause) if facts.looks < LOOKS else TryAgain.MOVING


def _without_redis(facts: Facts) -> Step:
    if facts.remembered is not CloseReason.UNKNOWN:
        return NotFound(facts.remembered)
    known = facts.cached is not Cached.NOTHING
    target = Target.CACHED if known else Target.HOME
    untried = facts.tried is Tried.NOTHING and not facts.read_patiently
    if untried and (known or facts.home) and _may_ask(facts, target):
        return RelayTo(target)
    if facts.hop and known:
        return SendBack(Target.CACHED)
    if not facts.read_patiently:
        if facts.named and _may_ask(facts, Target.NAMED):
            return RelayTo(Target.NAMED)
        if not facts.redis_away:
            return LookUp(patiently=True)
    return SendBack() if facts.hop else TryAgain.DIRECTORY


def _without_record(facts: Facts, tombstone: CloseReason) -> Step:
    reason = tombstone if facts.remembered is CloseReason.UNKNOWN else facts.remembered
    if reason is not CloseReason.UNKNOWN or not facts.home or not _may_ask(facts, Target.HOME):
        return NotFound(reason)
    match facts.verdict, facts.tried:
        case None, Tried.NOTHING:
            # Its node may not have written the record yet.
            return RelayTo(Target.HOME)
        case None, Tried.DENIED | Tried.MISDIRECTED:
            return NotFound(CloseReason.UNKNOWN)
        case None, _:
            return Judge(Target.HOME) if facts.home_has_card else NotFound(CloseReason.UNKNOWN)
        case Verdict.GONE, _:
            return NotFound(CloseReason.UNKNOWN)
        case Verdict.ALIVE, _ if not facts.tried_twice:
            return RelayTo(Target.HOME)
    return TryAgain.HOME_SILENT


def _owned_here(facts: Facts) -> Step:
    """The session ended here a moment ago, or this node claimed it and the reply of Redis was lost."""
    if facts.remembered is not CloseReason.UNKNOWN:
        return NotFound(facts.remembered)
    if facts.restorable and facts.claims is Claims.NO_MORE:
        # It is being released.
        return TryAgain.STOPPING
    if not facts.restorable or facts.first_life:
        return NotFound(CloseReason.UNKNOWN)
    return Full() if facts.full else Restore()


def _owned_by_peer(facts: Facts) -> Step:
    if facts.hop and facts.verdict is None:
        inward = Target.RECORDED in facts.near and facts.tried is Tried.NOTHING
        return RelayTo(Target.RECORDED) if inward else Judge(Target.RECORDED, at_once=True)
    if facts.verdict is Verdict.GONE:
        return _free(facts)
    if facts.hop:
        return SendBack(Target.RECORDED)
    match facts.verdict, facts.tried:
        case None, Tried.NOTHING:
            return RelayTo(Target.RECORDED)
        case None, Tried.BROKEN | Tried.DENIED:
            return _look_again(facts, after_pause=True)
        case None, _:
            return Judge(Target.RECORDED)
        case Verdict.ALIVE, _:
            return _look_again(facts)
    return TryAgain.OWNER_SILENT


def _free(facts: Facts) -> Step:
    """Nobody has the session: it was released, or its process is gone."""
    if facts.delete and facts.readable:
        return Remove()
    if not (facts.restores and facts.restorable and facts.readable):
        return NotFound(CloseReason.NODE_GONE, bury=facts.readable and not facts.restorable)
    if facts.claims is Claims.YES:
        if not facts.full:
            return Restore()
        if not facts.none_ready:
            return RelayTo(Target.ROOMY)
        # The peer believed an old card, and may know of another that has room.
        return SendBack() if facts.hop else Full()
    if facts.hop:
        return SendBack()
    return TryAgain.NONE_READY if facts.none_ready else RelayTo(Target.READY)
