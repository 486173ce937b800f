"""What a run of a task begins with: kept from the call when it becomes a task, and made a call again where the task is taken over."""

from __future__ import annotations

import msgspec

from trio_mcp.dispatch.call import Call, Client, Service
from trio_mcp.dispatch.nowhere import Nowhere
from trio_mcp.tasks.record import TaskRecord, TaskStart

__all__ = ["call_again", "start_of"]


def start_of(call: Call) -> TaskStart:
    """What another run of the call would need. Neither token nor claims nor headers are kept."""
    assert call.tool is not None
    # As they came: the handler has them already, and may have changed what it got.
    _, _, arguments = msgspec.json.decode(call.bound_to)
    return TaskStart(
        tool=call.tool.name,
        arguments=arguments,
        version=call.version,
        subject=call.principal.subject,
        issuer=call.principal.issuer,
        client_id=call.principal.client_id,
        info=call.client.info,
        capabilities=call.client.capabilities,
        answers=dict(call.answers or {}),
    )


def call_again(service: Service, task: TaskRecord) -> Call:
    """The call of a task that runs again. Nobody waits for it, and its id is that of the task."""
    start = task.start
    call = Call(
        service,
        task.id,
        "tools/call",
        {"name": start.tool, "arguments": start.arguments},
        start.version,
        start.principal,
        Client(start.info, start.capabilities),
        Nowhere(),
        tool=service.registry.tools.get(start.tool),
    )
    call.answers = dict(start.answers)
    return call
