"""Outages and time of the store in memory: what Redis does there by itself is to be asked for here."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest
import trio
import trio.testing

from trio_mcp.cluster.record import Record, Tombstone
from trio_mcp.cluster.store.memory import PATIENCE_SECONDS, RETRY_SECONDS, MemoryStore
from trio_mcp.cluster.store.port import (
    AddNode,
    Beat,
    EndSession,
    HasCard,
    NewestNodes,
    OpenRecord,
    Publish,
    ReadRecord,
    ReadTombstone,
    StoreDown,
)
from trio_mcp.cluster.store.shared_memory import MAX_UNHEARD, SharedMemory

BEAT = Beat("node1", "b1", 5, b'{"boot":"b1","started":5}', 15)


class Node:
    """One that listens."""

    def __init__(self, memory: SharedMemory) -> None:
        self.store = MemoryStore(memory)
        self.heard: list[bytes] = []
        self.joined = 0

    async def listen(self) -> None:
        await self.store.listen(hear=self.heard.append, joined=self._joined)

    def _joined(self) -> None:
        self.joined += 1


async def test_a_card_expires_by_the_clock(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore(SharedMemory())
    await store.run([BEAT])
    await trio.sleep(14)
    assert await store.run([HasCard("node1")]) == [True]
    await trio.sleep(1)
    assert await store.run([HasCard("node1")]) == [False]
    assert await store.run([BEAT]) == [False]


async def test_by_a_clock_of_its_own_time_stands_still(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore(SharedMemory(clock=lambda: 0.0))
    await store.run([BEAT])
    await trio.sleep(1_000)
    assert await store.run([HasCard("node1")]) == [True]


async def test_a_slow_store_answers_later_and_a_slower_one_not_at_all(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore(SharedMemory())
    began = trio.current_time()
    store.delay = 1.0
    await store.run([AddNode("node1", 1.0)])
    assert trio.current_time() - began == 1.0
    store.delay = 2.0
    with pytest.raises(StoreDown):
        await store.run([AddNode("node2", 2.0)])
    assert trio.current_time() - began == 1.0 + PATIENCE_SECONDS
    store.delay = 0.0
    assert await store.run([NewestNodes(9)]) == [[b"node1"]]


async def test_what_a_frozen_store_was_asked_for_is_done_when_it_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    memory = SharedMemory()
    store = MemoryStore(memory)
    memory.freeze()
    with pytest.raises(StoreDown):
        await store.run([AddNode("node1", 1.0)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run, [AddNode("node2", 2.0)])
        await trio.sleep(PATIENCE_SECONDS / 2)
        memory.thaw()
    assert await store.run([NewestNodes(9)]) == [[b"node2", b"node1"]]


async def test_a_node_that_is_cut_off_is_alone_and_joins_again(autojump_clock: trio.testing.MockClock) -> None:
    memory = SharedMemory()
    cut, other = Node(memory), Node(memory)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut.listen)
        nursery.start_soon(other.listen)
        await trio.testing.wait_all_tasks_blocked()
        cut.store.cut()
        with pytest.raises(StoreDown):
            await cut.store.run([Publish(b"x")])
        assert await other.store.run([Publish(b"meanwhile")]) == [1]
        cut.store.mend()
        await trio.sleep(RETRY_SECONDS + 0.1)
        assert await other.store.run([Publish(b"later")]) == [2]
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (cut.joined, cut.heard) == (2, [b"later"])
    assert (other.joined, other.heard) == (1, [b"meanwhile", b"later"])


@pytest.mark.parametrize("empty", [False, True])
async def test_a_store_that_was_stopped_has_what_it_had_unless_it_is_to_be_empty(
    autojump_clock: trio.testing.MockClock, empty: bool
) -> None:
    memory = SharedMemory()
    node = Node(memory)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.listen)
        await trio.testing.wait_all_tasks_blocked()
        await node.store.run([AddNode("node1", 1.0)])
        memory.stop()
        with pytest.raises(StoreDown):
            await node.store.run([NewestNodes(9)])
        memory.start(empty=empty)
        assert await node.store.run([NewestNodes(9)]) == [[] if empty else [b"node1"]]
        await trio.sleep(RETRY_SECONDS + 0.1)
        assert node.joined == 2
        nursery.cancel_scope.cancel()


async def test_who_does_not_hear_what_is_said_loses_the_subscription(autojump_clock: trio.testing.MockClock) -> None:
    memory = SharedMemory()
    node = Node(memory)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.listen)
        await trio.testing.wait_all_tasks_blocked()
        publish = partial(memory.publish, b"x")
        assert {publish() for _ in range(MAX_UNHEARD + 2)} == {1}
        assert publish() == 0
        await trio.sleep(RETRY_SECONDS + 0.1)
        assert node.joined == 2
        nursery.cancel_scope.cancel()


async def test_of_too_many_tombstones_the_first_goes_and_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_mcp.cluster.store.shared_memory.MAX_TOMBSTONES", 3)
    store, ids = MemoryStore(SharedMemory()), [f"node1.{n}" for n in range(5)]
    records = [OpenRecord(each, Record(v=2, node="node1", boot="b1", epoch=0)) for each in ids]
    await store.run(records)
    assert None not in await store.run(list(map(ReadRecord, ids)))
    await store.run([EndSession(each, Tombstone("deleted", "ann", "b1", 0), by="b1") for each in ids])
    stones = await store.run(list(map(ReadTombstone, ids)))
    assert [stone is None for stone in stones] == [True, True, False, False, False]


async def test_sessions_of_a_node_that_has_ended_are_buried_unless_they_may_be_restored() -> None:
    memory = SharedMemory()
    store = MemoryStore(memory)
    records = {
        "gone": Record(v=2, node="n-w1", boot="b1", epoch=3, principal="ann", version="2025-11-25"),
        "restorable": Record(
            v=2, node="n-w1", boot="b1", epoch=0, principal="ann", version="2025-11-25", restorable=True
        ),
        "of a later release": Record(v=9, node="n-w1", boot="b1", epoch=0, principal="ann", version="2025-11-25"),
        "another's": Record(v=2, node="n-w2", boot="b2", epoch=0, principal="ann", version="2025-11-25"),
    }
    await store.run([OpenRecord(each, record) for each, record in records.items()])
    memory.bury("n-w1")
    stones = await store.run(list(map(ReadTombstone, records)))
    left = await store.run(list(map(ReadRecord, records)))
    assert [raw is None for raw in left] == [True, False, False, False]
    assert stones[1:] == [None] * 3
    assert msgspec.json.decode(stones[0], type=Tombstone) == Tombstone("node_gone", "ann", "b1", 3)
