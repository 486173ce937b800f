"""The life cycle of a node, cell by cell: what each state answers, and which state may follow."""

from __future__ import annotations

import itertools
from dataclasses import fields

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_mcp.sessions.node_state import (
    ANSWERS,
    CLUSTER,
    KEYS,
    NEXT,
    STOP_LABELS,
    WORKERS,
    Answers,
    Claims,
    LifeCycle,
    NodeState,
    Served,
)

STARTING, KEYLESS, JOINING, READY, DRAINING, CLOSING, LEAVING, STOPPING, STOPPED = NodeState

EXPECTED: dict[str, dict[NodeState, object]] = {
    "label": {
        STARTING: "starting",
        KEYLESS: "joining",
        JOINING: "joining",
        READY: "ready",
        DRAINING: "draining",
        CLOSING: "draining",
        LEAVING: "leaving",
        STOPPING: "stopping",
        STOPPED: "stopped",
    },
    # Alive until there is a peer to go to, or the port is closed; not while it can judge nobody.
    "livez": {
        STARTING: True,
        KEYLESS: False,
        JOINING: True,
        READY: True,
        DRAINING: True,
        CLOSING: True,
        LEAVING: False,
        STOPPING: False,
        STOPPED: False,
    },
    "readyz": {
        STARTING: False,
        KEYLESS: False,
        JOINING: False,
        READY: True,
        DRAINING: False,
        CLOSING: False,
        LEAVING: False,
        STOPPING: False,
        STOPPED: False,
    },
    "initialize": {
        STARTING: Served.NOT_RUNNING,
        KEYLESS: Served.HERE,
        JOINING: Served.HERE,
        READY: Served.HERE,
        DRAINING: Served.HERE,
        CLOSING: Served.PEER_ELSE_REFUSED,
        LEAVING: Served.PEER_ELSE_REFUSED,
        STOPPING: Served.PEER_ELSE_REFUSED,
        STOPPED: Served.NOT_RUNNING,
    },
    "session_requests": {
        STARTING: Served.NOT_RUNNING,
        KEYLESS: Served.HERE_ELSE_OWNER,
        JOINING: Served.HERE_ELSE_OWNER,
        READY: Served.HERE_ELSE_OWNER,
        DRAINING: Served.HERE_ELSE_OWNER,
        CLOSING: Served.HERE_ELSE_OWNER,
        LEAVING: Served.HERE_ELSE_OWNER,
        STOPPING: Served.HERE_ELSE_OWNER,
        STOPPED: Served.NOT_RUNNING,
    },
    "modern": {
        STARTING: Served.NOT_RUNNING,
        KEYLESS: Served.HERE,
        JOINING: Served.HERE,
        READY: Served.HERE,
        DRAINING: Served.HERE,
        CLOSING: Served.PEER_ELSE_HERE,
        LEAVING: Served.PEER_ELSE_HERE,
        STOPPING: Served.PEER_ELSE_HERE,
        STOPPED: Served.NOT_RUNNING,
    },
    "claims": {
        STARTING: Claims.NOT_YET,
        KEYLESS: Claims.NOT_YET,
        JOINING: Claims.NOT_YET,
        READY: Claims.YES,
        DRAINING: Claims.NO_MORE,
        CLOSING: Claims.NO_MORE,
        LEAVING: Claims.NO_MORE,
        STOPPING: Claims.NO_MORE,
        STOPPED: Claims.NO_MORE,
    },
    "new_connections": {
        STARTING: False,
        KEYLESS: True,
        JOINING: True,
        READY: True,
        DRAINING: True,
        CLOSING: True,
        LEAVING: True,
        STOPPING: False,
        STOPPED: False,
    },
}

STEPS = {
    (STARTING, KEYLESS),
    (KEYLESS, JOINING),
    (KEYLESS, READY),
    (KEYLESS, DRAINING),
    (KEYLESS, STOPPED),
    (STARTING, JOINING),
    (STARTING, READY),
    (JOINING, READY),
    (JOINING, DRAINING),
    (JOINING, STOPPED),
    (READY, JOINING),
    (READY, DRAINING),
    (READY, STOPPED),
    (DRAINING, CLOSING),
    (DRAINING, LEAVING),
    (DRAINING, STOPPED),
    (CLOSING, STOPPING),
    (CLOSING, STOPPED),
    (LEAVING, STOPPING),
    (LEAVING, STOPPED),
    (STOPPING, STOPPED),
    (STOPPED, KEYLESS),
    (STOPPED, JOINING),
    (STOPPED, READY),
}


