"""Sends this node's change notices to the other nodes, and theirs to this node's bus, through Redis pub/sub.

local bus ──forward──▶ outgoing ──▶ one PUBLISH for all that wait ──▶ Redis ──▶ the others' listener threads ──▶ their buses

Each message carries its sender's boot and a number. A gap in the numbers means that a message was lost; then everything counts as
changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec
import trio

from trio_mcp.cluster.record import Message, OwnershipChange, read
from trio_mcp.cluster.store.measured import RETRY_SECONDS, MeasuredStore
from trio_mcp.cluster.store.port import Publish, StoreDown
from trio_mcp.observability.logs import event
from trio_mcp.observability.metrics import Metrics
from trio_mcp.streams.bus import LIST_KINDS, MAX_PENDING, Change, ListChanged, LocalBus, Missed, ResourceUpdated

__all__ = ["ClusterBus"]

logger: logging.Logger = logging.getLogger("trio_mcp.cluster")

MAX_SENDERS = 1_000
"""Whose last number is remembered."""


class ClusterBus:
    """Connects `local` with the buses of the other nodes.

    `end` is called with the id of a session that an operator asked to end, `changed` for a session that another node has claimed or
    ended, `rejoined` when the subscription was broken and works again, `tasks` with tasks that another node has written, and has left.
    """

    def __init__(
        self,
        local: LocalBus,
        store: MeasuredStore,
        boot: str,
        metrics: Metrics,
        *,
        end: Callable[[str], None],
        changed: Callable[[OwnershipChange], None],
        rejoined: Callable[[], None],
        tasks: Callable[[Sequence[str], Sequence[str]], None],
    ) -> None:
        self._local = local
        self._store = store
        self._boot = boot
        self._metrics = metrics
        self._end = end
        self._changed = changed
        self._rejoined = rejoined
        self._tasks = tasks
        self._outgoing: dict[Change, None] = {}
        self._wake = trio.Event()
        self._sent = 0
        self._heard: dict[str, int] = {}
        self._joined_before = False

    def open(self) -> None:
        """From now on what changes here is sent to the others."""
        self._local.forward = self._forward

    def close(self) -> None:
        """From now on nothing is sent."""
        self._local.forward = None

    async def listen(self) -> None:
        """Receive, until cancelled."""
        await self._store.listen(hear=self._hear, joined=self._joined)

    async def send(self) -> None:
        """Send, until cancelled. What was not confirmed is sent again; a node that has it already knows it by its number."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._outgoing:
                await self._send_waiting()

    async def _send_waiting(self) -> None:
        changes, self._outgoing = list(self._outgoing), {}
        self._sent += 1
        message = Message(
            self._boot,
            self._sent,
            [_encoded(change) for change in changes],
        )
        while not await self._publish(msgspec.json.encode(message)):  # noqa: ASYNC110
            await trio.sleep(RETRY_SECONDS)

    async def _publish(self, message: bytes) -> bool:
        try:
            (reply,) = await self._store.run([Publish(message)])
        except StoreDown:
            reply = None
        if isinstance(reply, int):
            return True
        self._metrics.bus_failed()
        return False

    def _forward(self, change: Change) -> None:
        self._outgoing[change] = None
        if len(self._outgoing) > MAX_PENDING:
            del self._outgoing[next(iter(self._outgoing))]
            # The others notice the gap in the numbers.
            self._sent += 1
        self._wake.set()

    def _hear(self, data: bytes) -> None:
        message = read(data, Message)
        if message is None:
            return self._metrics.bus_failed()
        if message.boot == self._boot:
            return
        if message.end:
            return self._end(message.end)
        if message.moved:
            for change in message.moved:
                self._changed(change)
            return
        if message.tasks or message.left:
            return self._tasks(message.tasks, message.left)
        last = self._heard.get(message.boot)
        if last is not None and message.n <= last:
            return
        if last is not None and message.n != last + 1:
            self._gap("a message was lost")
        self._remember(message)
        for kind, name in message.changes:
            heard = _decoded(kind, name)
            if heard is not None:
                self._local.receive(heard)

    def _remember(self, message: Message) -> None:
        self._heard.pop(message.boot, None)
        self._heard[message.boot] = message.n
        if len(self._heard) > MAX_SENDERS:
            del self._heard[next(iter(self._heard))]

    def _joined(self) -> None:
        if self._joined_before:
            # Messages of that time are lost.
            self._heard.clear()
            self._gap("the subscription was broken")
            self._rejoined()
        self._joined_before = True

    def _gap(self, why: str) -> None:
        event(logger, logging.WARNING, "changes may have been missed", why=why)
        self._local.receive(Missed())


def _encoded(change: Change) -> tuple[str, str]:
    match change:
        case ListChanged(kind):
            return "list", kind
        case ResourceUpdated(uri):
            return "uri", uri
        case Missed():
            return "missed", ""


def _decoded(kind: str, name: str) -> Change | None:
    """None for a kind of change that only a later version of trio-mcp knows."""
    if kind == "uri":
        return ResourceUpdated(name)
    known = [each for each in LIST_KINDS if kind == "list" and each == name]
    if known:
        return ListChanged(known[0])
    return Missed() if kind == "missed" else None
