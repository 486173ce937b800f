"""A call and the node's memory: when its handler may start, and whether its answer may wait for its reader."""

from __future__ import annotations

from trio_mcp.dispatch.call import Call
from trio_mcp.protocol.errors import INTERNAL_ERROR, ProtocolError
from trio_mcp.protocol.jsonrpc import encode_error
from trio_mcp.streams.account import SMALL, NoRoom

__all__ = ["Reply", "fitting", "wait_for_room"]

Reply = tuple[bytes | None, int]

_RUN_HANDLERS = frozenset({"tools/call", "resources/read", "prompts/get", "completion/complete"})


async def wait_for_room(call: Call) -> None:
    """Return when the handler may start; raises ProtocolError when there was no room for too long.

    Only what runs user code waits: pings, lists and listen streams hold next to nothing.
    """
    account, holder = call.service.account, call.outbox.holder
    if call.method not in _RUN_HANDLERS or account.admits(holder):
        return
    try:
        await account.turn(holder)
    except NoRoom:
        raise ProtocolError(
            INTERNAL_ERROR, "The server has no memory left for another answer; try again later"
        ) from None


def fitting(call: Call, reply: Reply) -> Reply:
    """The reply, or an error in its place when so much must not wait for this client. The call alone is concerned."""
    body, _ = reply
    if body is None or len(body) <= SMALL:
        return reply
    account = call.service.account
    if account.takes(len(body), call.outbox.holder):
        return reply
    account.count("answer_refused")
    limit = f"An answer has at most {account.share}, and a client must read those it asked for"
    fault = ProtocolError(INTERNAL_ERROR, f"The answer has {len(body)} bytes, for which there is no room. {limit}")
    return encode_error(call.request_id, fault), 200
