"""What the cluster asks of the shared store for tasks; each is an operation as `port` explains them.

A task is a hash of a few fields, which this layer does not read, with a revision that each write replaces: of two nodes that change the
revision that both have read, one gets it. A node has a list of the ids of tasks that run there. Everything expires.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "LIST_SECONDS",
    "AddTask",
    "FindTasks",
    "ReadTask",
    "RemoveTask",
    "SwapTask",
    "TaskOperation",
    "TaskRevision",
    "TasksOf",
]

LIST_SECONDS = 24 * 3600
"""Lifetime of a node's list, from the last time that something was added: as long as any task may run."""


@dataclass(frozen=True, slots=True)
class ReadTask:
    """All fields of the task and their values, as bytes, with its revision as `rev`; empty when there is none."""

    task_id: str


@dataclass(frozen=True, slots=True)
class TaskRevision:
    """The revision of the task as bytes; None when there is none."""

    task_id: str


@dataclass(frozen=True, slots=True)
class SwapTask:
    """Write the `fields` and the `revision`, remove the fields that are `dropped`, if the revision is the one that was `seen`.

    `seen` is "" for a task that is not there. The task expires after `milliseconds`. The result is whether it was written.
    """

    task_id: str
    seen: str
    revision: str
    fields: Mapping[str, bytes | str]
    milliseconds: int
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AddTask:
    """Put the task on the node's list, for `LIST_SECONDS`. The result means nothing."""

    node: str
    task_id: str


@dataclass(frozen=True, slots=True)
class RemoveTask:
    """Take the task off the node's list. The result means nothing."""

    node: str
    task_id: str


@dataclass(frozen=True, slots=True)
class TasksOf:
    """Ids on the node's list as bytes, `limit` of them at most."""

    node: str
    limit: int


@dataclass(frozen=True, slots=True)
class FindTasks:
    """One step of a scan over the ids of all tasks; for operators only. As `FindSessions`."""

    cursor: bytes
    pattern: str
    count: int


TaskOperation: TypeAlias = ReadTask | TaskRevision | SwapTask | AddTask | RemoveTask | TasksOf | FindTasks
