"""The life cycle of a node: its states, what each answers, and which may follow which. All other modules only read it.

         nothing missing        stop asked        after the delay             ports close        lifespan ends
 STARTING ─▶ JOINING ─▶ READY ─▶ DRAINING ─┬─▶ CLOSING  (no ready peer) ─┬─▶ STOPPING ─────────▶ STOPPED
   │  │         ▲         ▲                └─▶ LEAVING  (a ready peer)  ─┘
   │  └▶ KEYLESS┴─────────┤
   └──(nothing missing)───┘

The lifespan ends early at a crash, at a signal during the start, and when a foreign ASGI server stops: then STOPPED follows at once.
How long each step of a stop may take is in `sessions.stop_times`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

import trio

__all__ = [
    "ANSWERS",
    "CLUSTER",
    "KEYS",
    "NEXT",
    "STOP_LABELS",
    "WORKERS",
    "Answers",
    "Claims",
    "LifeCycle",
    "NodeState",
    "Served",
]


class NodeState(Enum):
    """Where a node is in its life. Probes and cards show `Answers.label`."""

    STARTING = auto()
    """The lifespan has not been entered."""
    KEYLESS = auto()
    """It has no keys yet to verify tokens with: it can serve nobody, and balancers must send clients to its peers."""
    JOINING = auto()
    """It serves what comes, but its node id may still be another process'."""
    READY = auto()
    DRAINING = auto()
    """Asked to stop. For the drain delay it serves as before, while balancers and peers learn that it is not ready."""
    CLOSING = auto()
    """The drain window of a node without a ready peer: what is here ends here."""
    LEAVING = auto()
    """The drain window of a node with a ready peer: balancers must send clients there, and what is still here is relayed."""
    STOPPING = auto()
    """Calls and sessions have ended; no connection is accepted any more."""
    STOPPED = auto()
    """The lifespan is being left, or has been: the user's cleanup runs, and nothing is served."""


class Served(Enum):
    """Who answers a request."""

    NOT_RUNNING = auto()
    """503: the lifespan does not run."""
    HERE = auto()
    HERE_ELSE_OWNER = auto()
    """This node where it has the session; else it is relayed to the session's owner, or refused."""
    PEER_ELSE_HERE = auto()
    """A ready peer where there is one, else this node."""
    PEER_ELSE_REFUSED = auto()
    """A ready peer where there is one, else 503."""


class Claims(Enum):
    """Whether this node takes over sessions of nodes that are gone."""

    NOT_YET = auto()
    """A record under this node's id may belong to another process: requests wait for the join, or go to a peer."""
    YES = auto()
    NO_MORE = auto()
    """A ready peer claims in its place."""


@dataclass(frozen=True, slots=True)
class Answers:
    """How a node in one state answers."""

    label: str
    """What probes, node cards and logs call the state."""
    livez: bool
    """200, else 503."""
    readyz: bool
    """200, else 503."""
    initialize: Served
    session_requests: Served
    """Requests of sessions that exist already, on this node or on another: those for another are relayed."""
    modern: Served
    claims: Claims
    new_connections: bool
    """Whether this node's own listeners accept connections."""


_NO, _OK = False, True
_DOWN, _HERE, _OWNER = Served.NOT_RUNNING, Served.HERE, Served.HERE_ELSE_OWNER
_PEER, _PEER_ONLY = Served.PEER_ELSE_HERE, Served.PEER_ELSE_REFUSED

# fmt: off
ANSWERS: Mapping[NodeState, Answers] = {
    #                            label       livez readyz initialize  sessions modern claims           connections
    NodeState.STARTING: Answers("starting",  _OK,  _NO,  _DOWN,      _DOWN,   _DOWN, Claims.NOT_YET,  _NO),
    NodeState.KEYLESS:  Answers("joining",   _NO,  _NO,  _HERE,      _OWNER,  _HERE, Claims.NOT_YET,  _OK),
    NodeState.JOINING:  Answers("joining",   _OK,  _NO,  _HERE,      _OWNER,  _HERE, Claims.NOT_YET,  _OK),
    NodeState.READY:    Answers("ready",     _OK,  _OK,  _HERE,      _OWNER,  _HERE, Claims.YES,      _OK),
    NodeState.DRAINING: Answers("draining",  _OK,  _NO,  _HERE,      _OWNER,  _HERE, Claims.NO_MORE,  _OK),
    NodeState.CLOSING:  Answers("draining",  _OK,  _NO,  _PEER_ONLY, _OWNER,  _PEER, Claims.NO_MORE,  _OK),
    NodeState.LEAVING:  Answers("leaving",   _NO,  _NO,  _PEER_ONLY, _OWNER,  _PEER, Claims.NO_MORE,  _OK),
    NodeState.STOPPING: Answers("stopping",  _NO,  _NO,  _PEER_ONLY, _OWNER,  _PEER, Claims.NO_MORE,  _NO),
    NodeState.STOPPED:  Answers("stopped",   _NO,  _NO,  _DOWN,      _DOWN,   _DOWN, Claims.NO_MORE,  _NO),
}
# fmt: on

