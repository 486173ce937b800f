"""What is said in place of an owner that will not answer any more: nobody may wait for what will not come."""

from __future__ import annotations

import msgspec

from trio_mcp.protocol.envelope import SUBSCRIPTION_ID_KEY
from trio_mcp.protocol.errors import LostCall
from trio_mcp.protocol.jsonrpc import InvalidMessage, Request, decode, encode_error, encode_result
from trio_mcp.protocol.sse import event

__all__ = ["last_event", "lost_answer"]


def lost_answer(content: bytes) -> bytes | None:
    """The JSON-RPC answer to a request body whose owner is lost: an error, of a batch an array; None when it wants none."""
    match _decoded(content):
        case Request(id=id):
            return encode_error(id, LostCall())
        case list() as batch:
            lost = [msgspec.Raw(encode_error(each.id, LostCall())) for each in batch if isinstance(each, Request)]
            return msgspec.json.encode(lost) if lost else None
    return None


def last_event(content: bytes) -> bytes:
    """What ends a stream that cannot be resumed, as an event; a listen stream has lost nothing, and ends with its result."""
    match _decoded(content):
        case Request(id=id, method="subscriptions/listen"):
            return event(encode_result(id, {"resultType": "complete", "_meta": {SUBSCRIPTION_ID_KEY: id}}))
    answer = lost_answer(content)
    return b"" if answer is None else event(answer)


def _decoded(content: bytes) -> object:
    try:
        return decode(content) if content else None
    except InvalidMessage:
        return None
