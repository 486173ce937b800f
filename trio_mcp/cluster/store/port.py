"""What the cluster asks of the store that its nodes share, and what a store promises. `redis/` and `memory` implement it.

Each operation is atomic: of two nodes that want the same thing one gets it. Operations of one `run` are done in order, but others' may
come between them. The result of each is said in its docstring; one that the store refuses has `OperationRefused` as its result.

A record belongs to the process (`boot`) and the life (`epoch`) that it names, a card to its `boot`. A value that cannot be read is
no process'. A tombstone of a later life, one with a higher `epoch`, is never replaced.

A claim, a record that replaces one of an earlier life, and an end that another process than the owner writes, are announced to all
nodes by the operation itself: on the channel, and in the log of moves for nodes that missed the message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import msgspec

from trio_mcp.cluster.record import Record, Tombstone
from trio_mcp.cluster.store.task_operations import TaskOperation

__all__ = [
    "CHANGES_START",
    "MAX_CHANGES",
    "AddNode",
    "Beat",
    "CardSecondsLeft",
    "ChangesFrom",
    "ClaimRecord",
    "EndSession",
    "FindSessions",
    "HasCard",
    "LastChange",
    "Leave",
    "NewestNodes",
    "NodesSeen",
    "OpenRecord",
    "Operation",
    "OperationRefused",
    "OwnRecord",
    "Publish",
    "PutBackRecord",
    "ReadCard",
    "ReadRecord",
    "ReadTombstone",
    "RemoveNode",
    "RemoveNodesBefore",
    "Store",
    "StoreDown",
    "StoreRefuses",
]

MAX_CHANGES = 20_000
"""Moves that are kept: far more than nodes claim between two beats of a third. A node that missed more checks all its records."""

CHANGES_START = b"0-0"
"""Before the first move."""


class StoreDown(Exception):
    """The store could not be reached, was too slow, or the connection broke: what was sent may or may not have been done."""


class StoreRefuses(StoreDown):
    """The store answers and does not let us in: a wrong password, a user without the right, no such database; in its own words."""


class OperationRefused(Exception):
    """The result of an operation that the store refused; the text is the store's own."""

    @property
    def code(self) -> str:
        """The first word: NOSCRIPT, WRONGTYPE, ERR, …"""
        return str(self).partition(" ")[0]


# Sessions.


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """The session's record, encoded; None when there is none."""

    session_id: str


@dataclass(frozen=True, slots=True)
class ReadTombstone:
    """The session's tombstone, encoded; None when there is none."""

    session_id: str


@dataclass(slots=True)
class _RecordWrite:
    session_id: str
    record: Record
    value: bytes = field(init=False)
    """The record, encoded."""

    def __post_init__(self) -> None:
        self.value = msgspec.json.encode(self.record)


class OpenRecord(_RecordWrite):
    """Write a session's first record, unconditionally: no other node can know its id yet. The result is True."""

    __slots__ = ()


class OwnRecord(_RecordWrite):
    """Write the record unless it is another's, or the session has ended in this life or a later one.

    The result is True, or the encoded record or tombstone that stands. A record of an earlier life is replaced, and that is announced:
    it comes from a store that lost ours, and the node that wrote it there may still have a copy of the session.
    """

    __slots__ = ()


class PutBackRecord(_RecordWrite):
    """Write a record that is missing, unless the session has ended. The result is True, or the encoded value that stands."""

    __slots__ = ()


@dataclass(slots=True)
class ClaimRecord:
    """Replace the record that was `seen` with ours, and announce it. One that was seen released must still be released.

    The result is True, the encoded record that stands instead, or False when there is none.
    """

    session_id: str
    seen: Record
    record: Record
    value: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.value = msgspec.json.encode(self.record)


@dataclass(frozen=True, slots=True)
class EndSession:
    """Put the tombstone in the record's place. False, and nothing is changed, when the record is of another life.

    `by` is the boot of the process that writes it: an end by another than the tombstone's, or by "", is announced.
    """

    session_id: str
    stone: Tombstone
    by: str


