"""Takes this process' node id when it starts: when no other process has it, or that process is gone; else the start fails.

card of another process stands ─▶ does it answer? ─▶ `membership.judge_node_id`
   ├─ it is gone ────────────────▶ our card replaces it, if it is still that card
   ├─ it drains ─────────────────▶ wait, for its drain and the lifetime of a card
   └─ it lives and does not stop ▶ NodeIdTaken
"""

from __future__ import annotations

import logging

import trio

from trio_mcp.cluster.failure_detector import FailureDetector
from trio_mcp.cluster.heartbeat import Heartbeat
from trio_mcp.cluster.membership import CARD_SECONDS, AtUrl, Evidence, NodeIdVerdict, at_url, judge_node_id
from trio_mcp.cluster.peer.client import PeerClient
from trio_mcp.cluster.record import Identity, NodeCard
from trio_mcp.cluster.store_trust import StoreTrust
from trio_mcp.observability.logs import event
from trio_mcp.protocol.errors import McpError
from trio_mcp.sessions.node_state import STOP_LABELS

__all__ = ["NodeIdTaken", "take_node_id"]

logger: logging.Logger = logging.getLogger("trio_mcp.cluster")

LOOK_SECONDS = 0.5
"""Between two looks at the other process."""


class NodeIdTaken(McpError):
    """Another process that runs has this node's id."""

    def __init__(self, node: str, card: NodeCard) -> None:
        where = card.url or "an address it has not reached itself at"
        super().__init__(
            f"the node id {node} is taken: a process that is {card.state or 'there'} has it, at {where} (boot {card.boot}). "
            "Give every node a --node-id of its own"
        )


async def take_node_id(
    me: Identity,
    heartbeat: Heartbeat,
    trust: StoreTrust,
    detector: FailureDetector,
    client: PeerClient,
    drain_seconds: float,
) -> None:
    """Return when this process has the node id, or Redis cannot say which process has it. Raises NodeIdTaken.

    `drain_seconds` is how long a process of this cluster drains at most (seconds).
    """
    began = trio.current_time()
    reported = ""
    while (other := trust.another) is not None:
        if reported != other.boot:
            reported = other.boot
            event(
                logger,
                logging.WARNING,
                "node id in use",
                node=me.node,
                boot=other.boot,
                state=other.state,
                url=other.url,
            )
        match await _judged(other, me, detector, client, trio.current_time() - began, drain_seconds):
            case NodeIdVerdict.TAKE:
                heartbeat.replaces = other.boot
            case NodeIdVerdict.REFUSE:
                raise NodeIdTaken(me.node, other)
            case NodeIdVerdict.WAIT:
                await trio.sleep(LOOK_SECONDS)
        await heartbeat.beat()


async def _judged(
    other: NodeCard, me: Identity, detector: FailureDetector, client: PeerClient, waited: float, drain_seconds: float
) -> NodeIdVerdict:
    seen = await client.probe(other.url)
    ours = isinstance(seen, str) and seen == me.boot
    at = at_url(seen, other.boot) if other.boot else AtUrl.SILENT
    silent_for = await detector.silent_for(me.node, other.boot)
    patience = CARD_SECONDS + (drain_seconds if other.state in STOP_LABELS else 0.0)
    return judge_node_id(Evidence(at, silent_for, waited), ours=ours, patience=patience)
