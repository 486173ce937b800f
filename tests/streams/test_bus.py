"""The bus: changes are delivered to every listener, from any thread."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
import trio.testing
from pydantic import AnyUrl

from trio_mcp import MCPServer
from trio_mcp.streams.bus import MAX_PENDING, Change, Feed, ListChanged, LocalBus, ResourceUpdated, subscribed


async def delivered(bus: LocalBus) -> None:
    """Pump until nothing is left to deliver."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bus.pump)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_changes_reach_every_listener_in_the_order_of_publishing() -> None:
    bus = LocalBus()
    heard: list[tuple[str, Change]] = []
    bus.subscribe(lambda change: heard.append(("a", change)))
    bus.subscribe(lambda change: heard.append(("b", change)))
    tools, update = ListChanged("tools"), ResourceUpdated("x://y")
    bus.publish(update)
    bus.publish(tools)
    assert not heard
    await delivered(bus)
    assert heard == [("a", update), ("b", update), ("a", tools), ("b", tools)]


async def test_equal_changes_that_wait_become_one_and_later_ones_are_told_again() -> None:
    bus = LocalBus()
    heard: list[Change] = []
    bus.subscribe(heard.append)
    for _ in range(5):
        bus.publish(ListChanged("tools"))
    await delivered(bus)
    assert len(heard) == 1
    bus.publish(ListChanged("tools"))
    await delivered(bus)
    assert len(heard) == 2


async def test_who_left_hears_nothing_even_when_it_leaves_during_a_delivery() -> None:
    bus = LocalBus()
    heard: list[str] = []
    leave_second = trio.Event()

    def first(_: Change) -> None:
        heard.append("first")
        leave()
        leave_second.set()

    bus.subscribe(first)
    leave = bus.subscribe(lambda _: heard.append("second"))
    bus.publish(ListChanged("tools"))
    await delivered(bus)
    assert heard == ["first"]
    leave()


async def test_a_listener_is_subscribed_for_the_length_of_a_block() -> None:
    bus = LocalBus()
    heard: list[Change] = []
    with pytest.raises(KeyError), subscribed(bus, heard.append):
        bus.publish(ListChanged("tools"))
        await delivered(bus)
        raise KeyError
    bus.publish(ListChanged("prompts"))
    await delivered(bus)
    assert heard == [ListChanged("tools")]


async def test_a_listener_may_publish() -> None:
    bus = LocalBus()
    heard: list[Change] = []

    def echo(change: Change) -> None:
        heard.append(change)
        if change == ListChanged("tools"):
            bus.publish(ListChanged("prompts"))

    bus.subscribe(echo)
    bus.publish(ListChanged("tools"))
    await delivered(bus)
    assert heard == [ListChanged("tools"), ListChanged("prompts")]


async def test_past_the_bound_the_oldest_change_is_forgotten() -> None:
    bus = LocalBus()
    heard: list[Change] = []
    bus.subscribe(heard.append)
    for n in range(MAX_PENDING + 2):
        bus.publish(ResourceUpdated(f"x://{n}"))
    await delivered(bus)
    assert len(heard) == MAX_PENDING
    assert heard[0] == ResourceUpdated("x://2")


async def test_a_change_for_many_listeners_lets_others_run_in_between() -> None:
    bus = LocalBus()
    told = 0
    seen_by_others: list[int] = []

    def listen(_: Change) -> None:
        nonlocal told
        told += 1

    async def other() -> None:
        while told < 1_000:
            seen_by_others.append(told)
            await trio.lowlevel.checkpoint()

    for _ in range(1_000):
        bus.subscribe(listen)
    bus.publish(ListChanged("tools"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bus.pump)
        await other()
        nursery.cancel_scope.cancel()
    assert any(0 < count < 1_000 for count in seen_by_others)


async def test_many_changes_for_few_listeners_let_others_run_in_between() -> None:
    bus = LocalBus()
    heard: list[Change] = []
    seen_by_others: list[int] = []
    bus.subscribe(heard.append)
    for n in range(1_000):
        bus.publish(ResourceUpdated(f"x://{n}"))

    async def other() -> None:
        while len(heard) < 1_000:
            seen_by_others.append(len(heard))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bus.pump)
        await other()
        nursery.cancel_scope.cancel()
    assert any(0 < count < 1_000 for count in seen_by_others)


def test_a_uri_that_cannot_be_sent_is_refused_where_it_is_told() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        ResourceUpdated("file:///\udcff")
    with pytest.raises(TypeError, match=r"write str\(uri\)"):
        ResourceUpdated(AnyUrl("file:///a"))  # type: ignore[arg-type]


class CountingBus(LocalBus):
    """Notes what it takes, also what waits already."""

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed)
        self.taken: list[Change] = []

    def take(self, change: Change) -> None:
        self.taken.append(change)
        super().take(change)


async def test_a_change_of_the_registry_is_told_once_to_each_app_and_to_none_that_is_gone() -> None:
    mcp = MCPServer("test")
    services = [mcp.service() for _ in range(3)]
    gone = weakref.ref(services.pop())
    gc.collect()
    assert gone() is None
    buses = [CountingBus(mcp._feed) for _ in services]
    for service, bus in zip(services, buses, strict=True):
        service.bus = bus
    mcp.tool(lambda: "x", name="new")
    assert [bus.taken for bus in buses] == [[ListChanged("tools")]] * 2
    services[0].bus.publish(ListChanged("prompts"))
    assert [bus.taken[1:] for bus in buses] == [[ListChanged("prompts")]] * 2
