"""Which nodes there are, and what of them can be believed: is a process gone, at its address, ready, one of ours.

Nothing here waits or asks: `heartbeat` reads the cards, `failure_detector` collects evidence, and both do what is decided.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from trio_mcp.cluster.clock import Moment
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peer.outcomes import STRANGER, Misdirected, Outcome, Refused
from trio_mcp.cluster.record import NodeCard, OwnershipChange
from trio_mcp.cluster.siblings import node_of
from trio_mcp.sessions.node_state import ANSWERS, STOP_LABELS, NodeState

__all__ = [
    "BEAT_SECONDS",
    "CARD_SECONDS",
    "MISSED_BEAT_SECONDS",
    "AtUrl",
    "Evidence",
    "Membership",
    "NodeIdVerdict",
    "Verdict",
    "at_url",
    "judge",
    "judge_node_id",
    "rank",
    "superseded",
]

BEAT_SECONDS = 5.0
"""Between two beats of a node."""

CARD_SECONDS = 15
"""Lifetime of a card: it expires when more than two beats are lost."""

MISSED_BEAT_SECONDS = BEAT_SECONDS + 1.0
"""A process that runs beats within this time; one second of it is for a busy machine and a slow Redis."""

PROOF_SECONDS = BEAT_SECONDS
"""How long an address is trusted whose peer answered a challenge: as long as a card, which is read with each beat."""

MAX_NODES = 1_000
"""Addresses that are remembered. Pods that come and go leave their ids for a day."""


# Is a process gone?


class AtUrl(Enum):
    """Who answered at a process' URL when it was asked last."""

    ITSELF = "itself"
    ANOTHER = "another"
    """Another process of this cluster answers there."""
    REFUSED = "refused"
    """The connection was refused."""
    SILENT = "silent"
    """No connection, no answer, or the answer of something that is not one of our nodes."""


class Verdict(Enum):
    """Whether a process is gone."""

    ALIVE = "alive"
    GONE = "gone"
    WAIT = "wait"
    """The evidence does not suffice yet, and may soon."""
    UNKNOWN = "unknown"
    """The evidence does not suffice, and the request has waited long enough."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a process; times in seconds."""

    at_url: AtUrl
    silent_for: float | None
    """Since its last beat, by Redis' clock; infinite when another process has its node id, None when Redis cannot tell."""
    waited: float
    """How long the request that asks has waited."""


def at_url(seen: Outcome | str, boot: str) -> AtUrl:
    """What the outcome of a relay, or the boot that answered a probe, says of the process `boot`; "" stands for any process of the cluster."""
    match seen:
        case Refused():
            return AtUrl.REFUSED
        case str(found) | Misdirected(boot=found) if found != STRANGER:
            return AtUrl.ITSELF if boot in ("", found) else AtUrl.ANOTHER
    return AtUrl.SILENT


def judge(evidence: Evidence) -> Verdict:
    """Whether the process is gone.

    A refused connection alone does not prove it: the process may run behind a proxy or firewall that restarts. A process that still
    beats keeps its sessions.
    """
    if evidence.at_url is AtUrl.ITSELF:
        return Verdict.ALIVE
    enough = CARD_SECONDS if evidence.at_url is AtUrl.SILENT else MISSED_BEAT_SECONDS
    if evidence.silent_for is not None and evidence.silent_for >= enough:
        return Verdict.GONE
    return Verdict.WAIT if evidence.waited < MISSED_BEAT_SECONDS else Verdict.UNKNOWN


class NodeIdVerdict(Enum):
    """Whether a process that starts may take its node id."""

    TAKE = "take"
    WAIT = "wait"
    REFUSE = "refuse"


def judge_node_id(evidence: Evidence, *, ours: bool, patience: float) -> NodeIdVerdict:
    """Whether a node id may be taken while the card of another process stands under it.

    `ours` says that this process itself answers at that card's URL. `patience` is how many seconds the other process has to stop.
    """
    if ours:
        return NodeIdVerdict.TAKE
    if judge(evidence) is Verdict.GONE:
        return NodeIdVerdict.TAKE
    return NodeIdVerdict.WAIT if evidence.waited < patience else NodeIdVerdict.REFUSE


def superseded(boot: str, epoch: int, change: OwnershipChange) -> bool:
    """Whether the copy of a session that the process `boot` has, of that epoch, has to be closed because of `change`.

    For each epoch one claim succeeds. An end concerns the epoch it names, and those before it.
    """
    if change.epoch != epoch:
        return change.epoch > epoch
    return (change.boot == boot) is change.ended


# Which nodes are there?


def rank(node: str, id: str) -> bytes:
    """Where the node stands among those that could take the session, task or node with that id, the same on all nodes (rendezvous hashing)."""
    return hashlib.blake2b(f"{node}\0{id}".encode()).digest()


