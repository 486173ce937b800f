"""What is concluded of other nodes, as tables: no Redis, no sockets, no clock."""

from __future__ import annotations

import math

import pytest

from tests.cluster.tables import Table, row
from trio_mcp.cluster.clock import Moment
from trio_mcp.cluster.membership import (
    CARD_SECONDS,
    MISSED_BEAT_SECONDS,
    PROOF_SECONDS,
    AtUrl,
    Evidence,
    Membership,
    NodeIdVerdict,
    Verdict,
    at_url,
    judge,
    judge_node_id,
    superseded,
)
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peer.outcomes import STRANGER, Broken, Misdirected, Outcome, Refused, Unanswered, Unreachable
from trio_mcp.cluster.record import NodeCard, OwnershipChange
from trio_mcp.sessions.node_state import ANSWERS

BEAT_AGO, MISSED = 1.0, MISSED_BEAT_SECONDS
NOW, LATE = 0.0, MISSED_BEAT_SECONDS


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Refused(), AtUrl.REFUSED),
        (Unreachable(), AtUrl.SILENT),
        (Unanswered(), AtUrl.SILENT),
        (Broken(), AtUrl.SILENT),
        ("b1", AtUrl.ITSELF),
        ("b2", AtUrl.ANOTHER),
        (STRANGER, AtUrl.SILENT),
        (Misdirected("node1", "b1", None), AtUrl.ITSELF),
        (Misdirected("node1", "b2", None), AtUrl.ANOTHER),
        (Misdirected("node1", STRANGER, None), AtUrl.SILENT),
    ],
)
def test_what_an_outcome_says_of_the_process_that_was_meant(seen: Outcome | str, expected: AtUrl) -> None:
    assert at_url(seen, "b1") is expected


def test_the_url_of_a_node_is_known_by_any_of_its_workers() -> None:
    membership = Membership(Clock())
    membership.add({"node1-w2": NodeCard("b2", "http://node1:8000#node1-w2", "ready", 0, 0)})
    assert membership.url_of("node1") == "http://node1:8000"
    assert membership.url_of("node2") == ""


def test_of_a_process_nobody_knows_any_of_ours_is_as_good() -> None:
    assert at_url("b2", "") is AtUrl.ITSELF


@pytest.mark.parametrize(
    ("at", "silent_for", "waited", "expected"),
    [
        # Who answers, lives, whatever Redis says.
        (AtUrl.ITSELF, BEAT_AGO, NOW, Verdict.ALIVE),
        (AtUrl.ITSELF, math.inf, NOW, Verdict.ALIVE),
        (AtUrl.ITSELF, None, LATE, Verdict.ALIVE),
        # A refusal alone is no death.
        (AtUrl.REFUSED, BEAT_AGO, NOW, Verdict.WAIT),
        (AtUrl.REFUSED, BEAT_AGO, LATE, Verdict.UNKNOWN),
        (AtUrl.REFUSED, 0.0, NOW, Verdict.WAIT),
        (AtUrl.REFUSED, None, NOW, Verdict.WAIT),
        (AtUrl.REFUSED, None, LATE, Verdict.UNKNOWN),
        (AtUrl.REFUSED, MISSED - 0.1, NOW, Verdict.WAIT),
        (AtUrl.REFUSED, MISSED, NOW, Verdict.GONE),
        (AtUrl.REFUSED, MISSED, LATE, Verdict.GONE),
        (AtUrl.REFUSED, math.inf, NOW, Verdict.GONE),
        # Nor is another process at its address: a proxy may lead there for a moment.
        (AtUrl.ANOTHER, BEAT_AGO, NOW, Verdict.WAIT),
        (AtUrl.ANOTHER, BEAT_AGO, LATE, Verdict.UNKNOWN),
        (AtUrl.ANOTHER, None, NOW, Verdict.WAIT),
        (AtUrl.ANOTHER, MISSED, NOW, Verdict.GONE),
        (AtUrl.ANOTHER, math.inf, NOW, Verdict.GONE),
        # Who takes connections and says nothing may be stopped, and go on: its card has to fall.
        (AtUrl.SILENT, BEAT_AGO, NOW, Verdict.WAIT),
        (AtUrl.SILENT, MISSED, NOW, Verdict.WAIT),
        (AtUrl.SILENT, MISSED, LATE, Verdict.UNKNOWN),
        (AtUrl.SILENT, None, LATE, Verdict.UNKNOWN),
        (AtUrl.SILENT, float(CARD_SECONDS), NOW, Verdict.GONE),
        (AtUrl.SILENT, math.inf, NOW, Verdict.GONE),
    ],
)
def test_whether_a_process_is_gone(at: AtUrl, silent_for: float | None, waited: float, expected: Verdict) -> None:
    assert judge(Evidence(at, silent_for, waited)) is expected


