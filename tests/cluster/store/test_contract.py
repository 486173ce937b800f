"""What every store promises, tried on each: two nodes' ways to one store, for each operation and each thing it may find there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from tests.cluster.store.both import Both
from tests.rig.ports import free_ports
from tests.rig.waiting import until
from trio_mcp.cluster.record import (
    SESSION_SECONDS,
    TOMBSTONE_SECONDS,
    NodeCard,
    OwnershipChange,
    Record,
    Tombstone,
    moved_message,
)
from trio_mcp.cluster.redis.store import RedisStore
from trio_mcp.cluster.store.memory import MemoryStore, SharedMemory
from trio_mcp.cluster.store.port import (
    CHANGES_START,
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
    Store,
    StoreDown,
)

ID = "node1.abc"


def record(boot: str = "b1", epoch: int = 0, *, released: bool = False) -> Record:
    return Record(v=2, node="node1", boot=boot, epoch=epoch, url="http://node1:8000", principal="p", released=released)


def encoded(value: Any) -> bytes:
    return msgspec.json.encode(value)


def tombstone(boot: str = "b1", epoch: int = 0) -> Tombstone:
    return msgspec.json.decode(
        encoded({"reason": "deleted", "principal": "p", "boot": boot, "epoch": epoch}), type=Tombstone
    )


async def changes(stores: Both) -> list[bytes]:
    """What was announced in the log."""
    return [message for _, message in await stores.do(ChangesFrom(CHANGES_START, 100))]


NOBODYS = {
    "nothing": None,
    "no JSON": b'{"boot"',
    "a list": b"[]",
    "another form": b'{"boot":1}',
    "no owner": b'{"epoch":0}',
}
nobodys = pytest.mark.parametrize("found", NOBODYS.values(), ids=NOBODYS.keys())


# Records.


async def test_an_opened_record_is_read_by_all_and_kept_for_a_month(stores: Both) -> None:
    assert await stores.do(ReadRecord(ID)) is None
    assert await stores.do(OpenRecord(ID, record())) is True
    assert await stores.there.run([ReadRecord(ID), ReadTombstone(ID)]) == [encoded(record()), None]
    assert SESSION_SECONDS - 5 < await stores.expires_in("record", ID) <= SESSION_SECONDS


@nobodys
@pytest.mark.parametrize("write", [OwnRecord, PutBackRecord])
async def test_a_record_is_written_where_there_is_none(stores: Both, write: Any, found: bytes | None) -> None:
    if found is not None:
        await stores.put("record", ID, found)
    assert await stores.do(write(ID, record())) is True
    assert await stores.do(ReadRecord(ID)) == encoded(record())
    assert SESSION_SECONDS - 5 < await stores.expires_in("record", ID) <= SESSION_SECONDS
    assert await changes(stores) == []


@pytest.mark.parametrize(
    ("boot", "epoch", "owned"),
    [("b1", 1, True), ("b2", 1, False), ("b1", 2, False), ("b2", 2, False), ("b1", 0, True), ("b2", 0, True)],
)
async def test_our_record_replaces_what_is_ours_or_of_an_earlier_life(
    stores: Both, boot: str, epoch: int, owned: bool
) -> None:
    stands = record(boot, epoch)
    await stores.do(OpenRecord(ID, stands))
    ours = record("b1", 1, released=True)
    assert await stores.do(OwnRecord(ID, ours)) == (True if owned else encoded(stands))
    assert await stores.do(ReadRecord(ID)) == encoded(ours if owned else stands)
    announced = [moved_message([OwnershipChange(ID, "b1", 1)])] if epoch == 0 else []
    assert await changes(stores) == announced


@pytest.mark.parametrize("write", [OwnRecord, PutBackRecord])
@pytest.mark.parametrize(
    ("boot", "epoch", "ended"),
    [("b1", 1, True), ("b2", 1, False), ("b1", 2, True), ("b2", 2, True), ("b1", 0, False), ("b2", 0, False)],
)
async def test_a_session_that_has_ended_in_this_life_or_a_later_one_is_not_put_back(
    stores: Both, write: Any, boot: str, epoch: int, ended: bool
) -> None:
    stone = encoded(tombstone(boot, epoch))
    await stores.put("tombstone", ID, stone)
    assert await stores.do(write(ID, record("b1", 1))) == (stone if ended else True)
    assert await stores.do(ReadRecord(ID)) == (None if ended else encoded(record("b1", 1)))


@pytest.mark.parametrize("write", [OwnRecord, PutBackRecord])
async def test_a_tombstone_that_cannot_be_read_says_nothing(stores: Both, write: Any) -> None:
    await stores.put("tombstone", ID, b'{"boot":"b1"}')
    assert await stores.do(write(ID, record())) is True


@pytest.mark.parametrize("stands", [record(), record("b2"), record("b1", 7)])
async def test_a_record_that_stands_is_not_put_back(stores: Both, stands: Record) -> None:
    await stores.do(OpenRecord(ID, stands))
    assert await stores.do(PutBackRecord(ID, record())) == encoded(stands)
    assert await stores.do(ReadRecord(ID)) == encoded(stands)


async def test_of_two_that_claim_one_gets_it_and_all_are_told(stores: Both) -> None:
    await stores.do(OpenRecord(ID, record()))
    first, second = record("b2", 1), record("b3", 1)
    assert await stores.here.run([ClaimRecord(ID, record(), first)]) == [True]
    assert await stores.there.run([ClaimRecord(ID, record(), second)]) == [encoded(first)]
    assert await stores.do(ReadRecord(ID)) == encoded(first)
    assert await changes(stores) == [moved_message([OwnershipChange(ID, "b2", 1)])]
    assert SESSION_SECONDS - 5 < await stores.expires_in("record", ID) <= SESSION_SECONDS


@nobodys
async def test_what_is_no_record_cannot_be_claimed(stores: Both, found: bytes | None) -> None:
    if found is not None:
        await stores.put("record", ID, found)
    assert await stores.do(ClaimRecord(ID, record(), record("b2", 1))) == (found or False)
    assert await stores.do(ReadRecord(ID)) == found


@pytest.mark.parametrize(
    ("seen", "stands", "claimed"),
    [
        (record(released=True), record(released=True), True),
        (record(released=True), record(), False),
        (record(), record(released=True), True),
        (record(), record("b1", 1), False),
        (record(), record("b9"), False),
    ],
)
async def test_a_claim_is_of_the_record_that_was_seen(
    stores: Both, seen: Record, stands: Record, claimed: bool
) -> None:
    await stores.do(OpenRecord(ID, stands))
    mine = record("b2", 1)
    assert await stores.do(ClaimRecord(ID, seen, mine)) == (True if claimed else encoded(stands))
    assert len(await changes(stores)) == claimed


# Ends.


@pytest.mark.parametrize("by", ["b1", "b2", ""])
async def test_a_tombstone_takes_the_records_place_for_an_hour(stores: Both, by: str) -> None:
    await stores.do(OpenRecord(ID, record()))
    assert await stores.do(EndSession(ID, tombstone(), by=by)) is True
    assert await stores.there.run([ReadRecord(ID), ReadTombstone(ID)]) == [None, encoded(tombstone())]
    assert TOMBSTONE_SECONDS - 5 < await stores.expires_in("tombstone", ID) <= TOMBSTONE_SECONDS
    told = [] if by == "b1" else [moved_message([OwnershipChange(ID, "b1", 0, ended=True)])]
    assert await changes(stores) == told


@pytest.mark.parametrize("stands", [record("b2"), record("b1", 1)])
async def test_the_record_of_another_life_does_not_end(stores: Both, stands: Record) -> None:
    await stores.do(OpenRecord(ID, stands))
    assert await stores.do(EndSession(ID, tombstone(), by="")) is False
    assert await stores.here.run([ReadRecord(ID), ReadTombstone(ID)]) == [encoded(stands), None]
    assert await changes(stores) == []


@nobodys
async def test_a_session_without_a_record_ends_all_the_same(stores: Both, found: bytes | None) -> None:
    if found is not None:
        await stores.put("record", ID, found)
    assert await stores.do(EndSession(ID, tombstone(), by="b1")) is True
    assert await stores.here.run([ReadRecord(ID), ReadTombstone(ID)]) == [None, encoded(tombstone())]


@pytest.mark.parametrize(("epoch", "replaced"), [(0, True), (1, True), (2, False)])
async def test_the_tombstone_of_a_later_life_stands(stores: Both, epoch: int, replaced: bool) -> None:
    stands = encoded(tombstone("b9", epoch))
    await stores.put("tombstone", ID, stands)
    assert await stores.do(EndSession(ID, tombstone("b1", 1), by="b1")) is True
    assert await stores.do(ReadTombstone(ID)) == (encoded(tombstone("b1", 1)) if replaced else stands)


# Nodes.


def card(boot: str, started: int) -> bytes:
    return encoded(NodeCard(boot, "http://node1:8000", "ready", 1, started))


def beat(boot: str, started: int, instead_of: str = "") -> Beat:
    return Beat("node1", boot, started, card(boot, started), 15, instead_of)


async def test_a_card_stands_until_it_expires_or_is_taken_down_by_its_own(stores: Both) -> None:
    assert await stores.here.run([beat("b1", 5), beat("b1", 5), HasCard("node1")]) == [False, True, True]
    assert await stores.there.run([ReadCard("node1"), ReadCard("node2")]) == [card("b1", 5), None]
    assert 10 < await stores.do(CardSecondsLeft("node1")) <= 15
    assert await stores.do(CardSecondsLeft("node2")) < 0
    assert await stores.here.run([Leave("node1", "b2"), HasCard("node1")]) == [False, True]
    assert await stores.here.run([Leave("node1", "b1"), HasCard("node1")]) == [True, False]
    assert await stores.do(Leave("node1", "b1")) is False


@pytest.mark.parametrize(
    ("started", "instead_of", "taken"),
    [(4, "", False), (5, "", False), (6, "", True), (4, "b1", True), (4, "b7", False)],
)
async def test_of_two_processes_with_one_id_the_earlier_has_it_unless_it_is_gone(
    stores: Both, started: int, instead_of: str, taken: bool
) -> None:
    """`started` is when the process started whose card stands; ours did at 5."""
    await stores.do(beat("b1", started))
    assert await stores.do(beat("b2", 5, instead_of)) == (False if taken else card("b1", started))
    assert await stores.do(ReadCard("node1")) == (card("b2", 5) if taken else card("b1", started))


@pytest.mark.parametrize("found", [b"[]", b'{"boot":1,"started":1}', b'{"boot":"b9"}', b'{"boot":"b9","started":"x"}'])
async def test_a_card_that_cannot_be_read_is_replaced(stores: Both, found: bytes) -> None:
    await stores.put("card", "node1", found)
    assert await stores.do(beat("b1", 5)) is False
    assert await stores.do(ReadCard("node1")) == card("b1", 5)


async def test_names_are_listed_by_when_they_were_seen_last(stores: Both) -> None:
    await stores.here.run([AddNode("node1", 10.5), AddNode("node2", 30.0), AddNode("node3", 20.0)])
    assert await stores.do(NewestNodes(2)) == [b"node2", b"node3"]
    assert await stores.do(NodesSeen()) == [(b"node1", 10.5), (b"node3", 20.0), (b"node2", 30.0)]
    await stores.there.run([AddNode("node1", 40.0), RemoveNode("node2"), RemoveNode("node9")])
    assert await stores.do(NewestNodes(9)) == [b"node1", b"node3"]
    await stores.do(RemoveNodesBefore(20.0))
    assert await stores.do(NewestNodes(9)) == [b"node1"]


# Announcements.


async def test_changes_are_read_on_from_where_one_is(stores: Both) -> None:
    assert await stores.do(LastChange()) is None
    assert await stores.do(ChangesFrom(CHANGES_START, 9)) == []
    for number in range(5):
        await stores.do(EndSession(f"node1.{number}", tombstone(), by=""))
    messages = [moved_message([OwnershipChange(f"node1.{number}", "b1", 0, ended=True)]) for number in range(5)]
    entries = await stores.do(ChangesFrom(CHANGES_START, 9))
    assert [message for _, message in entries] == messages
    assert await stores.do(LastChange()) == entries[-1][0]
    assert await stores.there.run([ChangesFrom(entries[2][0], 2)]) == [entries[2:4]]


class Ear:
    """What one node hears."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.joined = 0

    def join(self) -> None:
        self.joined += 1

    async def has(self, count: int) -> bool:
        return len(self.heard) == count


