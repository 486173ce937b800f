"""The ASGI app of a server: which path goes where, and what must run while it serves."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from trio_mcp.dispatch.call import Service
from trio_mcp.observability.logs import event
from trio_mcp.sessions.directory import Directory
from trio_mcp.sessions.hub import Hub
from trio_mcp.sessions.node_state import CLUSTER, LifeCycle, NodeState, Served
from trio_mcp.transports.asgi import Receive, Scope, Send
from trio_mcp.transports.carrier import Carrier
from trio_mcp.transports.http.cluster_port import ClusterPort
from trio_mcp.transports.http.endpoint import Endpoint
from trio_mcp.transports.http.exchange import HttpExchange, read_head, without_node_headers
from trio_mcp.transports.http.lifespan import lifespan_of, refuse_foreign_loop, require_trio, serve_lifespan
from trio_mcp.transports.http.probes import Probes
from trio_mcp.transports.http.responses import HttpRefusal, send_json, send_refusal
from trio_mcp.transports.http.routes import CustomPaths, CustomRoute, Mount, path_of, run_behind_boundary
from trio_mcp.transports.http.side_tasks import SideTasks
from trio_mcp.transports.request_head import RequestHead
from trio_mcp.transports.running import running

__all__ = ["HttpApp"]

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from trio_mcp.transports.http.authorization import Authorization
    from trio_mcp.transports.websocket.endpoint import WebSocketEndpoint

logger: logging.Logger = logging.getLogger("trio_mcp.http")

_Lifespan: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]
LifespanWrapper: TypeAlias = Callable[[_Lifespan], AbstractAsyncContextManager[Any]]

NOT_RUNNING = (
    b'{"jsonrpc":"2.0","error":{"code":-32603,"message":"The server\'s lifespan is not running. Pass it on: '
    b'Starlette(routes=[Mount(\\"/\\", app)], lifespan=lambda _: app.running())"}}'
)


class HttpApp:
    """The ASGI 3 app of a server. Its lifespan must run: by the ASGI server, or as `async with app.running()` around it."""

    def __init__(
        self,
        service: Service,
        hub: Hub,
        endpoint: Endpoint,
        life: LifeCycle,
        side_tasks: SideTasks,
        *,
        path: str,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]],
        routes: Sequence[CustomRoute],
        mounts: Sequence[Mount],
        authorization: Authorization | None = None,
        websockets: WebSocketEndpoint | None = None,
    ) -> None:
        self.service = service
        self.hub = hub
        self.endpoint = endpoint
        self._side_tasks = side_tasks
        self.life = life
        self.boot: str = secrets.token_hex(8)
        self._lifespan = lifespan
        self._paths = _both_spellings(path)
        for where in (*(route.path for route in routes), *(mount.prefix for mount in mounts if mount.prefix)):
            if where in self._paths:
                raise ValueError(f"{where} is the path of the MCP endpoint, which answers there: choose another")
        self._custom = CustomPaths(routes, service.threads)
        self._mounts = sorted(mounts, key=lambda mount: -len(mount.prefix))
        self.probes: Probes = Probes(self.life, boot=self.boot)
        self.authorization = authorization
        """By bearer tokens; None without."""
        self.websockets = websockets
        """The endpoint over WebSocket; None where it is not offered."""
        self._well_known = _well_known(authorization, self._mounts)
        self._open = 0
        self._none_open = trio.lowlevel.ParkingLot()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3: HTTP, lifespan, WebSocket. Raises RuntimeError outside of Trio, as under uvicorn."""
        if not trio.lowlevel.in_trio_run():
            await refuse_foreign_loop(scope, receive, send)
        elif scope["type"] == "lifespan":
            await serve_lifespan(self, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            raise NotImplementedError(f"ASGI {scope['type']} is not served")

    # The port `DirectApp`, for our own listener.

    def read_head(
        self, method: str, path: str, target: bytes, fields: Sequence[tuple[bytes, bytes]]
    ) -> RequestHead | None:
        """What is known by the head of a request for the endpoint; None for other paths."""
        if path not in self._paths or path in Probes.paths or path in self._well_known:
            return None
        return read_head(method, path, target, fields)

    async def answer(self, head: RequestHead, carrier: Carrier) -> None:
        """Answer a request for that path."""
        await self._mcp(HttpExchange(head, carrier), self.endpoint.handle)

    def join(
        self,
        cluster: ClusterPort,
        directory: Directory,
        prove: Callable[[bytes], str],
        answer_for: Callable[[str, bytes], Awaitable[bytes | None]] | None = None,
    ) -> None:
        """Serve as one of several nodes, before `running`: the others are reached through `cluster`.

        `directory` records the sessions of this node. `prove` and `answer_for` answer a peer's challenge (see `Probes`). The app
        is not ready before the cluster tells its life cycle that `CLUSTER` is settled.
        """
        self.probes.answer_for = answer_for
        self.hub.directory = directory
        self.probes.prove = prove
        self.endpoint.join(cluster)
        self.life.waits_for.add(CLUSTER)

    def well_known_routes(self) -> list[BaseRoute]:
        """The routes of the authorization metadata, for a Starlette app that has this app below a prefix.

        Clients look for them at the root of the host: `Starlette(routes=[*app.well_known_routes(), Mount("/a", app)], …)`. Empty
        without authorization. Raises ImportError where Starlette is not installed.
        """
        from starlette.routing import Route

        return [Route(path, authorization) for path, authorization in sorted(self._well_known.items())]

    @asynccontextmanager
    async def running(self, around: LifespanWrapper | None = None) -> AsyncIterator[None]:
        """What must run while requests are served: lifespans of mounted apps and of the user, bus, sessions, side tasks.

        `around` is called with the user's lifespan and returns the one to enter in its place. Raises RuntimeError outside of Trio.
        """
        require_trio()
        lifespan = self._lifespan if around is None else partial(around, self._lifespan)
        async with AsyncExitStack() as stack:
            if self.authorization is not None:
                await stack.enter_async_context(self.authorization.running(self.life))
            for mount in self._mounts:
                await stack.enter_async_context(lifespan_of(mount.app))
            await stack.enter_async_context(running(lifespan, self.service, self.hub))
            nursery = await stack.enter_async_context(trio.open_nursery())
            await nursery.start(self._side_tasks.run)
            self.life.start()
            try:
                yield
            finally:
                self.life.enter(NodeState.STOPPED)
                nursery.cancel_scope.cancel("the server stops")

    @property
    def is_running(self) -> bool:
        """Whether `running` is entered."""
        return self.life.is_running

    @property
    def open_exchanges(self) -> int:
        """How many exchanges with the endpoint are open."""
        return self._open

    async def quiet(self) -> None:
        """Wait until no exchange with the endpoint is open."""
        # Nothing runs between the look and the parking, so no waiter can miss the end of the last exchange.
        while self._open:
            await self._none_open.park()

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = _local_path(scope)
        if path in Probes.paths and (path not in self._custom or self.probes.asked_by_a_peer(scope)):
            return await self.probes.answer(scope, path, send)
        if path in self._well_known:
            await self._answer_well_known(self._well_known[path], path, scope, receive, send)
        elif path in self._paths:
            await self._mcp(self._exchange(scope, receive, send), self.endpoint.handle)
        else:
            await self._beside(path, _for_users(scope), receive, send)

    def _exchange(self, scope: Scope, receive: Receive, send: Send) -> HttpExchange:
        return HttpExchange.over_asgi(scope, receive, send, write_seconds=self.service.options.write_timeout)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A handshake is a GET. Where no WebSocket is offered it is answered as one."""
        from trio_mcp.transports.websocket.handshake import as_request

        scope = _for_users(scope)
        request, request_receive, answer = as_request(scope, receive, send)
        if self.websockets is None or _local_path(scope) not in self._paths:
            return await self._http(request, request_receive, answer)
        handle = partial(self.websockets.handle, scope=scope, receive=receive, send=send)
        await self._mcp(HttpExchange.over_asgi(request, request_receive, answer), handle)

    async def _beside(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """The user's own routes and apps. Of the gate they get the check of Host alone, against DNS rebinding."""
        if not await self._host_allowed(scope, receive, send):
            return
        if path in self._custom:
            return await run_behind_boundary(partial(self._custom.answer, path), path, scope, receive, send)
        for mount in self._mounts:
            if mount.matches(path):
                return await run_behind_boundary(mount, path, scope, receive, send)
        self.service.refusals.note(404, "path", path=path[:128])
        await send_json(send, 404, b'{"error":"not found"}', [])

    async def _answer_well_known(
        self, authorization: Authorization, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """The same on every node and in every state, without a token: a client has none before it has read this."""
        if await self._host_allowed(scope, receive, send):
            await authorization({**scope, "path": path}, receive, send)

    async def _host_allowed(self, scope: Scope, receive: Receive, send: Send) -> bool:
        try:
            self.endpoint.gate.check_host(HttpExchange.over_asgi(scope, receive, send).head)
        except HttpRefusal as refusal:
            self.service.refusals.note(refusal.status, refusal.reason, **refusal.told)
            await send_refusal(send, refusal, [])
            return False
        return True

    async def _mcp(self, exchange: HttpExchange, handle: Callable[[HttpExchange], Awaitable[None]]) -> None:
        if self.life.answers.session_requests is Served.NOT_RUNNING:
            event(logger, logging.ERROR, "request before the lifespan ran", fix="lifespan=lambda _: app.running()")
            self.service.refusals.count(503, "not_running")
            return await send_json(exchange.carrier.send, 503, NOT_RUNNING, [(b"retry-after", b"1")])
        self._open += 1
        try:
            await handle(exchange)
        except* (OSError, trio.BrokenResourceError, trio.TooSlowError) as gone:
            # No traceback: that clients leave is no fault of the server.
            event(logger, logging.DEBUG, "client left", method=exchange.method, how=repr(gone.exceptions[0]))
        finally:
            self._open -= 1
            if not self._open and self._none_open:
                self._none_open.unpark_all()


def _well_known(own: Authorization | None, mounts: Iterable[Mount]) -> dict[str, Authorization]:
    """Which authorization answers which path. Those of mounted servers are here too, for clients look at the root of the host."""
    found = dict.fromkeys(own.paths, own) if own is not None else {}
    for mount in mounts:
        if isinstance(mount.app, HttpApp):
            found = {**mount.app._well_known, **found}
    return found


def _both_spellings(path: str) -> set[str]:
    path = path_of(path, 'http_app(path="{}")').rstrip("/")
    return {path or "/", path + "/"}


def _for_users(scope: Scope) -> Scope:
    """The scope without the headers between nodes."""
    fields, _ = without_node_headers(scope["headers"])
    return scope if fields is scope["headers"] else {**scope, "headers": fields}


def _local_path(scope: Scope) -> str:
    """The path below the one where the app is mounted (ASGI: `path` includes `root_path`)."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    # Frameworks that mount the app under this very path leave nothing of it.
    return (path[len(root) :] if root and path.startswith(root) else path) or "/"
