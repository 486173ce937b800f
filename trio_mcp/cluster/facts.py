"""What is known of a request whose session is not on this node: what `routing` decides from, and how it is read.

Every fact has a handful of values, so that tests can go through all of them.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from trio_mcp.auth.principal import Principal
from trio_mcp.cluster.membership import Verdict
from trio_mcp.cluster.peer.outcomes import Broken, Misdirected, Outcome, Relayed, Unanswered
from trio_mcp.cluster.record import Identity, Record, Tombstone
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.node_state import Claims

__all__ = ["Cached", "Copy", "Ended", "Facts", "Recorded", "Target", "Tried", "after_relay", "copy_here", "recorded"]


class Copy(Enum):
    """What this node itself has of the session, for the principal who asks. A session closed for good is its CloseReason."""

    NONE = "none"
    """Nothing, or a copy that has been handed to another node, or the session of another principal."""
    LIVE = "live"
    RELEASE_PENDING = "release pending"
    """It is about to be released; whether that works is known in a moment."""
    SHUT_DOWN = "shut down"
    """Closed because this node stops. Other nodes may restore it as soon as the release is written to Redis."""
    NOT_RELEASED = "not released"
    """The same, and the write has been waited for in vain."""


class Recorded(Enum):
    """What Redis says of the session. The reason in a tombstone is a CloseReason."""

    NOT_READ = "not read"
    """Not since the session last moved."""
    REFUSED = "refused"
    """Redis went away, or refused, while a record was to be changed."""
    UNKNOWN = "unknown"
    """Redis did not answer, or may have lost the record."""
    NOTHING = "nothing"
    FOREIGN = "foreign"
    """It belongs to another principal."""
    OURS = "ours"
    """This process owns it."""
    FREE = "free"
    """Its node has released it, or was an earlier process under this node's id."""
    PEERS = "peer's"
    """Another process owns it."""


class Target(Enum):
    """Whom to ask."""

    CACHED = "cached"
    """The owner in the cache."""
    HOME = "home"
    """The node in the session's id."""
    NAMED = "named"
    """The owner that a peer named with its 421."""
    RECORDED = "recorded"
    """The owner in the record."""
    READY = "ready"
    """Any node that may restore it, in the order on which all nodes agree."""
    ROOMY = "roomy"
    """Any that may and had room for another session a moment ago."""


class Cached(Enum):
    """What the owner cache has."""

    NOTHING = "nothing"
    OWNER = "owner"
    DRAINING = "draining"
    """An owner that is about to release its sessions: the record is read first."""


class Tried(Enum):
    """What came of the last relay since the record was read."""

    NOTHING = "nothing"
    """There was none."""
    FAILED = "failed"
    """No connection, or no answer."""
    BROKEN = "broken"
    """The connection broke before an answer, and the request may be sent again."""
    DENIED = "denied"
    """The very process that was meant answered 421."""
    MISDIRECTED = "misdirected"
    """Another process answered 421 at that address."""


