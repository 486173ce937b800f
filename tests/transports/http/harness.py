"""A server behind its HTTP app in memory, and clients of both eras that have every message judged by the official types."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import trio
from trio.testing import MockClock

from tests.oracle import Oracle
from tests.rig.waiting import PATIENCE
from trio_mcp import MCPServer, Principal
from trio_mcp.auth.principal import HttpRequestView
from trio_mcp.protocol.envelope import CLIENT_CAPABILITIES_KEY, CLIENT_INFO_KEY
from trio_mcp.protocol.era import PROTOCOL_VERSION_KEY
from trio_mcp.protocol.methods import METHODS
from trio_mcp.testing.asgi import AsgiClient, AsgiExchange, asgi_client
from trio_mcp.transports.http.app import HttpApp

__all__ = [
    "BOTH",
    "HOST",
    "JSON",
    "LEGACY",
    "MODERN",
    "OLDER",
    "SSE",
    "Exchange",
    "ModernClient",
    "Oracle",
    "SessionClient",
    "Wire",
    "request",
    "serving",
    "two_users",
]

LEGACY = "2025-11-25"
MODERN = "2026-07-28"
OLDER = ("2024-11-05", "2025-03-26", "2025-06-18")

BOTH = "application/json, text/event-stream"
JSON = "application/json"
SSE = "text/event-stream"
HOST = "127.0.0.1:8000"

Headers = Mapping[str, str | None]
"""Header names to values; None takes a default away."""

Pairs = list[tuple[str, str]]


class Exchange:
    """One exchange in progress; what it says is judged as it is read."""

    def __init__(self, raw: AsgiExchange, oracle: Oracle, *, opens: bool = False) -> None:
        self.raw = raw
        self.oracle = oracle
        self._opens = opens

    @property
    def headers(self) -> dict[str, str]:
        """Of the response, lower-case names; after `head`."""
        return self.raw.headers

    async def head(self) -> int:
        """Wait for the response's head; its status."""
        status = await self.raw.head()
        if "mcp-session-id" in self.headers:
            # "at initialization time … on the HTTP response containing the InitializeResult", and nowhere else.
            assert self._opens
            assert status == 200
        return status

    async def json(self) -> Any:
        """The whole body, a JSON-RPC message or batch."""
        await self.head()
        assert self.headers["content-type"] == JSON
        return self.oracle.heard(await self.raw.json())

    async def event(self) -> dict[str, str] | None:
        """The next server-sent event as its fields; None at the stream's end."""
        await self.head()
        assert self.headers["content-type"] == SSE
        fields = await self.raw.event()
        if fields is not None and "id" in fields:
            self.oracle.event(fields["id"], fields.get("data", ""))
        return fields

    async def message(self) -> Any:
        """The next JSON-RPC message of a stream; None at its end."""
        while (fields := await self.event()) is not None:
            if fields.get("data"):
                assert fields["event"] == "message"
                return self.oracle.heard(json.loads(fields["data"]))
        return None

    async def messages(self) -> list[Any]:
        """All messages up to the stream's end."""
        found = []
        while (message := await self.message()) is not None:
            found.append(message)
        return found

    async def answer(self) -> Any:
        """The last message, however it comes."""
        await self.head()
        if self.headers["content-type"] == JSON:
            return await self.json()
        return (await self.messages())[-1]

    async def result(self) -> Any:
        """The result of the request."""
        answer = await self.answer()
        assert "result" in answer, answer
        return answer["result"]

    async def error(self) -> Any:
        """The error of the request."""
        answer = await self.answer()
        assert "error" in answer, answer
        return answer["error"]

    async def nothing(self) -> int:
        """The status of a response that has no body."""
        status = await self.head()
        assert await self.raw.body() == b""
        assert "content-type" not in self.headers
        return status

    def disconnect(self) -> None:
        """The client goes away."""
        self.raw.disconnect()