@pytest.mark.parametrize(
    ("at", "silent_for", "waited", "ours", "expected"),
    [
        (AtUrl.ITSELF, BEAT_AGO, NOW, False, NodeIdVerdict.WAIT),
        (AtUrl.ITSELF, BEAT_AGO, 20.0, False, NodeIdVerdict.REFUSE),
        (AtUrl.ITSELF, math.inf, 20.0, False, NodeIdVerdict.REFUSE),
        (AtUrl.REFUSED, BEAT_AGO, NOW, False, NodeIdVerdict.WAIT),
        (AtUrl.REFUSED, MISSED, NOW, False, NodeIdVerdict.TAKE),
        (AtUrl.REFUSED, BEAT_AGO, 20.0, False, NodeIdVerdict.REFUSE),
        (AtUrl.SILENT, MISSED, NOW, False, NodeIdVerdict.WAIT),
        (AtUrl.SILENT, float(CARD_SECONDS), NOW, False, NodeIdVerdict.TAKE),
        (AtUrl.ANOTHER, BEAT_AGO, NOW, False, NodeIdVerdict.WAIT),
        (AtUrl.ANOTHER, BEAT_AGO, NOW, True, NodeIdVerdict.TAKE),
        (AtUrl.SILENT, None, NOW, False, NodeIdVerdict.WAIT),
        (AtUrl.SILENT, None, 20.0, False, NodeIdVerdict.REFUSE),
    ],
)
def test_whether_a_node_id_is_free(
    at: AtUrl, silent_for: float | None, waited: float, ours: bool, expected: NodeIdVerdict
) -> None:
    assert judge_node_id(Evidence(at, silent_for, waited), ours=ours, patience=20.0) is expected


@pytest.mark.parametrize(
    ("move", "expected"),
    [
        (OwnershipChange("s", "b2", 4), True),
        (OwnershipChange("s", "b2", 3), True),
        (OwnershipChange("s", "b1", 3), False),
        (OwnershipChange("s", "b1", 4), True),
        (OwnershipChange("s", "b2", 2), False),
        (OwnershipChange("s", "b1", 3, ended=True), True),
        (OwnershipChange("s", "b2", 3, ended=True), False),
        (OwnershipChange("s", "b2", 4, ended=True), True),
        (OwnershipChange("s", "b1", 2, ended=True), False),
    ],
)
def test_which_copy_of_a_session_stays(move: OwnershipChange, expected: bool) -> None:
    assert superseded("b1", 3, move) is expected


# The nodes, by their cards.


BOTH = (False, True)
URL, OTHER_URL = "http://node1:8000", "http://elsewhere:8000"
WORDS = sorted({each.label for each in ANSWERS.values()})


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.moment = Moment(100.0, 100.0)

    def __call__(self) -> Moment:
        return self.moment

    def passes(self, seconds: float, *, suspended: bool = False) -> None:
        """Trio's clock stands still while the machine is suspended."""
        self.moment = Moment(self.moment.trio + (0.0 if suspended else seconds), self.moment.machine + seconds)


def card(boot: str = "b1", url: str = URL, state: str = "ready", room: int = 0, key: str = "") -> NodeCard:
    return NodeCard(boot, url, state, 3, 1, key, room)


def test_of_two_clocks_the_one_that_saw_more_counts() -> None:
    clock = Clock()
    before = clock()
    clock.passes(5)
    assert clock().since(before) == 5
    clock.passes(7, suspended=True)
    assert clock().since(before) == 12


VOUCHED = Table(
    {
        "card": (None, card(), card("b0"), card(url=OTHER_URL)),
        "read": ("never", "now", "long ago"),
        "boot": ("b1", ""),
        "proven": (None, "b1", "b0"),
        "proof": ("fresh", "old"),
    },
    [
        row("no card", False, card=None),
        row("it had no card the last time", False, read="never"),
        row("its card names another address", False, card=card(url=OTHER_URL)),
        row("a fresh card of that process", True, read="now", card=card(), boot="b1"),
        row("a fresh card of another process", False, read="now"),
        row("an old card, and a process that has proven itself", True, proven="b1", proof="fresh"),
        row("any process will do, and one has proven itself", True, proven="b0", proof="fresh", boot=""),
        row("an old card alone", False),
    ],
)


@pytest.mark.parametrize("number", range(len(VOUCHED.rows)), ids=[each.name for each in VOUCHED.rows])
def test_which_addresses_are_trusted_without_a_challenge(number: int) -> None:
    assert VOUCHED.cells[number]
    for cell in VOUCHED.cells[number]:
        clock = Clock()
        membership = Membership(clock)
        if cell["read"] != "never":
            membership.read({} if cell["card"] is None else {"node1": cell["card"]}, clock())
        if cell["read"] == "long ago":
            clock.passes(CARD_SECONDS + 0.1)
        if cell["proven"] is not None:
            membership.proved(URL, cell["proven"])
        clock.passes(0.0 if cell["proof"] == "fresh" else PROOF_SECONDS)
        vouched = membership.vouch_for(Owner("node1", cell["boot"], -1, URL))
        assert vouched is VOUCHED.rows[number].decided, cell


