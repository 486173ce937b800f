"""`MCPServer`: what a developer writes a server with. It sits on top of the layers and only connects them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, Literal, TypeVar, overload

from trio_mcp.auth.keyring import Keyring
from trio_mcp.auth.principal import Authenticate
from trio_mcp.dispatch.context import Context
from trio_mcp.dispatch.service import Options, Service
from trio_mcp.features.registry import Registry
from trio_mcp.observability.metrics import Metrics
from trio_mcp.protocol.errors import McpError
from trio_mcp.protocol.types import Icon, Implementation, ToolAnnotations
from trio_mcp.sessions.hub import Hub, HubOptions
from trio_mcp.sessions.session import Session
from trio_mcp.streams.bus import ListChanged, LocalBus, ResourceUpdated
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.http.companions import Companions
from trio_mcp.transports.http.endpoint import Endpoint
from trio_mcp.transports.http.event_stream import Pace
from trio_mcp.transports.http.gate import LOOPBACK_NAMES, Gate
from trio_mcp.transports.http.hold_back import HoldBack
from trio_mcp.transports.http.legacy import LegacyFront
from trio_mcp.transports.http.modern import ModernFront
from trio_mcp.transports.http.request import ASGIApp
from trio_mcp.transports.http.routes import CustomRoute, Mount, RouteHandler

__all__ = ["MCPServer"]

F = TypeVar("F", bound=Callable[..., Any])
Lifespan = Callable[["MCPServer"], AbstractAsyncContextManager[Any]]


class MCPServer:
    """An MCP server: tools, resources and prompts, and the ways to serve them.

    `lifespan` is called with the server and gives an async context manager; what it yields is `ctx.lifespan_context`.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str = "0.0.0",
        title: str | None = None,
        description: str | None = None,
        instructions: str | None = None,
        website_url: str | None = None,
        icons: Sequence[Icon] | None = None,
        lifespan: Lifespan | None = None,
        authenticate: Authenticate | None = None,
        options: Options | None = None,
    ) -> None:
        self.registry = Registry()
        self.identity = Implementation(
            name=name,
            version=version,
            title=title,
            description=description,
            website_url=website_url,
            icons=list(icons) if icons else None,
        )
        self.instructions = instructions
        self.options = options or Options()
        self.authenticate = authenticate
        """Who is asking, over HTTP: `async (request) -> Principal | None`; None becomes a 401."""
        self._lifespan = lifespan or _no_lifespan
        self._session_hooks: list[Callable[[Session], Awaitable[object]]] = []
        self._restore_hooks: list[Callable[[Session], Awaitable[object]]] = []
        self._routes: list[CustomRoute] = []
        self._mounts: list[Mount] = []
        self._bus = LocalBus()

    @property
    def name(self) -> str:
        """As given."""
        return self.identity.name

    @property
    def version(self) -> str:
        """As given."""
        return self.identity.version

    # What it offers.

    @overload
    def tool(self, fn: F, /) -> F: ...
    @overload
    def tool(
        self,
        name: str | None = None,
        /,
        *,
        title: str | None = None,
        description: str | None = None,
        annotations: ToolAnnotations | dict[str, Any] | None = None,
        icons: Sequence[Icon] | None = None,
        meta: dict[str, Any] | None = None,
        input_schema: dict[str, Any] | None = None,
        output_schema: dict[str, Any] | None = None,
        structured_output: bool | None = None,
    ) -> Callable[[F], F]: ...
    def tool(self, fn: Any = None, /, **options: Any) -> Any:
        """Register a function as a tool: `@mcp.tool`, or `@mcp.tool("name", title=…)`.

        Its parameters become the input schema, its return annotation the output schema, its docstring the description;
        a parameter annotated with `Context` is injected. Sync functions run in a worker thread. Raises ValueError for a
        name, schema or signature that no client could call.
        """
        return _decorate(fn, lambda f, name: self.registry.add_tool(f, name=name, **options))

    def resource(
        self,
        uri: str,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        mime_type: str | None = None,
        size: int | None = None,
        annotations: Any = None,
        icons: Sequence[Icon] | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Callable[[F], F]:
        """Register a function as the resource at `uri`; a URI with `{placeholders}` is a template (RFC 6570)."""

        def register(fn: F) -> F:
            self.registry.add_resource(
                fn,
                uri,
                name=name,
                title=title,
                description=description,
                mime_type=mime_type,
                size=size,
                annotations=annotations,
                icons=icons,
                meta=meta,
            )
            return fn

        return register

    @overload
    def prompt(self, fn: F, /) -> F: ...
    @overload
    def prompt(
        self,
        name: str | None = None,
        /,
        *,
        title: str | None = None,
        description: str | None = None,
        icons: Sequence[Icon] | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Callable[[F], F]: ...
    def prompt(self, fn: Any = None, /, **options: Any) -> Any:
        """Register a function as a prompt; it returns text or messages."""
        return _decorate(fn, lambda f, name: self.registry.add_prompt(f, name=name, **options))

    def completion(self, ref: str, argument: str) -> Callable[[F], F]:
        """Register what completes `argument` of the prompt or resource template `ref`: `(value)` or `(value, arguments)`."""

        def register(fn: F) -> F:
            self.registry.completions.add(ref, argument, fn)
            return fn

        return register

    def remove_tool(self, name: str) -> None:
        """Take a tool away; clients that listen are told. Raises KeyError."""
        self.registry.remove_tool(name)

    def remove_resource(self, uri: str) -> None:
        """Take a resource or template away; clients that listen are told. Raises KeyError."""
        self.registry.remove_resource(uri)

    def remove_prompt(self, name: str) -> None:
        """Take a prompt away; clients that listen are told. Raises KeyError."""
        self.registry.remove_prompt(name)

    def on_session(self, fn: Callable[[Session], Awaitable[object]]) -> Callable[[Session], Awaitable[object]]:
        """Run `fn(session)` in the nursery of every session: it is cancelled with the session, and its crash ends it."""
        self._session_hooks.append(fn)
        return fn

    def on_restore(self, fn: Callable[[Session], Awaitable[object]]) -> Callable[[Session], Awaitable[object]]:
        """Await `fn(session)` when a session goes on here after its node was lost, before its first request is handled.

        `@mcp.on_session` functions start after it. What it raises, or 30 s for all of them together, ends the session, reason
        `crashed`.
        """
        self._restore_hooks.append(fn)
        return fn

    # What it tells everybody; for what happens outside a request. From other threads: `trio.from_thread.run_sync`.

    def notify_resource_updated(self, uri: str) -> None:
        """Tell every client that subscribed to `uri` that its contents changed; never blocks."""
        self._bus.publish(ResourceUpdated(uri))

    def notify_list_changed(self, kind: Literal["tools", "resources", "prompts"]) -> None:
        """Tell every client that listens that a list changed; adding and removing does so by itself."""
        self._bus.publish(ListChanged(kind))

    # How it is served.

    def custom_route(self, path: str, methods: Iterable[str] = ("GET",)) -> Callable[[RouteHandler], RouteHandler]:
        """Serve a path of your own beside `/mcp`: `async (request) -> str | bytes | dict | (status, body) | ASGI response`."""

        def register(handler: RouteHandler) -> RouteHandler:
            self._routes.append(CustomRoute(path, frozenset(method.upper() for method in methods), handler))
            return handler

        return register

    def mount(self, prefix: str, app: ASGIApp) -> None:
        """Serve another ASGI app under a path prefix; its lifespan runs with ours."""
        self._mounts.append(Mount(prefix.rstrip("/"), app))

    def http_app(
        self,
        *,
        path: str = "/mcp",
        allowed_hosts: Iterable[str] | None = LOOPBACK_NAMES,
        allowed_origins: Iterable[str] | None = None,
        authenticate: Authenticate | None = None,
        node_id: str | None = None,
        session_idle_timeout: float = 1_800.0,
        max_sessions: int = 10_000,
        max_body: int = 4 * 1024 * 1024,
        json_response: bool = False,
        secrets: Sequence[bytes] = (),
        options: Options | None = None,
        pace: Pace | None = None,
    ) -> HttpApp:
        """An ASGI 3 app: serve it, mount it, or run it under Hypercorn's trio worker. Its lifespan must run.

        `allowed_hosts=None` lets every Host pass: only behind something that checks it. `authenticate` stands in for the
        server's own. Durations in seconds.
        """
        authenticate = authenticate or self.authenticate
        service = self.service(options, secrets=secrets, private_lists=authenticate is not None)
        hub = self.hub(service, node_id=node_id, session_idle_timeout=session_idle_timeout, max_sessions=max_sessions)
        pace = pace or Pace()
        gate = Gate(_lowered(allowed_hosts), _lowered(allowed_origins), authenticate)
        hold_back = HoldBack(pace.sse_after)
        legacy = LegacyFront(service, hub, pace, hold_back, json_response=json_response)
        companions = Companions()
        modern = ModernFront(service, pace, hold_back, companions, json_response=json_response)
        endpoint = Endpoint(gate, legacy, modern, max_body=max_body)
        return HttpApp(
            service,
            hub,
            endpoint,
            hold_back,
            companions,
            path=path,
            lifespan=self.lifespan,
            routes=self._routes,
            mounts=self._mounts,
        )

    def service(
        self,
        options: Options | None = None,
        *,
        secrets: Sequence[bytes] = (),
        private_lists: bool = False,
        transport: Literal["tcp", "pipe"] = "tcp",
    ) -> Service:
        """What the requests of one running server share; transports are built on it."""
        options = options or self.options
        return Service(
            registry=self.registry,
            identity=self.identity,
            context=Context,
            instructions=self.instructions,
            options=replace(options, private_lists=options.private_lists or private_lists),
            keyring=Keyring(secrets),
            bus=self._bus,
            metrics=Metrics(transport),
        )

    def hub(
        self,
        service: Service,
        *,
        node_id: str | None = None,
        session_idle_timeout: float = 1_800.0,
        max_sessions: int = 10_000,
    ) -> Hub:
        """The legacy sessions of one running server."""
        options = HubOptions(
            node_id=node_id or _random_node_id(), max_sessions=max_sessions, session_idle_timeout=session_idle_timeout
        )
        return Hub(service, options, hooks=self._session_hooks, restore_hooks=self._restore_hooks)

    def lifespan(self) -> AbstractAsyncContextManager[Any]:
        """The user's lifespan, entered anew for each run."""
        return self._lifespan(self)

    def run(self, transport: Literal["stdio", "http"] = "stdio", **settings: Any) -> None:
        """Serve until stopped: on stdio, or on HTTP with `host=`, `port=` and any other setting by its name."""
        from trio_mcp.serving.launch import launch
        from trio_mcp.serving.settings import load

        try:
            sys.exit(launch(self, transport, load(**settings)))
        except McpError as fault:
            # Whoever started the script made a mistake they can mend: the words are enough, our frames are none of theirs.
            sys.exit(f"{self.name}: {fault}")


def _decorate(fn: Any, add: Callable[[Any, str | None], object]) -> Any:
    """With parentheses or without; the only positional argument besides a function is a name."""
    if callable(fn):
        add(fn, None)
        return fn

    def register(function: F) -> F:
        add(function, fn)
        return function

    return register


def _lowered(names: Iterable[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(name.lower() for name in names)


def _random_node_id() -> str:
    import secrets

    return secrets.token_hex(4)


@asynccontextmanager
async def _no_lifespan(server: MCPServer) -> AsyncIterator[None]:
    yield
