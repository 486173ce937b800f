"""Publish and subscribe for what changes on a server: `list_changed` and `resources/updated`, from any thread."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Protocol, TypeAlias, get_args

import trio

from trio_mcp.features.registry import ListKind
from trio_mcp.streams.loop import Loop

__all__ = ["LIST_KINDS", "Bus", "Change", "Feed", "ListChanged", "LocalBus", "Missed", "ResourceUpdated"]

LIST_KINDS: tuple[ListKind, ...] = get_args(ListKind)

MAX_PENDING = 10_000
"""Distinct changes that wait to be delivered; only updates of distinct URIs can become so many."""

_LISTENERS_AT_ONCE = 200
"""Called between two checkpoints: neither ten thousand sessions nor ten thousand changes must delay all requests."""


@dataclass(frozen=True, slots=True)
class ListChanged:
    """The server's list of this kind changed."""

    kind: ListKind


@dataclass(frozen=True, slots=True)
class ResourceUpdated:
    """The resource at `uri` has new contents. Raises TypeError for what is no text, ValueError for lone surrogates in it."""

    uri: str

    def __post_init__(self) -> None:
        """Checked here, so that the caller gets the error: later it would be raised in the bus, for all listeners."""
        if not isinstance(self.uri, str):
            raise TypeError(f"a resource is named by its URI as text, not by {self.uri!r:.80}: write str(uri)")
        self.uri.encode()


@dataclass(frozen=True, slots=True)
class Missed:
    """Changes on other nodes may have been missed: everything that somebody listens to counts as changed, once."""


Change: TypeAlias = ListChanged | ResourceUpdated | Missed
Listener: TypeAlias = Callable[[Change], None]


class Bus(Protocol):
    """Delivers changes to listeners, in the order of publishing. Listeners must not block."""

    loop: Loop
    """The event loop its listeners are called in."""

    def publish(self, change: Change) -> None:
        """Deliver to every app of the server. From any thread, never blocks; equal changes that wait become one."""

    def take(self, change: Change) -> None:
        """Deliver in this app and to its peers on other nodes; the server's other apps get the change by themselves."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each change from now on; the result ends the subscription."""

    async def pump(self) -> None:
        """Deliver until cancelled."""


class Feed:
    """Passes the changes of a server on to every app that serves it, each in its own event loop. From any thread."""

    def __init__(self) -> None:
        self._buses: tuple[weakref.ref[LocalBus], ...] = ()
        self._lock = threading.Lock()

    def join(self, bus: LocalBus) -> None:
        """Pass changes on to `bus`, too, as long as somebody refers to it."""
        with self._lock:
            self._buses = (*(known for known in self._buses if known() is not None), weakref.ref(bus))

    def publish(self, change: Change) -> None:
        """Pass a change on to all of them; never blocks."""
        for known in self._buses:
            bus = known()
            if bus is not None:
                bus.take(change)


class LocalBus:
    """The bus of one app on one node. `publish`, `take` and `receive` work from any thread; listeners run in the loop of `pump`."""

    def __init__(self, feed: Feed | None = None) -> None:
        self.loop: Loop = Loop()
        self._feed = feed or Feed()
        self._feed.join(self)
        self._listeners: dict[object, Listener] = {}
        self._lock = threading.Lock()
        """Held for a look into `_pending`, and never while anything is called or awaited."""
        self._pending: dict[Change, bool] = {}
        self._wake = trio.Event()
        self.forward: Listener | None = None
        """Sends a change to other nodes, where there are any: called for changes of this node only. Must not block."""

    def publish(self, change: Change) -> None:
        """Deliver to every app of the server; of more than MAX_PENDING changes that wait the oldest is dropped."""
        self._feed.publish(change)

    def take(self, change: Change) -> None:
        """Deliver a change of this server to the listeners here and to the other nodes."""
        with self._lock:
            self._add(change, forward=True)
        self.loop.soon(self._wake_up)

    def receive(self, change: Change) -> None:
        """Deliver a change of another node to the listeners here."""
        with self._lock:
            self._add(change, forward=self._pending.get(change, False))
        self.loop.soon(self._wake_up)

    def _add(self, change: Change, *, forward: bool) -> None:
        self._pending[change] = forward
        if len(self._pending) > MAX_PENDING:
            del self._pending[next(iter(self._pending))]

    def _next(self) -> tuple[Change, bool] | None:
        with self._lock:
            change = next(iter(self._pending), None)
            return None if change is None else (change, self._pending.pop(change))

    def _wake_up(self) -> None:
        self._wake.set()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Returns what ends the subscription."""
        key = object()
        self._listeners[key] = listener
        return lambda: self._listeners.pop(key, None) and None

    async def pump(self) -> None:
        """Deliver until cancelled."""
        self.loop.adopt()
        called = count(1)
        while True:
            self._wake = trio.Event()
            while (waiting := self._next()) is not None:
                change, forward = waiting
                if forward and self.forward is not None:
                    self.forward(change)
                await self._deliver(change, called)
            await self._wake.wait()

    async def _deliver(self, change: Change, called: Iterator[int]) -> None:
        """`called` counts the listeners of all changes together."""
        for key, listener in list(self._listeners.items()):
            if key in self._listeners:
                listener(change)
            if next(called) % _LISTENERS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()


@contextmanager
def subscribed(bus: Bus, listener: Listener) -> Iterator[None]:
    """Listen for the length of a block."""
    leave = bus.subscribe(listener)
    try:
        yield
    finally:
        leave()
