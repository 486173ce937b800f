"""What Redis holds, and under which keys: session records, tombstones, node cards. Never transport state."""

from __future__ import annotations

import time
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
    "NodeCard",
    "OwnershipChange",
    "Record",
    "Tombstone",
    "read",
    "read_record",
]

T = TypeVar("T", bound=msgspec.Struct)

_READABLE = (1, 2)
"""Forms of records. They differ by the digest in `principal` alone: see `Principal.recorded_as`."""
SESSION_SECONDS = 30 * 24 * 3600
TOMBSTONE_SECONDS = 3600


@dataclass(slots=True)
class Identity:
    """Who this process is: `boot` is another for every process, `url` is empty until peers can reach it."""

    node: str
    boot: str
    url: str = ""
    started: int = field(default_factory=lambda: int(time.time() * 1000))
    """Milliseconds on the wall clock all nodes share: of two processes with one id the later has it."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`mcp:session:{id}`: whose it is, where it lives, and what a restore starts from."""

    v: int
    node: str
    boot: str
    epoch: int
    url: str = ""
    principal: str | None = None
    """Digest; None in a record of a version we do not know."""
    version: str = ""
    info: dict[str, Any] = {}
    capabilities: dict[str, Any] = {}
    initialized: bool = False
    log_level: str = "info"
    subscriptions: tuple[str, ...] = ()
    restorable: bool = False
    released: bool = False
    """Its node let go of it: whoever is asked for it may claim it."""
    created: int = 0
    """Seconds on the wall clock."""

    @property
    def owner(self) -> Owner:
        return Owner(self.node, self.boot, self.epoch, self.url)

    def may_be_of(self, who: Principal) -> bool:
        """False when it is another principal's; a record we cannot read may be anybody's, its node judges."""
        return self.principal is None or self.principal in who.known_as

    @property
    def readable(self) -> bool:
        """Whether we know all there is in it; otherwise only where the session is."""
        whose = self.principal is not None
        return self.v in _READABLE and whose and self.version in LEGACY_VERSIONS and self.log_level in LEVELS

    def snapshot(self, session_id: str, who: Principal) -> Snapshot:
        """What the next life of the session starts from; `who` is its principal, whatever digest the record has."""
        return Snapshot(
            id=session_id,
            epoch=self.epoch + 1,
            owner=who.recorded_as,
            version=self.version,
            client=Client(self.info, self.capabilities),
            initialized=self.initialized,
            log_level=self.log_level,
            created=self.created,
            subscriptions=self.subscriptions,
        )

    @classmethod
    def of(cls, session: Snapshot, me: Identity, *, restorable: bool, released: bool = False) -> Record:
        """A session of ours, as it is now."""
        return cls(
            v=form_of(session.owner),
            node=me.node,
            boot=me.boot,
            epoch=session.epoch,
            url=me.url,
            principal=session.owner,
            version=session.version,
            info=session.client.info,
            capabilities=session.client.capabilities,
            initialized=session.initialized,
            log_level=session.log_level,
            subscriptions=session.subscriptions,
            restorable=restorable,
            released=released,
            created=session.created,
        )


class Tombstone(msgspec.Struct, frozen=True):
    """`mcp:closed:{id}`: why a session ended, the digest of whose it was, and which of its lives that was."""

    reason: str
    principal: str
    boot: str
    epoch: int

    @classmethod
    def of(cls, record: Record, reason: CloseReason) -> Tombstone:
        """The end of a recorded session."""
        return cls(reason, record.principal or "", record.boot, record.epoch)

    def said_to(self, who: Principal) -> CloseReason:
        """The reason; to another than its principal UNKNOWN, as for an id that never was."""
        return CloseReason.read(self.reason) if self.principal in who.known_as else CloseReason.UNKNOWN


class OwnershipChange(msgspec.Struct, frozen=True):
    """A session that was claimed by another process, or whose end was recorded by one that did not have it."""

    session: str
    boot: str
    """Of the process that has it now; of an ended one, that had it."""
    epoch: int
    ended: bool = False


class NodeCard(msgspec.Struct, frozen=True):
    """`mcp:node:{node}`: a node as it says it is, every few seconds."""

    boot: str
    url: str
    state: str
    sessions: int
    started: int
    key: str = ""
    """Names the key it signs with, and tells nothing of it."""
    room: int = 0
    """How many more sessions it may have; 0 of a node that does not say."""


class _Place(msgspec.Struct, frozen=True):
    """What every version of a record has."""

    v: int
    node: str
    boot: str
    epoch: int
    url: str = ""


def read_record(raw: bytes | None) -> Record | None:
    """None for what is no record; of one written by another release, where the session is and nothing else."""
    record = read(raw, Record)
    if record is not None and record.readable:
        return record
    place = read(raw, _Place)
    return (
        None if place is None else Record(v=place.v, node=place.node, boot=place.boot, epoch=place.epoch, url=place.url)
    )


def read(raw: Any, kind: type[T]) -> T | None:
    """A value of Redis as ours; None when it is missing or not ours."""
    if not isinstance(raw, bytes):
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