class Wire:
    """The HTTP side of a served app."""

    def __init__(self, app: HttpApp, client: AsgiClient) -> None:
        self.app = app
        self._client = client

    def start(
        self,
        method: str,
        headers: Headers | Pairs | None = None,
        body: Any = b"",
        *,
        path: str = "/mcp",
        oracle: Oracle | None = None,
        opens: bool = False,
        buffer: int = 10_000,
    ) -> Exchange:
        """Begin an exchange. `body` is bytes as they are, or anything as JSON; a list of pairs as headers may repeat names."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        pairs = headers if isinstance(headers, list) else _pairs({"host": HOST, **(headers or {})})
        raw = self._client.start(method, path, pairs, sent, buffer=buffer)
        return Exchange(raw, oracle or Oracle(LEGACY), opens=opens)

    def post(self, body: Any, headers: Headers | None = None, **options: Any) -> Exchange:
        """POST with the headers every client sends."""
        return self.start("POST", {"accept": BOTH, "content-type": JSON, **(headers or {})}, body, **options)

    def initialize(
        self, version: str = LEGACY, capabilities: dict[str, Any] | None = None, headers: Headers | None = None
    ) -> Exchange:
        """Begin the opening of a session."""
        oracle = Oracle(version)
        oracle.asked(0, "initialize")
        params = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": {"name": "test", "version": "1"},
        }
        return self.post(request(0, "initialize", params), headers, oracle=oracle, opens=True)

    async def open(
        self, version: str = LEGACY, capabilities: dict[str, Any] | None = None, headers: Headers | None = None
    ) -> SessionClient:
        """A session that is ready."""
        exchange = self.initialize(version, capabilities, headers)
        result = await exchange.result()
        assert result["protocolVersion"] == version
        client = SessionClient(self, version, exchange.headers["mcp-session-id"], exchange.oracle, headers or {})
        assert await client.notify("notifications/initialized") == 202
        return client

    def modern(self, capabilities: dict[str, Any] | None = None, headers: Headers | None = None) -> ModernClient:
        """A client without a session."""
        return ModernClient(self, capabilities or {}, headers or {})


class SessionClient:
    """The client of one legacy session."""

    def __init__(self, wire: Wire, version: str, id: str, oracle: Oracle, headers: Headers) -> None:
        self.wire = wire
        self.version = version
        self.id = id
        self.oracle = oracle
        self.ids = count(1)
        self.headers: dict[str, str | None] = {"mcp-session-id": id, **headers}
        if version > "2025-03-26":
            self.headers["mcp-protocol-version"] = version

    def post(self, body: Any, headers: Headers | None = None, **options: Any) -> Exchange:
        """POST anything in this session."""
        return self.wire.post(body, {**self.headers, **(headers or {})}, oracle=self.oracle, **options)

    def start(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        id: int | str | None = None,
        headers: Headers | None = None,
        **options: Any,
    ) -> Exchange:
        """Begin a request."""
        chosen = next(self.ids) if id is None else id
        self.oracle.asked(chosen, method)
        return self.post(request(chosen, method, params), headers, **options)

    def tool(
        self, name: str, /, *, id: int | str | None = None, headers: Headers | None = None, **arguments: Any
    ) -> Exchange:
        """Begin a tools/call."""
        return self.start("tools/call", {"name": name, "arguments": arguments}, id, headers)

    async def notify(self, method: str, params: dict[str, Any] | None = None) -> int:
        """POST a notification; the status."""
        message = {"jsonrpc": "2.0", "method": method} | ({} if params is None else {"params": params})
        return await self.post(message).nothing()

    async def reply(self, id: int | str, result: Any) -> int:
        """POST the result of a request of the server; the status."""
        return await self.post({"jsonrpc": "2.0", "id": id, "result": result}).nothing()

    async def refuse(self, id: int | str, code: int, message: str) -> int:
        """POST an error for a request of the server; the status."""
        return await self.post({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}).nothing()

    def batch(self, *elements: Any, headers: Headers | None = None) -> Exchange:
        """POST a batch; requests among the elements are judged by their answers."""
        for element in elements:
            if isinstance(element, dict) and isinstance(element.get("id"), int | str) and "method" in element:
                self.oracle.asked(element["id"], element["method"])
        return self.post(list(elements), headers)

    def listen(self, last_event_id: str | None = None, headers: Headers | None = None, **options: Any) -> Exchange:
        """Begin a GET."""
        more: Headers = {"accept": SSE, "last-event-id": last_event_id, **(headers or {})}
        return self.wire.start("GET", {**self.headers, **more}, oracle=self.oracle, **options)

    def delete(self, headers: Headers | None = None) -> Exchange:
        """Begin a DELETE."""
        return self.wire.start("DELETE", {**self.headers, **(headers or {})}, oracle=self.oracle)


class ModernClient:
    """A client of 2026-07-28."""

    def __init__(self, wire: Wire, capabilities: dict[str, Any], headers: Headers) -> None:
        self.wire = wire
        self.capabilities = capabilities
        self.oracle = Oracle(MODERN)
        self.ids = count(1)
        self._headers = headers

    def meta(self, **more: Any) -> dict[str, Any]:
        """What `_meta` has to hold, and more of the protocol's own keys."""
        given = {f"io.modelcontextprotocol/{name}": value for name, value in more.items()}
        return {
            PROTOCOL_VERSION_KEY: MODERN,
            CLIENT_INFO_KEY: {"name": "test", "version": "1"},
            CLIENT_CAPABILITIES_KEY: self.capabilities,
            **given,
        }

    def headers(self, method: str, params: dict[str, Any]) -> Headers:
        """What mirrors the body."""
        headers: dict[str, str | None] = {"mcp-protocol-version": MODERN, "mcp-method": method, **self._headers}
        known = METHODS.get(method)
        if known is not None and known.name_param is not None and isinstance(params.get(known.name_param), str):
            headers["mcp-name"] = params[known.name_param]
        return headers

    def start(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        id: int | str | None = None,
        headers: Headers | None = None,
        meta: dict[str, Any] | None = None,
        **options: Any,
    ) -> Exchange:
        """Begin a request with everything it needs; `meta` in place of the usual one, `headers` over the usual ones."""
        chosen = next(self.ids) if id is None else id
        self.oracle.asked(chosen, method)
        params = params or {}
        full = {**params, "_meta": self.meta() if meta is None else meta}
        sent = {**self.headers(method, params), **(headers or {})}
        return self.wire.post(request(chosen, method, full), sent, oracle=self.oracle, **options)

    def tool(
        self, name: str, /, *, headers: Headers | None = None, meta: dict[str, Any] | None = None, **arguments: Any
    ) -> Exchange:
        """Begin a tools/call."""
        return self.start("tools/call", {"name": name, "arguments": arguments}, headers=headers, meta=meta)

    def listen(self, id: int | str | None = None, **wanted: Any) -> Exchange:
        """Begin a subscriptions/listen."""
        return self.start("subscriptions/listen", {"notifications": wanted}, id=id)


def request(id: int | str, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """A JSON-RPC request."""
    return {"jsonrpc": "2.0", "id": id, "method": method} | ({} if params is None else {"params": params})


@asynccontextmanager
async def serving(mcp: MCPServer, **options: Any) -> AsyncIterator[Wire]:
    """Serve in memory for the length of the block; `options` are those of `http_app`."""
    app = mcp.http_app(**options)
    with trio.fail_after(patience()):
        async with app.running(), asgi_client(app) as client:
            yield Wire(app, client)


def patience() -> float:
    """Seconds after which a test hangs; a clock that jumps may have waited for many keep-alives."""
    return 100_000 if isinstance(trio.lowlevel.current_clock(), MockClock) else PATIENCE


USERS = {"Bearer alice": Principal("alice"), "Bearer bob": Principal("bob")}


async def two_users(request: HttpRequestView) -> Principal | None:
    """An authenticator that knows alice and bob."""
    return USERS.get(request.header(b"authorization") or "")


def _pairs(headers: Headers) -> Pairs:
    return [(name, value) for name, value in headers.items() if value is not None]
