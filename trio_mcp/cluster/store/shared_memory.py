"""The values that nodes share within one process, and the operations of `port` on them, decided as in `redis/scripts.py`.

One suite of tests (`tests/cluster/store/test_contract.py`) runs over both.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import msgspec
import trio

from trio_mcp.cluster.record import (
    SESSION_SECONDS,
    TOMBSTONE_SECONDS,
    OwnershipChange,
    Tombstone,
    moved_message,
    read,
    read_record,
)
from trio_mcp.cluster.store.port import (
    MAX_CHANGES,
    AddNode,
    Beat,
    CardSecondsLeft,
    ChangesFrom,
    ClaimRecord,
    EndSession,
    FindSessions,
    HasCard,
    LastChange,
    Leave,
    NewestNodes,
    NodesSeen,
    OpenRecord,
    Operation,
    OwnRecord,
    Publish,
    PutBackRecord,
    ReadCard,
    ReadRecord,
    ReadTombstone,
    RemoveNode,
    RemoveNodesBefore,
    StoreDown,
)
from trio_mcp.cluster.store.shared_tasks import SharedTasks, matching
from trio_mcp.cluster.store.task_operations import TaskOperation
from trio_mcp.sessions.close_reason import CloseReason

__all__ = ["SharedMemory"]

MAX_LATE = 1_000
"""Operations that were given up while the memory was frozen, and are done after it."""

MAX_TOMBSTONES = 100_000
"""Some 50 MB. Past it the oldest goes before its hour is over: clients may open and end sessions as fast as they like."""

MAX_UNHEARD = 10_000
"""Messages that wait for one subscriber. With more its subscription ends, as with Redis."""


class Shelf:
    """Values by name, each for a number of seconds. Past `most` of them the one that came first goes."""

    def __init__(self, clock: Callable[[], float], most: float = math.inf) -> None:
        self._clock = clock
        self._most = most
        self._kept: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    def get(self, name: str) -> bytes | None:
        """The value; None when there is none or it has expired."""
        value, until = self._kept.get(name, (None, 0.0))
        if value is not None and until <= self._clock():
            del self._kept[name]
            return None
        return value

    def put(self, name: str, value: bytes, seconds: float) -> None:
        """Keep the value for `seconds`, in place of one that is there."""
        self._kept[name] = value, self._clock() + seconds
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def remove(self, name: str) -> bool:
        """Remove the value; whether there was one."""
        there = self.get(name) is not None
        self._kept.pop(name, None)
        return there

    def seconds_left(self, name: str) -> float:
        """Seconds until the value expires; negative when there is none, or when it does not expire."""
        left = math.inf if self.get(name) is None else self._kept[name][1] - self._clock()
        return -0.001 if left == math.inf else left

    def names(self) -> list[str]:
        """The names of all values that have not expired."""
        return [name for name in list(self._kept) if self.get(name) is not None]


class SharedMemory:
    """What all nodes share. Values expire by `clock`, in seconds."""

    def __init__(self, *, clock: Callable[[], float] = trio.current_time) -> None:
        self.records: Shelf = Shelf(clock)
        self.tombstones: Shelf = Shelf(clock, MAX_TOMBSTONES)
        self.cards: Shelf = Shelf(clock)
        self.tasks: SharedTasks = SharedTasks(clock)
        self.nodes: dict[bytes, float] = {}
        """When each name was seen last."""
        self.changes: deque[tuple[int, bytes]] = deque(maxlen=MAX_CHANGES)
        self.runs: bool = True
        """Nodes can reach it."""
        self._frozen: trio.Event | None = None
        self._late: deque[Operation] = deque(maxlen=MAX_LATE)
        """Operations that were given up while it was frozen. They are done when it goes on."""
        self._subscribers: dict[trio.MemorySendChannel[bytes], None] = {}
        self._announced = 0
        """How many changes were ever announced. Ids go on after `clear`: those of Redis are times, and never come again either."""

    def clear(self) -> None:
        """Remove all values; subscriptions stay."""
        for shelf in (self.records, self.tombstones, self.cards):
            for name in shelf.names():
                shelf.remove(name)
        self.nodes.clear()
        self.changes.clear()
        self.tasks.clear()

    def forget_expired(self) -> None:
        """Remove what has expired: it is noticed otherwise only when somebody asks for it."""
        for shelf in (self.records, self.tombstones, self.cards):
            shelf.names()
        self.tasks.forget_expired()

    def stop(self) -> None:
        """Until `start` no node reaches it; subscriptions break."""
        self.runs = False
        self.thaw()
        for channel in list(self._subscribers):
            self.unsubscribe(channel)

    def start(self, *, empty: bool = False) -> None:
        """Let nodes reach it again, with the values it had unless it shall be `empty`."""
        if empty:
            self.clear()
        self.runs = True

    @property
    def answers(self) -> bool:
        """Whether it runs and is not frozen."""
        return self.runs and self._frozen is None

    def freeze(self) -> None:
        """Until `thaw`, answer nothing; nodes can still connect, as to a Redis that hangs."""
        self._frozen = trio.Event()

    def thaw(self) -> None:
        """Go on. Operations that were given up meanwhile are done first: a Redis that hung has received their commands, too."""
        if self._frozen is not None:
            self._frozen.set()
            self._frozen = None
        while self._late:
            self.do(self._late.popleft())

    async def thawed(self, operations: Sequence[Operation], patience: float) -> None:
        """Wait while it is frozen. Raises StoreDown after `patience` seconds; the operations are then done by `thaw`."""
        if self._frozen is None:
            return
        with trio.move_on_after(patience):
            return await self._frozen.wait()
        self._late.extend(operations)
        raise StoreDown(f"no answer within {patience:g} s")

    @property
    def listeners(self) -> int:
        """The number of subscriptions."""
        return len(self._subscribers)

    def publish(self, message: bytes) -> int:
        """Send the message to all subscribers; their number."""
        count = len(self._subscribers)
        for channel in list(self._subscribers):
            try:
                channel.send_nowait(message)
            except trio.WouldBlock:
                self.unsubscribe(channel)
        return count

    def subscribe(self) -> tuple[trio.MemorySendChannel[bytes], trio.MemoryReceiveChannel[bytes]]:
        """Begin a subscription. The first channel stands for it in `unsubscribe`; messages come by the second, which ends with it."""
        near, far = trio.open_memory_channel[bytes](MAX_UNHEARD)
        self._subscribers[near] = None
        return near, far

    def unsubscribe(self, channel: trio.MemorySendChannel[bytes]) -> None:
        """End a subscription, unless it has ended."""
        self._subscribers.pop(channel, None)
        channel.close()

    def do(self, operation: Operation) -> Any:
        """Do one operation; its result, as `port` says."""
        match operation:
            case ReadRecord(session_id):
                return self.records.get(session_id)
            case ReadTombstone(session_id):
                return self.tombstones.get(session_id)
            case OpenRecord():
                return self._write_record(operation)
            case OwnRecord():
                return self._own(operation)
            case PutBackRecord():
                return self._put_back(operation)
            case ClaimRecord():
                return self._claim(operation)
            case EndSession():
                return self._end(operation)
            case FindSessions():
                return self._find(operation)
            case _:
                return self._do_for_nodes(operation)

    def _do_for_nodes(self, operation: Operation) -> Any:
        match operation:
            case Beat():
                return self._beat(operation)
            case Leave(node, boot):
                return _boot_of(self.cards.get(node)) == boot and self.cards.remove(node)
            case ReadCard(node):
                return self.cards.get(node)
            case HasCard(node):
                return self.cards.get(node) is not None
            case CardSecondsLeft(node):
                return self.cards.seconds_left(node)
            case AddNode(node, at):
                self.nodes[node.encode()] = at
            case RemoveNode(node):
                self.nodes.pop(node.encode(), None)
            case RemoveNodesBefore(at):
                self.nodes = {name: seen for name, seen in self.nodes.items() if seen > at}
            case NewestNodes(limit):
                return [name for name, _ in self._by_time()[::-1][:limit]]
            case NodesSeen():
                return self._by_time()
            case _:
                return self._do_for_all(operation)
        return None

    def _do_for_all(self, operation: Operation) -> Any:
        match operation:
            case Publish(message):
                return self.publish(message)
            case LastChange():
                return _id_of(self.changes[-1][0]) if self.changes else None
            case ChangesFrom(start, limit):
                first = int(start.partition(b"-")[0])
                return list(islice(((_id_of(at), told) for at, told in self.changes if at >= first), limit))
        if isinstance(operation, TaskOperation):
            return self.tasks.do(operation)
        raise TypeError(f"no operation of a store: {operation!r}")

    # Sessions.

    def _write_record(self, operation: OpenRecord | OwnRecord | PutBackRecord | ClaimRecord) -> bool:
        self.records.put(operation.session_id, operation.value, SESSION_SECONDS)
        return True

    def _own(self, operation: OwnRecord) -> bool | bytes:
        record = operation.record
        raw = self.records.get(operation.session_id)
        held = read(raw, _Held)
        if held is None:
            stone = self._ended(operation)
            return self._write_record(operation) if stone is None else stone
        assert raw is not None
        if held.epoch > record.epoch or (held.epoch == record.epoch and held.boot != record.boot):
            return raw
        self._write_record(operation)
        if held.epoch < record.epoch:
            self._announce(OwnershipChange(operation.session_id, record.boot, record.epoch))
        return True

    def _put_back(self, operation: PutBackRecord) -> bool | bytes:
        raw = self.records.get(operation.session_id)
        stands = raw if read(raw, _Held) is not None else self._ended(operation)
        return self._write_record(operation) if stands is None else stands

    def _claim(self, operation: ClaimRecord) -> bool | bytes:
        raw = self.records.get(operation.session_id)
        held, seen = read(raw, _Held), operation.seen
        if held is None or raw is None or (held.boot, held.epoch) != (seen.boot, seen.epoch):
            return raw or False
        if seen.released and held.released is not True:
            return raw
        self._write_record(operation)
        self._announce(OwnershipChange(operation.session_id, operation.record.boot, operation.record.epoch))
        return True

    def _end(self, operation: EndSession) -> bool:
        session_id, stone = operation.session_id, operation.stone
        held = read(self.records.get(session_id), _Held)
        if held is not None and (held.boot, held.epoch) != (stone.boot, stone.epoch):
            return False
        self.records.remove(session_id)
        buried = read(self.tombstones.get(session_id), _Tombstone)
        if buried is None or buried.epoch <= stone.epoch:
            self.tombstones.put(session_id, msgspec.json.encode(stone), TOMBSTONE_SECONDS)
        if operation.by != stone.boot:
            self._announce(OwnershipChange(session_id, stone.boot, stone.epoch, ended=True))
        return True

    def bury(self, node: str) -> None:
        """Put a tombstone in the place of each record of that node, whose process has ended: of those that no other may restore."""
        for session_id in self.records.names():
            record = read_record(self.records.get(session_id))
            if record is not None and record.node == node and record.readable and not record.restorable:
                self._end(EndSession(session_id, Tombstone.of(record, CloseReason.NODE_GONE), by=record.boot))

    def _ended(self, operation: OwnRecord | PutBackRecord) -> bytes | None:
        """The tombstone, if it says that the session of the record has ended, in that life or a later one."""
        raw = self.tombstones.get(operation.session_id)
        stone, record = read(raw, _Tombstone), operation.record
        if stone is None or stone.epoch < record.epoch or (stone.epoch == record.epoch and stone.boot != record.boot):
            return None
        return raw

    def _find(self, operation: FindSessions) -> tuple[bytes, list[str]]:
        matches = matching(operation.pattern).fullmatch
        names = self.records.names()
        start = int(operation.cursor)
        end = start + operation.count
        found = [name for name in names[start:end] if matches(name)]
        return (b"%d" % end if end < len(names) else b"0"), found

    # Nodes and announcements.

    def _beat(self, operation: Beat) -> bool | bytes:
        raw = self.cards.get(operation.node)
        boot, started = _boot_of(raw), _started(raw)
        known = boot is not None and started is not None
        if raw is not None and known and boot not in (operation.boot, operation.instead_of):
            assert started is not None
            if started <= operation.started:
                return raw
        self.cards.put(operation.node, operation.card, operation.seconds)
        return known and boot == operation.boot

    def _by_time(self) -> list[tuple[bytes, float]]:
        return sorted(self.nodes.items(), key=lambda pair: (pair[1], pair[0]))

    def _announce(self, move: OwnershipChange) -> None:
        self._announced += 1
        message = moved_message([move])
        self.changes.append((self._announced, message))
        self.publish(message)


class _Held(msgspec.Struct, frozen=True):
    """What a record is compared by. Its other members may be of a later version of trio-mcp."""

    node: str
    boot: str
    epoch: float
    v: float
    released: Any = False


class _Tombstone(msgspec.Struct, frozen=True):
    boot: str
    epoch: float


class _Card(msgspec.Struct, frozen=True):
    boot: str
    started: Any = None


def _boot_of(raw: bytes | None) -> str | None:
    card = read(raw, _Card)
    return None if card is None else card.boot


def _started(raw: bytes | None) -> float | None:
    card = read(raw, _Card)
    return card.started if card is not None and isinstance(card.started, int | float) else None


def _id_of(number: int) -> bytes:
    return b"%d-0" % number
