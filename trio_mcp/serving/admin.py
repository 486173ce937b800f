"""The app of the admin listener, which is never public: metrics, probes, sessions and drain."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from typing import Protocol

from trio_mcp.observability.refusals import Refusals
from trio_mcp.protocol.jsonrpc import encode
from trio_mcp.sessions.node_state import LifeCycle
from trio_mcp.transports.asgi import Receive, Scope, Send
from trio_mcp.transports.http.allowed import Hosts, is_address
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.http.gate import LOOPBACK_NAMES
from trio_mcp.transports.http.probes import Probes
from trio_mcp.transports.http.responses import send_empty, send_json

__all__ = ["AdminApp", "NodeView", "OneProcess", "sessions_of"]


class NodeView(Protocol):
    """What operators may know of a node."""

    refusals: Refusals

    @property
    def life(self) -> LifeCycle:
        """Its state."""

    @property
    def boot(self) -> str:
        """Of this run."""

    async def metrics(self) -> tuple[bytes, str]:
        """The page for a scrape, and its content type."""

    async def sessions(self) -> list[dict[str, object]]:
        """See `sessions_of`."""


class OneProcess:
    """A node that is this process; implements `NodeView`."""

    def __init__(self, app: HttpApp) -> None:
        self._app = app
        self.refusals: Refusals = app.service.refusals
        self.life: LifeCycle = app.life
        self.boot: str = app.boot

    async def metrics(self) -> tuple[bytes, str]:
        """The page for a scrape, and its content type."""
        return self._app.service.metrics.render()

    async def sessions(self) -> list[dict[str, object]]:
        """See `sessions_of`."""
        return sessions_of(self._app)


def sessions_of(app: HttpApp) -> list[dict[str, object]]:
    """What operators may see of the sessions: only the short form of their ids, which are credentials."""
    return [
        {
            "session": session.short_id,
            "client": session.client_info.get("name"),
            "version": session.protocol_version,
            "in_flight": len(session.calls),
            "transport": "websocket" if session.bound else "http",
        }
        for session in app.hub.sessions
    ]


class AdminApp:
    """An ASGI app with what operators may know of `node`; `drain` is called on `POST /drain`.

    It answers to IP addresses and loopback names as Host, which operators and Prometheus use, and to `hosts`. Any other name may
    be of a web page that rebinds DNS. With `token`, everything but the probes asks for it as a bearer token.
    """

    def __init__(
        self, node: NodeView, drain: Callable[[], None], *, hosts: Iterable[str] = (), token: str | None = None
    ) -> None:
        self._node = node
        self._hosts = Hosts([*LOOPBACK_NAMES, *hosts])
        self._drain = drain
        self._credentials = None if token is None else f"Bearer {token}".encode()
        self._probes = Probes(node.life, boot=node.boot)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3, HTTP only."""
        if any(name == b"origin" for name, _ in scope["headers"]):
            # A web page on the operator's machine could POST /drain, which needs no permission of the browser.
            return await self._refuse(send, 403, "not for browsers: send no Origin header", "origin")
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        if not self._answers_to(host):
            return await self._refuse(send, 421, "not this listener's name: see --admin-hosts", "host", host=host[:128])
        if scope["path"] not in Probes.paths and not self._knows_token(scope):
            return await self._refuse(send, 401, "a bearer token is needed: see --admin-token", "token")
        match scope["method"], scope["path"]:
            case "GET" | "HEAD", "/metrics":
                await self._metrics(send)
            case "GET" | "HEAD", path if path in Probes.paths:
                await self._probes.answer(scope, path, send)
            case "GET" | "HEAD", "/sessions":
                await send_json(send, 200, encode(await self._node.sessions()), [])
            case "POST", "/drain":
                self._drain()
                await send_empty(send, 202, [])
            case _:
                await send_json(send, 404, b'{"error":"not found: /metrics /livez /readyz /sessions, POST /drain"}', [])

    def _answers_to(self, host: str) -> bool:
        """Without a Host too: that is HTTP/1.0, which no browser speaks."""
        return not host or is_address(host) or host in self._hosts

    def _knows_token(self, scope: Scope) -> bool:
        if self._credentials is None:
            return True
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        # In constant time: how long it takes must not tell how much of a guess is right.
        return len(sent) == 1 and hmac.compare_digest(sent[0], self._credentials)

    async def _refuse(self, send: Send, status: int, error: str, reason: str, **fields: str) -> None:
        self._node.refusals.note(status, f"admin_{reason}", **fields)
        headers = [(b"www-authenticate", b"Bearer")] if status == 401 else []
        await send_json(send, status, encode({"error": error}), headers)

    async def _metrics(self, send: Send) -> None:
        body, content_type = await self._node.metrics()
        head = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})
