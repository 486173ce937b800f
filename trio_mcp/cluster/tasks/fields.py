"""A task as the fields of its hash: what operators and nodes look at in the clear, all that callers and tools said sealed.

 head     clear    tool, owner, principal's digest, status, times, flags
 talk     sealed   status message, open questions, answers
 start    sealed   arguments, principal, what the client declared; dropped when the task has ended
 outcome  sealed   result or error

A sealed field opens only as that field of that task of that principal.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from trio_mcp.auth.keyring import BrokenSeal, Keyring
from trio_mcp.cluster.record import read
from trio_mcp.cluster.store.task_operations import SwapTask
from trio_mcp.tasks.record import FailReason, Question, Status, TaskError, TaskOwner, TaskRecord, TaskStart

__all__ = ["KEPT_AFTER_MS", "Head", "TaskFields", "Unreadable", "read_head", "swap"]

T = TypeVar("T", bound=msgspec.Struct)

_VERSION = 1

KEPT_AFTER_MS = 60_000
"""How much longer than its ttl a task stays in Redis: clocks of nodes differ."""

_FAILED, _COMPLETED = b"e", b"r"
"""Begin an outcome."""
_ENDED_START = TaskStart(tool="", arguments={}, version="")
"""Stands for what an ended task no longer has."""


class Unreadable(Exception):
    """What is stored for the task cannot be read here: it was sealed under a key that this node does not have, or is none of ours."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a task that is stored in the clear."""

    v: int
    tool: str
    node: str
    boot: str
    epoch: int
    principal: str
    status: Status
    created: int
    updated: int
    ttl: int
    attempts: int = 1
    idempotent: bool = False
    waits: bool = False
    parked: bool = False
    released: bool = False
    cancel: bool = False
    asked: int = 0
    open: int = 0
    """How many questions are open."""
    reason: str = ""
    """Why it failed, where no tool ended it."""

    @property
    def expires(self) -> int:
        """When it can no longer be read (ms of the wall clock)."""
        return self.created + self.ttl


class _Talk(msgspec.Struct, frozen=True):
    message: str
    questions: dict[str, Question]
    answers: dict[str, Any]


class _Failure(msgspec.Struct, frozen=True):
    error: TaskError | None


class TaskFields:
    """Writes and reads the fields under `keyring`."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def of(self, task: TaskRecord, written: TaskRecord | None = None) -> dict[str, bytes | str]:
        """The fields of `task` that differ from those of `written`; all of them where nothing is written."""
        fields: dict[str, bytes | str] = {"head": msgspec.json.encode(_head(task))}
        if written is None or _talk(task) != _talk(written):
            fields["talk"] = self._seal(task, "talk", msgspec.json.encode(_talk(task)))
        if written is None and not task.ended:
            fields["start"] = self._seal(task, "start", msgspec.json.encode(task.start))
        if task.ended:
            fields["outcome"] = self._seal(task, "outcome", _outcome(task))
        return fields

    @staticmethod
    def dropped(task: TaskRecord) -> tuple[str, ...]:
        """The fields that the task no longer has."""
        return ("start",) if task.ended else ()

    def read(self, task_id: str, fields: Mapping[bytes, bytes]) -> TaskRecord:
        """The task; raises Unreadable."""
        head = read_head(fields)
        if head is None or head.v != _VERSION:
            raise Unreadable("it is not a task of this version of trio-mcp")
        whose = task_id, head.principal
        try:
            talk = _decoded(self._open(whose, "talk", fields), _Talk)
            start = _ENDED_START
            if b"start" in fields:
                start = _decoded(self._open(whose, "start", fields), TaskStart)
            task = _record(task_id, head, talk, start)
            return _with_outcome(task, self._open(whose, "outcome", fields)) if b"outcome" in fields else task
        except BrokenSeal as fault:
            raise Unreadable(str(fault)) from None

    def _seal(self, task: TaskRecord, name: str, plain: bytes) -> str:
        return self._keyring.seal(plain, _bound_to(task.id, task.principal, name))

    def _open(self, bound_to: tuple[str, str], name: str, fields: Mapping[bytes, bytes]) -> bytes:
        sealed = fields.get(name.encode(), b"").decode("latin-1")
        # How old it may be is decided by the task's own ttl.
        return self._keyring.open(sealed, _bound_to(*bound_to, name), max_age=math.inf)


def read_head(fields: Mapping[bytes, bytes]) -> Head | None:
    """What is stored in the clear; None where it cannot be read."""
    return read(fields.get(b"head"), Head)


def _decoded(raw: bytes, kind: type[T]) -> T:
    found = read(raw, kind)
    if found is None:
        raise Unreadable("it is not what this version of trio-mcp seals")
    return found


def _bound_to(task_id: str, principal: str, name: str) -> bytes:
    return f"task {name} {task_id} {principal}".encode()


def _head(task: TaskRecord) -> Head:
    return Head(
        v=_VERSION,
        tool=task.start.tool,
        node=task.owner.node,
        boot=task.owner.boot,
        epoch=task.owner.epoch,
        principal=task.principal,
        status=task.status,
        created=task.created,
        updated=task.updated,
        ttl=task.ttl,
        attempts=task.attempts,
        idempotent=task.idempotent,
        waits=task.waits,
        parked=task.parked,
        released=task.released,
        cancel=task.cancel,
        asked=task.asked,
        open=len(task.questions),
        reason=_reason(task.error),
    )


def _reason(error: TaskError | None) -> str:
    """A reason of ours. What a tool has put in its error is sealed, under whatever name."""
    return next((reason.value for reason in FailReason if reason.error == error), "")


def _talk(task: TaskRecord) -> _Talk:
    return _Talk(task.message, task.questions, task.answers)


def _outcome(task: TaskRecord) -> bytes:
    if task.result is not None:
        return _COMPLETED + task.result
    return _FAILED + msgspec.json.encode(_Failure(task.error))


def _with_outcome(task: TaskRecord, outcome: bytes) -> TaskRecord:
    if outcome[:1] == _COMPLETED:
        return replace(task, result=outcome[1:])
    return replace(task, error=_decoded(outcome[1:], _Failure).error)


def _record(task_id: str, head: Head, talk: _Talk, start: TaskStart) -> TaskRecord:
    return TaskRecord(
        id=task_id,
        owner=TaskOwner(head.node, head.boot, head.epoch),
        principal=head.principal,
        start=replace(start, tool=head.tool),
        created=head.created,
        updated=head.updated,
        ttl=head.ttl,
        status=head.status,
        message=talk.message,
        attempts=head.attempts,
        idempotent=head.idempotent,
        waits=head.waits,
        parked=head.parked,
        released=head.released,
        cancel=head.cancel,
        asked=head.asked,
        questions=talk.questions,
        answers=talk.answers,
    )


def _new_revision() -> str:
    """One that no other write has."""
    return secrets.token_hex(8)


def swap(fields: TaskFields, task: TaskRecord, written: TaskRecord | None, seen: str, now: int) -> SwapTask:
    """The write that puts `task` in the place of `written`, which has the revision `seen`."""
    left = max(1, task.expires - now + KEPT_AFTER_MS)
    return SwapTask(task.id, seen, _new_revision(), fields.of(task, written), left, fields.dropped(task))
