"""What is known of one task: `TaskRecord`, and what it is made of. Nothing here changes a record; see `transitions`."""

from __future__ import annotations

import secrets
from enum import Enum
from typing import Any, Final

import msgspec

from trio_mcp.auth.principal import Principal
from trio_mcp.protocol.errors import INTERNAL_ERROR

__all__ = [
    "ENDED",
    "FailReason",
    "Question",
    "Status",
    "TaskError",
    "TaskOwner",
    "TaskRecord",
    "TaskStart",
    "is_task_id",
    "new_task",
]

_ID_BYTES = 18
"""144 random bits: where callers are anonymous, the id is all that protects a task."""

_MAX_ID = 128


class Status(Enum):
    """`TaskStatus` of the wire (ext-tasks, Task Status Lifecycle)."""

    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    """It waits for answers of its client."""
    COMPLETED = "completed"
    """The tool has returned, an `isError` result too."""
    FAILED = "failed"
    """It ended with a JSON-RPC error."""
    CANCELLED = "cancelled"


ENDED: Final = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


class TaskOwner(msgspec.Struct, frozen=True):
    """The process that runs a task. `epoch` is one more with each process that takes it over."""

    node: str
    boot: str
    epoch: int = 0


class Question(msgspec.Struct, frozen=True):
    """An open question, as `inputRequests` shows it."""

    method: str
    params: dict[str, Any]


class TaskError(msgspec.Struct, frozen=True):
    """The JSON-RPC error that ended a task."""

    code: int
    message: str
    data: Any = None


class FailReason(Enum):
    """Why a task failed that no tool ended: `data.reason` of its error, and the reason in logs and metrics."""

    NODE_GONE = "node_gone"
    ATTEMPTS = "attempts"
    EXPIRED = "expired"
    SHUTDOWN = "shutdown"
    TOO_LARGE = "result_too_large"

    @property
    def error(self) -> TaskError:
        """The error that ends the task."""
        return TaskError(INTERNAL_ERROR, _MESSAGES[self], {"reason": self.value})


_MESSAGES: Final = {
    FailReason.NODE_GONE: "The node that ran this task is gone; it may or may not have been done",
    FailReason.ATTEMPTS: "The nodes that ran this task are gone, one after the other; it is not started again",
    FailReason.EXPIRED: "The task took longer than it may",
    FailReason.SHUTDOWN: "The server was stopped before the task was done; it may or may not have been done",
    FailReason.TOO_LARGE: "The result of the task is larger than may be kept",
}


class TaskStart(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of the task begins with. It has neither token, nor claims, nor headers: a run on another node sees none."""

    tool: str
    arguments: dict[str, Any]
    version: str
    """The protocol version of the request."""
    subject: str = ""
    issuer: str = ""
    client_id: str = ""
    info: dict[str, Any] = {}
    """How the client described itself (Implementation)."""
    capabilities: dict[str, Any] = {}
    """What the client declared in the request."""
    answers: dict[str, Any] = {}
    """Answers to what was asked before there was a task, by the author's key."""

    @property
    def principal(self) -> Principal:
        """Who called the tool."""
        return Principal(self.subject, self.issuer, client_id=self.client_id)


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One task at one moment. Times are in milliseconds, points in time on the wall clock."""

    id: str
    owner: TaskOwner
    principal: str
    """The digest of the caller's principal."""
    start: TaskStart
    created: int
    updated: int
    """When status, message or questions changed last."""
    ttl: int
    """How long after its creation it can be read."""
    status: Status = Status.WORKING
    message: str = ""
    attempts: int = 1
    """How often it was started, without the times when its node had handed it over."""
    idempotent: bool = False
    """Its author says that it may run again after its node is gone."""
    waits: bool = False
    """Its handler waits for answers, and has not gone on with them: nothing is lost when it runs again from its start."""
    parked: bool = False
    """Its node has stopped; it runs again, on any node, once all its questions are answered."""
    released: bool = False
    """Its node has stopped; any node may run it again now."""
    cancel: bool = False
    """Its client has asked for its end."""
    asked: int = 0
    """How many questions it has asked."""
    questions: dict[str, Question] = {}
    """Those that are open, by their key on the wire."""
    answers: dict[str, Any] = {}
    """What the client has answered, by the question's key on the wire."""
    result: bytes | None = None
    """The encoded result of a task that is completed."""
    error: TaskError | None = None
    """The error of one that has failed."""

    @property
    def ended(self) -> bool:
        """Whether its status can no longer change."""
        return self.status in ENDED

    @property
    def expires(self) -> int:
        """When it can no longer be read."""
        return self.created + self.ttl

    @property
    def handed_over(self) -> bool:
        """Whether its node has stopped and left it to the others."""
        return self.parked or self.released

    def is_of(self, who: Principal) -> bool:
        """Whether `who` called the tool. To everybody else it does not exist."""
        return self.principal in who.known_as


def new_task(start: TaskStart, owner: TaskOwner, now: int, *, ttl: int, idempotent: bool = False) -> TaskRecord:
    """The record of a task that begins now (ms of the wall clock), with a new id; `ttl` is in ms."""
    return TaskRecord(
        id=secrets.token_urlsafe(_ID_BYTES),
        owner=owner,
        principal=start.principal.recorded_as,
        start=start,
        created=now,
        updated=now,
        ttl=ttl,
        idempotent=idempotent,
    )


def is_task_id(text: object) -> bool:
    """Whether it can be the id of a task: nothing else becomes a part of a key."""
    return isinstance(text, str) and 0 < len(text) <= _MAX_ID and all("!" <= each <= "~" for each in text)