@pytest.mark.parametrize(("age", "expected"), [(0.0, "b1"), (CARD_SECONDS, "b1"), (CARD_SECONDS + 0.1, "")])
def test_which_process_has_to_answer_under_a_name(age: float, expected: str) -> None:
    clock = Clock()
    membership = Membership(clock)
    assert membership.expected("node1") == ""
    membership.read({"node1": card()}, clock())
    clock.passes(age)
    assert membership.expected("node1") == expected
    assert membership.expected("node2") == ""


@pytest.mark.parametrize("state", WORDS)
@pytest.mark.parametrize("url", [URL, ""])
def test_which_nodes_take_work_and_which_stop(state: str, url: str) -> None:
    clock = Clock()
    membership = Membership(clock)
    membership.read({"node1": card(state=state, url=url)}, clock())
    assert bool(membership.ready("any")) is (state == "ready" and bool(url))
    assert membership.is_stopping("node1") is (state in ("draining", "leaving", "stopping", "stopped"))
    assert not membership.is_stopping("node2")


def test_a_node_is_what_its_last_card_says_and_where_it_was_seen_last() -> None:
    clock = Clock()
    membership = Membership(clock)
    assert (membership.boot("node1"), membership.url("node1")) == (None, None)
    membership.read({"node1": card()}, clock())
    assert (membership.boot("node1"), membership.url("node1")) == ("b1", URL)
    membership.read({"node1": card("b2", url="")}, clock())
    assert (membership.boot("node1"), membership.url("node1")) == ("b2", URL)
    membership.read({}, clock())
    assert (membership.boot("node1"), membership.url("node1")) == (None, URL)
    membership.add({"node2": card("b9", url="")})
    assert (membership.boot("node2"), membership.url("node2")) == ("b9", "")


def test_of_addresses_and_proofs_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_mcp.cluster.membership.MAX_NODES", 2)
    clock = Clock()
    membership = Membership(clock)
    membership.read({"node1": card(), "node2": card()}, clock())
    membership.read({"node1": card(), "node3": card()}, clock())
    assert [membership.url(f"node{number}") for number in (1, 2, 3)] == [URL, None, URL]
    clock.passes(CARD_SECONDS + 0.1)
    for url in (URL, "http://a", URL, "http://b"):
        membership.proved(url, "b1")
    assert membership.vouch_for(Owner("node1", "b1", -1, URL))
    membership.proved("http://c", "b1")
    assert not membership.vouch_for(Owner("node1", "b1", -1, URL))


def test_all_nodes_agree_on_who_takes_a_session_and_each_node_takes_some() -> None:
    clock = Clock()
    here, there = Membership(clock), Membership(clock)
    cards = {f"node{number}": card(f"b{number}") for number in range(1, 4)}
    here.read(cards, clock())
    there.read(dict(reversed(cards.items())), clock())
    sessions = [f"node1.{number}" for number in range(30)]
    first = [here.ready(each)[0].node for each in sessions]
    assert first == [there.ready(each)[0].node for each in sessions]
    assert set(first) == set(cards)
    assert here.ready("any")[0] in [Owner(node, card.boot, -1, card.url) for node, card in cards.items()]


def test_a_node_with_more_room_is_asked_sooner_and_one_without_room_is_not_asked() -> None:
    clock = Clock()
    membership = Membership(clock)
    rooms = {
        "full": card(room=0),
        "small": card(room=1),
        "large": card(room=9),
        "silent": card(room=5, state="joining"),
    }
    membership.read(rooms, clock())
    orders = [[peer.node for peer in membership.with_room()] for _ in range(300)]
    assert {frozenset(order) for order in orders} == {frozenset({"small", "large"})}
    large_first = sum(order[0] == "large" for order in orders)
    # Nine times in ten: 270, and never so few or all but once in a thousand million.
    assert 230 < large_first < 300


def test_which_nodes_sign_with_a_key_that_is_not_here() -> None:
    membership = Membership(Clock())
    known, unknown = card(key="01"), card(key="02")
    membership.add({"node1": known, "node2": unknown})
    assert list(membership.with_unknown_keys(lambda key: key == "01")) == [("node2", unknown)]


def test_a_card_of_unknown_age_is_not_trusted() -> None:
    membership = Membership(Clock())
    membership.add({"node1": card()})
    assert not membership.vouch_for(Owner("node1", "b1", -1, URL))
    assert membership.expected("node1") == ""