@dataclass(frozen=True, slots=True)
class FindSessions:
    """One step of a scan over the ids of all recorded sessions; for operators only.

    `cursor` is b"0" at first, and then what the step before returned. `pattern` may have `*` for any text. The result is the next
    cursor, b"0" at the end, and a list of ids; an id may come twice.
    """

    cursor: bytes
    pattern: str
    count: int


# Nodes.


@dataclass(frozen=True, slots=True)
class Beat:
    """Put up our card for `seconds`, unless a process with our id that started later has put up its own.

    The result is True when ours stood already, False when it did not, or the encoded card that stands instead. `started` is in ms of
    the wall clock. `instead_of` is the boot of a process with our id that is known to be gone, or "".
    """

    node: str
    boot: str
    started: int
    card: bytes
    seconds: int
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class Leave:
    """Take the card down. The result is whether it was that process'."""

    node: str
    boot: str


@dataclass(frozen=True, slots=True)
class ReadCard:
    """The node's card, encoded; None when it has none."""

    node: str


@dataclass(frozen=True, slots=True)
class HasCard:
    """Whether the node has a card."""

    node: str


@dataclass(frozen=True, slots=True)
class CardSecondsLeft:
    """How long the node's card still stands, in seconds; negative when it has none, or one that does not expire."""

    node: str


@dataclass(frozen=True, slots=True)
class AddNode:
    """List the node, as seen `at` (seconds of the wall clock). The result means nothing."""

    node: str
    at: float


@dataclass(frozen=True, slots=True)
class RemoveNode:
    """Take the node off the list. The result means nothing."""

    node: str


@dataclass(frozen=True, slots=True)
class RemoveNodesBefore:
    """Take off the list what was seen before `at`, or just then. The result means nothing."""

    at: float


@dataclass(frozen=True, slots=True)
class NewestNodes:
    """The names on the list as bytes, last seen first, `limit` of them at most."""

    limit: int


@dataclass(frozen=True, slots=True)
class NodesSeen:
    """All names on the list, as pairs of bytes and the time when they were seen last, longest ago first."""


# Announcements.


@dataclass(frozen=True, slots=True)
class Publish:
    """Send a message to all who listen now. The result is their number."""

    message: bytes


@dataclass(frozen=True, slots=True)
class LastChange:
    """The id of the newest move; None when there is none."""


@dataclass(frozen=True, slots=True)
class ChangesFrom:
    """Moves from the one with that id on, oldest first, `limit` of them at most: pairs of id and message."""

    id: bytes
    limit: int


Operation: TypeAlias = (
    ReadRecord
    | ReadTombstone
    | OpenRecord
    | OwnRecord
    | PutBackRecord
    | ClaimRecord
    | EndSession
    | FindSessions
    | Beat
    | Leave
    | ReadCard
    | HasCard
    | CardSecondsLeft
    | AddNode
    | RemoveNode
    | RemoveNodesBefore
    | NewestNodes
    | NodesSeen
    | Publish
    | LastChange
    | ChangesFrom
    | TaskOperation
)


class Store(Protocol):
    """One node's way to the store."""

    @property
    def shown(self) -> str:
        """Where the store is, fit for logs: without passwords. Empty where there is one only."""
        ...

    @property
    def noun(self) -> str:
        """What the log calls it: `redis`, `supervisor`."""
        ...

    def name_of(self, operation: Operation) -> str:
        """What the store calls such an operation, in its log and its access rules."""
        ...

    async def run(self, operations: Sequence[Operation]) -> list[Any]:
        """The results, in order; raises StoreDown."""
        ...

    async def listen(self, *, hear: Callable[[bytes], None], joined: Callable[[], None]) -> None:
        """Until cancelled: `joined()` whenever the subscription begins (anew), `hear(message)` for each message published then.

        A subscription that breaks is taken up again; what was published meanwhile is lost.
        """
        ...

    def close(self) -> None:
        """Close what is idle; what is in use closes when its operations end."""
        ...
