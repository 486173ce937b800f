"""Relief as a table: from a view of the node to the plan."""

from __future__ import annotations

import pytest

from trio_mcp.streams.relief import (
    COME_BACK_SECONDS,
    OBSERVE_SECONDS,
    RECEIVE_SECONDS,
    SLOW_BYTES_PER_SECOND,
    SMALLEST_ANSWER,
    Abandoned,
    Connection,
    Plan,
    View,
    decide,
)

MIB = 1 << 20
LIMIT = 10 * MIB
OVER = LIMIT + 1


def connection(rate: float, held: int = MIB, watched: float = OBSERVE_SECONDS) -> Connection:
    return Connection(held, int(rate * watched), watched)


FAST, SLOW, STUCK = connection(SLOW_BYTES_PER_SECOND), connection(SLOW_BYTES_PER_SECOND / 2), connection(0)
NEW = connection(0, watched=OBSERVE_SECONDS - 0.1)


def sender(seconds: float, watched: float = OBSERVE_SECONDS) -> Connection:
    """Of a body that takes so long in all, and began when it was first watched."""
    return Connection(
        MIB, int(MIB / seconds * watched), watched, left=int(MIB / seconds * (seconds - watched)), age=watched
    )


QUICK, LATE, LATEST = sender(RECEIVE_SECONDS - 1), sender(RECEIVE_SECONDS + 1), sender(200)
NEW_SENDER = sender(1_000, OBSERVE_SECONDS - 0.1)
UNSEEN = Connection(MIB, 0, 0)
OLD, OLDER = Abandoned(MIB, COME_BACK_SECONDS), Abandoned(MIB, COME_BACK_SECONDS + 1)
FRESH = Abandoned(MIB, COME_BACK_SECONDS - 0.1)

TABLE = {
    "room for everybody": (View(0, LIMIT), Plan()),
    "room: nobody slow is cut, nothing abandoned goes": (View(LIMIT, LIMIT, [STUCK], [OLDER]), Plan()),
    "too much, and everybody reads": (View(OVER, LIMIT, [FAST, FAST]), Plan()),
    "too much: the slowest goes first": (View(OVER, LIMIT, [FAST, SLOW, STUCK]), Plan(cut=(2, 1))),
    "as many as are in the way": (
        View(OVER, LIMIT, [connection(1, 5 * MIB), connection(0, 5 * MIB), SLOW]),
        Plan(cut=(1,)),
    ),
    "who has not been watched long enough stays": (View(OVER, LIMIT, [NEW, UNSEEN]), Plan()),
    "abandoned answers wait for their client": (View(OVER, LIMIT, (), [FRESH]), Plan()),
    "the oldest of what nobody reads": (View(OVER, LIMIT, (), [OLD, OLDER]), Plan(end=(1, 0))),
    "slow connections before what nobody reads": (
        View(OVER, LIMIT, [connection(0, 5 * MIB)], [OLDER]),
        Plan(cut=(0,)),
    ),
    "both, when one is not enough": (View(LIMIT + 3 * MIB, LIMIT, [STUCK], [OLDER]), Plan(cut=(0,), end=(0,))),
    "no room: who waits goes on waiting": (View(LIMIT, LIMIT, waiting=5), Plan()),
    "below the limit and no room for who waits: slow connections go": (
        View(LIMIT - 1, LIMIT, [STUCK], [OLDER], waiting=1),
        Plan(cut=(0,)),
    ),
    "and what nobody reads": (View(LIMIT - 1, LIMIT, [FAST], [OLDER], waiting=1), Plan(end=(0,))),
    "as much as there may be for who waits": (View(9 * MIB, LIMIT, waiting=1), Plan(admit=1)),
    "room: as many start as have room for what answers weigh": (
        View(6 * MIB, LIMIT, waiting=50, typical=MIB),
        Plan(admit=3),
    ),
    "small answers count for something": (
        View(9 * MIB - 3 * SMALLEST_ANSWER, LIMIT, waiting=50, typical=10),
        Plan(admit=3),
    ),
    "one at least, when there is room at all": (View(8 * MIB, LIMIT, waiting=5, typical=5 * MIB), Plan(admit=1)),
    "no more than there are": (View(0, LIMIT, waiting=2, typical=MIB), Plan(admit=2)),
    "a body that waits has those make way that take longest, and no more than it needs": (
        View(0, LIMIT, [QUICK, LATE, LATEST, STUCK], body_missing=MIB + 1),
        Plan(cut=(2, 1)),
    ),
    "who has no need of it waits for no sender": (View(0, LIMIT, [LATE, LATEST]), Plan()),
    "whoever sends in time, and whoever only reads, is not in the way of a body": (
        View(0, LIMIT, [QUICK, NEW_SENDER, STUCK], body_missing=MIB),
        Plan(),
    ),
    "a body is not asked for the rest in ever smaller parts": (
        View(0, LIMIT, [Connection(MIB, 1_000, OBSERVE_SECONDS, left=1, age=RECEIVE_SECONDS + 0.1)], body_missing=1),
        Plan(cut=(0,)),
    ),
    "few at once, for what they free shows later": (
        View(2 * LIMIT, LIMIT, [STUCK, SLOW, FAST, STUCK], [OLDER], cut_at_once=2),
        Plan(cut=(0, 3)),
    ),
    "then what nobody reads": (
        View(2 * LIMIT, LIMIT, [STUCK, SLOW, FAST], [OLDER], cut_at_once=2),
        Plan(cut=(0, 1), end=(0,)),
    ),
}


@pytest.mark.parametrize(("view", "plan"), TABLE.values(), ids=TABLE)
def test_what_is_seen_decides_what_is_done(view: View, plan: Plan) -> None:
    assert decide(view) == plan
