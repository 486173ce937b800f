"""Running a user's function: async ones here, sync ones in a worker thread."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.questions import note_binding
from trio_mcp.features.signature import Signature

__all__ = ["invoke"]


async def invoke(call: Call, signature: Signature, kwargs: dict[str, Any]) -> Any:
    """Call the function with its context injected; what it raises comes through as it is."""
    if signature.context_parameter is not None:
        if call.modern:
            note_binding(call)
        kwargs[signature.context_parameter] = call.service.context(call)
    if signature.is_async:
        return await signature.fn(**kwargs)
    # Abandoned when cancelled: a thread cannot be stopped, and its caller must not wait for it. Its limiter slot stays
    # taken until it really ends, so abandoned threads are bounded too.
    return await trio.to_thread.run_sync(
        partial(signature.fn, **kwargs), abandon_on_cancel=True, limiter=call.service.threads
    )
