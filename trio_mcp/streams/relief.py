"""Who makes room when a node holds more than it may: pure, from what is seen to what is done.

The order: peers that move next to nothing lose their connection, the slowest first; then answers that nobody reads go, with
their session; what room there is then admits those who wait. (Replays went before: the account evicts them at once.)
When bodies wait for each other, senders that take too long for the size they have reserved make way, whoever takes longest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Abandoned", "Peer", "Plan", "View", "decide"]

SLOW_BYTES_PER_SECOND = 4 * 1024
"""Slower than any link people use MCP on."""

OBSERVE_SECONDS = 5.0
"""A peer is judged by what it moved in so long: longer than a lost packet takes to be sent again."""

RECEIVE_SECONDS = 15.0
"""While others wait for the room a body has reserved: half of what they wait for it."""

COME_BACK_SECONDS = 10.0
"""Clients resume a stream that was cut within seconds (`--retry-interval`); answers wait so long for them, at least."""

AMPLE = 0.9
"""Of the limit: made free down to here, so that the next answer is not the next emergency."""

SMALLEST_ANSWER = 64 * 1024
"""How much a call that waits is expected to need, at least."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A connection that something waits for: it has yet to take an answer, or to send the rest of a body."""

    held: int
    """Bytes that would be free without it."""
    moved: int
    """Bytes that it took or sent while it was watched."""
    watched: float
    """For how many seconds."""
    left: int | None = None
    """Of a body: bytes that are still to come."""
    age: float = 0.0
    """Seconds since it began."""

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.moved / self.watched if self.watched else float("inf")

    @property
    def slow(self) -> bool:
        """Whether it was watched long enough and moved next to nothing."""
        return self.watched >= OBSERVE_SECONDS and self.rate < SLOW_BYTES_PER_SECOND

    @property
    def takes(self) -> float:
        """How many seconds a body takes from its first byte to its last, if its sender goes on like this."""
        if not self.left:
            return self.age
        return self.age + self.left / self.rate if self.rate else float("inf")

    @property
    def late(self) -> bool:
        """Whether a body was watched long enough and takes longer than it may while others wait."""
        return self.left is not None and self.watched >= OBSERVE_SECONDS and self.takes > RECEIVE_SECONDS


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Answers of one stream that nobody reads."""

    held: int
    watched: float


@dataclass(frozen=True, slots=True)
class View:
    """An account at one moment; `peers` and `abandoned` are answered by their index."""

    used: int
    limit: int
    peers: Sequence[Peer] = ()
    abandoned: Sequence[Abandoned] = ()
    by_calls: int = 0
    """Of `used`: what the calls came with, and answers that wait for the rest of their batch. Those that wait hold a part of it
    themselves, and give it back when they have run."""
    waiting: int = 0
    """Calls that have yet to start."""
    typical: float = 0.0
    """What an answer weighs, lately."""
    body_missing: int = 0
    """Bytes that senders of bodies have reserved and the next body that waits for them needs."""
    cut_at_once: int | None = None
    """How many slow peers at most. Of a long answer `held` is only the piece that is being written: what it frees in all shows
    when it is gone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do."""

    cut: tuple[int, ...] = ()
    """Peers that lose their connection: senders that take too long, and then the slowest first."""
    end: tuple[int, ...] = ()
    """Abandoned streams whose sessions end, the oldest first."""
    admit: int = 0
    """How many of those who wait may start."""


def decide(view: View) -> Plan:
    """The plan for what is seen; does nothing by itself."""
    ample = int(view.limit * AMPLE)
    missing = view.used - ample if view.used > view.limit else 0
    if view.waiting:
        # They start below the ample mark alone: what holds the rest must not be safe above it.
        missing = max(missing, view.used - view.by_calls - ample)
    cut = _make_way(view.peers, view.body_missing)
    missing -= sum(view.peers[index].held for index in cut)
    slow = [i for i, peer in enumerate(view.peers) if peer.slow and i not in cut]
    slow.sort(key=lambda i: view.peers[i].rate)
    for index in slow[: view.cut_at_once]:
        if missing <= 0:
            break
        cut.append(index)
        missing -= view.peers[index].held
    if view.cut_at_once is not None and len(slow) > view.cut_at_once:
        missing = 0
    old = [i for i, each in enumerate(view.abandoned) if each.watched >= COME_BACK_SECONDS]
    end: list[int] = []
    for index in sorted(old, key=lambda i: -view.abandoned[i].watched):
        if missing <= 0:
            break
        end.append(index)
        missing -= view.abandoned[index].held
    return Plan(tuple(cut), tuple(end), _admitted(view, ample))


def _make_way(peers: Sequence[Peer], missing: int) -> list[int]:
    """The senders that have reserved what others wait for, those that take longest first, and no more than are in the way."""
    late = [i for i, peer in enumerate(peers) if peer.late] if missing > 0 else []
    late.sort(key=lambda i: -peers[i].takes)
    chosen: list[int] = []
    for index in late:
        if missing <= 0:
            break
        chosen.append(index)
        missing -= peers[index].held
    return chosen


def _admitted(view: View, ample: int) -> int:
    room = ample - (view.used - view.by_calls)
    if room < 0 or not view.waiting:
        return 0
    return min(view.waiting, max(1, int(room / max(view.typical, SMALLEST_ANSWER))))
