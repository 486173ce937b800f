"""What changed on this server, told to everybody who listens: `list_changed` and `resources/updated`."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

import trio

from trio_mcp.streams.loop import Loop

__all__ = ["LIST_KINDS", "Bus", "Change", "Feed", "ListChanged", "ListKind", "LocalBus", "Missed", "ResourceUpdated"]

ListKind: TypeAlias = Literal["tools", "resources", "prompts"]
LIST_KINDS: tuple[ListKind, ...] = get_args(ListKind)

MAX_PENDING = 10_000
"""Distinct changes that wait for the pump; only updates of distinct URIs can ever fill it."""

_BREATH = 200
"""Listeners told between two checkpoints: a change must not stall ten thousand sessions' requests."""


@dataclass(frozen=True, slots=True)
class ListChanged:
    """A list of this kind is not what it was."""

    kind: ListKind


@dataclass(frozen=True, slots=True)
class ResourceUpdated:
    """The resource at `uri` has new contents. Raises TypeError for what is no text, ValueError for lone surrogates in it."""

    uri: str

    def __post_init__(self) -> None:
        """Checked here, where whoever told us hears of it: the bus would fail for everybody."""
        if not isinstance(self.uri, str):
            raise TypeError(f"a resource is named by its URI as text, not by {self.uri!r:.80}: write str(uri)")
        self.uri.encode()


@dataclass(frozen=True, slots=True)
class Missed:
    """Changes on other nodes may not have been heard of: whatever somebody listens to counts as changed, once."""


Change: TypeAlias = ListChanged | ResourceUpdated | Missed
Listener: TypeAlias = Callable[[Change], None]


class Bus(Protocol):
    """Publish and forget; listeners are called in order of publishing, and must not block."""

    loop: Loop
    """The one its listeners are called in."""

    def publish(self, change: Change) -> None:
        """Tell every app of the server. Never blocks, from any thread; equal changes that wait become one."""

    def take(self, change: Change) -> None:
        """Tell this app alone, with its peers: the others hear of the change by themselves."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Returns what ends the subscription."""

    async def pump(self) -> None:
        """Deliver until cancelled."""


class Feed:
    """What changed on a server, told to every app that serves it, each in its own loop; may be used from any thread."""

    def __init__(self) -> None:
        self._buses: tuple[weakref.ref[LocalBus], ...] = ()
        self._lock = threading.Lock()

    def join(self, bus: LocalBus) -> None:
        """From now on `bus` is told, as long as somebody has it."""
        with self._lock:
            self._buses = (*(known for known in self._buses if known() is not None), weakref.ref(bus))

    def publish(self, change: Change) -> None:
        """Tell them all; never blocks."""
        for known in self._buses:
            bus = known()
            if bus is not None:
                bus.take(change)


class LocalBus:
    """The bus of one node. `publish` and `hear` may be called from any thread; listeners are called in the loop of `pump`."""

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
        """Where other nodes are: told of what is published here, not of what was heard from them. Must not block."""

    def publish(self, change: Change) -> None:
        """Tell every app of the server; equal changes that wait become one, and past the bound the oldest is forgotten."""
        self._feed.publish(change)

    def take(self, change: Change) -> None:
        """A change of the server: for the listeners here, and the other nodes."""
        with self._lock:
            self._add(change, forward=True)
        self.loop.soon(self._wake_up)

    def hear(self, change: Change) -> None:
        """A change on another node: for the listeners here only."""
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
        while True:
            self._wake = trio.Event()
            while (waiting := self._next()) is not None:
                change, forward = waiting
                if forward and self.forward is not None:
                    self.forward(change)
                await self._deliver(change)
            await self._wake.wait()

    async def _deliver(self, change: Change) -> None:
        for count, (key, listener) in enumerate(list(self._listeners.items()), 1):
            if key in self._listeners:
                listener(change)
            if count % _BREATH == 0:
                await trio.lowlevel.checkpoint()


@contextmanager
def subscribed(bus: Bus, listener: Listener) -> Iterator[None]:
    """Listen for the length of a block."""
    leave = bus.subscribe(listener)
    try:
        yield
    finally:
        leave()
