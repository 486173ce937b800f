"""How a node of several empties itself, phase by phase: its peers are played, so that time can be made up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.http.harness import SessionClient, Wire, serving
from trio_mcp import MCPServer
from trio_mcp.cluster.cluster import Cluster
from trio_mcp.serving.drain import drain, end_remaining
from trio_mcp.sessions.live_session import LiveSession
from trio_mcp.sessions.node_state import Claims, Served
from trio_mcp.sessions.stop_times import BALANCER_SECONDS, FETCH_SECONDS, LAST_CALLS_SECONDS
from trio_mcp.transports.http.app import HttpApp

NextEvent: TypeAlias = Callable[[], Awaitable[dict[str, str] | None]]


@dataclass
class _Options:
    restore: bool


@dataclass
class Peers:
    """Plays the cluster, and notes when it was told what."""

    restore: bool = True
    has_ready_peer: bool = True
    takes: bool = True
    """Redis hears of a session that is let go."""
    streams: int = 0
    awaits_answers: bool = False
    """A request is with a peer."""
    told: list[tuple[float, str]] = field(default_factory=list)
    began: float = 0.0

    @property
    def options(self) -> _Options:
        return _Options(self.restore)

    @property
    def can_release(self) -> bool:
        return self.has_ready_peer

    def note(self, what: str) -> None:
        self.told.append((round(trio.current_time() - self.began, 1), what))

    def announce(self) -> None:
        if not self.told:
            self.began = trio.current_time()
        self.note("hear of the state")

    def relayed_stream_enders(self) -> list[Callable[[], None]]:
        return [lambda: self.note("relayed stream ends") for _ in range(self.streams)]

    def end_relays(self) -> None:
        self.note("relays end")

    async def release(self, session: LiveSession) -> bool:
        self.note("session leaves" if self.takes else "session stays")
        if self.takes:
            session.hand_off()
        return self.takes

    def times(self, what: str) -> list[float]:
        return [at for at, each in self.told if each == what]


def worker(go: trio.Event) -> MCPServer:
    mcp = MCPServer("x")

    @mcp.tool
    async def work() -> None:
        await go.wait()

    return mcp


@asynccontextmanager
async def draining(
    app: HttpApp, peers: Peers, window: float = 22.0, delay: float = 0.0
) -> AsyncIterator[Callable[[], float]]:
    """While the node drains; what is yielded tells when it was done, -1 until then."""
    done = [-1.0]

    async def run() -> None:
        await drain(app, window, delay=delay, cluster=cast("Cluster", peers))
        done[0] = round(trio.current_time() - peers.began, 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        yield lambda: done[0]
        nursery.cancel_scope.cancel("the test is over")


async def probe(wire: Wire, path: str) -> int:
    exchange = wire.start("GET", path=path)
    return await exchange.head()


async def test_for_the_delay_a_node_is_not_ready_and_serves_all_as_before(autojump_clock: MockClock) -> None:
    peers = Peers()
    async with serving(MCPServer("x")) as wire, draining(wire.app, peers, delay=3.0):
        assert (await probe(wire, "/readyz"), await probe(wire, "/livez")) == (503, 200)
        client = await wire.open()
        await trio.sleep(2.9)
        assert await client.start("ping").result() == {}
        assert wire.app.life.answers.claims is Claims.NO_MORE
        assert peers.told == [(0.0, "hear of the state")]
        await trio.sleep(0.2)
        assert peers.told[1] == (3.0, "hear of the state")
        assert wire.app.life.answers.modern is Served.PEER_ELSE_HERE
        assert await wire.initialize().head() == 503


@pytest.mark.parametrize("ready", [True, False])
async def test_a_node_is_unwell_only_when_there_is_a_peer_to_go_to(autojump_clock: MockClock, ready: bool) -> None:
    peers = Peers(has_ready_peer=ready)
    async with serving(MCPServer("x")) as wire, draining(wire.app, peers, delay=3.0):
        await wire.open()
        await trio.sleep(2.9)
        assert await probe(wire, "/livez") == 200
        await trio.sleep(0.2)
        assert await probe(wire, "/livez") == (503 if ready else 200)
        assert await probe(wire, "/readyz") == 503


async def test_sessions_with_a_stream_leave_evenly_over_the_window_less_two_seconds(
    autojump_clock: MockClock,
) -> None:
    peers = Peers()
    async with serving(MCPServer("x")) as wire:
        for _ in range(10):
            await (await wire.open()).listen().head()
        async with draining(wire.app, peers) as done:
            await trio.sleep(30)
            assert peers.times("session leaves") == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
            assert 18 <= done() < 19


@pytest.mark.parametrize("what", ["session leaves", "relayed stream ends"])
async def test_what_leaves_evenly_catches_up_after_the_loop_was_blocked(what: str, autojump_clock: MockClock) -> None:
    class Blocking(Peers):
        def note(self, said: str) -> None:
            super().note(said)
            if len(self.times(what)) == 1 and said == what:
                autojump_clock.jump(9.0)

    peers = Blocking(streams=10)
    async with serving(MCPServer("x")) as wire:
        for _ in range(10):
            await (await wire.open()).listen().head()
        async with draining(wire.app, peers):
            await trio.sleep(30)
    assert peers.times(what) == [0, 9, 9, 9, 9, 10, 12, 14, 16, 18]


async def test_sessions_at_rest_without_a_stream_leave_at_once_and_spread_nobody_else(
    autojump_clock: MockClock,
) -> None:
    peers = Peers()
    async with serving(MCPServer("x")) as wire:
        for number in range(40):
            client = await wire.open()
            if number % 20 == 7:
                await client.listen().head()
        async with draining(wire.app, peers) as done:
            await trio.sleep(30)
            assert peers.times("session leaves") == [0] * 39 + [10]
            assert 10 <= done() < 11


async def test_a_node_of_abandoned_sessions_is_gone_as_soon_as_balancers_have_noticed(
    autojump_clock: MockClock,
) -> None:
    async with serving(MCPServer("x")) as wire:
        for _ in range(100):
            await wire.open()
        async with draining(wire.app, Peers()) as done:
            await trio.sleep(30)
            assert done() == BALANCER_SECONDS


async def test_a_session_with_a_call_in_flight_leaves_when_that_ends(autojump_clock: MockClock) -> None:
    peers, go = Peers(), trio.Event()
    async with serving(worker(go)) as wire:
        client = await wire.open()
        call = client.tool("work")
        await trio.sleep(0.1)
        async with draining(wire.app, peers):
            await trio.sleep(9)
            assert peers.times("session leaves") == []
            go.set()
            assert (await call.result())["isError"] is False
            await trio.sleep(0.3)
            (left,) = peers.times("session leaves")
            assert 9 <= left < 9.2


def workers(ends: list[trio.Event]) -> MCPServer:
    """`work` runs until the event of its number."""
    mcp = MCPServer("x")

    @mcp.tool
    async def work(number: int) -> None:
        await ends[number].wait()

    return mcp


async def holding_back(session: LiveSession) -> None:
    """Wait until it holds its requests back."""
    with trio.fail_after(20):
        while session.calls.resumed is None:  # noqa: ASYNC110
            await trio.sleep(0.03)


async def test_a_session_whose_calls_overlap_without_end_holds_the_next_one_back(autojump_clock: MockClock) -> None:
    peers, ends = Peers(), [trio.Event() for _ in range(2)]
    async with serving(workers(ends)) as wire:
        client = await wire.open()
        first = client.tool("work", number=0)
        await wait_all_tasks_blocked()
        async with draining(wire.app, peers):
            await trio.sleep(3)
            second = client.tool("work", number=1)
            await wait_all_tasks_blocked()
            ends[0].set()
            assert (await first.result())["isError"] is False
            (session,) = wire.app.hub.sessions
            await holding_back(session)
            assert await client.notify("notifications/x") == 202
            assert peers.times("session leaves") == []
            ends[1].set()
            assert (await second.result())["isError"] is False
            await trio.sleep(0.5)
            (left,) = peers.times("session leaves")
            assert 5 <= left < 6


async def test_a_call_that_runs_for_long_holds_no_other_back(autojump_clock: MockClock) -> None:
    peers, go = Peers(), trio.Event()
    async with serving(worker(go)) as wire:
        client = await wire.open()
        call = client.tool("work")
        await trio.sleep(1)
        (session,) = wire.app.hub.sessions
        async with draining(wire.app, peers, window=40.0):
            for _ in range(56):
                await trio.sleep(0.5)
                assert session.calls.resumed is None
                assert await client.start("ping").result() == {}
            go.set()
            assert (await call.result())["isError"] is False
            await trio.sleep(6)
            assert len(peers.times("session leaves")) == 1


async def test_calls_are_not_held_back_for_nothing(autojump_clock: MockClock) -> None:
    peers = Peers(has_ready_peer=False)
    mcp = MCPServer("x")

    @mcp.tool
    async def work() -> None:
        await trio.sleep(3)

    async with serving(mcp) as wire:
        client = await wire.open()
        (session,) = wire.app.hub.sessions
        async with draining(wire.app, peers, window=40.0):
            for _ in range(10):
                client.tool("work")
                await trio.sleep(2)
                assert session.calls.resumed is None


async def test_an_answer_of_a_call_that_ended_while_others_were_held_back_can_be_fetched(
    autojump_clock: MockClock,
) -> None:
    peers, ends = Peers(), [trio.Event() for _ in range(2)]
    async with serving(workers(ends)) as wire:
        client = await wire.open()
        first = client.tool("work", number=0)
        await wait_all_tasks_blocked()
        async with draining(wire.app, peers):
            await trio.sleep(3)
            second = client.tool("work", number=1)
            seen = await second.event()
            assert seen is not None
            ends[0].set()
            await first.result()
            (session,) = wire.app.hub.sessions
            await holding_back(session)
            second.disconnect()
            ends[1].set()
            await trio.sleep(1.5)
            assert peers.times("session leaves") == []
            assert (await client.listen(seen["id"]).result())["isError"] is False
            await trio.sleep(5)
            assert len(peers.times("session leaves")) == 1


async def cut_off_before_the_answer(wire: Wire, go: trio.Event) -> tuple[SessionClient, str]:
    """A client that lost the connection of its call, and the last event id it saw; the answer waits for it."""
    client = await wire.open()
    call = client.tool("work")
    first = await call.event()
    assert first is not None
    call.disconnect()
    go.set()
    await wait_all_tasks_blocked()
    return client, first["id"]


async def test_a_session_leaves_when_its_answers_are_fetched(autojump_clock: MockClock) -> None:
    peers, go = Peers(), trio.Event()
    async with serving(worker(go)) as wire:
        client, seen = await cut_off_before_the_answer(wire, go)
        async with draining(wire.app, peers):
            await trio.sleep(2)
            assert peers.times("session leaves") == []
            assert (await client.listen(seen).result())["isError"] is False
            await trio.sleep(0.3)
            (left,) = peers.times("session leaves")
            assert left < 2.2


async def test_an_answer_that_nobody_fetches_keeps_its_session_four_seconds(autojump_clock: MockClock) -> None:
    peers, go = Peers(), trio.Event()
    async with serving(worker(go)) as wire:
        await cut_off_before_the_answer(wire, go)
        async with draining(wire.app, peers):
            await trio.sleep(10)
            assert peers.times("session leaves") == [FETCH_SECONDS]


async def test_the_streams_of_a_session_that_leaves_say_when_to_come_back(autojump_clock: MockClock) -> None:
    peers = Peers()
    async with serving(MCPServer("x")) as wire:
        stream = (await wire.open()).listen()
        await stream.event()
        async with draining(wire.app, peers):
            retries = [fields["retry"] for fields in await rest(stream.raw.event) if "retry" in fields]
            assert len(retries) == 1


async def rest(event: NextEvent) -> list[dict[str, str]]:
    found = []
    while (fields := await event()) is not None:
        found.append(fields)
    return found


async def test_a_session_nobody_can_take_waits_for_somebody_who_can(autojump_clock: MockClock) -> None:
    peers = Peers(has_ready_peer=False)
    async with serving(MCPServer("x")) as wire:
        await wire.open()
        async with draining(wire.app, peers) as done:
            await trio.sleep(5.5)
            assert peers.times("session leaves") == []
            peers.has_ready_peer = True
            await trio.sleep(1)
            assert peers.times("session leaves") == [6.0]
            assert 6 <= done() < 7


async def test_a_session_redis_is_not_told_of_stays_and_is_tried_again(autojump_clock: MockClock) -> None:
    peers = Peers(takes=False)
    async with serving(MCPServer("x")) as wire:
        client = await wire.open()
        async with draining(wire.app, peers):
            await trio.sleep(2.5)
            assert peers.times("session stays") == [0, 1, 2]
            assert await client.start("ping").result() == {}
            peers.takes = True
            await trio.sleep(1)
            assert peers.times("session leaves") == [3.0]


async def test_a_window_that_is_over_is_over_whatever_is_left(autojump_clock: MockClock) -> None:
    peers, go = Peers(has_ready_peer=False), trio.Event()
    async with serving(worker(go)) as wire:
        client = await wire.open()
        call = client.tool("work")
        async with draining(wire.app, peers) as done:
            await trio.sleep(23)
            assert done() == 22.0
            await end_remaining(wire.app, cast("Cluster", peers))
            assert "shutting down" in (await call.error())["message"]


async def test_a_call_that_began_as_the_window_ended_is_answered_and_the_next_finds_no_session(
    autojump_clock: MockClock,
) -> None:
    peers, go = Peers(restore=False), trio.Event()
    async with serving(worker(go)) as wire:
        busy, idle = await wire.open(), await wire.open()
        async with draining(wire.app, peers, window=22.0) as done:
            await trio.sleep(21.9)
            call = busy.tool("work")
            await trio.sleep(0.2)
            assert await idle.tool("work").head() == 404
            go.set()
            await call.result()
            assert await busy.tool("work").head() == 404
            await trio.sleep(0.1)
            assert done() < 22.0 + LAST_CALLS_SECONDS


async def test_a_call_that_began_as_the_window_ended_has_half_a_second(autojump_clock: MockClock) -> None:
    peers = Peers(restore=False)
    async with serving(worker(trio.Event())) as wire:
        client = await wire.open()
        async with draining(wire.app, peers) as done:
            await trio.sleep(21.9)
            client.tool("work")
            await trio.sleep(2)
            assert 22.3 < done() <= 22.0 + LAST_CALLS_SECONDS


async def test_a_call_that_is_sent_after_the_window_never_begins(autojump_clock: MockClock) -> None:
    peers, begun = Peers(restore=False), list[str]()
    server = MCPServer("x")

    @server.tool
    async def work(name: str) -> None:
        begun.append(name)
        await trio.sleep_forever()

    async with serving(server) as wire:
        client = await wire.open()
        async with draining(wire.app, peers) as done:
            await trio.sleep(21.9)
            running = client.tool("work", name="in time")
            await trio.sleep(0.2)
            late = client.tool("work", name="late")
            await trio.sleep(0.4)
            assert done() > 22
            await end_remaining(wire.app, cast("Cluster", peers))
            assert (await running.error())["message"] == "The server is shutting down"
            assert await late.head() == 404
    assert begun == ["in time"]


async def test_streams_that_are_relayed_end_evenly_and_all_relays_in_the_end_remaining(
    autojump_clock: MockClock,
) -> None:
    peers = Peers(streams=10)
    async with serving(MCPServer("x")) as wire:
        await wire.open()
        peers.has_ready_peer = False
        async with draining(wire.app, peers):
            await trio.sleep(23)
        assert peers.times("relayed stream ends") == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
        await end_remaining(wire.app, cast("Cluster", peers))
        assert len(peers.times("relayed stream ends")) == 10
        assert len(peers.times("relays end")) == 1


async def test_without_restore_streams_of_sessions_end_in_the_last_two_seconds(autojump_clock: MockClock) -> None:
    peers = Peers(restore=False)
    async with serving(MCPServer("x")) as wire:
        ended: list[float] = []
        streams = [(await wire.open()).listen() for _ in range(4)]
        for stream in streams:
            await stream.head()

        async def watch(stream: NextEvent) -> None:
            await rest(stream)
            ended.append(trio.current_time() - peers.began)

        async with draining(wire.app, peers), trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(watch, stream.raw.event)
        assert all(20 <= at < 22 for at in ended)
        assert max(ended) - min(ended) > 1
        assert peers.times("session leaves") == []


async def test_a_node_with_nothing_left_stays_until_balancers_have_noticed(autojump_clock: MockClock) -> None:
    peers = Peers()
    async with serving(MCPServer("x")) as wire, draining(wire.app, peers) as done:
        await trio.sleep(10)
        assert done() == BALANCER_SECONDS


async def test_a_request_that_a_peer_is_to_answer_is_not_cut_short_by_the_end_remaining(
    autojump_clock: MockClock,
) -> None:
    peers = Peers()
    async with serving(MCPServer("x")) as wire, draining(wire.app, peers) as done:
        await trio.sleep(BALANCER_SECONDS - 0.1)
        peers.awaits_answers = True
        await trio.sleep(10)
        assert done() == -1
        peers.awaits_answers = False
        await trio.sleep(1)
        assert BALANCER_SECONDS + 9.9 <= done() < BALANCER_SECONDS + 10.1


async def test_a_request_that_a_peer_does_not_answer_is_waited_for_no_longer_than_a_call_here(
    autojump_clock: MockClock,
) -> None:
    peers = Peers(awaits_answers=True)
    async with serving(MCPServer("x")) as wire, draining(wire.app, peers) as done:
        await trio.sleep(30)
        assert done() == 22.0 + LAST_CALLS_SECONDS


async def test_a_node_alone_with_nothing_left_is_done_at_once(autojump_clock: MockClock) -> None:
    peers = Peers(has_ready_peer=False)
    async with serving(MCPServer("x")) as wire, draining(wire.app, peers) as done:
        await trio.sleep(1)
        assert done() == 0.0
