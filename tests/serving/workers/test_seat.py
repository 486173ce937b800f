"""A worker's end of the channel: what becomes of requests when its supervisor has gone."""

from __future__ import annotations

import signal
import socket
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trio

from tests.rig.waiting import until
from tests.serving.workers.setup import SETUP
from trio_mcp import MCPServer
from trio_mcp.serving.cannot_listen import CannotListen
from trio_mcp.serving.composition import build_app
from trio_mcp.serving.settings import load
from trio_mcp.serving.workers import channel
from trio_mcp.serving.workers.channel import ChannelBroken
from trio_mcp.serving.workers.deaf import STOP_CLOCK
from trio_mcp.serving.workers.messages import AllIdle, FromSupervisor, FromWorker, Idle, Stop
from trio_mcp.serving.workers.seat import Seat

pytestmark = pytest.mark.sockets


class Node:
    """What the supervisor's messages reach."""

    def __init__(self) -> None:
        self.stopped = trio.Event()
        self.clocks = 0

    def start_clock(self) -> None:
        self.clocks += 1

    def stop_alone(self, number: int) -> None:
        self.stopped.set()

    def stop_on_signal(self, number: int) -> None:
        raise AssertionError("there are no other nodes")

    def retire(self) -> None:
        raise AssertionError("nobody asked for it")


@pytest.mark.parametrize("why", ["ended", "takes nothing"])
async def test_requests_to_a_supervisor_that_is_gone_or_takes_nothing_raise_at_once_and_the_node_stops(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, its = socket.socketpair()
    seat = Seat(msgspec.structs.replace(SETUP, folder=str(tmp_path)), ours)
    settings = load(port=0, secret="s" * 32)
    seat.cluster(build_app(MCPServer("x"), settings), settings)
    node, raised = Node(), []

    async def ask() -> None:
        try:
            await seat.request(b"operations")
        except ChannelBroken as error:
            raised.append(str(error))

    with its:
        async with seat.running(node):
            async with trio.open_nursery() as nursery:
                # Two that wait for their results, and break nothing.
                nursery.start_soon(ask)
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                if why == "ended":
                    its.shutdown(socket.SHUT_RDWR)
                else:
                    monkeypatch.setattr(channel, "MAX_WAITING_BYTES", 0)
                    nursery.start_soon(ask)
                await node.stopped.wait()
            assert len(raised) == (2 if why == "ended" else 3)
            with pytest.raises(ChannelBroken, match="the other process"):
                await seat.request(b"later")
            with pytest.raises(ChannelBroken):
                await seat.subscribe(lambda message: None)


async def test_a_worker_whose_folder_takes_no_socket_says_what_to_do(tmp_path: Path) -> None:
    ours, its = socket.socketpair()
    folder = tmp_path / "file"
    folder.touch()
    seat = Seat(msgspec.structs.replace(SETUP, folder=str(folder)), ours)
    settings = load(port=0, secret="s" * 32)
    seat.cluster(build_app(MCPServer("x"), settings), settings)
    with its, pytest.RaisesGroup(pytest.RaisesExc(CannotListen, match="The folder of a Unix socket must exist")):
        async with seat.running(Node()):
            pass


async def test_operations_that_are_longer_than_a_message_are_refused_and_break_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "MAX_MESSAGE_BYTES", 100)
    ours, its = socket.socketpair()
    with its, ours:
        seat = Seat(msgspec.structs.replace(SETUP, folder=str(tmp_path)), ours)
        with pytest.raises(OSError, match="longer than a message to the supervisor may be"):
            await seat.request(bytes(101))


async def test_the_signal_starts_the_clock_while_the_worker_runs_and_does_not_kill_it_as_it_ends(
    tmp_path: Path,
) -> None:
    assert STOP_CLOCK is not None
    ours, its = socket.socketpair()
    seat = Seat(msgspec.structs.replace(SETUP, folder=str(tmp_path)), ours)
    settings = load(port=0, secret="s" * 32)
    seat.cluster(build_app(MCPServer("x"), settings), settings)
    node = Node()
    with its:
        async with seat.running(node):
            signal.raise_signal(STOP_CLOCK)
            assert node.clocks == 1
    signal.raise_signal(STOP_CLOCK)
    assert node.clocks == 1
    assert signal.getsignal(STOP_CLOCK) is signal.SIG_IGN, "a handler would be taken away before the process has ended"


async def test_when_the_node_stops_a_worker_that_has_nothing_left_ends_only_when_none_has(tmp_path: Path) -> None:
    ours, its = socket.socketpair()
    seat = Seat(msgspec.structs.replace(SETUP, folder=str(tmp_path)), ours)
    settings = load(port=0, secret="s" * 32)
    seat.cluster(build_app(MCPServer("x"), settings), settings)
    assert (seat.may_end(False), seat.may_end(True)) == (True, False), "alone, for the node goes on"
    node = Node()
    supervisor = channel.Channel[FromWorker, FromSupervisor](its, FromWorker)
    with closing(supervisor):

        async def said_idle() -> bool:
            while True:
                message = await supervisor.receive()
                if isinstance(message, Idle):
                    return message.idle

        async with trio.open_nursery() as nursery, seat.running(node):
            nursery.start_soon(supervisor.write)
            supervisor.send(Stop(signal.SIGTERM))
            await node.stopped.wait()
            assert not seat.may_end(True)
            # It says so once.
            assert not seat.may_end(False)
            assert not seat.may_end(False)
            assert await said_idle()
            assert not seat.may_end(True)
            assert not await said_idle()
            supervisor.send(AllIdle())

            async def may_end() -> bool:
                return seat.may_end(False)

            await until(may_end, "it has heard that all may end")
            assert not seat.may_end(True), "something has come to it meanwhile"
            assert not node.clocks
            nursery.cancel_scope.cancel("seen")
