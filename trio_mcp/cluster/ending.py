"""A session ended from outside: its node is asked to, and where there is no such node its record is removed."""

from __future__ import annotations

from enum import Enum

import trio

from trio_mcp.cluster.bus_message import end_message
from trio_mcp.cluster.record import Record, Tombstone
from trio_mcp.cluster.roster import Roster, SessionLine
from trio_mcp.cluster.store.port import EndSession, Publish
from trio_mcp.sessions.close_reason import CloseReason

__all__ = ["Outcome", "end_session"]

PATIENCE = 3.0
"""A node that is well needs milliseconds, and up to a second where its handlers clean up."""

LOOK_SECONDS = 0.05


class Outcome(Enum):
    """What became of it."""

    ENDED = "its node ended it, or it was gone by itself"
    REMOVED = "no node had it; its record is removed"
    UNANSWERED = "its node stands in Redis, and has not ended it"


async def end_session(roster: Roster, session_id: str) -> Outcome:
    """Ask whoever has it, wait `PATIENCE` at most; raises RosterUnavailable."""
    await roster.ask([Publish(end_message(session_id))])
    with trio.move_on_after(PATIENCE):
        while await roster.session(session_id) is not None:  # noqa: ASYNC110  another process' doing
            await trio.sleep(LOOK_SECONDS)
        return Outcome.ENDED
    return await _bury(roster, session_id)


async def _bury(roster: Roster, session_id: str) -> Outcome:
    """The tombstone also makes a node close its copy that was unreachable, not gone."""
    line = await roster.session(session_id)
    if line is None:
        return Outcome.ENDED
    if line.record is None or await _is_somewhere(roster, line, line.record):
        return Outcome.UNANSWERED
    (removed,) = await roster.ask([EndSession(session_id, Tombstone.of(line.record, CloseReason.DELETED), by="")])
    return Outcome.REMOVED if removed == 1 else Outcome.UNANSWERED


async def _is_somewhere(roster: Roster, line: SessionLine, record: Record) -> bool:
    """Whether the process that has it says that it runs."""
    return not record.released and line.is_with(await roster.card(record.node))
