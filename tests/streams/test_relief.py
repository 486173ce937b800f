"""Who makes room, as a table: what is seen of a node, and what is done."""

from __future__ import annotations

import pytest

from trio_mcp.streams.relief import (
    COME_BACK_SECONDS,
    OBSERVE_SECONDS,
    SLOW_BYTES_PER_SECOND,
    SMALLEST_ANSWER,
    Abandoned,
    Peer,
    Plan,
    View,
    decide,
)

MIB = 1 << 20
LIMIT = 10 * MIB
OVER = LIMIT + 1


def peer(rate: float, held: int = MIB, watched: float = OBSERVE_SECONDS) -> Peer:
    return Peer(held, int(rate * watched), watched)


FAST, SLOW, STUCK = peer(SLOW_BYTES_PER_SECOND), peer(SLOW_BYTES_PER_SECOND / 2), peer(0)
NEW = peer(0, watched=OBSERVE_SECONDS - 0.1)
UNSEEN = Peer(MIB, 0, 0)
OLD, OLDER = Abandoned(MIB, COME_BACK_SECONDS), Abandoned(MIB, COME_BACK_SECONDS + 1)
FRESH = Abandoned(MIB, COME_BACK_SECONDS - 0.1)

TABLE = {
    "room for everybody": (View(0, LIMIT), Plan()),
    "room: nobody slow is cut, nothing abandoned goes": (View(LIMIT, LIMIT, [STUCK], [OLDER]), Plan()),
    "too much, and everybody reads": (View(OVER, LIMIT, [FAST, FAST]), Plan()),
    "too much: the slowest goes first": (View(OVER, LIMIT, [FAST, SLOW, STUCK]), Plan(cut=(2, 1))),
    "as many as are in the way": (View(OVER, LIMIT, [peer(1, 5 * MIB), peer(0, 5 * MIB), SLOW]), Plan(cut=(1,))),
    "who has not been watched long enough stays": (View(OVER, LIMIT, [NEW, UNSEEN]), Plan()),
    "abandoned answers wait for their client": (View(OVER, LIMIT, (), [FRESH]), Plan()),
    "the oldest of what nobody reads": (View(OVER, LIMIT, (), [OLD, OLDER]), Plan(end=(1, 0))),
    "slow peers before what nobody reads": (
        View(OVER, LIMIT, [peer(0, 5 * MIB)], [OLDER]),
        Plan(cut=(0,)),
    ),
    "both, when one is not enough": (View(LIMIT + 3 * MIB, LIMIT, [STUCK], [OLDER]), Plan(cut=(0,), end=(0,))),
    "no room: who waits goes on waiting": (View(LIMIT, LIMIT, waiting=5), Plan()),
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
    "bodies wait for slow senders, whatever else there is room for": (
        View(0, LIMIT, [STUCK, FAST, SLOW], bodies_wait=True),
        Plan(cut=(0, 2)),
    ),
}


@pytest.mark.parametrize(("view", "plan"), TABLE.values(), ids=TABLE)
def test_what_is_seen_decides_what_is_done(view: View, plan: Plan) -> None:
    assert decide(view) == plan
