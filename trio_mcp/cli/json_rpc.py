"""JSON-RPC over HTTP: one request at a time, answered by a JSON body or by an event stream."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import trio

from trio_mcp.cli.refusals import HttpRefused, Refused, is_response, refusal, retry_after, wants_authorization
from trio_mcp.cli.request_forms import Legacy, Modern, RequestForm
from trio_mcp.http_client import (
    AnswerCut,
    CannotConnect,
    Exchange,
    Head,
    Headers,
    HttpClientError,
    HttpTransport,
    read_body,
)
from trio_mcp.protocol.errors import METHOD_NOT_FOUND, McpError
from trio_mcp.protocol.sse import EventReader

__all__ = ["Answer", "Channel", "Notify", "Silent"]

_T = TypeVar("_T")

Notify = Callable[[str, dict[str, Any]], None]
"""Gets the method and params of each notification, as it comes."""

_WAIT_LONGER = ". Wait longer with --timeout"
MAX_RESUMES = 5
"""Streams in a row without the answer: enough for servers that make clients poll, and an end for those that never answer."""


class Silent(HttpClientError):
    """No byte came for as long as the user wants to wait."""


class Channel:
    """Sends requests to one server; `silence` is for how many seconds no byte need come."""

    def __init__(self, transport: HttpTransport, notify: Notify, silence: float) -> None:
        self.form: RequestForm = Modern()
        self._transport = transport
        self._notify = notify
        self._silence = silence
        self._ids = itertools.count(1)

    async def request(
        self, method: str, params: dict[str, Any], schema: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The result of a request.

        Raises Refused for a JSON-RPC error, HttpRefused for a bare HTTP error, AuthorizationRequired for 401 and 403,
        HttpClientError when no answer comes.
        """
        try:
            return await self._request(method, params, schema)
        except (AnswerCut, Silent, HttpRefused) as error:
            error.next_step = _next_step(error, method)
            raise

    async def _request(self, method: str, params: dict[str, Any], schema: dict[str, Any] | None) -> dict[str, Any]:
        request_id = next(self._ids)
        headers = [*_POST_HEADERS, *self.form.headers(method, params, schema or {})]
        body = _encode({"id": request_id, "method": method, "params": self.form.params(params)})
        reader = EventReader()
        async with self.exchange("POST", headers, body) as answer:
            if method == "initialize" and isinstance(self.form, Legacy):
                self.form.session_id = answer.head.headers.get("mcp-session-id")
            reply = await self._reply(answer, request_id, reader)
        if reply is None:
            reply = await self._resume(request_id, reader)
        if "error" in reply:
            raise Refused(answer.head.status, reply["error"], retry_after(answer.head))
        result: dict[str, Any] = reply.get("result", {})
        return result

    @asynccontextmanager
    async def exchange(self, method: str, headers: Headers, body: bytes = b"") -> AsyncIterator[Answer]:
        """An HTTP request, for the length of the block; the head of its answer has come."""
        async with self._transport.exchange(method, headers, body) as exchange:
            yield Answer(await self._within_silence(exchange.head), exchange)

    async def tell(self, message: dict[str, Any]) -> None:
        """Send a notification or an answer; raises as `request` does for a status of 400 or more."""
        headers = [*_POST_HEADERS, *self.form.headers("", {}, {})]
        async with self.exchange("POST", headers, _encode(message)) as answer:
            if answer.head.status >= 400:
                raise await self.refusal(answer)

    async def _reply(self, answer: Answer, request_id: int, reader: EventReader) -> dict[str, Any] | None:
        """The response to a request; None when a stream ended without it."""
        kind = answer.head.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream" and answer.head.status == 200:
            return await self._streamed(answer, request_id, reader)
        if kind != "application/json" or wants_authorization(answer.head):
            raise await self.refusal(answer)
        body = await self._body(answer)
        message = _decode(body)
        if is_response(message):
            return dict(message)
        raise refusal(answer.head, body)

    async def _streamed(self, answer: Answer, request_id: int, reader: EventReader) -> dict[str, Any] | None:
        try:
            while data := await self._within_silence(answer.exchange.receive):
                for event in reader.feed(data):
                    reply = await self._incoming(_decode(event.data), request_id)
                    if reply is not None:
                        return reply
        except AnswerCut:
            if reader.last_id is None:
                raise
        return None

    async def _incoming(self, message: Any, request_id: int) -> dict[str, Any] | None:
        """Deal with one message of a stream; gives the response to our request, None for anything else."""
        for each in message if isinstance(message, list) else [message]:
            if not isinstance(each, dict):
                raise HttpClientError(f"the server sent something that is not JSON-RPC: {each!r:.80}")
            if "method" not in each:
                # An error without an id is ours: there is one request at a time.
                if is_response(each) and each.get("id") in (request_id, None):
                    return each
            elif "id" in each:
                await self.tell({"id": each["id"], **_answer_to(each["method"])})
            else:
                self._notify(each["method"], each.get("params", {}))
        return None

    async def _resume(self, request_id: int, reader: EventReader) -> dict[str, Any]:
        """Read on in a legacy stream that ended early, after the last event that came."""
        for _ in range(MAX_RESUMES):
            if reader.last_id is None or not isinstance(self.form, Legacy):
                break
            # The pause counts as silence: `retry:` must not make the command wait longer than --timeout.
            await trio.sleep(min((1000 if reader.retry is None else reader.retry) / 1000, self._silence))
            headers = [("Accept", "text/event-stream"), ("Last-Event-ID", reader.last_id)]
            try:
                async with self.exchange("GET", [*headers, *self.form.headers("", {}, {})]) as answer:
                    reply = await self._reply(answer, request_id, reader)
                if reply is not None and answer.head.status >= 400:
                    # Of the GET: the process that had the session has ended, and with it whatever knew of the call.
                    raise Refused(answer.head.status, reply.get("error", {}))
            except (CannotConnect, HttpRefused, Refused) as error:
                raise AnswerCut(f"the stream ended without an answer; then: {error}") from error
            if reply is not None:
                return reply
        raise AnswerCut("the stream ended without an answer")

    async def refusal(self, answer: Answer) -> McpError:
        """The error for a response that carries no JSON-RPC response."""
        return refusal(answer.head, await self._body(answer))

    async def _body(self, answer: Answer) -> bytes:
        return await read_body(partial(self._within_silence, answer.exchange.receive))

    async def _within_silence(self, receive: Callable[[], Awaitable[_T]]) -> _T:
        try:
            with trio.fail_after(self._silence):
                return await receive()
        except trio.TooSlowError as error:
            raise Silent(f"the server has been silent for {self._silence:g} s", _WAIT_LONGER) from error


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose head has come."""

    head: Head
    exchange: Exchange


_POST_HEADERS = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")]


def _next_step(error: AnswerCut | Silent | HttpRefused, method: str) -> str:
    """What to do where the request was sent, and nothing tells what became of it; what is known of a refusal otherwise."""
    if isinstance(error, HttpRefused) and (error.status < 500 or error.next_step):
        return error.next_step
    step = ". The call may or may not have been done" if method == "tools/call" else ""
    if isinstance(error, Silent):
        return step + _WAIT_LONGER
    return step or ". Try again"


def _answer_to(method: str) -> dict[str, Any]:
    if method == "ping":
        return {"result": {}}
    return {"error": {"code": METHOD_NOT_FOUND, "message": f"trio-mcp on the command line cannot do {method}"}}


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode()


def _decode(data: str | bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HttpClientError(f"the server sent something that is not JSON: {data[:80]!r}") from error