async def test_what_is_published_or_announced_is_heard_by_all_in_order(stores: Both) -> None:
    here, there = Ear(), Ear()
    assert await stores.do(Publish(b"nobody hears")) == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(stores.here.listen, hear=here.heard.append, joined=here.join))
        nursery.start_soon(partial(stores.there.listen, hear=there.heard.append, joined=there.join))

        async def joined() -> bool:
            return here.joined == there.joined == 1

        await until(joined, "both listen")
        assert await stores.do(Publish(b"one")) == 2
        await stores.do(OpenRecord(ID, record()))
        await stores.do(ClaimRecord(ID, record(), record("b2", 1)))
        await stores.do(Publish(b"two"))
        for ear in (here, there):
            await until(partial(ear.has, 3), "all is heard")
            assert ear.heard == [b"one", moved_message([OwnershipChange(ID, "b2", 1)]), b"two"]
        nursery.cancel_scope.cancel()


# The rest.


async def test_sessions_are_found_by_a_part_of_their_ids_step_by_step(stores: Both) -> None:
    ids = {f"node{number % 3}.id{number}" for number in range(50)}
    await stores.here.run([OpenRecord(each, record()) for each in sorted(ids)])

    async def found(pattern: str) -> set[str]:
        seen, cursor = set(), b"0"
        while True:
            cursor, names = await stores.do(FindSessions(cursor, pattern, 7))
            seen |= set(names)
            if cursor == b"0":
                return seen

    assert await found("*") == ids
    assert await found("node1.*") == {each for each in ids if each.startswith("node1.")}
    assert await found("*.id4*") == {each for each in ids if ".id4" in each}


def away_memory() -> Store:
    memory = SharedMemory()
    memory.stop()
    return MemoryStore(memory)


def away_redis() -> Store:
    return RedisStore(f"redis://127.0.0.1:{free_ports(1)[0]}")


@pytest.mark.parametrize("away", [away_memory, pytest.param(away_redis, marks=pytest.mark.sockets)])
async def test_a_store_that_is_away_says_so(away: Callable[[], Store]) -> None:
    with pytest.raises(StoreDown):
        await away().run([ReadRecord(ID)])


async def test_nothing_is_done_without_operations(stores: Both) -> None:
    assert await stores.here.run([]) == []


def test_every_operation_has_a_name_in_each_store() -> None:
    from typing import get_args

    operations = [kind.__new__(kind) for kind in get_args(Operation)]
    assert all(map(RedisStore("redis://host").name_of, operations))
    assert all(map(MemoryStore(SharedMemory()).name_of, operations))
