"""What the drill counts as a violation: how calls may fail, and when a session may be lost."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.rig.load import Call, Opening
from tools.drill import Seen, errors, violations
from tools.faults import Fault

GOOD = Call(0, "c", True, "node1-w1", 50.0, 50.3, 200, "node1", "", 0, "", "")
BROKEN = replace(GOOD, status=0, error="0 Broken: while reading")
GONE = replace(GOOD, status=404, error="404 -32600 x", reason="node_gone")
UNKNOWN = replace(GONE, reason="unknown")
NO_ROUTE = replace(GOOD, status=404, error="404 without a JSON-RPC response")
REDIS = Fault("redis empty", "redis", 30, 40)


def found(call: Call, *faults: Fault, ran: int = 0, restore: bool = False) -> list[str]:
    opened = Opening(0, 20.0, 20.1, 200, call.owner, "", False)
    return violations(Seen(restore, faults, [call], [opened], {call.name: ran}))


@pytest.mark.parametrize(
    ("call", "ran", "count"),
    [
        (GOOD, 1, 0),
        (GOOD, 0, 1),
        (GOOD, 2, 1),
        (replace(GOOD, ended=111), 1, 1),
        (BROKEN, 1, 1),
        (GONE, 0, 1),
        (GONE, 1, 2),
        (NO_ROUTE, 0, 1),
    ],
)
def test_without_a_fault_a_call_is_answered_and_runs_once(call: Call, ran: int, count: int) -> None:
    assert len(found(call, ran=ran)) == count


@pytest.mark.parametrize(("ended", "count"), [(43, 0), (41, 1)])
def test_a_call_fails_during_a_fault_and_soon_after(ended: float, count: int) -> None:
    for call in (BROKEN, NO_ROUTE):
        assert len(found(call, Fault("pause", "node2", 35, ended), ran=call is BROKEN)) == count


def test_that_nobody_can_tell_where_a_session_is_has_to_do_with_redis() -> None:
    call = replace(GOOD, status=503, error="503 -32603 x", reason="directory_unavailable")
    for fault, count in ((Fault("kill", "node1", 45, 49), 1), (replace(REDIS, ended=45), 0)):
        assert len(found(call, fault, restore=True)) == count


@pytest.mark.parametrize(
    ("fault", "count"),
    [
        (Fault("kill", "node1", 45, 49), 0),
        (Fault("kill", "node2", 45, 49), 1),
        (Fault("kill", "node1", 10, 49), 1),
        (Fault("kill", "node1", 51, 60), 1),
        (Fault("term", "node1", 43, 52), 0),
        (Fault("term", "node1", 44, 52), 1),
        (Fault("pause", "node1", 30, 49), 1),
        (Fault("hold", "node1", 30, 49), 1),
        (Fault("worker kill", "node1", 45, 49, "node1-w1"), 0),
        (Fault("worker kill", "node1", 45, 49, "node1-w2"), 1),
        (Fault("worker pause", "node1", 45, 49), 1),
        (Fault("roll", "node1", 40, 60), 0),
        (Fault("roll", "node1", 45, 60), 1),
        (Fault("supervisor kill", "node1", 40, 49), 0),
        (Fault("roll", "node1", 5, 19), 1),
        (REDIS, 1),
    ],
)
def test_without_restore_a_session_ends_with_its_process_alone(fault: Fault, count: int) -> None:
    assert len(found(GONE, fault)) == count
    assert len(found(UNKNOWN, fault)) == 1


@pytest.mark.parametrize(
    ("faults", "count"),
    [
        ([REDIS, Fault("kill", "node2", 42, 49)], 0),
        ([REDIS, Fault("worker pause", "node2", 25, 32)], 0),
        ([REDIS, Fault("kill", "node2", 56, 59)], 1),
        ([REDIS, Fault("hold", "node1", 42, 49)], 1),
        ([Fault("redis freeze", "redis", 10, 12), Fault("kill", "node1", 13, 15)], 1),
        ([Fault("traefik kill", "traefik", 30, 31), Fault("kill", "node1", 42, 49)], 1),
        ([Fault("kill", "node1", 42, 49)], 1),
    ],
)
def test_with_restore_a_session_is_lost_where_redis_and_then_its_process_were(faults: list[Fault], count: int) -> None:
    assert len(found(UNKNOWN, *faults, restore=True)) == count
    assert len(found(GONE, *faults, restore=True)) == 1


@pytest.mark.parametrize(
    ("event", "how", "pid", "count"),
    [
        ("worker died", "SIGKILL", 1, 0),
        ("worker died", "SIGKILL", 2, 1),
        ("worker died", "SIGSEGV", 1, 1),
        ("worker killed", "SIGKILL", 1, 1),
    ],
)
def test_that_a_worker_died_which_was_killed_is_no_error(event: str, how: str, pid: int, count: int) -> None:
    line = json.dumps({"level": "error", "event": event, "how": how, "pid": pid}, separators=(",", ":"))
    assert len(errors([line, line.replace("error", "info")], {1})) == count
