"""A task as it is stored: nothing that was said is in the clear, and it opens only where it belongs."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.tasks.runner import HOUR, YES
from trio_mcp.auth.keyring import Keyring
from trio_mcp.cluster.tasks.fields import TaskFields, Unreadable, read_head, swap
from trio_mcp.tasks.changes import Answer, Ask, Change, Complete, Fail, Progress
from trio_mcp.tasks.record import Question, Status, TaskError, TaskOwner, TaskRecord, TaskStart, new_task
from trio_mcp.tasks.transitions import apply

ME = TaskOwner("node1", "b1")
START = TaskStart(
    tool="transfer",
    arguments={"note": "SECRET-argument"},
    version="2026-07-28",
    subject="SECRET-alice",
    issuer="https://SECRET-issuer",
    client_id="SECRET-client",
    info={"name": "SECRET-app"},
    capabilities={"elicitation": {}},
    answers={"SECRET-before": YES},
)
ASK = Ask("k", Question("elicitation/create", {"message": "SECRET-question"}))
CHANGES: dict[str, list[Change]] = {
    "new": [],
    "progress": [Progress("SECRET-message")],
    "asks": [ASK],
    "answered": [ASK, Answer({"k": {"action": "accept", "content": {"x": "SECRET-answer"}}})],
    "completed": [Complete(b'{"content":[{"type":"text","text":"SECRET-result"}]}')],
    "failed": [Fail(TaskError(-32603, "SECRET-error", {"reason": "SECRET"}))],
    "failed without data": [Fail(TaskError(-32000, "SECRET-error"))],
}


def task_after(changes: list[Change]) -> TaskRecord:
    task = new_task(START, ME, 1_000, ttl=HOUR, idempotent=True)
    for change in changes:
        task = apply(task, change, 2_000, by=ME)
    return task


def stored(task: TaskRecord, fields: TaskFields, written: TaskRecord | None = None) -> dict[bytes, bytes]:
    """As a store gives it back."""
    found = fields.of(task, written).items()
    return {name.encode(): value if isinstance(value, bytes) else value.encode() for name, value in found}


@pytest.mark.requirement("tasks-41")
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
def test_a_task_is_read_as_it_was_and_only_its_head_is_in_the_clear(changes: list[Change]) -> None:
    task, fields = task_after(changes), TaskFields(Keyring([b"one"]))
    found = stored(task, fields)
    assert b"SECRET" not in b"".join(found.values())
    read = fields.read(task.id, found)
    assert read == (replace(task, start=read.start) if task.ended else task)
    assert read.start.tool == "transfer"
    head = read_head(found)
    assert head is not None
    assert (head.tool, head.node, head.status, head.open, head.expires) == (
        "transfer",
        "node1",
        task.status,
        len(task.questions),
        task.expires,
    )


@pytest.mark.requirement("tasks-42")
def test_while_secrets_are_rotated_either_opens_and_afterwards_only_its_own() -> None:
    old, both, new = (TaskFields(Keyring(keys)) for keys in ([b"old"], [b"new", b"old"], [b"new"]))
    task = task_after([ASK])
    assert both.read(task.id, stored(task, old)) == task
    assert both.read(task.id, stored(task, both)) == task
    assert new.read(task.id, stored(task, both)) == task
    for reader, writer in ((old, both), (new, old)):
        with pytest.raises(Unreadable):
            reader.read(task.id, stored(task, writer))


def test_a_field_opens_only_as_that_field_of_that_task_of_that_principal() -> None:
    fields = TaskFields(Keyring([b"one"]))
    task, other = task_after([ASK]), task_after([ASK])
    found, others = stored(task, fields), stored(other, fields)
    foreign = replace(task, principal="another")
    for mixed in (
        {**found, b"talk": others[b"talk"]},
        {**found, b"talk": found[b"start"]},
        {**found, b"head": stored(foreign, fields)[b"head"]},
        {**found, b"talk": b""},
        {name: value for name, value in found.items() if name != b"talk"},
    ):
        with pytest.raises(Unreadable):
            fields.read(task.id, mixed)


@pytest.mark.parametrize("head", [b"", b"{}", b"[1]", b"\xff", b'{"v":2}', None])
def test_what_is_no_task_of_this_version_is_unreadable(head: bytes | None) -> None:
    fields = TaskFields(Keyring([b"one"]))
    task = task_after([])
    found: dict[bytes, Any] = {**stored(task, fields), b"head": head}
    with pytest.raises(Unreadable):
        fields.read(task.id, found)


def test_only_what_has_changed_is_written_and_what_is_over_is_dropped() -> None:
    fields = TaskFields(Keyring([b"one"]))
    task = task_after([])
    assert set(fields.of(task)) == {"head", "talk", "start"}
    assert set(fields.of(replace(task, cancel=True), task)) == {"head"}
    assert set(fields.of(replace(task, message="x"), task)) == {"head", "talk"}
    ended = apply(task, Complete(b"{}"), 5_000, by=ME)
    write = swap(fields, ended, task, "r1", 5_000)
    assert set(write.fields) == {"head", "outcome"}
    assert (write.dropped, write.seen, write.milliseconds) == (("start",), "r1", HOUR + 60_000)
    assert ended.status is Status.COMPLETED
    assert swap(fields, ended, task, "r1", 5_000).revision != write.revision
