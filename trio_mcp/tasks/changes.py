"""What can happen to a task: a `Change`, by whom. `transitions.apply` says what becomes of the record.

`OwnChange` is for the process that owns the task, `ClientChange` for its client by any node, `TakeOver` for another process when the owner is gone
or has left it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from trio_mcp.tasks.record import Question, TaskError, TaskOwner

__all__ = [
    "Answer",
    "Ask",
    "AskCancel",
    "Cancelled",
    "Change",
    "ChangeRefused",
    "ClientChange",
    "Complete",
    "Extend",
    "Fail",
    "OwnChange",
    "Park",
    "Progress",
    "Refusal",
    "Release",
    "Resume",
    "TakeOver",
    "Withdraw",
]


class Refusal(Enum):
    """Why a change cannot be made. The text is for the log, and for handlers that ask too much."""

    NOT_OWNER = "the task is not this process' any more"
    ENDED = "the task has ended"
    TOO_MANY_OPEN = "the task has too many open questions"
    TOO_MANY_QUESTIONS = "the task has asked too many questions"
    TOO_MUCH_ANSWERED = "the answers to the task's questions are as large as may be kept"
    NOT_CLAIMABLE = "the task cannot be taken over"


class ChangeRefused(Exception):
    """The change cannot be made; the record stays as it is."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason: Refusal = reason


# What the owner does.


@dataclass(frozen=True, slots=True)
class Progress:
    """Show the message as `statusMessage`."""

    message: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Open a question under its key on the wire. One that has an answer, or is open, stays as it is."""

    key: str
    question: Question


@dataclass(frozen=True, slots=True)
class Resume:
    """The handler goes on with the answers that are there. It is written before the handler has them."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Nobody waits for these answers any more."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Complete:
    """The tool has returned; `result` is the encoded CallToolResult."""

    result: bytes


@dataclass(frozen=True, slots=True)
class Fail:
    """It ended with a JSON-RPC error."""

    error: TaskError


@dataclass(frozen=True, slots=True)
class Cancelled:
    """It ended because its client asked for that."""


@dataclass(frozen=True, slots=True)
class Park:
    """This process stops, and the task waits for answers: it runs again where the last answer is read."""


@dataclass(frozen=True, slots=True)
class Release:
    """This process stops, and the task is idempotent: it runs again on any node, now."""


@dataclass(frozen=True, slots=True)
class Extend:
    """It can be read until `ttl` ms after its creation."""

    ttl: int


# What its client does, by any node.


@dataclass(frozen=True, slots=True)
class Answer:
    """Answers by their question's key on the wire; those for no open question are ignored (ext-tasks, tasks/update)."""

    responses: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AskCancel:
    """The client asks for its end (ext-tasks, tasks/cancel). One that no process runs ends at once."""


# What another process does.


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The owner `seen` has left the task, or is `gone`: run it again in the process `by`, or keep it for its last answer, or end it."""

    seen: TaskOwner
    by: TaskOwner
    """Its epoch is not looked at."""
    gone: bool = False


OwnChange: TypeAlias = Progress | Ask | Resume | Withdraw | Complete | Fail | Cancelled | Park | Release | Extend
ClientChange: TypeAlias = Answer | AskCancel
Change: TypeAlias = OwnChange | ClientChange | TakeOver
