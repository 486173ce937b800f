"""What becomes of a task with each change, by whom: tables, without a store, a clock or a tool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from trio_mcp.auth.principal import ANONYMOUS, Principal
from trio_mcp.tasks.changes import (
    Answer,
    Ask,
    AskCancel,
    Cancelled,
    Change,
    ChangeRefused,
    Complete,
    Extend,
    Fail,
    Park,
    Progress,
    Refusal,
    Release,
    Resume,
    TakeOver,
    Withdraw,
)
from trio_mcp.tasks.limits import Admission, PollRate, TaskLimits
from trio_mcp.tasks.record import (
    FailReason,
    Question,
    Status,
    TaskError,
    TaskOwner,
    TaskRecord,
    TaskStart,
    is_task_id,
    new_task,
)
from trio_mcp.tasks.transitions import apply, next_ttl, poll_interval, wire_key

ME = TaskOwner("node1", "b1")
OTHER = TaskOwner("node2", "b2")
HOUR = 3_600_000
START = TaskStart(tool="count", arguments={"to": 3}, version="2026-07-28")
TASK = replace(new_task(START, ME, 1_000, ttl=HOUR), id="t")
Q1, Q2 = Question("elicitation/create", {"message": "1"}), Question("elicitation/create", {"message": "2"})
YES = {"action": "accept"}
WAITING = replace(TASK, status=Status.INPUT_REQUIRED, questions={"a": Q1, "b": Q2}, asked=2, waits=True, updated=2_000)
ANSWERED = replace(WAITING, status=Status.WORKING, questions={}, answers={"a": YES, "b": YES})
DONE = replace(TASK, status=Status.COMPLETED, result=b"{}")
ERROR = TaskError(-32603, "no", None)
LIMITS = TaskLimits(message=8, open_questions=2, questions=3, answers=100, attempts=2)


@dataclass
class Row:
    """A change of `task` at 5,000 ms gives the members `becomes`, or is refused."""

    task: TaskRecord
    change: Change
    becomes: dict[str, Any] | Refusal = field(default_factory=dict)
    by: TaskOwner | None = ME


CLAIMED = {"owner": TaskOwner("node2", "b2", 1), "waits": False, "parked": False, "released": False}
GONE, LEFT = TakeOver(ME, OTHER, gone=True), TakeOver(ME, OTHER)
FAILED = {"status": Status.FAILED, "updated": 5_000, "ttl": HOUR + 4_000}
QUIET = {"questions": {}, "answers": {}, "waits": False, "updated": 5_000, "ttl": HOUR + 4_000}

ROWS = {
    # Its owner.
    "progress": Row(TASK, Progress("half"), {"message": "half", "updated": 5_000}),
    "a long message is cut between characters": Row(
        TASK, Progress("1234567äö"), {"message": "1234567", "updated": 5_000}
    ),
    "a question": Row(
        TASK,
        Ask("a", Q1),
        {"status": Status.INPUT_REQUIRED, "questions": {"a": Q1}, "asked": 1, "waits": True, "updated": 5_000},
    ),
    "a question that has an answer": Row(ANSWERED, Ask("a", Q1)),
    "a question that is open": Row(replace(WAITING, waits=False), Ask("a", Q1), {"waits": True}),
    "too many open": Row(WAITING, Ask("c", Q1), Refusal.TOO_MANY_OPEN),
    "too many ever": Row(replace(ANSWERED, asked=3), Ask("c", Q1), Refusal.TOO_MANY_QUESTIONS),
    "too much answered": Row(replace(ANSWERED, answers={"a": "x" * 100}), Ask("c", Q1), Refusal.TOO_MUCH_ANSWERED),
    "its answer is there, however much was": Row(replace(ANSWERED, answers={"a": "x" * 100}), Ask("a", Q1)),
    "one question withdrawn": Row(WAITING, Withdraw(("a",)), {"questions": {"b": Q2}, "updated": 5_000}),
    "all withdrawn": Row(
        WAITING,
        Withdraw(("a", "b")),
        {"questions": {}, "status": Status.WORKING, "waits": False, "updated": 5_000},
    ),
    "it goes on": Row(ANSWERED, Resume(), {"waits": False}),
    "a part of it goes on": Row(WAITING, Resume()),
    "completed": Row(WAITING, Complete(b"{}"), {**QUIET, "status": Status.COMPLETED, "result": b"{}"}),
    "failed": Row(TASK, Fail(ERROR), {**FAILED, "error": ERROR, "message": "no"}),
    "cancelled": Row(TASK, Cancelled(), {"status": Status.CANCELLED, "updated": 5_000, "ttl": HOUR + 4_000}),
    "parked": Row(WAITING, Park(), {"parked": True}),
    "released": Row(TASK, Release(), {"released": True}),
    "more time": Row(TASK, Extend(9), {"ttl": 9}),
    # An owner that is none any more.
    "another process": Row(TASK, Complete(b"{}"), Refusal.NOT_OWNER, by=OTHER),
    "an earlier life": Row(replace(TASK, owner=TaskOwner("node1", "b1", 1)), Complete(b"{}"), Refusal.NOT_OWNER),
    "after it was released": Row(replace(TASK, released=True), Complete(b"{}"), Refusal.NOT_OWNER),
    "after it was parked": Row(replace(WAITING, parked=True), Progress("x"), Refusal.NOT_OWNER),
    # The end.
    "an end after the end": Row(DONE, Cancelled(), Refusal.ENDED),
    "a late owner after the end": Row(DONE, Complete(b"[]"), Refusal.NOT_OWNER, by=OTHER),
    "an answer after the end": Row(DONE, Answer({"a": YES}), by=None),
    "cancel after the end": Row(DONE, AskCancel(), by=None),
    "taken over after the end": Row(DONE, GONE, Refusal.NOT_CLAIMABLE, by=None),
    # Its client.
    "one of two answered": Row(
        WAITING, Answer({"a": YES}), {"questions": {"b": Q2}, "answers": {"a": YES}, "updated": 5_000}, by=None
    ),
    "the last answered": Row(
        WAITING,
        Answer({"a": YES, "b": YES, "x": YES}),
        {"questions": {}, "answers": {"a": YES, "b": YES}, "status": Status.WORKING, "updated": 5_000},
        by=None,
    ),
    "unknown key": Row(WAITING, Answer({"x": YES}), by=None),
    "answered key": Row(ANSWERED, Answer({"a": {"action": "decline"}}), by=None),
    "cancel": Row(TASK, AskCancel(), {"cancel": True}, by=None),
    "cancel twice": Row(replace(TASK, cancel=True), AskCancel(), by=None),
    "cancel of a parked one ends it": Row(
        replace(WAITING, parked=True), AskCancel(), {**QUIET, "status": Status.CANCELLED, "parked": False}, by=None
    ),
    # Its owner is gone, or has left it.
    "gone": Row(TASK, GONE, {**FAILED, "error": FailReason.NODE_GONE.error, "message": "The node"}, by=None),
    "gone, idempotent": Row(replace(TASK, idempotent=True), GONE, {**CLAIMED, "attempts": 2}, by=None),
    "gone, idempotent, too often": Row(
        replace(TASK, idempotent=True, attempts=2),
        GONE,
        {**FAILED, "error": FailReason.ATTEMPTS.error, "message": "The node"},
        by=None,
    ),
    "gone, waits": Row(WAITING, GONE, {"parked": True}, by=None),
    "gone, all answered, not gone on": Row(ANSWERED, GONE, CLAIMED, by=None),
    "gone, gone on": Row(
        replace(ANSWERED, waits=False),
        GONE,
        {**QUIET, **FAILED, "error": FailReason.NODE_GONE.error, "message": "The node"},
        by=None,
    ),
    "gone, cancel asked for": Row(
        replace(TASK, cancel=True), GONE, {"status": Status.CANCELLED, "updated": 5_000, "ttl": HOUR + 4_000}, by=None
    ),
    "parked, still open": Row(replace(WAITING, parked=True), LEFT, by=None),
    "parked, all answered": Row(replace(ANSWERED, parked=True), LEFT, CLAIMED, by=None),
    "released and taken": Row(replace(TASK, released=True, idempotent=True), LEFT, CLAIMED, by=None),
    "a hand-over is no attempt": Row(replace(TASK, released=True, attempts=9), LEFT, CLAIMED, by=None),
    "alive": Row(replace(TASK, idempotent=True), LEFT, Refusal.NOT_CLAIMABLE, by=None),
    "taken by another before": Row(
        replace(TASK, owner=TaskOwner("node3", "b3", 1), idempotent=True), GONE, Refusal.NOT_CLAIMABLE, by=None
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_change(row: Row) -> None:
    if isinstance(row.becomes, Refusal):
        with pytest.raises(ChangeRefused) as refused:
            apply(row.task, row.change, 5_000, by=row.by, limits=LIMITS)
        assert refused.value.reason is row.becomes
        return
    changed = apply(row.task, row.change, 5_000, by=row.by, limits=LIMITS)
    assert changed == replace(row.task, **row.becomes)
    assert (changed is row.task) == (not row.becomes)


@pytest.mark.requirement("tasks-27")
def test_a_task_has_one_end() -> None:
    ends: list[Change] = [Complete(b"{}"), Fail(ERROR), Cancelled(), GONE]
    for first in ends:
        ended = apply(TASK, first, 1, by=ME)
        for second in ends:
            with pytest.raises(ChangeRefused):
                apply(ended, second, 2, by=ME)
        assert apply(ended, AskCancel(), 2) is ended


def test_the_ttl_of_a_running_task_moves_on_up_to_its_bound() -> None:
    limits = TaskLimits(working_left=60, max_ttl=300)
    task = replace(TASK, created=0, ttl=100_000)
    assert next_ttl(task, 40_000, limits) is None
    assert next_ttl(task, 40_001, limits) == 160_001
    assert next_ttl(replace(task, ttl=260_000), 210_000, limits) == 300_000
    assert next_ttl(replace(task, ttl=300_000), 299_000, limits) is None
    assert next_ttl(replace(DONE, created=0, ttl=100_000), 90_000, limits) is None


@pytest.mark.parametrize(
    ("age", "told", "waiting"), [(0, 500, 500), (5_000, 500, 500), (11_000, 1_100, 1_100), (HOUR, 10_000, 2_000)]
)
def test_clients_are_told_to_poll_by_the_age_of_the_task_or_of_its_question(age: int, told: int, waiting: int) -> None:
    assert poll_interval(TASK, TASK.created + age) == told
    assert poll_interval(WAITING, WAITING.updated + age) == waiting


@pytest.mark.requirement("tasks-22")
def test_a_key_on_the_wire_names_one_question() -> None:
    first = wire_key("ok", "elicitation/create", {"message": "1", "x": {"b": 1, "a": 2}})
    assert first == wire_key("ok", "elicitation/create", {"x": {"a": 2, "b": 1}, "message": "1"})
    others = [
        wire_key("ok", "elicitation/create", {"message": "2"}),
        wire_key("ok", "sampling/createMessage", {"message": "1", "x": {"a": 2, "b": 1}}),
        wire_key("no", "elicitation/create", {"x": {"a": 2, "b": 1}, "message": "1"}),
    ]
    assert len({first, *others}) == 4
    assert first.startswith("ok.")


def test_ids_cannot_be_guessed_and_are_all_that_becomes_a_key() -> None:
    ids = {new_task(START, ME, 0, ttl=1).id for _ in range(100)}
    assert len(ids) == 100
    assert all(is_task_id(each) and len(each) >= 22 for each in ids)
    assert is_task_id("x" * 128)
    assert not any(map(is_task_id, ["", "x" * 129, "a b", "a\0", "a\n", "ä", None, 7, ["x"]]))


def test_a_task_is_its_callers() -> None:
    alice = Principal("alice", "https://issuer", {"scope": "x"}, client_id="c")
    start = TaskStart(tool="t", arguments={}, version="v", subject="alice", issuer="https://issuer", client_id="c")
    task = new_task(start, ME, 0, ttl=1)
    assert task.is_of(alice)
    assert not task.is_of(Principal("bob", "https://issuer", client_id="c"))
    assert not task.is_of(ANONYMOUS)
    assert start.principal == alice
    assert TASK.is_of(ANONYMOUS)


@pytest.mark.requirement("tasks-36")
def test_a_node_and_a_principal_run_so_many_tasks() -> None:
    counted = Admission(TaskLimits(per_node=3, per_principal=2))
    anonymous = ANONYMOUS.recorded_as
    assert [counted.admit("alice", 1) for _ in range(3)] == [True, True, False]
    assert counted.admit("bob", 1)
    assert not counted.admit("bob", 1), "the node is full"
    counted.leave("alice", 1)
    counted.leave("alice", 1)
    assert [counted.admit(anonymous, 1) for _ in range(3)] == [True, True, False]
    counted.take("alice", 1)
    assert counted.total == 4


def test_tasks_that_run_hold_so_much() -> None:
    counted = Admission(TaskLimits(held=100))
    assert [counted.admit("alice", size) for size in (60, 50, 40, 1)] == [True, False, True, False]
    counted.leave("alice", 40)
    counted.hold(40)
    assert not counted.admit("bob", 1), "answers count"
    counted.take("bob", 50)
    assert counted.held == 150, "what exists already is counted beyond the bound"


def test_polls_are_counted_by_task_and_second() -> None:
    rate = PollRate(TaskLimits(polls_per_second=2))
    assert [rate.allows("a", 1.9) for _ in range(3)] == [True, True, False]
    assert rate.allows("b", 1.9)
    assert rate.allows("a", 2.0)
    for number in range(20_000):
        rate.allows(str(number), 3.0)
    assert len(rate) == 10_000


@pytest.mark.parametrize("name", ["per_node", "ttl", "result"])
def test_a_bound_lets_something_through(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        TaskLimits(**{name: 0})
