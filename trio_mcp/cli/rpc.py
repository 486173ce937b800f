"""JSON-RPC over a wire: one request at a time, answered by a JSON body or by a stream of events."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import trio

from trio_mcp.cli.dialect import Dialect, Legacy, Modern
from trio_mcp.cli.event_stream import EventReader
from trio_mcp.cli.wire import Cut, Exchange, Head, Headers, Wire, WireError, whole
from trio_mcp.protocol.errors import METHOD_NOT_FOUND, McpError

__all__ = ["Answer", "AuthorizationRequired", "Channel", "HttpRefused", "Notify", "Refused"]

_T = TypeVar("_T")

Notify = Callable[[str, dict[str, Any]], None]
"""Called with the method and params of each notification, as it comes."""

MAX_QUOTE = 300
MAX_RESUMES = 5
"""In a row without an answer: enough for a server that lets its clients poll, an end for one that never answers."""


class Refused(McpError):
    """The server answered with a JSON-RPC error."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        self.status = status
        self.code = error.get("code")
        self.data = error.get("data")
        super().__init__(f"{error.get('message', 'no message')} ({self.code})")


class HttpRefused(McpError):
    """The server answered with an HTTP error and no JSON-RPC."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the server answered {status}" + (f": {text[:MAX_QUOTE]}" if text else ""))
        self.status = status


class AuthorizationRequired(McpError):
    """401, or 403 with a challenge."""


class Channel:
    """The way to one server; `silence` is how many seconds without a byte it bears."""

    def __init__(self, wire: Wire, notify: Notify, silence: float) -> None:
        self.dialect: Dialect = Modern()
        self._wire = wire
        self._notify = notify
        self._silence = silence
        self._ids = itertools.count(1)

    async def request(
        self, method: str, params: dict[str, Any], schema: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The result of a request.

        Raises Refused for a JSON-RPC error, HttpRefused for a bare HTTP error, AuthorizationRequired for 401 and 403,
        WireError when nobody answers.
        """
        request_id = next(self._ids)
        headers = [*_POST_HEADERS, *self.dialect.headers(method, params, schema or {})]
        body = _encode({"id": request_id, "method": method, "params": self.dialect.params(params)})
        reader = EventReader()
        async with self.exchange("POST", headers, body) as answer:
            if method == "initialize" and isinstance(self.dialect, Legacy):
                self.dialect.session_id = answer.head.headers.get("mcp-session-id")
            reply = await self._reply(answer, request_id, reader)
        if reply is None:
            reply = await self._resume(request_id, reader)
        if "error" in reply:
            raise Refused(answer.head.status, reply["error"])
        result: dict[str, Any] = reply.get("result", {})
        return result

    @asynccontextmanager
    async def exchange(self, method: str, headers: Headers, body: bytes = b"") -> AsyncIterator[Answer]:
        """A bare HTTP request, its head answered."""
        async with self._wire.exchange(method, headers, body) as exchange:
            yield Answer(await self._patiently(exchange.head), exchange)

    async def tell(self, message: dict[str, Any]) -> None:
        """Send a notification or an answer, which nobody answers."""
        headers = [*_POST_HEADERS, *self.dialect.headers("", {}, {})]
        async with self.exchange("POST", headers, _encode(message)) as answer:
            if answer.head.status >= 400:
                raise await self.refusal(answer)

    async def _reply(self, answer: Answer, request_id: int, reader: EventReader) -> dict[str, Any] | None:
        """The response to a request, or None when a stream ended without it."""
        kind = answer.head.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream" and answer.head.status == 200:
            return await self._streamed(answer, request_id, reader)
        if kind != "application/json" or answer.head.status == 401:
            raise await self.refusal(answer)
        body = await self._body(answer)
        message = _decode(body)
        if _is_response(message):
            return dict(message)
        raise _refused(answer.head, body)

    async def _streamed(self, answer: Answer, request_id: int, reader: EventReader) -> dict[str, Any] | None:
        try:
            while data := await self._patiently(answer.exchange.receive):
                for event in reader.feed(data):
                    reply = await self._incoming(_decode(event.data), request_id)
                    if reply is not None:
                        return reply
        except Cut:
            if reader.last_id is None:
                raise
        return None

    async def _incoming(self, message: Any, request_id: int) -> dict[str, Any] | None:
        """Take one message off a stream; the response to our request is given back."""
        for each in message if isinstance(message, list) else [message]:
            if not isinstance(each, dict):
                raise WireError(f"the server sent something that is not JSON-RPC: {each!r:.80}")
            if "method" not in each:
                # An error whose id the server could not read can only be ours: we have one request at a time.
                if _is_response(each) and each.get("id") in (request_id, None):
                    return each
            elif "id" in each:
                await self.tell({"id": each["id"], **_answer_to(each["method"])})
            else:
                self._notify(each["method"], each.get("params", {}))
        return None

    async def _resume(self, request_id: int, reader: EventReader) -> dict[str, Any]:
        """Fetch the rest of a legacy stream that ended early, from after the last event we have."""
        for _ in range(MAX_RESUMES):
            if reader.last_id is None or not isinstance(self.dialect, Legacy):
                break
            # The wait is silence too: a server does not make a person wait longer than they said they would.
            await trio.sleep(min((1000 if reader.retry is None else reader.retry) / 1000, self._silence))
            headers = [("Accept", "text/event-stream"), ("Last-Event-ID", reader.last_id)]
            async with self.exchange("GET", [*headers, *self.dialect.headers("", {}, {})]) as answer:
                reply = await self._reply(answer, request_id, reader)
            if reply is not None:
                return reply
        raise WireError("the stream ended without an answer")

    async def refusal(self, answer: Answer) -> McpError:
        """What a response that carries no answer says."""
        return _refused(answer.head, await self._body(answer))

    async def _body(self, answer: Answer) -> bytes:
        return await whole(partial(self._patiently, answer.exchange.receive))

    async def _patiently(self, receive: Callable[[], Awaitable[_T]]) -> _T:
        try:
            with trio.fail_after(self._silence):
                return await receive()
        except trio.TooSlowError as error:
            raise WireError(f"the server has been silent for {self._silence:g} s; --timeout waits longer") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose head has come."""

    head: Head
    exchange: Exchange


_POST_HEADERS = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")]


def _is_response(message: Any) -> bool:
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return False
    return isinstance(message.get("result"), dict) or isinstance(message.get("error"), dict)


def _refused(head: Head, body: bytes) -> McpError:
    text = body.decode("utf-8", "replace").strip()
    challenge = head.headers.get("www-authenticate")
    if head.status == 401 or (head.status == 403 and challenge):
        return AuthorizationRequired(f"the server answered {head.status}: {challenge or text or 'unauthorized'}")
    with suppress(ValueError):
        message = json.loads(body)
        if _is_response(message) and "error" in message:
            return Refused(head.status, message["error"])
    return HttpRefused(head.status, f"it is at {head.headers['location']}" if "location" in head.headers else text)


def _answer_to(method: str) -> dict[str, Any]:
    if method == "ping":
        return {"result": {}}
    return {"error": {"code": METHOD_NOT_FOUND, "message": f"trio-mcp on the command line cannot do {method}"}}


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode()


def _decode(data: str | bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise WireError(f"the server sent something that is not JSON: {data[:80]!r}") from error
