"""What the reply of its handler makes of a task: completed, failed or cancelled (ext-tasks, Task Status Lifecycle)."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trio_mcp.dispatch.call import Ending
from trio_mcp.tasks.changes import Cancelled, Complete, Fail
from trio_mcp.tasks.record import FailReason, TaskError

__all__ = ["end_of", "reason_of", "reply_of"]


class _Reply(msgspec.Struct):
    result: Raw | UnsetType = UNSET
    error: TaskError | UnsetType = UNSET


def reply_of(body: bytes) -> bytes | TaskError:
    """The encoded result of an encoded response, or its error."""
    reply = msgspec.json.decode(body, type=_Reply)
    if reply.error is not UNSET:
        return reply.error
    assert reply.result is not UNSET, "a response has a result or an error"
    return bytes(reply.result)


def end_of(body: bytes, ending: Ending | None, most: int) -> Complete | Fail | Cancelled:
    """How a task ends whose handler gave this response; `ending` is why it was cancelled, `most` the bytes of a result or error.

    A result counts also where the cancellation came too late for the handler, or it did not heed it.
    """
    reply = reply_of(body)
    match reply, ending:
        case bytes(), _:
            return Complete(reply) if len(reply) <= most else Fail(FailReason.TOO_LARGE.error)
        case _, Ending.CANCELLED | Ending.CLIENT_LEFT:
            return Cancelled()
        case _, Ending.SHUTDOWN:
            return Fail(FailReason.SHUTDOWN.error)
    assert isinstance(reply, TaskError)
    return Fail(reply if len(msgspec.json.encode(reply)) <= most else FailReason.TOO_LARGE.error)


def reason_of(error: TaskError | None) -> str | None:
    """Why a task failed that no tool ended, for logs and metrics; None for an error of the tool's own."""
    reason = error.data.get("reason") if error is not None and isinstance(error.data, dict) else None
    return reason if reason in _REASONS else None


_REASONS = {reason.value for reason in FailReason}
