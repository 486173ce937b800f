"""Getting this node's id: free, or of a process that is gone or about to go; else the start is refused.

card of another process stands ─▶ is it there? ─▶ `membership.judge_name`
   ├─ it is gone ────────────────▶ ours replaces it, if it is still that card
   ├─ it drains ─────────────────▶ wait: its drain, and a card's lifetime
   └─ it lives, and does not go ─▶ NodeIdTaken
"""

from __future__ import annotations

import logging

import trio

from trio_mcp.cluster.failure_detector import FailureDetector
from trio_mcp.cluster.heartbeat import Heartbeat
from trio_mcp.cluster.membership import CARD_SECONDS, AtUrl, Evidence, Name, at_url, judge_name
from trio_mcp.cluster.peer.client import PeerClient
from trio_mcp.cluster.record import Identity, NodeCard
from trio_mcp.cluster.store_trust import StoreTrust
from trio_mcp.observability.logs import event
from trio_mcp.protocol.errors import McpError
from trio_mcp.sessions.node_state import GOING_WORDS

__all__ = ["NodeIdTaken", "take_name"]

logger: logging.Logger = logging.getLogger("trio_mcp.cluster")

LOOK_SECONDS = 0.5


class NodeIdTaken(McpError):
    """Another process has this node's id, and lives."""

    def __init__(self, node: str, card: NodeCard) -> None:
        where = card.url or "an address it has not reached itself at"
        super().__init__(
            f"the node id {node} is taken: a process that is {card.state or 'there'} has it, at {where} (boot {card.boot}). "
            "Give every node a --node-id of its own"
        )


async def take_name(
    heartbeat: Heartbeat,
    trust: StoreTrust,
    detector: FailureDetector,
    relay: PeerClient,
    me: Identity,
    drain_seconds: float,
) -> None:
    """Returns when the node's id is this process', or Redis cannot say whose it is; raises NodeIdTaken.

    `drain_seconds` is how long a process of this cluster drains at most.
    """
    began = trio.current_time()
    told = ""
    while (other := trust.another) is not None:
        if told != other.boot:
            told = other.boot
            event(
                logger,
                logging.WARNING,
                "node id in use",
                node=me.node,
                boot=other.boot,
                state=other.state,
                url=other.url,
            )
        match await _judged(other, detector, relay, me, trio.current_time() - began, drain_seconds):
            case Name.TAKE:
                heartbeat.replaces = other.boot
            case Name.REFUSE:
                raise NodeIdTaken(me.node, other)
            case Name.WAIT:
                await trio.sleep(LOOK_SECONDS)
        await heartbeat.beat()


async def _judged(
    other: NodeCard, detector: FailureDetector, relay: PeerClient, me: Identity, waited: float, drain_seconds: float
) -> Name:
    seen = await relay.probe(other.url)
    ours = isinstance(seen, str) and seen == me.boot
    at = at_url(seen, other.boot) if other.boot else AtUrl.SILENT
    silent_for = await detector.silent_for(me.node, other.boot)
    patience = CARD_SECONDS + (drain_seconds if other.state in GOING_WORDS else 0.0)
    return judge_name(Evidence(at, silent_for, waited), ours=ours, patience=patience)
