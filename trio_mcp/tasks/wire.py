"""Tasks as JSON: `CreateTaskResult`, `DetailedTask`, and the params of the methods (ext-tasks, schema draft 2026-08)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Raw

from trio_mcp.protocol.errors import InvalidParams
from trio_mcp.protocol.jsonrpc import string_param
from trio_mcp.tasks.record import Status, TaskRecord, is_task_id
from trio_mcp.tasks.transitions import poll_interval

__all__ = [
    "MAX_WATCHED",
    "created",
    "detailed",
    "responses_param",
    "short_id",
    "task_id_param",
    "unknown",
    "watched_param",
]

MAX_WATCHED = 100
"""Task ids in one `subscriptions/listen`."""


def created(task: TaskRecord, now: int) -> dict[str, Any]:
    """CreateTaskResult. `now` is in ms of the wall clock."""
    return {"resultType": "task", **_fields(task, now)}


def detailed(task: TaskRecord, now: int) -> dict[str, Any]:
    """DetailedTask: the task, and what its status brings along. `now` is in ms of the wall clock."""
    fields = _fields(task, now)
    match task.status:
        case Status.INPUT_REQUIRED:
            fields["inputRequests"] = {
                key: {"method": question.method, "params": question.params} for key, question in task.questions.items()
            }
        case Status.COMPLETED if task.result is not None:
            fields["result"] = Raw(task.result)
        case Status.FAILED if task.error is not None:
            error = {"code": task.error.code, "message": task.error.message}
            fields["error"] = error if task.error.data is None else {**error, "data": task.error.data}
    return fields


def _fields(task: TaskRecord, now: int) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "taskId": task.id,
        "status": task.status.value,
        "createdAt": _time(task.created),
        "lastUpdatedAt": _time(task.updated),
        "ttlMs": task.ttl,
        "pollIntervalMs": poll_interval(task, now),
    }
    if task.message:
        fields["statusMessage"] = task.message
    return fields


def _time(at: int) -> str:
    """ISO 8601 of milliseconds of the wall clock."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def short_id(task_id: str) -> str:
    """The part of an id that logs show: where callers are anonymous, the whole of it is a credential."""
    return task_id[:8]


def task_id_param(params: dict[str, Any]) -> str:
    """`params.taskId`; raises InvalidParams where it is no text, and as for an unknown task where it cannot be an id."""
    task_id = string_param(params, "taskId")
    if not is_task_id(task_id):
        raise unknown()
    return task_id


def unknown() -> InvalidParams:
    """The one error for a task that does not exist, has expired, or is another principal's: none of it may be told apart."""
    return InvalidParams("Task not found")


def responses_param(params: dict[str, Any]) -> dict[str, Any]:
    """`params.inputResponses`: result objects by key; raises InvalidParams."""
    responses = params.get("inputResponses")
    if not isinstance(responses, dict) or not all(isinstance(each, dict) for each in responses.values()):
        raise InvalidParams("params.inputResponses must map keys to result objects")
    return responses


def watched_param(asked: Mapping[str, Any]) -> list[str] | None:
    """`notifications.taskIds` of a `subscriptions/listen`, each once; None where there is none. Raises InvalidParams."""
    ids = asked.get("taskIds")
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise InvalidParams("params.notifications.taskIds must be a list of strings")
    if len(ids) > MAX_WATCHED:
        raise InvalidParams(f"A client may listen to {MAX_WATCHED} tasks with one request")
    return list(dict.fromkeys(ids))
