"""The server's other paths: `@mcp.custom_route` handlers and mounted ASGI apps beside `/mcp`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from trio_mcp.protocol.jsonrpc import encode
from trio_mcp.transports.http.request import ASGIApp, HttpExchange, Receive, Scope, Send
from trio_mcp.transports.http.responses import send_empty, send_json

__all__ = ["CustomPaths", "CustomRoute", "Mount", "RouteHandler", "RouteResponse"]

RouteAnswer: TypeAlias = "str | bytes | dict[str, Any] | list[Any] | ASGIApp | None"
RouteResponse: TypeAlias = "RouteAnswer | tuple[int, RouteAnswer]"
"""Text, bytes, JSON, any of them behind a status, None for no body (204), or an ASGI response such as Starlette's."""

RouteHandler: TypeAlias = Callable[[HttpExchange], Awaitable[RouteResponse]]


@dataclass(frozen=True, slots=True)
class CustomRoute:
    """One handler of the user's own, for some methods of one path."""

    path: str
    methods: frozenset[str]
    handler: RouteHandler


class CustomPaths:
    """The routes by path and method."""

    def __init__(self, routes: Iterable[CustomRoute]) -> None:
        self._handlers: dict[str, dict[str, RouteHandler]] = {}
        for route in routes:
            self._handlers.setdefault(route.path, {}).update(dict.fromkeys(route.methods, route.handler))

    def __contains__(self, path: str) -> bool:
        return path in self._handlers

    async def answer(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the handler and turn what it returns into a response; 405 for methods nobody handles."""
        exchange = HttpExchange(scope, receive, send)
        handlers = self._handlers[path]
        handler = handlers.get("GET" if exchange.method == "HEAD" else exchange.method)
        if handler is None:
            return await send_empty(send, 405, [(b"allow", ", ".join(sorted(handlers)).encode())])
        await _respond(exchange, await handler(exchange))


@dataclass(frozen=True, slots=True)
class Mount:
    """An ASGI app under a path prefix."""

    prefix: str
    app: ASGIApp

    def matches(self, path: str) -> bool:
        """Whether the path is the prefix or below it."""
        return path == self.prefix or path.startswith(self.prefix + "/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, with the prefix moved to `root_path` (ASGI HTTP scope)."""
        await self.app({**scope, "root_path": scope.get("root_path", "") + self.prefix}, receive, send)


async def _respond(exchange: HttpExchange, response: RouteResponse) -> None:
    status, answer = response if isinstance(response, tuple) else (204 if response is None else 200, response)
    if answer is None:
        return await send_empty(exchange.send, status, [])
    if isinstance(answer, str | bytes):
        return await _send_text(exchange.send, status, answer)
    if isinstance(answer, dict | list):
        return await send_json(exchange.send, status, encode(answer), [])
    await answer(exchange.scope, exchange.receive, exchange.send)


async def _send_text(send: Send, status: int, text: str | bytes) -> None:
    body = text.encode() if isinstance(text, str) else text
    kind = b"text/plain; charset=utf-8" if isinstance(text, str) else b"application/octet-stream"
    head = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
