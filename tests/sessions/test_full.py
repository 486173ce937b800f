"""A full node, and bounds on the sessions of one caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.sessions.doubles import ANN, BOB, OFFER, ask, open_hub
from tests.transports.http.harness import HOST, serving
from trio_mcp import ANONYMOUS, Context, MCPServer, Principal, Session
from trio_mcp.auth.principal import HttpRequestView
from trio_mcp.dispatch.call import Client
from trio_mcp.protocol.errors import TooManySessions
from trio_mcp.protocol.jsonrpc import Notification, Reply
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.directory import Snapshot
from trio_mcp.sessions.hub import ROOM_SECONDS, UNUSED_SECONDS
from trio_mcp.sessions.shares import Share, TooManyForCaller
from trio_mcp.transports.http.allowed import Proxies
from trio_mcp.transports.http.cluster_port import ClusterPort
from trio_mcp.transports.http.exchange import HttpExchange


async def test_a_full_node_ends_the_oldest_session_that_was_never_used(autojump_clock: MockClock) -> None:
    async with open_hub(MCPServer("t"), max_sessions=3) as hub:
        used, first, second = [await hub.open(OFFER, ANN) for _ in range(3)]
        await ask(used, "ping")
        first.receive(Notification("notifications/initialized", {}))
        await trio.sleep(UNUSED_SECONDS)
        began = trio.current_time()
        new = await hub.open(OFFER, BOB)
        assert trio.current_time() == began
        assert hub.sessions == [used, second, new]
        assert first.closed_because == "unused"


async def test_sessions_that_began_a_moment_ago_have_their_round_trip_first(autojump_clock: MockClock) -> None:
    """A flood fills the node, and the next client waits a second rather than be refused."""
    async with open_hub(MCPServer("t"), max_sessions=200) as hub:
        flood = [await hub.open(OFFER, ANN) for _ in range(200)]
        began = trio.current_time()
        new = await hub.open(OFFER, BOB)
        assert trio.current_time() - began == UNUSED_SECONDS
        assert flood[0].closed_because == "unused"
        assert len(hub) == 200
        assert hub.get(new.id, BOB) is new


async def test_many_that_come_to_a_full_node_at_once_get_a_place_each(autojump_clock: MockClock) -> None:
    async with open_hub(MCPServer("t"), max_sessions=5) as hub:
        for _ in range(5):
            await hub.open(OFFER, ANN)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(hub.open, OFFER, BOB)
        assert [session.principal for session in hub.sessions] == [BOB] * 5


def moved(session_id: str) -> Snapshot:
    client = Client({"name": "t"}, {})
    return Snapshot(id=session_id, epoch=1, principal_digest=BOB.digest, version="2025-11-25", client=client, created=1)


async def test_a_session_that_is_restored_to_a_full_node_takes_the_place_of_one_that_was_never_used(
    autojump_clock: MockClock,
) -> None:
    async with open_hub(MCPServer("t"), max_sessions=2) as hub:
        used, unused = [await hub.open(OFFER, ANN) for _ in range(2)]
        await ask(used, "ping")
        began = trio.current_time()
        restored = await hub.restore(moved("node2.abc"), BOB)
        assert trio.current_time() - began == UNUSED_SECONDS
        assert unused.closed_because == "unused"
        assert hub.sessions == [used, restored]
        with pytest.raises(TooManySessions):
            await hub.restore(moved("node2.def"), BOB)
        assert hub.sessions == [used, restored]


@pytest.mark.parametrize("use", ["a call", "a stream", "a reply"])
async def test_a_session_that_was_used_stays(autojump_clock: MockClock, use: str) -> None:
    async with open_hub(MCPServer("t"), max_sessions=1) as hub:
        session = await hub.open(OFFER, ANN)
        if use == "a call":
            await ask(session, "ping")
        elif use == "a stream":
            session.add_reader()
        else:
            session.receive(Reply(1, {}, None))
        await trio.sleep(10)
        began = trio.current_time()
        with pytest.raises(TooManySessions):
            await hub.open(OFFER, BOB)
        assert trio.current_time() == began


async def test_who_waits_for_a_place_learns_that_the_last_unused_session_is_in_use(autojump_clock: MockClock) -> None:
    async with open_hub(MCPServer("t"), max_sessions=1) as hub:
        session = await hub.open(OFFER, ANN)
        async with trio.open_nursery() as nursery:

            async def refused() -> None:
                with pytest.raises(TooManySessions):
                    await hub.open(OFFER, BOB)

            nursery.start_soon(refused)
            await wait_all_tasks_blocked()
            await ask(session, "ping")
        assert hub.sessions == [session]
        assert ROOM_SECONDS > UNUSED_SECONDS


async def test_who_waits_for_a_session_that_its_client_ends_meanwhile_gets_that_place(
    autojump_clock: MockClock,
) -> None:
    """Its last task takes long to clean up, and another client asks for a place until then."""
    mcp = MCPServer("t")

    @mcp.on_session
    async def clean_up_slowly(session: Session) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(1.5 * UNUSED_SECONDS, shield=True):
                await trio.sleep_forever()

    async with open_hub(mcp, max_sessions=1) as hub:
        session = await hub.open(OFFER, ANN)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.open, OFFER, BOB)
            await wait_all_tasks_blocked()
            session.close(CloseReason.DELETED)
            await wait_all_tasks_blocked()
            assert not hub.takes_more
        assert [each.principal for each in hub.sessions] == [BOB]
        assert session.closed_because == "deleted"


async def test_an_opening_that_is_cancelled_while_it_waits_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async with open_hub(MCPServer("t"), max_sessions=1, max_per_principal=1) as hub:
        session = await hub.open(OFFER, ANN)
        with trio.move_on_after(UNUSED_SECONDS / 2):
            await hub.open(OFFER, BOB)
        assert hub.sessions == [session]
        session.close(CloseReason.DELETED)
        await wait_all_tasks_blocked()
        await hub.open(OFFER, BOB)


async def test_a_principal_has_so_many_sessions_and_gets_a_place_back_with_each_end() -> None:
    async with open_hub(MCPServer("t"), max_per_principal=2) as hub:
        first, _ = [await hub.open(OFFER, ANN) for _ in range(2)]
        with pytest.raises(TooManyForCaller, match="This principal has 2 sessions"):
            await hub.open(OFFER, Principal("ann", claims={"other": "token"}))
        await hub.open(OFFER, Principal("ann", client_id="c2"))
        await hub.open(OFFER, BOB)
        first.close(CloseReason.DELETED)
        await wait_all_tasks_blocked()
        await hub.open(OFFER, ANN)


async def test_a_restored_session_counts_although_an_earlier_copy_of_it_ends_here_meanwhile(
    autojump_clock: MockClock,
) -> None:
    mcp = MCPServer("t")
    restores = trio.Event()

    @mcp.on_session
    async def clean_up_slowly(session: Session) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(10, shield=True):
                await restores.wait()

    @mcp.on_restore
    async def restored(session: Session) -> None:
        restores.set()
        await wait_all_tasks_blocked()

    async with open_hub(mcp, max_per_principal=1) as hub:
        session = await hub.open(OFFER, BOB)
        session.close(CloseReason.MOVED)
        await wait_all_tasks_blocked()
        assert hub.sessions == [session]
        again = await hub.restore(moved(session.id), BOB)
        assert hub.sessions == [again]
        with pytest.raises(TooManyForCaller):
            await hub.open(OFFER, BOB)


async def test_callers_without_a_name_share_no_bound() -> None:
    async with open_hub(MCPServer("t"), max_per_principal=1, max_per_address=1) as hub:
        for _ in range(5):
            await hub.open(OFFER, ANONYMOUS, address=None)


async def test_an_address_that_is_vouched_for_has_so_many_sessions() -> None:
    async with open_hub(MCPServer("t"), max_per_address=1) as hub:
        await hub.open(OFFER, ANONYMOUS, address="192.0.2.1")
        with pytest.raises(TooManyForCaller, match="This address has 1 sessions"):
            await hub.open(OFFER, ANONYMOUS, address="192.0.2.1")
        await hub.open(OFFER, ANONYMOUS, address="192.0.2.2")


class CountsElsewhere:
    """Of a node with several processes: what was done with them."""

    def __init__(self) -> None:
        self.did: list[str] = []

    async def take(self, session_id: str, shares: Sequence[Share]) -> str:
        self.did.append("take")
        return ""

    def note(self, session_id: str, shares: Sequence[Share]) -> None:
        raise NotImplementedError

    def give_back(self, session_id: str) -> None:
        self.did.append("give back")

    async def settled(self) -> None:
        self.did.append("settled")


@pytest.mark.parametrize("bounded", [True, False])
async def test_what_finds_no_room_counts_no_more_before_a_peer_is_asked(bounded: bool) -> None:
    counts = CountsElsewhere()

    class Cluster:
        async def open_at_peer(self, exchange: HttpExchange) -> bool:
            counts.did.append("asks a peer")
            return False

    mcp, peers = MCPServer("t", authenticate=lambda _: ANN), cast("ClusterPort", Cluster())
    async with serving(mcp, max_sessions=1, max_sessions_per_principal=1 if bounded else None) as wire:
        wire.app.hub.shares.counts = counts
        await (await wire.open()).start("ping").result()
        wire.app.endpoint.join(peers)
        assert await wire.initialize().head() == 503
        opened = ["take"] if bounded else []
        refused = ["take", "give back", "settled"] if bounded else []
        assert counts.did[: len(opened + refused) + 1] == [*opened, *refused, "asks a peer"]


async def test_a_caller_with_its_share_hears_429() -> None:
    async def authenticate(exchange: HttpRequestView) -> Principal | None:
        return Principal(exchange.header(b"authorization") or "")

    async with serving(MCPServer("t", authenticate=authenticate), max_sessions_per_principal=1) as wire:
        await wire.open(headers={"authorization": "ann"})
        exchange = wire.initialize(headers={"authorization": "ann"})
        assert await exchange.head() == 429
        assert "retry-after" in exchange.headers
        await exchange.error()
        await wire.open(headers={"authorization": "bob"})


async def test_a_session_that_made_way_says_why(autojump_clock: MockClock) -> None:
    mcp = MCPServer("t")

    @mcp.tool
    async def nothing(ctx: Context) -> None: ...

    async with serving(mcp, max_sessions=1) as wire:
        unused = await wire.open()
        used = await wire.open()
        await used.tool("nothing").result()
        error = await unused.tool("nothing").error()
        assert error["data"]["reason"] == "unused"
        assert "the server was full" in error["message"]


@pytest.mark.parametrize(
    ("peer", "chain", "client"),
    [
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["6.6.6.6", "192.0.2.7, 10.0.0.9"], "192.0.2.7"),
        ("::ffff:10.0.0.1", ["192.0.2.7:1234"], "192.0.2.7"),
        ("10.0.0.1", ["[2001:db8::1]:80"], "2001:db8::1"),
        ("10.0.0.1", ["2001:DB8::1"], "2001:db8::1"),
        ("192.0.2.200", ["192.0.2.7"], None),
        ("10.0.0.1", [], None),
        ("10.0.0.1", ["unknown"], None),
        ("10.0.0.1", ["192.0.2.7, _hidden"], None),
        (None, ["192.0.2.7"], None),
    ],
)
def test_a_client_has_the_address_that_a_named_proxy_saw(
    peer: str | None, chain: list[str], client: str | None
) -> None:
    headers = [(b"host", HOST.encode()), *[(b"x-forwarded-for", each.encode()) for each in chain]]
    scope = {
        "method": "POST",
        "path": "/mcp",
        "headers": headers,
        "client": None if peer is None else (peer, 1234),
    }
    exchange = HttpExchange.over_asgi(scope, None, None)  # type: ignore[arg-type]
    assert Proxies(["10.0.0.0/8"]).client_of(exchange) == client
    assert Proxies([]).client_of(exchange) is None
