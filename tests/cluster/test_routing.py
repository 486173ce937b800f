"""Where a request goes whose session is not on this node: every combination of facts, without Redis, sockets or a clock."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.tables import Row, Table, row
from trio_mcp.cluster.facts import Cached, Copy, Facts, Recorded, Target, Tried
from trio_mcp.cluster.membership import Verdict
from trio_mcp.cluster.routing import (
    LOOKS,
    Await,
    Full,
    Judge,
    LookUp,
    MoveTo,
    NotFound,
    RelayTo,
    Remove,
    Restore,
    SendBack,
    Serve,
    TryAgain,
    decide,
)
from trio_mcp.sessions.close_reason import CloseReason
from trio_mcp.sessions.node_state import Claims

BOTH = (False, True)
REASONS = tuple(CloseReason)
NO_REASON = CloseReason.UNKNOWN
NODE_GONE = CloseReason.NODE_GONE
REFUSALS = (Tried.DENIED, Tried.MISDIRECTED)
ANY_OWNER = (Cached.OWNER, Cached.DRAINING)
INWARD = {"hop": (True,), "near": (frozenset(Target),)}
"""Another node relayed it to a worker, and all that have or may have the session are workers of the same node."""

FREE_INPUTS = {
    "delete": BOTH,
    "readable": BOTH,
    "restorable": BOTH,
    "restores": BOTH,
    "claims": tuple(Claims),
    "hop": BOTH,
    "none_ready": BOTH,
    "full": BOTH,
}
FREE_ROWS = [
    row("a DELETE is done in place of a node that cannot", Remove(), delete=True, readable=True),
    row(
        "a session that ended with its node gets a tombstone",
        NotFound(NODE_GONE, True),
        readable=True,
        restorable=False,
    ),
    row("a record of another release is left alone", NotFound(NODE_GONE), readable=False),
    row("a node that does not restore", NotFound(NODE_GONE), restores=False),
    row("a node that restores", Restore(), claims=Claims.YES, full=False),
    row("a peer that has room restores it", RelayTo(Target.ROOMY), claims=Claims.YES, none_ready=False),
    row("a peer asked a node that has no room", SendBack(), claims=Claims.YES, hop=True),
    row("a peer asked a node that claims nothing", SendBack(), hop=True),
    row("no peer has room", Full(), claims=Claims.YES),
    row("a ready peer restores it in place of a node that claims nothing", RelayTo(Target.READY), none_ready=False),
    row("no peer is ready", TryAgain.NONE_READY),
]

TABLES: dict[str, Table] = {
    "a copy here": Table(
        {"copy": tuple(each for each in (*Copy, *REASONS) if each is not Copy.NONE)},
        [
            row("it lives", Serve(), copy=Copy.LIVE),
            row("it is being released", Await.RELEASE, copy=Copy.RELEASE_PENDING),
            row("it was closed by the stop of this node", Await.RECORD, copy=Copy.SHUT_DOWN),
            row("that is not recorded in time", TryAgain.STOPPING, copy=Copy.NOT_RELEASED),
            row("to peers a node that was shut down is gone", NotFound(NODE_GONE), copy=CloseReason.SHUTDOWN),
            *(
                row(f"it was closed: {reason}", NotFound(reason), copy=reason)
                for reason in REASONS
                if reason is not CloseReason.SHUTDOWN
            ),
        ],
    ),
    "before Redis is asked": Table(
        {
            "recorded": (Recorded.NOT_READ,),
            "looks": (0, 1, LOOKS - 1, LOOKS),
            "tried": tuple(Tried),
            "cached": tuple(Cached),
            "hop": BOTH,
            "claims": tuple(Claims),
            "join_awaited": BOTH,
        },
        [
            row("a known owner", RelayTo(Target.CACHED), looks=0, tried=Tried.NOTHING, cached=Cached.OWNER, hop=False),
            row("the node has not joined", Await.JOIN, claims=Claims.NOT_YET, join_awaited=False),
            row("the record changed each time it was read", TryAgain.MOVING, looks=LOOKS),
            row("the record is read", LookUp()),
        ],
    ),
    "Redis refused a change": Table({"recorded": (Recorded.REFUSED,)}, [row("nobody knows", TryAgain.DIRECTORY)]),
    "Redis does not know": Table(
        {
            "recorded": (Recorded.UNKNOWN,),
            "remembered": REASONS,
            "hop": BOTH,
            "cached": tuple(Cached),
            "home": BOTH,
            "read_patiently": BOTH,
            "tried": tuple(Tried),
            "named": BOTH,
            "redis_away": BOTH,
        },
        [
            *(
                row(f"it ended here: {reason}", NotFound(reason), remembered=reason)
                for reason in REASONS
                if reason is not NO_REASON
            ),
            row(
                "a peer is told the owner that is known",
                SendBack(Target.CACHED),
                hop=True,
                cached=(Cached.OWNER, Cached.DRAINING),
            ),
            row("Redis was slow, a peer asks", SendBack(), read_patiently=True, hop=True),
            row("Redis was slow", TryAgain.DIRECTORY, read_patiently=True),
            row(
                "the owner that is known is asked, even one that drains",
                RelayTo(Target.CACHED),
                hop=False,
                tried=Tried.NOTHING,
                cached=(Cached.OWNER, Cached.DRAINING),
            ),
            row("the node in the id is asked", RelayTo(Target.HOME), hop=False, tried=Tried.NOTHING, home=True),
            row("the owner that it named is asked", RelayTo(Target.NAMED), named=True, hop=False),
            row("a slow Redis is waited for", LookUp(patiently=True), redis_away=False),
            row("Redis is away, a peer asks", SendBack(), hop=True),
            row("Redis is away", TryAgain.DIRECTORY),
        ],
    ),
    "no record": Table(
        {
            # The record of another principal's session is none, and its tombstone says "unknown", too.
            "recorded": (Recorded.NOTHING, Recorded.FOREIGN, *REASONS),
            "remembered": (NO_REASON, CloseReason.EXPIRED),
            "hop": BOTH,
            "home": BOTH,
            "home_has_card": BOTH,
            "tried": tuple(Tried),
            "tried_twice": BOTH,
            "verdict": (None, *Verdict),
        },
        [
            row("it ended here", NotFound(CloseReason.EXPIRED), remembered=CloseReason.EXPIRED),
            *(
                row(f"a tombstone: {reason}", NotFound(reason), recorded=reason)
                for reason in REASONS
                if reason is not NO_REASON
            ),
            row("a peer asks", NotFound(NO_REASON), hop=True),
            row("nobody knows the node in the id", NotFound(NO_REASON), home=False),
            row("its node may not have written it yet", RelayTo(Target.HOME), verdict=None, tried=Tried.NOTHING),
            row("its node does not have it", NotFound(NO_REASON), verdict=None, tried=REFUSALS),
            row("its node has left", NotFound(NO_REASON), verdict=None, home_has_card=False),
            row("is its node gone?", Judge(Target.HOME), verdict=None),
            row("its node is gone", NotFound(NO_REASON), verdict=Verdict.GONE),
            row("its node lives and is asked again", RelayTo(Target.HOME), verdict=Verdict.ALIVE, tried_twice=False),
            row("its node does not answer", TryAgain.HOME_SILENT),
        ],
    ),
    "before Redis is asked, inward": Table(
        {
            "recorded": (Recorded.NOT_READ,),
            "looks": (0, 1, LOOKS),
            "tried": tuple(Tried),
            "cached": tuple(Cached),
            "claims": tuple(Claims),
            "join_awaited": BOTH,
            **INWARD,
        },
        [
            row("a known owner", RelayTo(Target.CACHED), looks=0, tried=Tried.NOTHING, cached=Cached.OWNER),
            row("this worker has not joined", Await.JOIN, claims=Claims.NOT_YET, join_awaited=False),
            row("the record changed each time it was read", TryAgain.MOVING, looks=LOOKS),
            row("the record is read", LookUp()),
        ],
    ),
    "Redis does not know, inward": Table(
        {
            "recorded": (Recorded.UNKNOWN,),
            "remembered": (NO_REASON, CloseReason.EXPIRED),
            "cached": tuple(Cached),
            "home": BOTH,
            "read_patiently": BOTH,
            "tried": tuple(Tried),
            "named": BOTH,
            "redis_away": BOTH,
            **INWARD,
        },
        [
            row("it ended here", NotFound(CloseReason.EXPIRED), remembered=CloseReason.EXPIRED),
            row(
                "the worker that is known is asked",
                RelayTo(Target.CACHED),
                read_patiently=False,
                tried=Tried.NOTHING,
                cached=ANY_OWNER,
            ),
            row("the worker in the id", RelayTo(Target.HOME), read_patiently=False, tried=Tried.NOTHING, home=True),
            row("the peer is told the owner that is known", SendBack(Target.CACHED), cached=ANY_OWNER),
            row("Redis was slow", SendBack(), read_patiently=True),
            row("the worker that it named is asked", RelayTo(Target.NAMED), named=True),
            row("a slow Redis is waited for", LookUp(patiently=True), redis_away=False),
            row("Redis is away", SendBack()),
        ],
    ),
    "no record, inward": Table(
        {
            "recorded": (Recorded.NOTHING, Recorded.FOREIGN),
            "remembered": (NO_REASON,),
            "home": BOTH,
            "home_has_card": BOTH,
            "tried": tuple(Tried),
            "tried_twice": BOTH,
            "verdict": (None, *Verdict),
            **INWARD,
        },
        [
            row("nobody knows the worker in the id", NotFound(NO_REASON), home=False),
            row("it may not have written it yet", RelayTo(Target.HOME), verdict=None, tried=Tried.NOTHING),
            row("it does not have it", NotFound(NO_REASON), verdict=None, tried=REFUSALS),
            row("it has left", NotFound(NO_REASON), verdict=None, home_has_card=False),
            row("is it gone?", Judge(Target.HOME), verdict=None),
            row("it is gone", NotFound(NO_REASON), verdict=Verdict.GONE),
            row("it lives and is asked again", RelayTo(Target.HOME), verdict=Verdict.ALIVE, tried_twice=False),
            row("it does not answer", TryAgain.HOME_SILENT),
        ],
    ),
    "another worker has it, inward": Table(
        {
            "recorded": (Recorded.PEERS,),
            "verdict": (None, *Verdict),
            "tried": tuple(Tried),
            **FREE_INPUTS,
            **INWARD,
        },
        [
            row("its owner is asked", RelayTo(Target.RECORDED), verdict=None, tried=Tried.NOTHING),
            row("is it gone?", Judge(Target.RECORDED, at_once=True), verdict=None),
            *(
                Row(f"gone: {each.name}", {"verdict": (Verdict.GONE,), **each.inputs}, each.decided)
                for each in FREE_ROWS[:-3]
            ),
            row("it may live", SendBack(Target.RECORDED)),
        ],
    ),
    "recorded as ours": Table(
        {
            "recorded": (Recorded.OURS,),
            "remembered": REASONS,
            "restorable": BOTH,
            "claims": tuple(Claims),
            "first_life": BOTH,
            "full": BOTH,
        },
        [
            *(
                row(f"it ended here: {reason}", NotFound(reason), remembered=reason)
                for reason in REASONS
                if reason is not NO_REASON
            ),
            row("it is being released", TryAgain.STOPPING, restorable=True, claims=Claims.NO_MORE),
            row("it cannot be restored", NotFound(NO_REASON), restorable=False),
            row("it was never claimed by this node", NotFound(NO_REASON), first_life=True),
            row("there is no room for it", Full(), full=True),
            row("the reply to this node's claim was lost", Restore()),
        ],
    ),
    "nobody has it": Table({"recorded": (Recorded.FREE,), **FREE_INPUTS}, FREE_ROWS),
    "another process has it": Table(
        {
            "recorded": (Recorded.PEERS,),
            "verdict": (None, *Verdict),
            "tried": tuple(Tried),
            "looks": (1, LOOKS),
            **FREE_INPUTS,
        },
        [
            row("a peer asks: is it gone?", Judge(Target.RECORDED, at_once=True), hop=True, verdict=None),
            *(
                Row(f"gone: {each.name}", {"verdict": (Verdict.GONE,), **each.inputs}, each.decided)
                for each in FREE_ROWS
            ),
            row("a peer asks, and it may live", SendBack(Target.RECORDED), hop=True),
            row("its owner is asked", RelayTo(Target.RECORDED), verdict=None, tried=Tried.NOTHING),
            row(
                "it is about to move",
                LookUp(after_pause=True),
                verdict=None,
                tried=(Tried.BROKEN, Tried.DENIED),
                looks=1,
            ),
            row("it moves all the time", TryAgain.MOVING, verdict=None, tried=(Tried.BROKEN, Tried.DENIED)),
            row("is its owner gone?", Judge(Target.RECORDED), verdict=None),
            row("its owner lives, the record is read again", LookUp(), verdict=Verdict.ALIVE, looks=1),
            row("its owner lives, and never answers", TryAgain.MOVING, verdict=Verdict.ALIVE),
            row("its owner may live", TryAgain.OWNER_SILENT),
        ],
    ),
}
EVERY_ROW = [
    pytest.param(table, number, id=f"{name}: {each.name}")
    for name, table in TABLES.items()
    for number, each in enumerate(table.rows)
]


class WatchedFacts(Facts):
    """Notes which facts are read."""

    def __getattribute__(self, name: str) -> Any:
        read_facts.add(name)
        return super().__getattribute__(name)


read_facts: set[str] = set()


@pytest.mark.parametrize(("table", "number"), EVERY_ROW)
def test_what_is_decided(table: Table, number: int) -> None:
    assert table.cells[number]
    for cell in table.cells[number]:
        assert decide(Facts(**cell)) == table.rows[number].decided, cell


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_connection_that_can_move_goes_where_its_request_would_be_relayed_to_an_owner(table: Table) -> None:
    """An owner that is known and near, not the node in the id, or any node that may restore it; nothing else is decided otherwise."""
    owners = {Target.CACHED, Target.NAMED, Target.RECORDED}
    for cells in table.cells:
        for cell in cells:
            if "near" not in cell:
                assert decide(Facts(**cell, movable=True)) == decide(Facts(**cell)), cell
            near = {**cell, "near": frozenset(Target)}
            step = decide(Facts(**near))
            moves = isinstance(step, RelayTo) and step.target in owners
            expected = MoveTo(step.target) if isinstance(step, RelayTo) and moves else step
            assert decide(Facts(**near, movable=True)) == expected, cell


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_decision_looks_at_nothing_but_the_inputs_of_its_table(table: Table) -> None:
    read_facts.clear()
    for cells in table.cells:
        for cell in cells:
            decide(WatchedFacts(**cell))
    assert read_facts <= {"copy", "recorded", "movable", "near", *table.inputs}


def test_the_tables_cover_everything_that_a_copy_or_a_record_can_be() -> None:
    copies = {Copy.NONE, *TABLES["a copy here"].inputs["copy"]}
    assert copies == {*Copy, *REASONS}
    records = {each for table in TABLES.values() for each in table.inputs.get("recorded", ())}
    assert records == {*Recorded, *REASONS}
