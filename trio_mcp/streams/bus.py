"""What changed on this server, told to everybody who listens: `list_changed` and `resources/updated`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

import trio

__all__ = ["LIST_KINDS", "Bus", "Change", "ListChanged", "ListKind", "LocalBus", "Missed", "ResourceUpdated"]

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
    """The resource at `uri` has new contents. Raises ValueError for what cannot be sent: lone surrogates."""

    uri: str

    def __post_init__(self) -> None:
        """Checked here, where whoever told us hears of it: the bus would fail for everybody."""
        self.uri.encode()


@dataclass(frozen=True, slots=True)
class Missed:
    """Changes on other nodes may not have been heard of: whatever somebody listens to counts as changed, once."""


Change: TypeAlias = ListChanged | ResourceUpdated | Missed
Listener: TypeAlias = Callable[[Change], None]


class Bus(Protocol):
    """Publish and forget; listeners are called in order of publishing, and must not block."""

    def publish(self, change: Change) -> None:
        """Never blocks; equal changes that wait become one."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Returns what ends the subscription."""

    async def pump(self) -> None:
        """Deliver until cancelled."""


class LocalBus:
    """The bus of one node."""

    def __init__(self) -> None:
        self._listeners: dict[object, Listener] = {}
        self._pending: dict[Change, bool] = {}
        self._wake = trio.Event()
        self.forward: Listener | None = None
        """Where other nodes are: told of what is published here, not of what was heard from them. Must not block."""

    def publish(self, change: Change) -> None:
        """Never blocks; equal changes that wait become one, and past the bound the oldest is forgotten."""
        self._add(change, forward=True)

    def hear(self, change: Change) -> None:
        """A change on another node: for the listeners here only."""
        self._add(change, forward=self._pending.get(change, False))

    def _add(self, change: Change, *, forward: bool) -> None:
        self._pending[change] = forward
        if len(self._pending) > MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._wake.set()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Returns what ends the subscription."""
        key = object()
        self._listeners[key] = listener
        return lambda: self._listeners.pop(key, None) and None

    async def pump(self) -> None:
        """Deliver until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._pending:
                change = next(iter(self._pending))
                forward = self._pending.pop(change)
                if forward and self.forward is not None:
                    self.forward(change)
                await self._deliver(change)

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
