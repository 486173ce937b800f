"""What the drill of WebSockets counts as a violation."""

from __future__ import annotations

import random

import pytest

from tools.websocket_drill import Called, Ended, Fault, Traffic, violations

FAULTS = [Fault("term", "node1", 10, 20), Fault("kill", "node2", 30, 40)]


@pytest.mark.parametrize(
    ("call", "ran", "count"),
    [
        (Called("c", "answered"), 1, 0),
        (Called("c", "answered"), 0, 1),
        (Called("c", "answered"), 2, 1),
        (Called("c", "failed", says="The server is shutting down"), 1, 0),
        (Called("c", "failed", says="Internal error"), 1, 1),
        (Called("c", "unanswered", 1001), 0, 0),
        (Called("c", "unanswered", 1001), 1, 1),
        (Called("c", "unanswered", 1006), 1, 0),
    ],
)
def test_what_calls_may_not_see(call: Called, ran: int, count: int) -> None:
    traffic = Traffic("", random.Random(0), calls=[call])
    assert len(violations(traffic, FAULTS, {"c": ran})) == count


@pytest.mark.parametrize(
    ("end", "count"),
    [
        (Ended("node1", 1001, 15), 0),
        (Ended("node1", 1006, 15), 1),
        (Ended("node1", 1001, 35), 1),
        (Ended("node2", 1006, 31), 0),
        (Ended("node2", 1001, 31), 1),
        (Ended("node3", 1001, 15), 1),
        (Ended("", 1006, 31), 0),
        (Ended("node1", 1011, 15), 1),
    ],
)
def test_a_connection_ends_as_what_was_done_to_its_node(end: Ended, count: int) -> None:
    assert len(violations(Traffic("", random.Random(0), ends=[end]), FAULTS, {})) == count


@pytest.mark.parametrize(("refusal", "count"), [((503, 12.0), 0), ((0, 12.0), 0), ((401, 12.0), 1), ((503, 100.0), 1)])
def test_a_handshake_is_refused_around_a_fault(refusal: tuple[int, float], count: int) -> None:
    assert len(violations(Traffic("", random.Random(0), refused=[refusal]), FAULTS, {})) == count
