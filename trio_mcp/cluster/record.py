"""What nodes write for each other: session records, tombstones and node cards in Redis, and messages on its pub/sub channel.

Nothing here is about streams or connections. Fields are only added, for nodes of two versions of trio-mcp run side by side while a
cluster is rolled: the older one ignores fields that it does not know.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from trio_mcp.auth.principal import Principal, form_of
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.dispatch.call import Client
from trio_mcp.protocol.envelope import LEVELS
from trio_mcp.protocol.versions import LEGACY_VERSIONS
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.directory import Snapshot

__all__ = [
    "SESSION_SECONDS",
    "TOMBSTONE_SECONDS",
    "Identity",
    "Message",
    "NodeCard",
    "OwnershipChange",
    "Record",
    "Tombstone",
    "end_message",
    "moved_message",
    "read",
    "read_record",
    "tasks_message",
]

T = TypeVar("T", bound=msgspec.Struct)

_READABLE = (1, 2)
"""Versions of records. They differ only in the digest in `principal`: see `Principal.recorded_as`."""

SESSION_SECONDS = 30 * 24 * 3600
"""Lifetime of a record, from the last time that it was written."""

TOMBSTONE_SECONDS = 3600


@dataclass(slots=True)
class Identity:
    """This process: `boot` is random, `url` is empty until peers can reach the node."""

    node: str
    boot: str
    url: str = ""
    started: int = field(default_factory=lambda: int(time.time() * 1000))
    """Milliseconds on the wall clock. Of two processes with one node id, the one that started later keeps it."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`mcp:session:{id}`: whose session it is, which process owns it, and what a restore starts from."""

    v: int
    node: str
    boot: str
    epoch: int
    url: str = ""
    principal: str | None = None
    """A digest; None in a record of a version that we do not know."""
    version: str = ""
    info: dict[str, Any] = {}
    capabilities: dict[str, Any] = {}
    initialized: bool = False
    log_level: str = "info"
    subscriptions: tuple[str, ...] = ()
    restorable: bool = False
    released: bool = False
    """Its node has released it: any node that is asked for it may claim it."""
    created: int = 0
    """Seconds on the wall clock."""
    transport: str = ""
    """"websocket" of a session that lives on one WebSocket; a version of trio-mcp that does not know the field has no such sessions."""

    @property
    def owner(self) -> Owner:
        return Owner(self.node, self.boot, self.epoch, self.url)

    def may_be_of(self, who: Principal) -> bool:
        """False when it is another principal's. A record that we cannot read may be anybody's: its own node decides."""
        return self.principal is None or self.principal in who.known_as

    @property
    def readable(self) -> bool:
        """Whether this version of trio-mcp understands all of it; otherwise it understands only which process owns the session."""
        whose = self.principal is not None
        return self.v in _READABLE and whose and self.version in LEGACY_VERSIONS and self.log_level in LEVELS

    def snapshot(self, session_id: str, who: Principal) -> Snapshot:
        """What a restore starts from: the next epoch. `who` is the session's principal."""
        return Snapshot(
            id=session_id,
            epoch=self.epoch + 1,
            principal_digest=who.recorded_as,
            version=self.version,
            client=Client(self.info, self.capabilities),
            initialized=self.initialized,
            log_level=self.log_level,
            created=self.created,
            subscriptions=self.subscriptions,
        )

    @classmethod
    def of(cls, session: Snapshot, me: Identity, *, restorable: bool, released: bool = False) -> Record:
        """The record of a session of this process."""
        return cls(
            v=form_of(session.principal_digest),
            node=me.node,
            boot=me.boot,
            epoch=session.epoch,
            url=me.url,
            principal=session.principal_digest,
            version=session.version,
            info=session.client.info,
            capabilities=session.client.capabilities,
            initialized=session.initialized,
            log_level=session.log_level,
            subscriptions=session.subscriptions,
            restorable=restorable and not session.bound,
            released=released,
            created=session.created,
            transport="websocket" if session.bound else "",
        )


class Tombstone(msgspec.Struct, frozen=True):
    """`mcp:closed:{id}`: why a session ended, the digest of its principal, and the process and epoch that ended."""

    reason: str
    principal: str
    boot: str
    epoch: int

    @classmethod
    def of(cls, record: Record, reason: CloseReason) -> Tombstone:
        """The tombstone for the session of a record."""
        return cls(reason, record.principal or "", record.boot, record.epoch)

    def said_to(self, who: Principal) -> CloseReason:
        """The reason; UNKNOWN for another principal, as for an id that never existed."""
        return CloseReason.read(self.reason) if self.principal in who.known_as else CloseReason.UNKNOWN


class OwnershipChange(msgspec.Struct, frozen=True):
    """A session that was claimed by another process, or whose end was recorded by a process that did not own it."""

    session: str
    boot: str
    """The process that owns it now; if it has ended, that owned it."""
    epoch: int
    ended: bool = False


class NodeCard(msgspec.Struct, frozen=True):
    """`mcp:node:{node}`: what a node says of itself with every heartbeat."""

    boot: str
    url: str
    state: str
    sessions: int
    started: int
    key: str = ""
    """The name of the key that it signs with; it does not reveal the key."""
    room: int = 0
    """How many more sessions it may open; 0 from a version of trio-mcp that does not say."""


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message on the channel: changes in order, or a session to end, or ownership changes."""

    boot: str
    """The sender's process; "" in a message that is not numbered."""
    n: int = 0
    changes: list[tuple[str, str]] = []
    """`("list", "tools")` and `("uri", "weather://oslo")`, in order."""
    end: str = ""
    """A session id, from `trio-mcp sessions end`."""
    moved: list[OwnershipChange] = []
    """Sessions whose copies elsewhere are to be closed."""
    tasks: list[str] = []
    """Tasks that the sender has written; not numbered."""
    left: list[str] = []
    """Tasks without an owner, for the node that looks after each."""


def end_message(session_id: str) -> bytes:
    """A message that asks the session's node to end it, encoded."""
    return msgspec.json.encode(Message("", end=session_id))


def moved_message(changes: Sequence[OwnershipChange]) -> bytes:
    """A message that tells nodes to close their copies, encoded."""
    return msgspec.json.encode(Message("", moved=list(changes)))


def tasks_message(changed: Sequence[str], *, left: Sequence[str] = (), boot: str = "") -> bytes:
    """A message that tells nodes of tasks that were written, and of those that need an owner, encoded."""
    return msgspec.json.encode(Message(boot, tasks=list(changed), left=list(left)))


class _Ownership(msgspec.Struct, frozen=True):
    """The fields that every version of a record has."""

    v: int
    node: str
    boot: str
    epoch: int
    url: str = ""


def read_record(raw: bytes | None) -> Record | None:
    """The record; of a version that we do not know, its owner alone. None for what is no record."""
    record = read(raw, Record)
    if record is not None and record.readable:
        return record
    owner = read(raw, _Ownership)
    if owner is None:
        return None
    return Record(v=owner.v, node=owner.node, boot=owner.boot, epoch=owner.epoch, url=owner.url)


def read(raw: Any, kind: type[T]) -> T | None:
    """Decode what a peer or Redis sent: records, cards, messages, bodies of `/livez` and of a 421.

    None when it is missing or is not a `kind`, whatever it holds: all such values are read here, so that none can raise.
    """
    if not isinstance(raw, bytes):
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