class Membership:
    """The other nodes as their cards describe them, and where each was seen last. `now` is the clock."""

    def __init__(self, now: Callable[[], Moment], left_out: Callable[[str], bool] = lambda node: False) -> None:
        """`left_out` names nodes that are given nothing new, whatever their cards say."""
        self._now = now
        self._left_out = left_out
        self.listed: list[str] = []
        """The nodes that Redis lists: all that were seen within a day."""
        self._cards: dict[str, NodeCard] = {}
        self._read: Moment | None = None
        """When they were read from Redis last."""
        self._proven: dict[str, tuple[str, Moment]] = {}
        """By URL: the process that answered a challenge there, and when."""
        self._urls: dict[str, str] = {}
        """By node, also of those whose cards have expired."""

    def read(self, cards: Mapping[str, NodeCard], at: Moment) -> None:
        """These cards stand, and no others: they were asked for at that time."""
        self._cards.clear()
        self._read = at
        self.add(cards)

    def add(self, cards: Mapping[str, NodeCard]) -> None:
        """These cards stand as well."""
        for node, card in cards.items():
            self._cards[node] = card
            seen_at = self._urls.pop(node, "")
            self._urls[node] = card.url or seen_at
        # Not the nodes that Redis does not list: it may have lost its data, and they may live.
        for node in list(self._urls)[:-MAX_NODES]:
            del self._urls[node]

    def url(self, node: str) -> str | None:
        """Where the node was seen last; empty when it never was reachable, None when it was never seen."""
        return self._urls.get(node)

    def url_of(self, node: str) -> str:
        """The URL of a node, of which another worker was seen; empty when none was."""
        return next((url.partition("#")[0] for worker, url in self._urls.items() if node_of(worker) == node), "")

    def boot(self, node: str) -> str | None:
        """The process that had that node id when Redis answered last; None when its card had expired."""
        card = self._cards.get(node)
        return None if card is None else card.boot

    def expected(self, node: str) -> str:
        """The process that has to answer for that node; "" when it may have been restarted, and any of ours will do."""
        card = self._cards.get(node)
        return card.boot if card is not None and self._are_fresh else ""

    def is_stopping(self, node: str) -> bool:
        """Whether the node's card says that it stops: its sessions are about to be restored by others."""
        card = self._cards.get(node)
        return card is not None and card.state in STOP_LABELS

    def vouch_for(self, owner: Owner) -> bool:
        """Whether requests may be sent to that address at once; else the peer there must answer a `/livez` challenge first.

        A card of that very process has to name the address. A card older than CARD_SECONDS is not trusted, for the address may have
        been reassigned: then the peer there must have answered a challenge within PROOF_SECONDS.
        """
        card = self._cards.get(owner.node)
        if card is None or card.url != owner.url:
            return False
        if self._are_fresh:
            return card.boot == owner.boot
        boot, seen = self._proven.get(owner.url, ("", None))
        return seen is not None and self._now().since(seen) < PROOF_SECONDS and boot == (owner.boot or boot)

    def proved(self, url: str, boot: str) -> None:
        """The process at that address has answered a challenge: it is a node of this cluster."""
        self._proven.pop(url, None)
        self._proven[url] = (boot, self._now())
        if len(self._proven) > MAX_NODES:
            del self._proven[next(iter(self._proven))]

    def ready(self, id: str) -> list[Owner]:
        """Nodes that take new work, in an order that depends on the session, task or node with that id, and is the same on all nodes."""
        found = [
            Owner(node, card.boot, -1, card.url)
            for node, card in self._cards.items()
            if card.state == _READY and card.url and not self._left_out(node)
        ]
        return sorted(found, key=lambda peer: rank(peer.node, id))

    def with_room(self) -> list[Owner]:
        """Ready nodes that had room for another session when their cards were read.

        The order is random, weighted by the room: nodes that ask between two beats must not all pick the same one.
        """
        roomy = [peer for peer in self.ready("") if self._cards[peer.node].room > 0]
        return sorted(roomy, key=lambda peer: random.random() ** (1 / self._cards[peer.node].room), reverse=True)

    def with_unknown_keys(self, knows: Callable[[str], bool]) -> Iterable[tuple[str, NodeCard]]:
        """Nodes that sign with a key for which `knows` is False: relaying between us and them fails."""
        return [(node, card) for node, card in self._cards.items() if not knows(card.key)]

    @property
    def _are_fresh(self) -> bool:
        """Whether the cards were read so recently that none of them can have expired since."""
        return self._read is not None and self._now().since(self._read) <= CARD_SECONDS


_READY = ANSWERS[NodeState.READY].label