class Facts(msgspec.Struct, kw_only=True):
    """What is known of one request and its session; `router` changes it as it learns more."""

    # The request.
    hop: bool = False
    """A peer relayed it: it may be relayed no further, but to what is `near`."""
    delete: bool = False
    movable: bool = False
    """Its connection can go to another worker of this node, with the request."""
    near: frozenset[Target] = frozenset()
    """Those that are workers of this node. None for a request that a worker of this node has relayed."""
    # This node.
    restores: bool = True
    """The option of that name: sessions of nodes that are gone are restored."""
    claims: Claims = Claims.YES
    full: bool = False
    """It had no room to restore the session."""
    join_awaited: bool = False
    """The request has waited for this node to join, as long as it may."""
    copy: Copy | CloseReason = Copy.NONE
    remembered: CloseReason = CloseReason.UNKNOWN
    """Why a session ended here within the last hour; UNKNOWN when none did."""
    # Other nodes.
    cached: Cached = Cached.NOTHING
    home: bool = False
    """The node in the session's id is another, and its address is known."""
    home_has_card: bool = False
    # Redis.
    looks: int = 0
    """How often the record was read."""
    redis_away: bool = False
    """Redis is known not to answer, so that it is not waited for."""
    read_patiently: bool = False
    recorded: Recorded | CloseReason = Recorded.NOT_READ
    readable: bool = True
    """This version of trio-mcp understands the whole record."""
    restorable: bool = True
    """The node that wrote the record has the option `restores`."""
    first_life: bool = False
    """The session was never restored (epoch 0)."""
    # What was tried since the record was read.
    tried: Tried = Tried.NOTHING
    tried_twice: bool = False
    named: bool = False
    """A peer that answered 421 named another owner, which has not been asked."""
    verdict: Verdict | None = None
    """The failure detector's verdict on the process that was tried."""
    none_ready: bool = False
    """No ready peer took it."""

    def read(self, found: Recorded | CloseReason, *, patiently: bool) -> None:
        """The record was read anew: what was tried before says nothing any more."""
        self.recorded = found
        self.read_patiently = patiently
        self.tried, self.tried_twice, self.named = Tried.NOTHING, False, False
        self.verdict = None
        self.none_ready = False

    def relayed(self, result: Tried, *, named: bool) -> None:
        """A relay did not end the request."""
        self.tried_twice = self.tried is not Tried.NOTHING
        self.tried = result
        self.named = named


def copy_here(closed: CloseReason | None, *, release_pending: bool, restores: bool) -> Copy | CloseReason:
    """What a session that this node's hub has means for the principal who asks; `closed` is why it was closed, if it was."""
    if release_pending:
        return Copy.RELEASE_PENDING
    if closed is None:
        return Copy.LIVE
    if closed is CloseReason.SHUTDOWN and restores:
        return Copy.SHUT_DOWN
    return Copy.NONE if closed.goes_on else closed


def recorded(
    found: Record | Tombstone | None, who: Principal, me: Identity, *, has_node_id: bool
) -> Recorded | CloseReason:
    """What a record or tombstone that Redis has says to the principal `who`, as it is known to the process `me`.

    With `has_node_id` no other process has this node's id, so that a record under it is of an earlier process.
    """
    match found:
        case None:
            return Recorded.NOTHING
        case Tombstone():
            return found.said_to(who)
        case Record() if not found.may_be_of(who):
            return Recorded.FOREIGN
        case Record(boot=me.boot, released=False):
            return Recorded.OURS
        case Record(released=True):
            return Recorded.FREE
        case Record(node=me.node) if has_node_id:
            return Recorded.FREE
    return Recorded.PEERS


class Ended(Enum):
    """How a relayed request ended for its client."""

    ANSWERED = "answered"
    NO_SESSION = "no session"
    """The peer's 404 was passed on."""
    LOST = "lost"
    """The peer may have run it: the client is told that the response is lost, and no other node is asked."""
    SILENT = "silent"
    """The peer may have got a message that expects no response, and does not answer: 503."""


def after_relay(outcome: Outcome, boot: str, *, post: bool, expects_response: bool, harmless: bool) -> Ended | Tried:
    """What the outcome of a relay means: how it ended the request, or what was learned for the next step.

    `boot` is the process that was meant; `post` and `expects_response` are of the request, and `harmless` that it may run twice.
    """
    if isinstance(outcome, Relayed):
        return Ended.NO_SESSION if outcome.status == 404 else Ended.ANSWERED
    match outcome:
        case Broken() | Unanswered() if harmless:
            # The owner may have ended the session, or been replaced, while the request was on its way.
            return Tried.BROKEN
        case Broken() if post:
            return Ended.LOST
        case Broken():
            # A GET or DELETE may be sent again, and its node may have released the session by then.
            return Tried.BROKEN
        case Unanswered():
            return Ended.LOST if expects_response else Ended.SILENT
        case Misdirected(boot=found):
            return Tried.DENIED if found == boot else Tried.MISDIRECTED
    return Tried.FAILED
