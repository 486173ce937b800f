"""Which connections, sessions and bodies make room when a node holds more than it may: a pure function from a view to a plan.

Connections that move next to nothing are closed, the slowest first. Then sessions end whose answers nobody reads. Calls that
wait may start in the room that is left. (Replays are gone by then: the account evicts them at once.) When bodies wait for each
other, senders that take too long for the size they have reserved make way, those that take longest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Abandoned", "Connection", "Plan", "View", "decide"]

SLOW_BYTES_PER_SECOND = 4 * 1024
"""A slower client counts as stalled: no link that people use for MCP is so slow."""

OBSERVE_SECONDS = 5.0
"""A client's connection is watched for this long before it is judged: longer than a lost packet takes to be sent again."""

RECEIVE_SECONDS = 15.0
"""A body may take this long while others wait for the room it has reserved: half the time that they wait."""

COME_BACK_SECONDS = 10.0
"""Unread answers wait for their client at least this long: clients resume a cut stream within seconds (`--retry-interval`)."""

AMPLE = 0.9
"""Of the limit: room is made down to here, so that the next answer does not exceed it again."""

SMALLEST_ANSWER = 64 * 1024
"""Bytes that a call that waits is expected to need, at least."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A client's connection that has yet to take an answer, or to send the rest of a body."""

    held: int
    """Bytes that would be free if it were cut."""
    moved: int
    """Bytes that it took or sent while it was watched."""
    watched: float
    """Seconds for which it was watched."""
    left: int | None = None
    """The bytes of a body that are still to come; None for an answer."""
    age: float = 0.0
    """Seconds since it began."""

    @property
    def rate(self) -> float:
        """Bytes in a second."""
        return self.moved / self.watched if self.watched else float("inf")

    @property
    def slow(self) -> bool:
        """Whether it was watched for long enough and moved next to nothing."""
        return self.watched >= OBSERVE_SECONDS and self.rate < SLOW_BYTES_PER_SECOND

    @property
    def takes(self) -> float:
        """Seconds that a body takes from its first byte to its last, if its sender goes on at this rate."""
        if not self.left:
            return self.age
        return self.age + self.left / self.rate if self.rate else float("inf")

    @property
    def late(self) -> bool:
        """Whether it is a body that was watched for long enough and takes longer than RECEIVE_SECONDS."""
        return self.left is not None and self.watched >= OBSERVE_SECONDS and self.takes > RECEIVE_SECONDS


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The answers of one stream that nobody reads."""

    held: int
    """Bytes."""
    watched: float
    """Seconds for which nobody has read them."""


@dataclass(frozen=True, slots=True)
class View:
    """An account at one moment. The plan names `connections` and `abandoned` by their index."""

    used: int
    limit: int
    connections: Sequence[Connection] = ()
    abandoned: Sequence[Abandoned] = ()
    by_calls: int = 0
    """The part of `used` that is bodies of calls, and answers that wait for the rest of their batch. Calls that wait hold a part of it, and release
    it when they have run."""
    waiting: int = 0
    """Calls that have yet to start."""
    typical: float = 0.0
    """The mean size of recent answers, in bytes."""
    body_missing: int = 0
    """Bytes that the next body needs and that others have reserved."""
    cut_at_once: int | None = None
    """How many slow connections at most. A long answer holds more than the piece that is being written (`held`), so what it frees shows
    only when it is gone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do."""

    cut: tuple[int, ...] = ()
    """Connections to close: first those whose client takes too long to send its body, then slow ones, the slowest first."""
    end: tuple[int, ...] = ()
    """Abandoned streams whose sessions end, those first that waited longest."""
    admit: int = 0
    """How many of the calls that wait may start."""


def decide(view: View) -> Plan:
    """What to do about `view`; a pure function."""
    ample = int(view.limit * AMPLE)
    missing = view.used - ample if view.used > view.limit else 0
    if view.waiting:
        # Calls start only below the ample mark, so room has to be made down to it while any wait.
        missing = max(missing, view.used - view.by_calls - ample)
    cut = _make_way(view.connections, view.body_missing)
    missing -= sum(view.connections[index].held for index in cut)
    slow = [i for i, connection in enumerate(view.connections) if connection.slow and i not in cut]
    slow.sort(key=lambda i: view.connections[i].rate)
    for index in slow[: view.cut_at_once]:
        if missing <= 0:
            break
        cut.append(index)
        missing -= view.connections[index].held
    if view.cut_at_once is not None and len(slow) > view.cut_at_once:
        # Cut the other slow connections first, at the next looks: no session has to end while they remain.
        missing = 0
    old = [i for i, each in enumerate(view.abandoned) if each.watched >= COME_BACK_SECONDS]
    end: list[int] = []
    for index in sorted(old, key=lambda i: -view.abandoned[i].watched):
        if missing <= 0:
            break
        end.append(index)
        missing -= view.abandoned[index].held
    return Plan(tuple(cut), tuple(end), _admitted(view, ample))


def _make_way(connections: Sequence[Connection], missing: int) -> list[int]:
    """The senders of bodies to cut for `missing` bytes: those that take longest first, and no more than needed."""
    late = [i for i, connection in enumerate(connections) if connection.late] if missing > 0 else []
    late.sort(key=lambda i: -connections[i].takes)
    chosen: list[int] = []
    for index in late:
        if missing <= 0:
            break
        chosen.append(index)
        missing -= connections[index].held
    return chosen


def _admitted(view: View, ample: int) -> int:
    room = ample - (view.used - view.by_calls)
    if room < 0 or not view.waiting:
        return 0
    return min(view.waiting, max(1, int(room / max(view.typical, SMALLEST_ANSWER))))
