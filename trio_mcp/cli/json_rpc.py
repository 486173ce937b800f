"""JSON-RPC over HTTP: one request at a time, answered by a JSON body or by an event stream."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import trio

from trio_mcp.auth.challenge_reader import read_challenge
from trio_mcp.cli.request_forms import Legacy, Modern, RequestForm
from trio_mcp.http_client import AnswerCut, Exchange, Head, Headers, HttpClientError, HttpTransport, read_body
from trio_mcp.protocol.errors import METHOD_NOT_FOUND, McpError
from trio_mcp.protocol.sse import EventReader

__all__ = ["Answer", "AuthorizationRequired", "Channel", "HttpRefused", "Notify", "Refused"]

_T = TypeVar("_T")

Notify = Callable[[str, dict[str, Any]], None]
"""Gets the method and params of each notification, as it comes."""

MAX_QUOTE = 300
"""Characters of an answer that an error message quotes."""
MAX_RESUMES = 5
"""Streams in a row without the answer: enough for servers that make clients poll, and an end for those that never answer."""


class Refused(McpError):
    """The server answered with a JSON-RPC error."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        self.status = status
        self.code: Any = error.get("code")
        self.data: Any = error.get("data")
        self.next_step = ""
        """What to do about it, where the command knows more than the error says."""
        super().__init__(f"{error.get('message', 'no message')} ({self.code})")


class HttpRefused(McpError):
    """The server answered with an HTTP error and no JSON-RPC."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the server answered {status}" + (f": {text[:MAX_QUOTE]}" if text else ""))
        self.status = status


class AuthorizationRequired(McpError):
    """401, or 403 with a challenge; the text says which scopes the server wants."""

    def __init__(self, status: int, text: str, scopes: tuple[str, ...] = (), *, login_offered: bool = True) -> None:
        super().__init__(f"the server answered {status}: {text[:MAX_QUOTE]}" if text else "the server wants a token")
        self.status = status
        self.url = ""
        """Where the request went; set by the command, which knows it."""
        self.login_offered = login_offered
        """Whether the server names metadata that says where to log in."""
        self.scopes = scopes
        """All that the server says the request needs."""


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
            raise Refused(answer.head.status, reply["error"])
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
        if kind != "application/json" or _wants_authorization(answer.head):
            raise await self.refusal(answer)
        body = await self._body(answer)
        message = _decode(body)
        if _is_response(message):
            return dict(message)
        raise _refused(answer.head, body)

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
                if _is_response(each) and each.get("id") in (request_id, None):
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
            async with self.exchange("GET", [*headers, *self.form.headers("", {}, {})]) as answer:
                reply = await self._reply(answer, request_id, reader)
            if reply is not None:
                return reply
        raise HttpClientError("the stream ended without an answer: the request may or may not have been done")

    async def refusal(self, answer: Answer) -> McpError:
        """The error for a response that carries no JSON-RPC response."""
        return _refused(answer.head, await self._body(answer))

    async def _body(self, answer: Answer) -> bytes:
        return await read_body(partial(self._within_silence, answer.exchange.receive))

    async def _within_silence(self, receive: Callable[[], Awaitable[_T]]) -> _T:
        try:
            with trio.fail_after(self._silence):
                return await receive()
        except trio.TooSlowError as error:
            raise HttpClientError(
                f"the server has been silent for {self._silence:g} s. Wait longer with --timeout"
            ) from error


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
    if _wants_authorization(head):
        return _authorization_required(head, text)
    with suppress(ValueError, RecursionError):
        message = json.loads(body)
        if _is_response(message) and "error" in message:
            return Refused(head.status, message["error"])
    return HttpRefused(head.status, f"it is at {head.headers['location']}" if "location" in head.headers else text)


def _wants_authorization(head: Head) -> bool:
    return head.status == 401 or (head.status == 403 and "www-authenticate" in head.headers)


def _authorization_required(head: Head, text: str) -> AuthorizationRequired:
    header = head.headers.get("www-authenticate", "")
    challenge = read_challenge([header])
    if challenge is None:
        return AuthorizationRequired(head.status, header or text or "unauthorized", login_offered=False)
    scopes = f"it needs the scope{'s' if len(challenge.scopes) > 1 else ''} {' '.join(challenge.scopes)}"
    said = [each for each in (challenge.description, scopes if challenge.scopes else "") if each]
    return AuthorizationRequired(
        head.status,
        "; ".join(said) or ("" if head.status == 401 else header),
        challenge.scopes,
        login_offered=challenge.resource_metadata != "",
    )


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
