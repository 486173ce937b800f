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
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.request_head import HeaderList

__all__ = [
    "CHUNK_BYTES",
    "HttpRefusal",
    "reply_json",
    "send_answer",
    "send_empty",
    "send_error",
    "send_json",
    "send_refusal",
]

CHUNK_BYTES = 128 * 1024
"""Large bodies are sent in pieces of this size: the write deadline is for one piece, and only one is copied at a time."""

_JSON = (b"content-type", b"application/json")
_JSON_ALONE = [_JSON]

_RETRY_AFTER: dict[int, HeaderList] = {429: [(b"retry-after", b"1")], 503: [(b"retry-after", b"5")]}
"""When the client may send again what is answered with `protocol.errors.Busy`."""

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
"""Status → the label of a refusal that gives no reason of its own."""


class HttpRefusal(Exception):
    """Raised to answer an exchange with an HTTP error; `endpoint` catches it.

    `message` and `data` are for the body, `headers` for the response. `reason` is the label of the metric, where the status
    alone does not say it; `told` are fields of the log line. `logged`: there is a log line already.
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
    """A response with a JSON body; `headers` come after content type and length."""
    head = [_JSON, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    sent = 0
    while len(body) - sent > CHUNK_BYTES:
        await send({"type": "http.response.body", "body": body[sent : sent + CHUNK_BYTES], "more_body": True})
        sent += CHUNK_BYTES
    await send({"type": "http.response.body", "body": body[sent:] if sent else body})


async def send_empty(send: Send, status: int, headers: HeaderList) -> None:
    """A response without a body: 202 for a message that has no answer, 204."""
    head = headers if status == 204 else [(b"content-length", b"0"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": b""})


async def reply_json(exchange: HttpExchange, status: int, body: bytes, headers: HeaderList) -> None:
    """The same for an exchange: in one write, unless the body is large."""
    if len(body) > CHUNK_BYTES:
        return await send_json(exchange.carrier.send, status, body, headers)
    await exchange.carrier.reply(status, [_JSON, *headers] if headers else _JSON_ALONE, body)


async def send_answer(exchange: HttpExchange, answer: Answer, counter: Budget | Account, *, delay: float) -> None:
    """The whole reply of a call as JSON; 202 without a body where it is empty.

    One over 16 KiB is counted by `counter` until it is sent, and begins no sooner than `delay` seconds after the request's
    last byte (`Pace.stream_delay`).
    """
    headers = exchange.cors if answer.status == 200 else [*exchange.cors, *_RETRY_AFTER.get(answer.status, ())]
    if not answer.body:
        await exchange.carrier.reply(202, exchange.cors, b"")
    elif len(answer.body) <= SMALL:
        await reply_json(exchange, answer.status, answer.body, headers)
    else:
        with counter.hold(len(answer.body)):
            await trio.sleep_until(exchange.body_ended + delay)
            await reply_json(exchange, answer.status, answer.body, headers)


async def send_error(
    send: Send, status: int, fault: ProtocolError, headers: HeaderList, id: RequestId | None = None
) -> None:
    """A JSON-RPC error as JSON; the member `id` is left out where it is None."""
    await send_json(send, status, encode_error(id, fault), headers)


async def send_refusal(send: Send, refusal: HttpRefusal, headers: HeaderList, id: RequestId | None = None) -> None:
    """A refusal: its HTTP status, and a JSON-RPC error as the body. Most come before an id was read."""
    code = INTERNAL_ERROR if refusal.status in (500, 503) else INVALID_REQUEST
    body = encode_error(id, ProtocolError(code, refusal.message, refusal.data))
    await send_json(send, refusal.status, body, [*refusal.headers, *headers])
