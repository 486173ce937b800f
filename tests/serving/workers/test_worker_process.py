"""One worker as its supervisor has it, where the test plays the process: whatever that says harms nobody else."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import msgspec
import pytest
import trio

from tests.rig.left_over import descriptors
from tests.serving.workers.setup import SETUP
from trio_mcp.cluster.record import Record
from trio_mcp.cluster.store.encoding import decode_results, encode_operations
from trio_mcp.cluster.store.memory import SharedMemory
from trio_mcp.cluster.store.port import ChangesFrom, FindSessions, OpenRecord, Publish, ReadCard, ReadRecord
from trio_mcp.serving.workers import worker_process as module
from trio_mcp.serving.workers.channel import Channel, receive_now
from trio_mcp.serving.workers.deaf import STOP_CLOCK
from trio_mcp.serving.workers.messages import (
    LAST_PAGE,
    Alive,
    AllIdle,
    Done,
    FromSupervisor,
    FromWorker,
    Heard,
    Held,
    Hold,
    Idle,
    LetGo,
    Ready,
    Retire,
    Run,
    Setup,
    Stop,
    Subscribe,
    Told,
    understood,
)
from trio_mcp.serving.workers.worker_process import WorkerProcess
from trio_mcp.sessions.shares import SessionCounts, Share


class Process:
    """Stands for a `trio.Process`."""

    pid = 4711

    def __init__(self) -> None:
        self.returncode: int | None = None
        self.signals = list[int]()
        self._ended = trio.Event()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def end(self, code: int) -> None:
        self.returncode = code
        self._ended.set()

    def send_signal(self, number: int) -> None:
        self.signals.append(number)

    def kill(self) -> None:
        self.end(-signal.SIGKILL)

    def terminate(self) -> None:
        self.end(-signal.SIGTERM)


class Played:
    """A worker process, its end of the channel, and how its supervisor has it."""

    def __init__(self, worker: WorkerProcess, process: Process, its: socket.socket) -> None:
        self.worker = worker
        self.process = process
        self.socket = its
        self.channel: Channel[FromSupervisor, FromWorker] = Channel(its.dup(), FromSupervisor)

    async def ask(self, operations: bytes) -> bytes:
        """The results of these operations."""
        self.channel.send(Run(1, operations))
        done = await self.channel.receive()
        assert isinstance(done, Done)
        return done.results


@asynccontextmanager
async def played(
    monkeypatch: pytest.MonkeyPatch, memory: SharedMemory | None = None, counts: SessionCounts | None = None
) -> AsyncIterator[Played]:
    process = Process()
    inherited: list[socket.socket] = []

    async def execute(setup: Setup, channel: int) -> Any:
        inherited.append(socket.socket(fileno=os.dup(channel)))
        return process

    monkeypatch.setattr(module, "_execute", execute)
    worker = WorkerProcess(SETUP, memory or SharedMemory(), counts or SessionCounts())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        await trio.testing.wait_all_tasks_blocked()
        (its,) = inherited
        with its:
            # As a process does: before its event loop runs.
            assert understood(receive_now(its)) == SETUP
            its_end = Played(worker, process, its)
            with closing(its_end.channel):
                nursery.start_soon(its_end.channel.write)
                yield its_end
        nursery.cancel_scope.cancel("over")


def is_heard(worker: WorkerProcess) -> bool:
    return worker.heard is not None


READ = encode_operations([ReadCard("n-1")])


@pytest.mark.parametrize(
    "operations",
    [
        b"\xc1",
        msgspec.msgpack.encode([["Sing", []]]),
        msgspec.msgpack.encode([["ReadCard", []]]),
        msgspec.msgpack.encode([["ReadCard", [1]]]),
        b"\x91\x92\xa8ReadCard\x91" + b"\x91" * 100_000 + b"\xc0",
        encode_operations([FindSessions(b"no number", "*", 1)]),
        encode_operations([ChangesFrom(b"no number", 1)]),
        encode_operations([ChangesFrom(b"0-0", -1)]),
    ],
    ids=["bytes", "no operation", "too few", "type", "nested", "cursor", "id", "limit"],
)
async def test_a_worker_that_asks_for_what_makes_no_sense_is_killed_with_the_reason_in_the_log(
    operations: bytes, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async with played(monkeypatch) as its:
        assert decode_results([ReadCard("n-1")], await its.ask(READ)) == [None]
        its.channel.send(Run(2, operations))
        await its.worker.ended.wait()
        assert its.process.returncode == -signal.SIGKILL
        assert its.worker.why_killed is not None
        assert "its channel to the supervisor has broken: operations that make no sense" in its.worker.why_killed


async def test_a_worker_that_sends_no_message_is_killed_with_the_reason_in_the_log(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async with played(monkeypatch) as its:
        its.channel.send(Ready("", {}))
        await its.worker.ready.wait()
        its.socket.sendall(b"\x00\x00\x00\x01\xc1")
        asked = await its.worker.ask("metrics", 60.0)
        assert asked is None, "nobody waits for what does not come"
        await its.worker.ended.wait()
        assert its.worker.why_killed is not None
        assert "a message that cannot be read" in its.worker.why_killed


async def test_a_worker_whose_event_loop_has_ended_and_whose_threads_run_on_is_not_taken_for_one_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with played(monkeypatch) as its:
        its.channel.send(Alive())
        await trio.testing.wait_all_tasks_blocked()
        assert is_heard(its.worker)
        its.channel.send(Told(LAST_PAGE, b"page"))
        await trio.testing.wait_all_tasks_blocked()
        assert its.worker.last_page == b"page"
        assert not is_heard(its.worker), "no further sign of life is waited for"


async def test_a_worker_that_subscribes_twice_hears_each_message_once(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SharedMemory()
    async with played(monkeypatch, memory) as its:
        its.channel.send(Subscribe())
        its.channel.send(Subscribe())
        await its.ask(READ)
        memory.publish(b"news")
        memory.publish(b"more")
        assert [await its.channel.receive() for _ in range(2)] == [Heard(b"news"), Heard(b"more")]


async def test_a_worker_for_which_too_much_was_published_at_once_hears_what_comes_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trio_mcp.cluster.store.shared_memory.MAX_UNHEARD", 10)
    memory = SharedMemory()
    async with played(monkeypatch, memory) as its:
        its.channel.send(Subscribe())
        await its.ask(READ)
        # The first is on its way to the worker at once.
        for _ in range(12):
            memory.publish(b"flood")
        for _ in range(11):
            assert await its.channel.receive() == Heard(b"flood")
        await trio.testing.wait_all_tasks_blocked()
        memory.publish(b"later")
        assert await its.channel.receive() == Heard(b"later")


async def test_results_that_are_longer_than_a_message_are_no_results_and_harm_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trio_mcp.serving.workers.channel.MAX_MESSAGE_BYTES", 1_000)
    memory = SharedMemory()
    memory.cards.put("n-1", bytes(2_000), 60.0)
    async with played(monkeypatch, memory) as its:
        assert await its.ask(READ) == b""
        assert decode_results([Publish(b"x")], await its.ask(encode_operations([Publish(b"x")]))) == [0]


async def test_a_worker_that_cannot_be_started_has_ended_and_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def execute(setup: Setup, channel: int) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(module, "_execute", execute)
    before, memory = descriptors(), SharedMemory()
    record = Record(v=2, node=SETUP.name, boot="b1", epoch=0, principal="ann", version="2025-11-25")
    memory.do(OpenRecord("its session", record))
    worker = WorkerProcess(SETUP, memory, SessionCounts())
    await worker.run()
    assert worker.ended.is_set()
    assert memory.do(ReadRecord("its session")) is None
    assert worker.failure == "[Errno 11] Resource temporarily unavailable"
    assert module.how_it_ended(worker.code) == "it could not be started"
    assert descriptors() == before


ANN = Share("principal", "ann", 1)


async def test_sessions_count_for_their_callers_in_all_workers_until_they_end_or_their_worker_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = SessionCounts()
    async with played(monkeypatch, counts=counts) as its:

        async def hold(session_id: str) -> str:
            its.channel.send(Hold(1, session_id, [ANN]))
            held = await its.channel.receive()
            assert isinstance(held, Held)
            return held.full

        assert counts.take("other.a", [ANN], "n-2") == ""
        assert await hold("n.a") == "principal", "another worker has the one that there may be"
        its.channel.send(LetGo("other.a"))
        assert await hold("n.a") == "principal", "the session is not this worker's"
        counts.give_back("other.a", "n-2")
        assert await hold("n.a") == ""
        its.channel.send(LetGo("n.a"))
        # One that goes on here counts, within the bounds or not.
        its.channel.send(Hold(None, "other.b", [ANN]))
        assert await hold("n.c") == "principal"
        assert counts.take("x", [ANN], "n-2") == "principal"
        its.process.end(0)
        await its.worker.ended.wait()
        assert counts.take("x", [ANN], "n-2") == ""


@pytest.mark.parametrize("how", ["stop", "retire"])
async def test_a_worker_that_is_to_stop_is_told_how_and_by_a_signal_since_when(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with played(monkeypatch) as its:
        its.channel.send(Ready("", {}))
        await its.worker.ready.wait()
        if how == "stop":
            its.worker.stop(signal.SIGINT)
        else:
            its.worker.retire()
        assert its.process.signals == [STOP_CLOCK], "also where the event loop reads no message"
        assert await its.channel.receive() == (Stop(signal.SIGINT) if how == "stop" else Retire())


async def test_a_worker_says_whether_it_has_anything_left_and_is_told_when_none_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with played(monkeypatch) as its:
        for idle in (True, False):
            its.channel.send(Idle(idle))
            # In order: what is sent behind it is answered after it.
            await its.ask(READ)
            assert its.worker.idle is idle
        its.worker.let_end()
        assert await its.channel.receive() == AllIdle()


@pytest.mark.parametrize("error", [OSError("no memory"), RuntimeError("can't start new thread")])
async def test_where_no_process_can_be_started_and_the_folder_is_read_only_the_supervisor_goes_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_process(*_: object, **__: object) -> trio.Process:
        raise error

    monkeypatch.setattr(trio.lowlevel, "open_process", open_process)
    # As on a disk that has become read-only, no file can be removed there.
    setup = msgspec.structs.replace(SETUP, folder=os.devnull)
    worker = WorkerProcess(setup, SharedMemory(), SessionCounts())
    await worker.run()
    assert worker.ended.is_set()
    assert str(error) in str(worker.failure)
