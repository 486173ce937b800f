"""Whole HTTP responses: JSON, the answer of a call, nothing, and JSON-RPC errors."""

from __future__ import annotations

from typing import Any

import trio

from trio_mcp.protocol.errors import INTERNAL_ERROR, INVALID_REQUEST, ProtocolError
from trio_mcp.protocol.jsonrpc import RequestId, encode_error
from trio_mcp.streams.account import SMALL, Account
from trio_mcp.streams.budget import Budget
from trio_mcp.streams.event_log import Answer
from trio_mcp.transports.asgi import Send
from trio_mcp.transports.http.request import HeaderList, HttpExchange

__all__ = [
    "CHUNK_BYTES",
    "HeaderList",
    "HttpRefusal",
    "send_answer",
    "send_empty",
    "send_error",
    "send_json",
    "send_refusal",
]

CHUNK_BYTES = 128 * 1024
"""Large bodies go out in pieces: each has the write deadline for itself, and no more than one is copied on its way."""

_JSON = (b"content-type", b"application/json")

_REASONS = {
    400: "malformed",
    401: "unauthenticated",
    403: "origin",
    405: "method",
    406: "accept",
    413: "body",
    415: "content_type",
    421: "host",
    502: "node_gone",
}
"""What a status means, where the refusal does not say more."""


class HttpRefusal(Exception):
    """The gate's no: an HTTP status and, for whoever reads the body, why.

    `reason` is the metric's label; `told` goes to the log line beside it. `logged`: it has a line of its own already.
    """

    def __init__(
        self,
        status: int,
        message: str,
        headers: HeaderList | None = None,
        *,
        reason: str = "",
        data: Any = None,
        logged: bool = False,
        **told: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers: HeaderList = headers or []
        self.reason: str = reason or _REASONS[status]
        self.data = data
        self.logged = logged
        self.told = told


async def send_json(send: Send, status: int, body: bytes, headers: HeaderList) -> None:
    """A complete JSON body."""
    head = [_JSON, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    sent = 0
    while len(body) - sent > CHUNK_BYTES:
        await send({"type": "http.response.body", "body": body[sent : sent + CHUNK_BYTES], "more_body": True})
        sent += CHUNK_BYTES
    await send({"type": "http.response.body", "body": body[sent:] if sent else body})


async def send_empty(send: Send, status: int, headers: HeaderList) -> None:
    """No body: 202 for what wants no answer, 204."""
    head = headers if status == 204 else [(b"content-length", b"0"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": b""})


async def send_answer(exchange: HttpExchange, answer: Answer, holder: Budget | Account, *, delay: float) -> None:
    """The reply as plain JSON, which counts for `holder` until it is sent; nothing to say is 202."""
    if not answer.body:
        await send_empty(exchange.send, 202, exchange.cors)
    elif len(answer.body) <= SMALL:
        await send_json(exchange.send, answer.status, answer.body, exchange.cors)
    else:
        with holder.hold(len(answer.body)):
            # It may reach a proxy in several pieces, and meet the fault that `Pace.stream_delay` is for.
            await trio.sleep_until(exchange.body_ended + delay)
            await send_json(exchange.send, answer.status, answer.body, exchange.cors)


async def send_error(
    send: Send, status: int, fault: ProtocolError, headers: HeaderList, id: RequestId | None = None
) -> None:
    """A JSON-RPC error; without an id the member is left out."""
    await send_json(send, status, encode_error(id, fault), headers)


async def send_refusal(send: Send, refusal: HttpRefusal, headers: HeaderList, id: RequestId | None = None) -> None:
    """A refusal by HTTP's own means; most come before any JSON-RPC id was read."""
    code = INTERNAL_ERROR if refusal.status in (500, 503) else INVALID_REQUEST
    body = encode_error(id, ProtocolError(code, refusal.message, refusal.data))
    await send_json(send, refusal.status, body, [*refusal.headers, *headers])
