"""The request that handlers of custom routes are given."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from trio_mcp.defaults import MAX_BODY
from trio_mcp.protocol.headers import Headers
from trio_mcp.transports.asgi import Receive, Scope, Send
from trio_mcp.transports.http.exchange import HttpExchange

__all__ = ["RouteRequest", "UnreadableBody"]


class UnreadableBody(ValueError):
    """The client sent what is no JSON, or no UTF-8. It is answered with 400, unless the handler catches it."""


class RouteRequest:
    """The argument of a `@mcp.custom_route` handler.

    A sync handler reads the body by `trio.from_thread.run(request.body)`. `scope`, `receive` and `send` are ASGI's.
    """

    def __init__(self, scope: Scope, exchange: HttpExchange, path_params: Mapping[str, str]) -> None:
        self._scope = scope
        self._exchange = exchange
        self.path_params = path_params
        """The decoded values of the `{names}` in the path of the route."""

    @property
    def method(self) -> str:
        """The HTTP method, upper case."""
        return self._exchange.method

    @property
    def path(self) -> str:
        """The decoded path."""
        return self._exchange.path

    @property
    def scope(self) -> Scope:
        """The ASGI scope, with `path_params` as Starlette has them."""
        return self._scope

    @property
    def receive(self) -> Receive:
        """ASGI's."""
        return self._exchange.carrier.receive

    @property
    def send(self) -> Send:
        """ASGI's."""
        return self._exchange.carrier.send

    @cached_property
    def headers(self) -> Headers:
        """The headers as text, by name in any case; of a repeated one the last."""
        return Headers(self._exchange.head.headers)

    @cached_property
    def query_params(self) -> Mapping[str, str]:
        """The decoded values of the query string; of a repeated name the last."""
        query: bytes = self._scope.get("query_string", b"")
        return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))

    def header(self, name: str | bytes) -> str | None:
        """The value of a header, of several the last; None without one. `name` in bytes is in lower case."""
        return self._exchange.header(name)

    def header_list(self, name: bytes) -> list[str]:
        """Every value of a header, by its lower-case name."""
        return self._exchange.header_list(name)

    async def body(self, limit: int = MAX_BODY) -> bytes:
        """Read the body, `limit` bytes at most; raises BodyTooLarge, and ClientLeft when the client disconnects before its end."""
        if not self._exchange.content:
            await self._exchange.body(limit)
        return self._exchange.content

    async def text(self, limit: int = MAX_BODY) -> str:
        """The body as UTF-8; raises what `body` raises, and UnreadableBody, a ValueError."""
        body = await self.body(limit)
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise UnreadableBody(f"the body is not UTF-8: {error.reason} at byte {error.start}") from error

    async def json(self, limit: int = MAX_BODY) -> Any:
        """The body as JSON; raises what `body` raises, and UnreadableBody, a ValueError."""
        body = await self.body(limit)
        try:
            return msgspec.json.decode(body)
        except RecursionError:
            raise UnreadableBody("the JSON is nested too deeply") from None
        except msgspec.DecodeError as error:
            raise UnreadableBody(f"the body is not JSON: {error}") from error
