"""Connections that go to other processes and come back: what is sent, what waits here and for how long, on a virtual clock, with a mover that
sends nothing."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest
import trio

from trio_mcp.transports.listener import parking as parking_module
from trio_mcp.transports.listener.departure import Departure
from trio_mcp.transports.listener.eviction import OpenConnections
from trio_mcp.transports.listener.moving import Moved, Receiver
from trio_mcp.transports.listener.parking import MOST_PLACES, PARKED_SECONDS, TRUSTED_SECONDS, Parking
from trio_mcp.transports.listener.wire import Hangups, SocketWire

HERE, THERE, ELSEWHERE = "unix:/here.http", "unix:/there.http", "unix:/elsewhere.http"


@dataclass
class Sent:
    """What the mover was given."""

    moved: Moved
    connected: socket.socket | None
    to: str
    answered: Callable[[bool], None]


@dataclass
class RecordingMover:
    """Implements `Mover`; the test answers."""

    url: str = HERE
    departing: trio.Event = field(default_factory=trio.Event)
    sent: list[Sent] = field(default_factory=list)

    def takes_from(self, server: tuple[str, int | None] | None) -> bool:
        return True

    def serve_with(self, receiver: Receiver | None) -> None:
        pass

    def owner(self, data: bytes) -> str | None:
        return data.decode()

    def move(self, leaving: Moved, connected: socket.socket | None, to: str, answered: Callable[[bool], None]) -> bool:
        self.sent.append(Sent(leaving, connected, to, answered))
        return True

    def refuge(self) -> str | None:
        return THERE

    async def settled(self) -> None:
        pass


class Process:
    """Its parking, and the connections that it is made to serve."""

    def __init__(self, connected: socket.socket, most: int | None = None) -> None:
        self.mover = RecordingMover()
        self.opened = OpenConnections(most)
        self.anew: list[Moved] = []
        self.parking = Parking(self.mover, self.opened, lambda moved, connected: self.anew.append(moved))
        self._hangups = Hangups()
        self.connected = connected

    def close(self) -> None:
        self._hangups.close()

    def serves(self, moved: Moved | None = None) -> Departure:
        """One more connection."""
        self.opened.begin()
        wire = SocketWire(self.connected, self._hangups, read_size=1, write_seconds=1)
        return Departure(self.parking, wire, moved)

    def moved(self, key: int = 1, parked: Mapping[str, float] | None = None) -> Moved:
        """As it comes from another process, without a request."""
        return Moved(b"", None, None, key, dict(parked or {}))

    def returning(self, sent: Moved, parked: Mapping[str, float] | None = None) -> Moved:
        """As another process sends back what it was sent."""
        return Moved(b"again", None, None, sent.key, {**sent.parked, **(parked or {})})


@pytest.fixture
def connected() -> Iterator[socket.socket]:
    with socket.socket() as one:
        yield one


@pytest.fixture
def process(connected: socket.socket) -> Iterator[Process]:
    made = Process(connected)
    yield made
    made.close()


@dataclass
class Outcome:
    """What `back` has returned; a task that waits has none."""

    ended: bool = False
    data: bytes | None = None


async def wait_for(departure: Departure, nursery: trio.Nursery) -> Outcome:
    outcome = Outcome()

    async def wait() -> None:
        outcome.data = await departure.back()
        outcome.ended = True

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    return outcome


async def test_one_that_was_accepted_here_is_not_parked_when_it_leaves(process: Process, nursery: trio.Nursery) -> None:
    departure = process.serves()
    assert departure.lead(THERE.encode())
    (sent,) = process.mover.sent
    assert (sent.to, sent.connected, sent.moved.parked) == (THERE, process.connected, {})
    outcome = await wait_for(departure, nursery)
    assert not outcome.ended, "it may not have been taken"
    sent.answered(True)
    await trio.testing.wait_all_tasks_blocked()
    assert (outcome.ended, outcome.data, departure.is_away) == (True, None, True)


async def test_one_that_has_come_is_parked_when_it_goes_on_and_comes_back_without_its_descriptor(
    process: Process, nursery: trio.Nursery
) -> None:
    departure = process.serves(process.moved(key=7))
    assert departure.lead(THERE.encode())
    (sent,) = process.mover.sent
    assert {*sent.moved.parked} == {HERE}
    outcome = await wait_for(departure, nursery)
    sent.answered(True)
    await trio.testing.wait_all_tasks_blocked()
    assert not outcome.ended

    assert process.parking.take(process.returning(sent.moved, {THERE: time.monotonic()}), None)
    await trio.testing.wait_all_tasks_blocked()
    assert (outcome.ended, outcome.data, process.anew) == (True, b"again", [])
    assert departure.arriving, "its request does not go on"
    departure.arriving = False
    assert departure.lead(THERE.encode())
    assert process.mover.sent[1].connected is None, "it is parked there"
    assert {*process.mover.sent[1].moved.parked} == {HERE, THERE}


async def test_one_that_comes_back_without_a_request_goes_on_with_its_next(
    process: Process, nursery: trio.Nursery
) -> None:
    departure = process.serves(process.moved())
    assert departure.lead(THERE.encode())
    assert process.parking.take(process.moved(), None)
    assert await departure.back() == b""
    assert departure.lead(THERE.encode())


async def test_no_two_connections_have_the_same_key_whatever_user_code_does_to_random(process: Process) -> None:
    for _ in range(2):
        random.seed(1)
        assert process.serves().lead(THERE.encode())
    first, second = process.mover.sent
    assert first.moved.key != second.moved.key


async def test_it_goes_with_its_descriptor_to_a_process_that_it_has_left_long_ago(process: Process) -> None:
    now = time.monotonic()
    lately = {THERE: now, ELSEWHERE: now - TRUSTED_SECONDS}
    for to, sends in ((THERE, False), (ELSEWHERE, True)):
        departure = process.serves(process.moved(parked=lately))
        assert departure.lead(to.encode())
        sent = process.mover.sent[-1]
        assert (sent.connected is not None) is sends
        assert {*sent.moved.parked} == {HERE, THERE}, "the other one is forgotten"


async def test_an_answer_that_is_looked_at_when_it_is_back_changes_nothing(
    process: Process, nursery: trio.Nursery
) -> None:
    departure = process.serves(process.moved())
    assert departure.lead(THERE.encode())
    assert process.parking.take(process.returning(process.mover.sent[0].moved), None)
    assert await departure.back() == b"again", "it may be back before its task waits"
    process.mover.sent[0].answered(True)
    assert not departure.is_away
    departure.arriving = False
    assert departure.lead(THERE.encode())
    outcome = await wait_for(departure, nursery)
    assert not outcome.ended


@pytest.mark.parametrize("parked", [False, True], ids=["accepted here", "come from elsewhere"])
async def test_what_is_not_taken_goes_on_here_and_leaves_with_its_descriptor_next(
    process: Process, parked: bool, nursery: trio.Nursery
) -> None:
    departure = process.serves(process.moved(parked={THERE: time.monotonic()}) if parked else None)
    assert departure.lead(THERE.encode())
    assert (process.mover.sent[0].connected is None) is parked
    outcome = await wait_for(departure, nursery)
    process.mover.sent[0].answered(False)
    await trio.testing.wait_all_tasks_blocked()
    assert (outcome.ended, outcome.data, departure.arriving) == (True, THERE.encode(), True)
    departure.arriving = False
    assert departure.lead(THERE.encode())
    assert process.mover.sent[1].connected is not None


async def test_the_end_of_its_client_releases_it_when_it_was_taken_and_not_before(
    process: Process, nursery: trio.Nursery
) -> None:
    departure = process.serves(process.moved())
    assert departure.lead(THERE.encode())
    outcome = await wait_for(departure, nursery)
    departure.release()
    await trio.testing.wait_all_tasks_blocked()
    assert not outcome.ended
    process.mover.sent[0].answered(True)
    await trio.testing.wait_all_tasks_blocked()
    assert (outcome.ended, outcome.data) == (True, None)


async def test_no_more_than_so_many_are_parked_and_in_no_more_than_so_many_processes(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking_module, "MOST_PARKED", 1)
    many = {f"unix:/{number}.http": time.monotonic() for number in range(MOST_PLACES)}
    for parked in (many, {}, {}):
        assert process.serves(process.moved(len(process.mover.sent), parked)).lead(THERE.encode())
    assert [HERE in sent.moved.parked for sent in process.mover.sent] == [False, True, False]


async def test_those_that_are_served_and_parked_are_no_more_than_may_be_served(connected: socket.socket) -> None:
    process = Process(connected, most=3)
    first, second, third = (process.serves(process.moved(key)) for key in range(3))
    assert first.lead(THERE.encode())
    process.serves()
    assert second.lead(THERE.encode())
    assert third.lead(THERE.encode())
    assert [HERE in sent.moved.parked for sent in process.mover.sent] == [True, False, True]
    process.close()


async def test_one_is_released_where_another_that_is_served_needs_its_place(
    connected: socket.socket, nursery: trio.Nursery
) -> None:
    process = Process(connected, most=3)
    outcomes = []
    for key in range(2):
        departure = process.serves(process.moved(key))
        assert departure.lead(THERE.encode())
        process.mover.sent[key].answered(True)
        outcomes.append(await wait_for(departure, nursery))
    for key, ended in ((2, [False, False]), (3, [True, False]), (4, [True, True])):
        assert process.parking.take(process.moved(key), connected)
        await trio.testing.wait_all_tasks_blocked()
        assert [outcome.ended for outcome in outcomes] == ended
    process.close()


async def test_those_that_do_not_come_back_are_released(
    process: Process, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    nursery.start_soon(process.parking.run)
    outcomes = []
    for key in range(3):
        departure = process.serves(process.moved(key=key))
        assert departure.lead(THERE.encode())
        process.mover.sent[key].answered(True)
        outcomes.append(await wait_for(departure, nursery))
        await trio.sleep(PARKED_SECONDS / 3 - 0.01)
    assert [outcome.ended for outcome in outcomes] == [False] * 3
    assert process.parking.take(process.returning(process.mover.sent[1].moved), None)
    await trio.sleep(0.1)
    assert [(outcome.ended, outcome.data) for outcome in outcomes] == [(True, None), (True, b"again"), (False, None)]
    await trio.sleep(PARKED_SECONDS)
    assert outcomes[2].ended
    assert not process.parking.take(process.returning(process.mover.sent[2].moved), None)


@pytest.mark.parametrize(
    ("end", "parks", "takes"),
    [
        (Parking.release_parked, True, True),
        (Parking.park_no_more, False, True),
        (Parking.take_no_more, False, False),
    ],
    ids=["another process ends", "this one is replaced", "the server stops"],
)
async def test_all_that_are_parked_are_released(
    process: Process, nursery: trio.Nursery, end: Callable[[Parking], None], parks: bool, takes: bool
) -> None:
    departure = process.serves(process.moved())
    assert departure.lead(THERE.encode())
    process.mover.sent[0].answered(True)
    outcome = await wait_for(departure, nursery)
    end(process.parking)
    await trio.testing.wait_all_tasks_blocked()
    assert (outcome.ended, outcome.data) == (True, None)
    assert (process.parking.has_room, process.parking.take(process.moved(), process.connected)) == (parks, takes)


async def test_one_whose_task_was_cancelled_does_not_come_back(process: Process, nursery: trio.Nursery) -> None:
    departure = process.serves(process.moved())
    assert departure.lead(THERE.encode())
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as tasks:
            await wait_for(departure, tasks)
            scope.cancel("the server stops")
            # Before its task has run again.
            assert not process.parking.take(process.returning(process.mover.sent[0].moved), None)


async def test_what_is_full_takes_nothing_and_an_end_makes_room(connected: socket.socket) -> None:
    process = Process(connected, most=2)
    departure = process.serves(process.moved())
    process.serves()
    assert departure.lead(THERE.encode())
    # One more than the bound, as when connections change places.
    for _ in range(2):
        process.serves()
    returning = process.returning(process.mover.sent[0].moved)
    assert not process.parking.take(returning, None)
    assert not process.parking.take(process.moved(key=2), process.connected)
    process.opened.end()
    assert process.parking.take(returning, None)
    assert not process.parking.take(process.moved(key=2), process.connected)
    process.opened.end()
    assert process.parking.take(process.moved(key=2), process.connected)
    assert [moved.key for moved in process.anew] == [2]
    process.close()


async def test_a_descriptor_that_comes_for_a_parked_connection_is_closed(process: Process) -> None:
    departure = process.serves(process.moved(key=1))
    assert departure.lead(THERE.encode())
    with socket.socket() as another:
        assert process.parking.take(Moved(b"again", None, None, 1, {}), another)
        assert another.fileno() == -1
    assert await departure.back() == b"again"
