"""Decisions about other nodes, from evidence alone: is a process gone, may its name be taken, which copy of a session stays.

Nothing here waits or asks: `failure_detector` and `peers` collect the evidence and do what is decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from trio_mcp.cluster.peer.outcomes import STRANGER, Misdirected, Outcome, Refused
from trio_mcp.cluster.record import OwnershipChange

__all__ = [
    "BEAT_SECONDS",
    "CARD_SECONDS",
    "MISSED_BEAT_SECONDS",
    "AtUrl",
    "Evidence",
    "Name",
    "Verdict",
    "at_url",
    "judge",
    "judge_name",
    "superseded",
]

BEAT_SECONDS = 5.0
"""Between two beats of a node."""

CARD_SECONDS = 15
"""Lifetime of a card: two beats may be lost before it falls."""

MISSED_BEAT_SECONDS = BEAT_SECONDS + 1.0
"""A process that beats is heard within this; the second is for a busy machine and a slow Redis."""


class AtUrl(Enum):
    """What a process' URL said when it was last asked."""

    ITSELF = "itself"
    ANOTHER = "another"
    """Another process of this cluster answers there."""
    REFUSED = "refused"
    """Nobody listens there now."""
    SILENT = "silent"
    """No connection, no answer, or the answer of something that is not one of our nodes."""


class Verdict(Enum):
    """Whether a process is gone."""

    ALIVE = "alive"
    GONE = "gone"
    WAIT = "wait"
    """The evidence does not suffice yet, and may soon."""
    UNKNOWN = "unknown"
    """It has been waited for long enough."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a process; times in seconds."""

    at_url: AtUrl
    silent_for: float | None
    """Since its last beat, by Redis' clock; infinite when another process has its name, None when Redis cannot tell."""
    waited: float
    """Since the request that wants to know met the first sign of trouble."""


def at_url(seen: Outcome | str, boot: str) -> AtUrl:
    """What a relayed request's outcome, or a probe's boot, says of the process `boot`; any of ours will do for ""."""
    match seen:
        case Refused():
            return AtUrl.REFUSED
        case str(found) | Misdirected(boot=found) if found != STRANGER:
            return AtUrl.ITSELF if boot in ("", found) else AtUrl.ANOTHER
    return AtUrl.SILENT


def judge(evidence: Evidence) -> Verdict:
    """Whether the process is gone.

    A refused connection alone is no death: the process may live behind a proxy or firewall that restarts. Beats alone are no
    life either, but a process that still beats keeps its sessions.
    """
    if evidence.at_url is AtUrl.ITSELF:
        return Verdict.ALIVE
    enough = CARD_SECONDS if evidence.at_url is AtUrl.SILENT else MISSED_BEAT_SECONDS
    if evidence.silent_for is not None and evidence.silent_for >= enough:
        return Verdict.GONE
    return Verdict.WAIT if evidence.waited < MISSED_BEAT_SECONDS else Verdict.UNKNOWN


class Name(Enum):
    """Whether a process that starts may have its node id."""

    TAKE = "take"
    WAIT = "wait"
    REFUSE = "refuse"


def judge_name(evidence: Evidence, *, ours: bool, patience: float) -> Name:
    """Whether the id of a node whose card another process holds is free; `ours` when we are who answers at that card's URL.

    `patience` is how many seconds that process is given to go.
    """
    if ours:
        return Name.TAKE
    if judge(evidence) is Verdict.GONE:
        return Name.TAKE
    return Name.WAIT if evidence.waited < patience else Name.REFUSE


def superseded(boot: str, epoch: int, move: OwnershipChange) -> bool:
    """Whether our copy of a session, of that epoch, is not the session any more after `move`.

    A claim has one winner for each epoch. An end is of one life, and of those before it.
    """
    if move.epoch != epoch:
        return move.epoch > epoch
    return (move.boot == boot) is move.ended
