"""The task that puts this node's card into Redis every few seconds and reads the other nodes' cards by the same pipeline.

It runs in the event loop, so that a node whose loop is blocked does not look alive.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from trio_mcp.cluster.clock import machine_time, now
from trio_mcp.cluster.membership import BEAT_SECONDS, CARD_SECONDS, MAX_NODES
from trio_mcp.cluster.ownership_log import OwnershipLog
from trio_mcp.cluster.peer.client import PeerClient
from trio_mcp.cluster.peers import Peers
from trio_mcp.cluster.reconciler import Reconciler
from trio_mcp.cluster.record import NodeCard, read
from trio_mcp.cluster.store.measured import RETRY_SECONDS, MeasuredStore
from trio_mcp.cluster.store.port import (
    AddNode,
    Beat,
    Leave,
    NewestNodes,
    Operation,
    OperationRefused,
    ReadCard,
    RemoveNode,
    RemoveNodesBefore,
    StoreDown,
)
from trio_mcp.cluster.store_trust import CardFound
from trio_mcp.observability.logs import event

__all__ = ["LATE_SECONDS", "Heartbeat"]

logger: logging.Logger = logging.getLogger("trio_mcp.cluster")

LATE_SECONDS = 2 * BEAT_SECONDS
"""A process that has not tried to beat for so long stood still."""

CATCH_UP_SECONDS = 1.0
"""How long requests wait for the comparison of all records after this process stood still."""

LOOK_SECONDS = 0.5
"""Between two reads of the cards for those who find no room: one that is refused must cost little."""

FORGET_SECONDS = 24 * 3600.0
"""A node that was not seen for a day is not asked for any more."""

_UNREADABLE = NodeCard("", "", "", 0, 0)
"""Stands for a card that is none of ours."""


class Heartbeat:
    """Beats, and passes on what each beat found: to `peers`, `reconciler`, the ownership log, and what is known of the store.

    `describe` makes this node's card.
    """

    def __init__(
        self,
        store: MeasuredStore,
        peers: Peers,
        client: PeerClient,
        reconciler: Reconciler,
        changes: OwnershipLog,
        describe: Callable[[], NodeCard],
    ) -> None:
        self._store = store
        self._trust = store.trust
        self._membership = peers.membership
        self._me = peers.me
        self._client = client
        self._reconciler = reconciler
        self._changes = changes
        self._describe = describe
        self._strangers: set[tuple[str, str]] = set()
        """Nodes and boots whose key does not; each is logged once."""
        self.candidate: str = ""
        """The URL at which this node expects to be reached; not published before it has reached itself there."""
        self.replaces: str = ""
        """The boot of a process with our id that is gone: its card may be replaced."""
        self.joined: bool = False
        """The id is ours, as far as we know: from now on another process under it is a double."""
        self.answered: trio.Event = trio.Event()
        """Set once Redis has accepted our card, or has returned the card of another process under our id."""
        self.doubled: trio.Event = trio.Event()
        """Set when an earlier process has our node id, and lives: this one has to stop."""
        self._left = False
        self._soon = trio.Event()
        store.on_return(self.beat_now)
        self._attempted = now()
        """When the last beat was begun, whatever came of it, or the last `catch_up` ended."""
        self._catching_up: trio.Event | None = None
        self._looking = trio.Lock()

    async def work(self) -> None:
        """Until cancelled."""
        while True:
            wait = RETRY_SECONDS if self._store.down else BEAT_SECONDS
            with trio.move_on_after(wait):
                await self._soon.wait()
            self._soon = trio.Event()
            if self.is_late:
                # Before a beat makes it look awake: no request may use a session that another node has restored meanwhile.
                await self.catch_up()
            await self.beat()

    def beat_now(self) -> None:
        """Something on the card has changed: beat at once."""
        self._soon.set()

    async def beat(self) -> None:
        """One beat; never raises for a Redis that is away."""
        self._attempted = now()
        try:
            async with self._trust.beat:
                if self._left:
                    return
                found = await self._exchange()
        except StoreDown:
            self._trust.found(CardFound.UNANSWERED)
            return
        doubtful = self._trust.found(found)
        if found is not CardFound.REFUSED:
            self.answered.set()
        if isinstance(found, NodeCard) and self.joined:
            await self._make_way(found)
        if self.joined and self.candidate and not self._me.url:
            await self._publish_url()
        if doubtful or self._trust.records_doubted or self._reconciler.is_due:
            self._reconciler.want()

    async def look(self, *, patiently: bool = False) -> bool:
        """Read the cards of the others; whether they were read since this was called.

        Not within LOOK_SECONDS after the time before; `patiently` waits for that.
        """
        known = self._attempted
        async with self._looking:
            wait = LOOK_SECONDS - now().since(known)
            if patiently and wait > 0 and self._attempted is known:
                await trio.sleep(wait)
            if self._attempted is known and (patiently or wait <= 0) and not self._store.down:
                await self.beat()
        return self._attempted is not known

    async def advertise(self, url: str) -> None:
        """Show this node to the others at `url`, as soon as it was reached there."""
        self.candidate = url
        if url:
            await self._publish_url()

    async def leave(self) -> None:
        """Take our card down: this node is gone, and need not be looked for. The card of a later process stays. Raises StoreDown."""
        self._trust.leave()
        async with self._trust.beat:
            # A beat after this would put the card up again.
            self._left = True
            await self.take_down(self._me.node, self._me.boot)

    async def take_down(self, node: str, boot: str) -> None:
        """Remove the card of a process that is gone, if it stands. Raises StoreDown."""
        (stood,) = await self._store.run([Leave(node, boot)])
        if stood is True:
            await self._store.run([RemoveNode(node)])

    @property
    def is_late(self) -> bool:
        """Whether no beat was even tried for so long that other nodes may have restored this node's sessions."""
        # Asked with every request of a session: two clocks are read, and nothing is made of them.
        tried = self._attempted
        return trio.current_time() - tried.trio > LATE_SECONDS or machine_time() - tried.machine > LATE_SECONDS

    async def catch_up(self) -> None:
        """Wait until all records were compared, `CATCH_UP_SECONDS` at most. All who come meanwhile wait for the same."""
        if self._catching_up is not None:
            return await self._catching_up.wait()
        self._catching_up = trio.Event()
        event(logger, logging.WARNING, "overslept", seconds=now().since(self._attempted))
        try:
            with trio.move_on_after(CATCH_UP_SECONDS):
                # A comparison that was under way may have passed a record before another node claimed it.
                await self._reconciler.want().wait()
        finally:
            self.beat_now()
            self._attempted = now()
            self._catching_up.set()
            self._catching_up = None

    async def _make_way(self, card: NodeCard) -> None:
        """An earlier process has our node id. If it lives, this one has to stop.

        It may be a dead process' card in a Redis that was restored from a backup; but nobody renews that card, and it expires.
        """
        if self.doubled.is_set() or not (self._trust.another_is_renewed or await self._answers(card)):
            return
        advice = "give every node a --node-id of its own"
        event(logger, logging.ERROR, "an earlier process has this node's id", advice=advice)
        self.doubled.set()

    async def _answers(self, card: NodeCard) -> bool:
        return bool(card.boot and card.url) and await self._client.probe(card.url) == card.boot

    async def _publish_url(self) -> None:
        if await self._client.probe(self.candidate) == self._me.boot:
            self._me.url = self.candidate
            self.beat_now()
            # Records name the URL of their node.
            self._trust.doubt_records()
        else:
            event(logger, logging.WARNING, "not reached at its own URL", url=self.candidate, flag="--advertise-url")

    async def _exchange(self) -> CardFound | NodeCard:
        """Put up our card, read the others'. Raises StoreDown."""
        time_of_day, asked = time.time(), now()
        card = msgspec.json.encode(self._describe())
        known = self._membership.listed
        operations: list[Operation] = [
            Beat(self._me.node, self._me.boot, self._me.started, card, CARD_SECONDS, instead_of=self.replaces),
            AddNode(self._me.node, time_of_day),
            RemoveNodesBefore(time_of_day - FORGET_SECONDS),
            NewestNodes(MAX_NODES),
            self._changes.operation(),
            *map(ReadCard, known),
        ]
        standing, _, _, nodes, changes, *cards = await self._store.run(operations)
        if self._changes.heard(changes):
            self.beat_now()
        self._membership.read(_readable(known, cards), asked)
        self._membership.listed = listed = self._others(nodes)
        unknown = [node for node in listed if node not in known]
        if unknown:
            self._membership.add(_readable(unknown, await self._store.run(list(map(ReadCard, unknown)))))
        self._warn_of_unknown_keys()
        match standing:
            case bytes():
                return read(standing, NodeCard) or _UNREADABLE
            case OperationRefused():
                return CardFound.REFUSED
        return CardFound.STANDING if standing else CardFound.MISSING

    def _others(self, nodes: Any) -> list[str]:
        texts = [node.decode("ascii", "replace") for node in nodes] if isinstance(nodes, list) else []
        return [node for node in texts if node != self._me.node]

    def _warn_of_unknown_keys(self) -> None:
        """Relaying between nodes with different secrets fails only when it is needed: this is logged at once, on both."""
        strangers = {
            (node, card.boot): card.key for node, card in self._membership.with_unknown_keys(self._client.knows_key)
        }
        for (node, boot), key in strangers.items():
            if (node, boot) not in self._strangers:
                advice = "give all nodes the same TRIO_MCP_SECRET"
                event(
                    logger, logging.ERROR, "a peer signs with a key that is not here", peer=node, key=key, advice=advice
                )
        self._strangers = set(strangers)


def _readable(nodes: list[str], cards: list[Any]) -> dict[str, NodeCard]:
    found = ((node, read(raw, NodeCard)) for node, raw in zip(nodes, cards, strict=True))
    return {node: card for node, card in found if card is not None}
