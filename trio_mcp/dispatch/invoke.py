"""Calling the function behind a tool, a resource, a prompt or a completion."""

from __future__ import annotations

from functools import partial
from typing import Any

from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.questions import note_binding
from trio_mcp.dispatch.user_code import call_user
from trio_mcp.features.signature import Signature

__all__ = ["invoke"]


async def invoke(call: Call, signature: Signature, kwargs: dict[str, Any]) -> Any:
    """Call the function with its context injected; raises as `call_user` does."""
    if signature.context_parameter is not None:
        if call.modern:
            note_binding(call)
        kwargs[signature.context_parameter] = call.service.context(call)
    return await call_user(partial(signature.fn, **kwargs), is_async=signature.is_async, limiter=call.service.threads)
