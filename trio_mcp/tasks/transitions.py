"""How a task changes: one function of its record and a `Change`, without a clock, a store or a tool.

 working ⇄ input_required ─▶ completed · failed · cancelled          (ext-tasks, Task Status Lifecycle)

Nobody changes a task that has ended. What becomes of one whose owner is gone, or has left it:

 it waits for answers ────────────▶ kept (`parked`); after the last answer it runs again from its start
 released, idempotent ────────────▶ runs again
 owner gone, idempotent ──────────▶ runs again, `attempts` times in all
 owner gone, its end was asked for ▶ cancelled
 owner gone ──────────────────────▶ failed: it is not known how far it came, so it is not done twice
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec.structs import replace

from trio_mcp.protocol.jsonrpc import encode
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
    OwnChange,
    Park,
    Progress,
    Refusal,
    Release,
    Resume,
    TakeOver,
    Withdraw,
)
from trio_mcp.tasks.limits import TaskLimits
from trio_mcp.tasks.record import FailReason, Question, Status, TaskOwner, TaskRecord

__all__ = ["answers_size", "apply", "next_ttl", "poll_interval", "wire_key"]

_KEY_DIGITS = 8

_SHORTEST_POLL, _LONGEST_POLL, _ANSWER_POLL = 500, 10_000, 2_000
"""Milliseconds: what clients are told while the task is young, or old, and while it waits for them."""


_DEFAULTS = TaskLimits()


def apply(
    task: TaskRecord, change: Change, now: int, *, by: TaskOwner | None = None, limits: TaskLimits = _DEFAULTS
) -> TaskRecord:
    """The record after the change; the same object where that changes nothing.

    `now` is in ms of the wall clock. `by` is who changes it: an `OwnChange` needs the owner itself. Raises ChangeRefused.
    """
    match change:
        case Answer(responses):
            return task if task.ended else _answer(task, responses, now)
        case AskCancel():
            return task if task.ended else _ask_cancel(task, now, limits)
        case TakeOver():
            return _take_over(task, change, now, limits)
    if by != task.owner or task.handed_over:
        raise ChangeRefused(Refusal.NOT_OWNER)
    if task.ended:
        raise ChangeRefused(Refusal.ENDED)
    return _own(task, change, now, limits)


def _own(task: TaskRecord, change: OwnChange, now: int, limits: TaskLimits) -> TaskRecord:
    match change:
        case Progress(message):
            return replace(task, message=_cut(message, limits.message), updated=now)
        case Ask(key, question):
            return _ask(task, key, question, now, limits)
        case Resume():
            return _went_on(task)
        case Withdraw(keys):
            return _went_on(_close(task, keys, now))
        case Extend(ttl):
            return replace(task, ttl=ttl)
        case Park():
            return replace(task, parked=True)
        case Release():
            return replace(task, released=True)
    return _end(task, change, now, limits)


def _end(task: TaskRecord, change: Complete | Fail | Cancelled, now: int, limits: TaskLimits) -> TaskRecord:
    match change:
        case Complete(result):
            ended = replace(task, status=Status.COMPLETED, result=result)
        case Fail(error):
            ended = replace(task, status=Status.FAILED, error=error, message=_cut(error.message, limits.message))
        case Cancelled():
            ended = replace(task, status=Status.CANCELLED)
    ttl = max(task.ttl, now - task.created + int(limits.ended_left * 1000))
    kept_for_a_run = {"questions": {}, "answers": {}, "waits": False, "parked": False, "released": False}
    return replace(ended, updated=now, ttl=ttl, **kept_for_a_run)


def _ask(task: TaskRecord, key: str, question: Question, now: int, limits: TaskLimits) -> TaskRecord:
    if key in task.answers:
        return task
    if key in task.questions:
        return replace(task, waits=True)
    if len(task.questions) >= limits.open_questions:
        raise ChangeRefused(Refusal.TOO_MANY_OPEN)
    if task.asked >= limits.questions:
        raise ChangeRefused(Refusal.TOO_MANY_QUESTIONS)
    if answers_size(task) >= limits.answers:
        raise ChangeRefused(Refusal.TOO_MUCH_ANSWERED)
    questions = {**task.questions, key: question}
    return replace(
        task, questions=questions, asked=task.asked + 1, status=Status.INPUT_REQUIRED, waits=True, updated=now
    )


def _close(task: TaskRecord, keys: tuple[str, ...], now: int) -> TaskRecord:
    left = {key: question for key, question in task.questions.items() if key not in keys}
    if len(left) == len(task.questions):
        return task
    return replace(task, questions=left, status=Status.INPUT_REQUIRED if left else Status.WORKING, updated=now)


def _went_on(task: TaskRecord) -> TaskRecord:
    """The handler waits only while a question is open."""
    return task if task.questions or not task.waits else replace(task, waits=False)


def _answer(task: TaskRecord, responses: dict[str, Any], now: int) -> TaskRecord:
    fitting = {key: answer for key, answer in responses.items() if key in task.questions}
    if not fitting:
        return task
    return _close(replace(task, answers={**task.answers, **fitting}), tuple(fitting), now)


def _ask_cancel(task: TaskRecord, now: int, limits: TaskLimits) -> TaskRecord:
    if task.handed_over:  # no process runs it
        return _end(task, Cancelled(), now, limits)
    return task if task.cancel else replace(task, cancel=True)


def _take_over(task: TaskRecord, change: TakeOver, now: int, limits: TaskLimits) -> TaskRecord:
    if task.ended or task.owner != change.seen or not (change.gone or task.handed_over):
        raise ChangeRefused(Refusal.NOT_CLAIMABLE)
    if task.cancel:
        return _end(task, Cancelled(), now, limits)
    if task.waits:
        return _kept_for_answers(task) if task.questions else _claim(task, change.by)
    if task.handed_over:
        return _claim(task, change.by)
    if not task.idempotent:
        return _end(task, Fail(FailReason.NODE_GONE.error), now, limits)
    if task.attempts >= limits.attempts:
        return _end(task, Fail(FailReason.ATTEMPTS.error), now, limits)
    return _claim(replace(task, attempts=task.attempts + 1), change.by)


def _kept_for_answers(task: TaskRecord) -> TaskRecord:
    return task if task.parked else replace(task, parked=True)


def _claim(task: TaskRecord, by: TaskOwner) -> TaskRecord:
    # Open questions stay: its handler asks them again, and a client that has answered by then has answered only once.
    owner = replace(by, epoch=task.owner.epoch + 1)
    return replace(task, owner=owner, parked=False, released=False, waits=False)


def _cut(text: str, most: int) -> str:
    """Its beginning, `most` bytes of UTF-8 at most."""
    raw = text.encode(errors="replace")
    return raw[:most].decode(errors="ignore")


# What follows from a record.


def answers_size(task: TaskRecord) -> int:
    """Bytes of the answers that it has, encoded; they stay until it ends, for it may run again from its start."""
    return len(encode(task.answers)) if task.answers else 0


def next_ttl(task: TaskRecord, now: int, limits: TaskLimits) -> int | None:
    """The ttl to move a running task on to, in ms, when less than `working_left` of it remains; None when it may stay."""
    least = int(limits.working_left * 1000)
    if task.ended or task.expires - now >= least:
        return None
    # Twice as much, so that it is not moved on with every look.
    moved = min(now - task.created + 2 * least, int(limits.max_ttl * 1000))
    return moved if moved > task.ttl else None


def poll_interval(task: TaskRecord, now: int) -> int:
    """What clients are told to wait between two polls, in ms: a tenth of the task's age, or of its question's, within bounds.

    A client that answers at once waits that long until it sees that the task went on.
    """
    waits = task.status is Status.INPUT_REQUIRED
    since, longest = (task.updated, _ANSWER_POLL) if waits else (task.created, _LONGEST_POLL)
    return min(longest, max(_SHORTEST_POLL, (now - since) // 10))


def wire_key(key: str, method: str, params: dict[str, Any]) -> str:
    """The key of a question on the wire: the author's, and a digest of what is asked.

    The same question keeps its key when the task runs again, and another one never has it (ext-tasks, tasks/update).
    """
    asked = msgspec.json.encode(msgspec.json.decode(encode([method, params])), order="sorted")
    return f"{key}.{hashlib.sha256(asked).hexdigest()[:_KEY_DIGITS]}"