NEXT: Mapping[NodeState, frozenset[NodeState]] = {
    NodeState.STARTING: frozenset({NodeState.KEYLESS, NodeState.JOINING, NodeState.READY}),
    NodeState.KEYLESS: frozenset({NodeState.JOINING, NodeState.READY, NodeState.DRAINING, NodeState.STOPPED}),
    NodeState.JOINING: frozenset({NodeState.READY, NodeState.DRAINING, NodeState.STOPPED}),
    # Back to JOINING: all workers of a node have died, and others start.
    NodeState.READY: frozenset({NodeState.JOINING, NodeState.DRAINING, NodeState.STOPPED}),
    NodeState.DRAINING: frozenset({NodeState.CLOSING, NodeState.LEAVING, NodeState.STOPPED}),
    NodeState.CLOSING: frozenset({NodeState.STOPPING, NodeState.STOPPED}),
    NodeState.LEAVING: frozenset({NodeState.STOPPING, NodeState.STOPPED}),
    NodeState.STOPPING: frozenset({NodeState.STOPPED}),
    # A foreign ASGI server may run the lifespan of one app again.
    NodeState.STOPPED: frozenset({NodeState.KEYLESS, NodeState.JOINING, NodeState.READY}),
}

STOP_LABELS = frozenset(row.label for row in ANSWERS.values() if row.claims is Claims.NO_MORE)
"""The labels of nodes that have been asked to stop, as their cards show them."""


CLUSTER, KEYS, WORKERS = "cluster", "keys", "workers"
"""What a node may wait for before it is ready: that it has joined its cluster, has the keys that verify tokens, has a worker that serves."""


class LifeCycle:
    """The state of one node. Only `enter` changes it, and only along `NEXT`."""

    def __init__(self) -> None:
        self.waits_for: set[str] = set()
        """What is still missing before the node is ready: CLUSTER, KEYS."""
        self.state: NodeState = NodeState.STARTING
        self.answers: Answers = ANSWERS[self.state]
        self.no_more_connections: trio.Event = trio.Event()
        """Set when listeners must accept no more."""
        self._changed = trio.lowlevel.ParkingLot()

    def start(self) -> None:
        """The lifespan has been entered: READY, or KEYLESS or JOINING while something is missing."""
        self.no_more_connections = trio.Event()
        self.enter(self._by_what_is_missing())

    def settled(self, what: str) -> None:
        """`what` of `waits_for` is there: READY if nothing else is missing and the node was not asked to stop meanwhile."""
        self.waits_for.discard(what)
        if self.state in (NodeState.KEYLESS, NodeState.JOINING) and self.state is not self._by_what_is_missing():
            self.enter(self._by_what_is_missing())

    def lost(self, what: str) -> None:
        """`what` is missing again: a node that was READY waits for it."""
        if self.state is NodeState.READY:
            self.waits_for.add(what)
            self.enter(NodeState.JOINING)

    @property
    def missing(self) -> list[str]:
        """What is missing before the node is ready, in order; empty once it is, and as long as the lifespan was not entered."""
        return sorted(self.waits_for) if self.state in (NodeState.KEYLESS, NodeState.JOINING) else []

    def _by_what_is_missing(self) -> NodeState:
        if KEYS in self.waits_for:
            return NodeState.KEYLESS
        return NodeState.JOINING if self.waits_for else NodeState.READY

    def enter(self, state: NodeState) -> None:
        """Change the state, and wake the tasks that wait for that. Raises ValueError for a step that is not in `NEXT`."""
        if state not in NEXT[self.state]:
            raise ValueError(f"a node does not go from {self.state.name} to {state.name}")
        self.state = state
        self.answers = ANSWERS[state]
        if not self.answers.new_connections:
            self.no_more_connections.set()
        self._changed.unpark_all()

    async def may_claim(self) -> bool:
        """Wait until it is known whether this node claims sessions."""
        while self.answers.claims is Claims.NOT_YET:
            await self._changed.park()
        return self.answers.claims is Claims.YES

    @property
    def is_running(self) -> bool:
        """Whether the lifespan runs, so that requests can be served."""
        return self.answers.session_requests is not Served.NOT_RUNNING
