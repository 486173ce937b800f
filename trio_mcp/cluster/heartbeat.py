"""The heartbeat: this node's card in Redis, and the other nodes' cards, read by the same pipeline.

It runs in the event loop, so that a node whose loop is blocked does not look alive.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any

import msgspec
import trio

from trio_mcp.cluster.directory import RedisDirectory
from trio_mcp.cluster.membership import BEAT_SECONDS, CARD_SECONDS
from trio_mcp.cluster.moment import Moment
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.ownership_log import OwnershipLog
from trio_mcp.cluster.record import Identity, NodeCard, read
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
from trio_mcp.observability.logs import event
from trio_mcp.sessions.node_state import GOING_WORDS

__all__ = ["Heartbeat"]

logger: logging.Logger = logging.getLogger("trio_mcp.cluster")

LATE_SECONDS = 2 * BEAT_SECONDS

OTHER_SECONDS = CARD_SECONDS + BEAT_SECONDS
"""A card that stands for so long has been put up anew meanwhile, however slowly Redis answers."""

PROOF_SECONDS = BEAT_SECONDS
"""An address that was proven is asked again as often as a card is read."""

MAX_NODES = 1_000
"""Last seen, first read: pods that come and go leave their names for a day."""

REFILL_SECONDS = BEAT_SECONDS + 1.0
"""Who did not notice at once that Redis lost what it knew has noticed by the next beat."""

FORGET_SECONDS = 24 * 3600.0
"""A node nobody saw for a day is not asked for any more."""


class _Card(Enum):
    """What our own card was found to be, when it was shown again."""

    FALLEN = 0
    STANDING = 1
    REFUSED = 2


_NOBODYS = NodeCard("", "", "", 0, 0)
"""A card that cannot be read."""


class Heartbeat:
    """Who else there is. `card` makes what this node says of itself; `doubled` is called when an earlier process has our id."""

    def __init__(
        self,
        store: MeasuredStore,
        directory: RedisDirectory,
        me: Identity,
        moves: OwnershipLog,
        *,
        card: Callable[[], NodeCard],
        knows: Callable[[str], bool],
        answers: Callable[[NodeCard], Awaitable[bool]],
        doubled: Callable[[], None],
        refreshed: Callable[[bool], Awaitable[None]],
        overslept: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._directory = directory
        self._me = me
        self._moves = moves
        self._card = card
        self._knows = knows
        """Whether a key of that name is one of ours."""
        self._strangers: set[tuple[str, str]] = set()
        """Nodes and boots whose key is not, and has been said not to be."""
        self._answers = answers
        """Whether the process of a card is there now."""
        self._doubled = doubled
        self._refreshed = refreshed
        """Awaited after each beat that Redis answered: whether our card had fallen."""
        self._overslept = overslept
        """Awaited before a beat that comes far too late."""
        self._cards: dict[str, NodeCard] = {}
        self._read: Moment | None = None
        """When they were, the last time that Redis answered."""
        self._proven: dict[str, tuple[str, Moment]] = {}
        """By URL: the process that has shown that it is one of us, and when."""
        self._urls: dict[str, str] = {}
        self._names: list[str] = []
        self.other: NodeCard | None = None
        """The card of another process that stood in the place of ours with the last beat."""
        self.replaces = ""
        """The boot of a process with our id that is gone: its card may be replaced."""
        self.joined = False
        """Our id is ours, as far as we know: from now on another process under it is a double."""
        self._other_since = Moment()
        """When it was first seen there."""
        self._standing_since: float | None = None
        self._refilled_at = -math.inf
        self.answered: trio.Event = trio.Event()
        """Set once Redis has taken our card, or shown another's in its place."""
        self._writing = trio.Lock()
        """Held while our card is written."""
        self._left = False
        self.has_name: bool = False
        """Our card is the one that stands under our id, or stood when Redis last answered: nobody else has it."""
        self._now = trio.Event()
        store.on_return(self.beat_now)
        self.attempted: Moment = Moment()
        """When the last beat was begun, whatever came of it; a node that catches up on its sleep sets it when done."""

    async def beat_on(self) -> None:
        """Until cancelled."""
        while True:
            wait = RETRY_SECONDS if self._store.down else BEAT_SECONDS
            with trio.move_on_after(wait):
                await self._now.wait()
            self._now = trio.Event()
            if self.is_late:
                # Before it counts as awake: no request may meet what another node has taken over meanwhile.
                await self._overslept()
            await self.beat()

    @property
    def is_late(self) -> bool:
        """Whether nobody even tried to beat for so long that this node may have been given up, and its sessions taken over."""
        return self.attempted.ago > LATE_SECONDS

    def beat_now(self) -> None:
        """Something of the card has changed: tell the others."""
        self._now.set()

    async def beat(self) -> None:
        """One beat; never raises for a Redis that is away."""
        self.attempted = Moment()
        try:
            async with self._writing:
                if self._left:
                    return
                card = await self._exchange()
        except StoreDown:
            self._standing_since = None
            # Also for a process that starts now: it cannot know what a Redis that comes back had before.
            self._directory.has_card = not self._left
            return
        self.has_name = not isinstance(card, NodeCard) and (card is not _Card.REFUSED or self.has_name)
        if card is not _Card.REFUSED:
            self.answered.set()
        if isinstance(card, NodeCard):
            self._standing_since = None
            if self.other is None or self.other.boot != card.boot:
                self._other_since = Moment()
            self.other = card
            if self.joined:
                await self._make_way(card)
            # It takes our sessions for a dead process', and may have some by now.
            return await self._refreshed(True)
        self.other = None
        if card is _Card.REFUSED:
            self._standing_since = None
        elif card is _Card.FALLEN or self._standing_since is None:
            self._standing_since = trio.current_time()
        if card is _Card.FALLEN and self._directory.has_card:
            self._refilled_at = trio.current_time() + REFILL_SECONDS
        self._directory.has_card = card is not _Card.REFUSED
        await self._refreshed(card is _Card.FALLEN)

    async def beat_ended(self) -> None:
        """Wait for a beat that is under way: it may have put our card up already, and not know yet that it was missing."""
        async with self._writing:
            pass

    async def leave(self) -> None:
        """Take our card down: this node is gone, and need not be looked for. A later process of our name stays."""
        self._directory.has_card = False
        async with self._writing:
            # A beat after this would put the card up again.
            self._left = True
            (ours,) = await self._store.run([Leave(self._me.node, self._me.boot)])
        if ours is True:
            await self._store.run([RemoveNode(self._me.node)])

    def url(self, node: str) -> str | None:
        """Where a node was last seen."""
        return self._urls.get(node)

    def boot(self, node: str) -> str | None:
        """The process that ran under that name when Redis was last heard; None when its card had fallen."""
        card = self._cards.get(node)
        return None if card is None else card.boot

    def expected(self, node: str) -> str:
        """The process that has to answer under that name; "" when it may have been started anew, and any of ours will do."""
        card = self._cards.get(node)
        return card.boot if card is not None and self._are_fresh else ""

    def is_stopping(self, node: str) -> bool:
        """Whether the node's card says that it drains: its sessions are about to be somebody else's."""
        card = self._cards.get(node)
        return card is not None and card.state in GOING_WORDS

    def vouch_for(self, owner: Owner) -> bool:
        """Whether the card of that very process says the same address, and was read while it stood.

        A card older than CARD_SECONDS is not trusted, for the address may have been reassigned: the peer there must have answered a
        `/livez` challenge within PROOF_SECONDS.
        """
        card = self._cards.get(owner.node)
        if card is None or card.url != owner.url:
            return False
        if self._are_fresh:
            return card.boot == owner.boot
        boot, seen = self._proven.get(owner.url, ("", None))
        return seen is not None and seen.ago < PROOF_SECONDS and boot == (owner.boot or boot)

    def proved(self, url: str, boot: str) -> None:
        """What is there has shown that it is one of us: while Redis is away, not every request need ask again."""
        self._proven.pop(url, None)
        self._proven[url] = (boot, Moment())
        if len(self._proven) > MAX_NODES:
            del self._proven[next(iter(self._proven))]

    def ready(self, session_id: str) -> list[Owner]:
        """Peers that take new work, in an order of each session's own (rendezvous hashing): all nodes agree on it."""
        found = [
            Owner(node, card.boot, -1, card.url)
            for node, card in self._cards.items()
            if card.state == "ready" and card.url
        ]
        return sorted(found, key=lambda peer: hashlib.blake2b(f"{peer.node}\0{session_id}".encode()).digest())

    def with_room(self) -> list[Owner]:
        """Ready peers that had room for another session when their cards were read, in random order, the emptier sooner:
        those who ask between two beats must not all go to the same one.
        """
        roomy = [peer for peer in self.ready("") if self._cards[peer.node].room > 0]
        return sorted(roomy, key=lambda peer: random.random() ** (1 / self._cards[peer.node].room), reverse=True)

    @property
    def stood_for(self) -> float:
        """Seconds that our own card has stood without a gap: when everybody's is missing, nobody is dead."""
        return 0.0 if self._standing_since is None else trio.current_time() - self._standing_since

    @property
    def refilling(self) -> bool:
        """Whether our card was missing a moment ago: what others wrote may be lost too, and not yet written anew."""
        return trio.current_time() < self._refilled_at

    @property
    def _are_fresh(self) -> bool:
        """Whether the cards we know still stood a moment ago."""
        return self._read is not None and self._read.ago <= CARD_SECONDS

    async def _make_way(self, card: NodeCard) -> None:
        """Under our id stands the card of a process that says that it is the earlier one: if that lives, we have to go.

        A dead one may say so, too, in a Redis that has come back with what it knew before; but its card is not put up anew, and
        falls.
        """
        if self._other_since.ago > OTHER_SECONDS or await self._answers(card):
            self._doubled()

    async def _exchange(self) -> _Card | NodeCard:
        """Show ours, see the others'; the card of another process when ours was not taken."""
        now, asked = time.time(), Moment()
        card = msgspec.json.encode(self._card())
        operations: list[Operation] = [
            Beat(self._me.node, self._me.boot, self._me.started, card, CARD_SECONDS, instead_of=self.replaces),
            AddNode(self._me.node, now),
            RemoveNodesBefore(now - FORGET_SECONDS),
            NewestNodes(MAX_NODES),
        ]
        known = self._names
        standing, _, _, names, moves, *cards = await self._store.run(
            [*operations, self._moves.operation(), *map(ReadCard, known)]
        )
        if self._moves.heard(moves):
            self.beat_now()
        self._take(known, cards)
        self._read = asked
        self._names = self._others(names)
        if set(self._names) - set(known):
            await self._meet([name for name in self._names if name not in known])
        match standing:
            case bytes():
                return read(standing, NodeCard) or _NOBODYS
            case OperationRefused():
                return _Card.REFUSED
        return _Card(standing)

    def _check_key(self, name: str, card: NodeCard) -> None:
        """What nodes with different secrets break is seldom and elsewhere: say it at once, where the mistake is."""
        if self._knows(card.key) or (name, card.boot) in self._strangers:
            return
        self._strangers.add((name, card.boot))
        event(
            logger,
            logging.ERROR,
            "a peer signs with a key that is not here",
            peer=name,
            key=card.key,
            advice="give all nodes the same TRIO_MCP_SECRET",
        )

    async def _meet(self, names: list[str]) -> None:
        cards = await self._store.run([ReadCard(name) for name in names])
        self._add(names, cards)

    def _others(self, names: Any) -> list[str]:
        texts = [name.decode("ascii", "replace") for name in names] if isinstance(names, list) else []
        return [name for name in texts if name != self._me.node]

    def _take(self, names: list[str], cards: list[Any]) -> None:
        self._cards.clear()
        self._add(names, cards)
        self._strangers &= {(name, card.boot) for name, card in self._cards.items()}

    def _add(self, names: list[str], cards: list[Any]) -> None:
        for name, raw in zip(names, cards, strict=True):
            card = read(raw, NodeCard)
            if card is not None:
                self._cards[name] = card
                self._check_key(name, card)
                seen_at = self._urls.pop(name, "")
                self._urls[name] = card.url or seen_at
        # Not by what Redis lists now: that may have been emptied, and the node be alive.
        for name in list(self._urls)[:-MAX_NODES]:
            del self._urls[name]
