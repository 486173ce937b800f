"""How the facts that routing decides from are read: from a session, a record, the outcome of a relay."""

from __future__ import annotations

from itertools import product

import pytest

from tests.cluster.parts import ANN, BOB, snapshot
from tests.cluster.tables import Table, row
from trio_mcp.cluster.facts import Copy, Ended, Facts, Recorded, Tried, after_relay, copy_here, recorded
from trio_mcp.cluster.membership import Verdict
from trio_mcp.cluster.peer.outcomes import Broken, Misdirected, Outcome, Refused, Relayed, Unanswered, Unreachable
from trio_mcp.cluster.record import Identity, Record, Tombstone
from trio_mcp.sessions.close_reason import CloseReason

BOTH = (False, True)
ME, EARLIER, PEER = Identity("node1", "b1"), Identity("node1", "b0"), Identity("node2", "b2")

COPIES = Table(
    {"closed": (None, *CloseReason), "release_pending": BOTH, "restores": BOTH},
    [
        row("a release is pending", Copy.RELEASE_PENDING, release_pending=True),
        row("it lives", Copy.LIVE, closed=None),
        row("the node stops, peers may restore it", Copy.SHUT_DOWN, closed=CloseReason.SHUTDOWN, restores=True),
        row("it goes on elsewhere", Copy.NONE, closed=(CloseReason.MOVED, CloseReason.RELEASED)),
        *(row(f"it has ended: {reason}", reason, closed=reason) for reason in CloseReason if not reason.goes_on),
    ],
)


@pytest.mark.parametrize("number", range(len(COPIES.rows)), ids=[each.name for each in COPIES.rows])
def test_what_a_session_of_the_hub_means(number: int) -> None:
    assert COPIES.cells[number]
    for cell in COPIES.cells[number]:
        assert copy_here(**cell) is COPIES.rows[number].decided, cell


RECORDS = Table(
    {"owner": (ME, EARLIER, PEER), "released": BOTH, "has_node_id": BOTH, "who": (ANN, BOB)},
    [
        row("another principal's", Recorded.FOREIGN, who=BOB),
        row("released by whomever", Recorded.FREE, released=True),
        row("this process'", Recorded.OURS, owner=ME),
        row("of an earlier process of this node", Recorded.FREE, owner=EARLIER, has_node_id=True),
        row("of another process that may have this node's id", Recorded.PEERS, owner=EARLIER),
        row("a peer's", Recorded.PEERS, owner=PEER),
    ],
)


@pytest.mark.parametrize("number", range(len(RECORDS.rows)), ids=[each.name for each in RECORDS.rows])
def test_whose_a_record_is(number: int) -> None:
    assert RECORDS.cells[number]
    for cell in RECORDS.cells[number]:
        record = Record.of(snapshot("node1.abc"), cell["owner"], restorable=True, released=cell["released"])
        assert recorded(record, cell["who"], ME, has_node_id=cell["has_node_id"]) is RECORDS.rows[number].decided, cell


@pytest.mark.parametrize("has_node_id", BOTH)
def test_no_record_is_nothing_or_the_reason_in_the_tombstone(has_node_id: bool) -> None:
    tombstone = Tombstone.of(Record.of(snapshot("node1.abc"), PEER, restorable=True), CloseReason.EXPIRED)
    assert recorded(None, ANN, ME, has_node_id=has_node_id) is Recorded.NOTHING
    assert recorded(tombstone, ANN, ME, has_node_id=has_node_id) is CloseReason.EXPIRED
    assert recorded(tombstone, BOB, ME, has_node_id=has_node_id) is CloseReason.UNKNOWN


OUTCOMES: list[Outcome] = [
    Relayed(200),
    Relayed(404),
    Relayed(499),
    Refused(),
    Unreachable(),
    Unanswered(),
    Broken(),
    Misdirected("node1", "b1", None),
    Misdirected("node1", "b2", None),
]
RELAYS = Table(
    {"outcome": OUTCOMES, "post": BOTH, "expects_response": BOTH, "harmless": BOTH},
    [
        row("404 is passed on", Ended.NO_SESSION, outcome=Relayed(404)),
        row("answered, or the client has left", Ended.ANSWERED, outcome=(Relayed(200), Relayed(499))),
        row("never sent", Tried.FAILED, outcome=(Refused(), Unreachable())),
        row("a request that may run twice", Tried.BROKEN, outcome=(Broken(), Unanswered()), harmless=True),
        row("a call that may run", Ended.LOST, outcome=Unanswered(), expects_response=True),
        row("a message that may have been taken", Ended.SILENT, outcome=Unanswered()),
        row("a POST that may have run", Ended.LOST, outcome=Broken(), post=True),
        row("a GET or DELETE that may be sent again", Tried.BROKEN, outcome=Broken()),
        row("421 of the process that was meant", Tried.DENIED, outcome=Misdirected("node1", "b1", None)),
        row("421 of another process", Tried.MISDIRECTED, outcome=Misdirected("node1", "b2", None)),
    ],
)


@pytest.mark.parametrize("number", range(len(RELAYS.rows)), ids=[each.name for each in RELAYS.rows])
def test_what_the_outcome_of_a_relay_means(number: int) -> None:
    assert RELAYS.cells[number]
    for cell in RELAYS.cells[number]:
        found = after_relay(boot="b1", **cell)
        assert found is RELAYS.rows[number].decided, cell


@pytest.mark.parametrize(("first", "named"), list(product(Tried, BOTH)))
def test_a_second_relay_is_known_for_one_until_the_record_is_read_again(first: Tried, named: bool) -> None:
    facts = Facts(tried=first, verdict=Verdict.ALIVE, none_ready=True)
    facts.relayed(Tried.FAILED, named=named)
    assert (facts.tried, facts.tried_twice, facts.named) == (Tried.FAILED, first is not Tried.NOTHING, named)
    facts.read(Recorded.PEERS, patiently=named)
    assert facts == Facts(recorded=Recorded.PEERS, read_patiently=named)
