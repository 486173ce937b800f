"""The admin listener's app: metrics, probes and drain. Never on the public address."""

from __future__ import annotations

import trio

from trio_mcp.protocol.jsonrpc import encode
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.http.probes import Probes
from trio_mcp.transports.http.request import Receive, Scope, Send
from trio_mcp.transports.http.responses import send_empty, send_json

__all__ = ["AdminApp"]


class AdminApp:
    """An ASGI app over the public one."""

    def __init__(self, app: HttpApp, drain_asked: trio.Event) -> None:
        self._app = app
        self._drain_asked = drain_asked
        self._probes = Probes(lambda: app.state, boot=app.boot)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3, HTTP only."""
        if any(name == b"origin" for name, _ in scope["headers"]):
            # Whoever operates this node is no web page; a page on their machine could POST /drain without asking.
            return await send_json(send, 403, b'{"error":"not for browsers: send no Origin header"}', [])
        match scope["method"], scope["path"]:
            case "GET" | "HEAD", "/metrics":
                await self._metrics(send)
            case "GET" | "HEAD", path if path in Probes.paths:
                await self._probes.answer(scope, path, send)
            case "GET" | "HEAD", "/sessions":
                await send_json(send, 200, encode(self._sessions()), [])
            case "POST", "/drain":
                self._drain_asked.set()
                await send_empty(send, 202, [])
            case _:
                await send_json(send, 404, b'{"error":"not found: /metrics /livez /readyz /sessions, POST /drain"}', [])

    async def _metrics(self, send: Send) -> None:
        body, content_type = self._app.service.metrics.render()
        head = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})

    def _sessions(self) -> list[dict[str, object]]:
        """What an operator may see of the sessions: their ids are credentials, so only the short form."""
        return [
            {
                "session": session.short_id,
                "client": session.client_info.get("name"),
                "version": session.protocol_version,
                "in_flight": session.in_flight,
            }
            for session in self._app.hub.sessions
        ]