def test_every_answer_of_every_state_is_named_here() -> None:
    assert set(EXPECTED) == {field.name for field in fields(Answers)}
    assert all(set(cells) == set(NodeState) for cells in EXPECTED.values())


@pytest.mark.parametrize("state", NodeState, ids=lambda state: state.name)
@pytest.mark.parametrize("question", EXPECTED)
def test_each_state_answers_as_the_table_says(question: str, state: NodeState) -> None:
    assert getattr(ANSWERS[state], question) == EXPECTED[question][state]


@pytest.mark.parametrize(("before", "after"), [*itertools.product(NodeState, NodeState)], ids=lambda state: state.name)
def test_a_node_takes_the_steps_of_its_life_and_no_other(before: NodeState, after: NodeState) -> None:
    life = LifeCycle()
    life.state = before
    if (before, after) in STEPS:
        life.enter(after)
        assert (life.state, life.answers) == (after, ANSWERS[after])
    else:
        with pytest.raises(ValueError, match=f"from {before.name} to {after.name}"):
            life.enter(after)
        assert life.state is before


def test_every_state_has_a_next_one() -> None:
    assert {(before, after) for before, each in NEXT.items() for after in each} == STEPS


def test_the_labels_of_a_node_that_was_asked_to_stop() -> None:
    assert {"draining", "leaving", "stopping", "stopped"} == STOP_LABELS


@pytest.mark.parametrize(("joins_first", "state"), [(True, JOINING), (False, READY)])
def test_a_node_is_ready_at_once_where_it_joins_nobody(joins_first: bool, state: NodeState) -> None:
    life = LifeCycle()
    life.waits_for.update({CLUSTER} if joins_first else ())
    assert not life.is_running
    life.start()
    assert life.state is state
    assert life.is_running


def test_listeners_hear_when_no_connection_is_to_be_accepted() -> None:
    life = LifeCycle()
    life.start()
    for state in (DRAINING, LEAVING):
        life.enter(state)
        assert not life.no_more_connections.is_set()
    life.enter(STOPPING)
    assert life.no_more_connections.is_set()
    life.enter(STOPPED)
    life.start()
    assert not life.no_more_connections.is_set()


@pytest.mark.parametrize(("after", "claims"), [(READY, True), (DRAINING, False), (STOPPED, False)])
async def test_whoever_asks_during_the_join_waits_until_the_node_may_claim_or_never_will(
    after: NodeState, claims: bool
) -> None:
    life = LifeCycle()
    life.waits_for.add(CLUSTER)
    life.start()
    told: list[bool] = []

    async def ask() -> None:
        told.append(await life.may_claim())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert told == []
        life.enter(after)
    assert told == [claims]
    assert await life.may_claim() is claims


@pytest.mark.parametrize(
    ("missing", "settled", "states"),
    [
        ([], [], [READY]),
        ([CLUSTER], [CLUSTER], [JOINING, READY]),
        ([KEYS], [KEYS], [KEYLESS, READY]),
        ([CLUSTER, KEYS], [KEYS, CLUSTER], [KEYLESS, JOINING, READY]),
        ([CLUSTER, KEYS], [CLUSTER, KEYS], [KEYLESS, KEYLESS, READY]),
    ],
)
def test_what_is_missing_decides_how_a_node_begins(
    missing: list[str], settled: list[str], states: list[NodeState]
) -> None:
    life = LifeCycle()
    life.waits_for.update(missing)
    life.start()
    seen = [life.state]
    for what in settled:
        life.settled(what)
        seen.append(life.state)
    assert seen == states
    life.enter(DRAINING)
    life.settled(KEYS)
    assert life.state is DRAINING


def test_a_node_that_lost_what_it_needs_is_not_ready_until_it_has_that_again() -> None:
    life = LifeCycle()
    life.lost(WORKERS)
    life.start()
    assert life.state is READY
    life.lost(WORKERS)
    assert (life.state, life.missing) == (JOINING, [WORKERS])
    life.settled(WORKERS)
    assert (life.state, life.missing) == (READY, [])
    life.enter(DRAINING)
    life.lost(WORKERS)
    assert life.state is DRAINING
