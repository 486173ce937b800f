"""What becomes of a crash of a handler: one log line, and what its client is shown."""

from __future__ import annotations

import logging
from typing import Any

from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.user_code import report
from trio_mcp.observability.logs import leaves
from trio_mcp.protocol.errors import UserCodeCrash

__all__ = ["crashed", "labels"]

_ASYNCIO = "asyncio does not run in handlers, which run on Trio: bridge it with trio.to_thread, see docs/handlers.md, asyncio libraries"
_MASKED = "clients see the reference and not the text: raise ToolError for words of your own, or use MCPServer(mask_errors=False)"

_NO_ASYNCIO_LOOP = ("no running event loop", "There is no current event loop")


def crashed(logger: logging.Logger, name: str, call: Call, error: Exception, what: str, **fields: Any) -> str:
    """Log a crash once, with what the line of its request shows too; the text for the client, with the reference."""
    call.reference = report(logger, name, error, **fields, **labels(call), hint=_hint(call, error))
    if call.service.mask_errors:
        return f"{what} (ref {call.reference})"
    return f"{what} (ref {call.reference}): {'; '.join(map(_text, leaves(error)))}"


def labels(call: Call) -> dict[str, Any]:
    """Whose call it is, for every log line about it."""
    client = call.client.info.get("name")
    who = call.principal
    return {
        "request_id": call.request_id if isinstance(call.request_id, int) else call.request_id[:64],
        "session": None if call.session is None else call.session.short_id,
        "client": client[:64] if isinstance(client, str) else None,
        "principal": who.subject or who.client_id or None,
    }


def _hint(call: Call, error: Exception) -> str | None:
    """What to do about it: for asyncio code always, that the text is masked once for each server."""
    if any(_misses_asyncio(leaf) for leaf in leaves(error)):
        return _ASYNCIO
    if isinstance(error, UserCodeCrash) or not call.service.mask_errors or call.service.told_of_mask:
        return None
    call.service.told_of_mask = True
    return _MASKED


def _misses_asyncio(error: BaseException) -> bool:
    match error:
        case RuntimeError():
            return str(error).startswith(_NO_ASYNCIO_LOOP)
        case TypeError():
            # Trio's own words for a future that is awaited in it.
            return "asyncio" in str(error) and "trio" in str(error).lower()
        case _:
            return False


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
