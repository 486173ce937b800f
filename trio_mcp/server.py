"""`MCPServer`: the class a developer writes a server with. It stands above the layers and only connects them."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast, get_args
from urllib.parse import urljoin

import trio

from trio_mcp.auth.keyring import Keyring
from trio_mcp.auth.principal import Authenticate
from trio_mcp.defaults import MAX_BODY, MAX_SESSIONS, MAX_WEBSOCKETS, PATH, SESSION_IDLE_TIMEOUT
from trio_mcp.dispatch.call import Service
from trio_mcp.dispatch.context import Context
from trio_mcp.dispatch.options import Options
from trio_mcp.features.registry import ListKind
from trio_mcp.observability.metrics import Metrics
from trio_mcp.protocol.errors import McpError
from trio_mcp.protocol.types import Icon, Implementation
from trio_mcp.registrar import Registrar
from trio_mcp.server_arguments import (
    RunDefaults,
    Transport,
    check_arguments,
    check_auth,
    lifespan_function,
    run_settings,
    transport_of,
)
from trio_mcp.server_callers import callers_of, refuse_guarded
from trio_mcp.sessions.hub import Hub, HubOptions, random_node_id
from trio_mcp.sessions.node_state import LifeCycle
from trio_mcp.streams.account import Account
from trio_mcp.streams.bus import Feed, ListChanged, LocalBus, ResourceUpdated
from trio_mcp.transports.asgi import ASGIApp
from trio_mcp.transports.http.allowed import Hosts, Origins, Proxies
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.http.endpoint import Endpoint
from trio_mcp.transports.http.event_stream import Pace
from trio_mcp.transports.http.gate import LOOPBACK_NAMES, Gate, Rules
from trio_mcp.transports.http.legacy import LegacyFront
from trio_mcp.transports.http.modern import ModernFront
from trio_mcp.transports.http.routes import Mount
from trio_mcp.transports.http.side_tasks import SideTasks

__all__ = ["MCPServer"]

if TYPE_CHECKING:
    from trio_mcp.auth.bearer_auth import BearerAuth
    from trio_mcp.auth.verifier import TokenVerifier
    from trio_mcp.dispatch.extension import Extension

Lifespan = Callable[["MCPServer"], AbstractAsyncContextManager[Any]]


class MCPServer(Registrar):
    """An MCP server: tools, resources and prompts, and the ways to serve them.

    Raises TypeError for an argument of the wrong type, and for one of other MCP packages that does not exist here, with what to
    write instead.

    Parameters
    ----------
    name, version, title, description, website_url, icons
        What clients are told of the server.
    instructions
        How to use the server, for the client's model.
    lifespan
        Called with the server at each start; gives an async context manager. What it yields is `ctx.lifespan_context`.
    auth
        Who may use it over HTTP: a `BearerAuth` (OAuth access tokens), a verifier of tokens, or a function
        `(request) -> Principal | None`, async or not; None becomes a 401. A BearerAuth belongs to one server.
    authenticate
        The old name of `auth`.
    options
        Limits and choices of all transports, see `Options`.
    mask_errors
        False shows clients the text of exceptions that handlers raise, beside the reference that the log has too.
    extensions
        What it adds to MCP (SEP-2133), each an `Extension`.
    settings
        What `run` uses unless it is given something else (`host`, `port`, `log_level`, …). They come before the environment, as
        arguments of `run` do. `trio-mcp serve` does not read them.
    """

    def __init__(
        self,
        name: str = "mcp-server",
        instructions: str | None = None,
        *,
        version: str = "0.0.0",
        title: str | None = None,
        description: str | None = None,
        website_url: str | None = None,
        icons: Sequence[Icon] | None = None,
        lifespan: Lifespan | None = None,
        auth: BearerAuth | TokenVerifier | Authenticate | None = None,
        authenticate: Authenticate | None = None,
        options: Options | None = None,
        mask_errors: bool = True,
        extensions: Sequence[Extension] = (),
        **settings: Unpack[RunDefaults],
    ) -> None:
        super().__init__()
        check_arguments(locals())
        self.identity: Implementation = Implementation(
            name=name,
            version=version,
            title=title,
            description=description,
            website_url=website_url,
            icons=list(icons) if icons else None,
        )
        self.instructions = instructions
        self.options: Options = options or Options()
        self.mask_errors = mask_errors
        self.auth: BearerAuth | Authenticate | None = check_auth(auth, authenticate)
        """Who may use it over HTTP: a BearerAuth, or a function `(request) -> Principal | None`."""
        self._lifespan = lifespan_function(lifespan) if lifespan is not None else _no_lifespan
        self._run_defaults = run_settings(settings, "http")
        self._feed = Feed()
        for extension in extensions:
            self.add_extension(extension)

    @property
    def name(self) -> str:
        """The name that the server was given."""
        return self.identity.name

    @property
    def version(self) -> str:
        """The version that the server was given."""
        return self.identity.version

    # Notifications to all clients, for changes outside of a request; from any thread.

    def notify_resource_updated(self, uri: str) -> None:
        """Notify all clients that subscribed to `uri` that its contents changed; never blocks."""
        self._feed.publish(ResourceUpdated(uri))

    def notify_list_changed(self, kind: ListKind) -> None:
        """Notify all clients that listen that a list changed: "tools", "resources" or "prompts". Never blocks.

        Adding and removing do so by themselves. Raises ValueError for another kind.
        """
        if kind not in get_args(ListKind):
            raise ValueError(f"no list is called {kind!r}: there are {', '.join(get_args(ListKind))}")
        self._feed.publish(ListChanged(kind))

    # Ways to serve it.

    def http_app(
        self,
        *,
        path: str = PATH,
        allowed_hosts: Iterable[str] | None = LOOPBACK_NAMES,
        allowed_origins: Iterable[str] | None = None,
        auth: BearerAuth | TokenVerifier | Authenticate | None = None,
        authenticate: Authenticate | None = None,
        resource: str | None = None,
        node_id: str | None = None,
        session_idle_timeout: float = SESSION_IDLE_TIMEOUT,
        max_sessions: int = MAX_SESSIONS,
        max_sessions_per_principal: int | None = None,
        max_sessions_per_address: int | None = None,
        forwarded_allow: Iterable[str] = (),
        max_body: int = MAX_BODY,
        websocket: bool = False,
        max_websockets: int = MAX_WEBSOCKETS,
        json_response: bool = False,
        secrets: Sequence[bytes] = (),
        options: Options | None = None,
        pace: Pace | None = None,
        account: Account | None = None,
        in_memory: bool = False,
    ) -> HttpApp:
        """An ASGI 3 app: serve it, mount it, or run it under Hypercorn's trio worker. Its lifespan must run.

        Raises ValueError for a host or an origin that nothing can match, TypeError for an `auth` of another type, and
        AuthConfigurationError, a ValueError, for authorization that cannot work.

        Parameters
        ----------
        path
            Where the endpoint is.
        allowed_hosts
            Names that a request's Host may have, with wildcards as in `*.example.com` and `localhost:*`. None lets every Host
            pass: only where something in front checks it.
        allowed_origins
            Origins of browsers, with wildcards as in `http://localhost:*`. Without it, those of `allowed_hosts`.
        auth, authenticate
            Take the place of the server's own.
        resource
            The public URL of the endpoint, where a BearerAuth has none: whom tokens must be for.
        node_id
            Begins the id of each session opened here; random unless given.
        session_idle_timeout
            Seconds after which a session that nobody uses ends.
        max_sessions, max_sessions_per_principal, max_sessions_per_address
            How many sessions there may be: in all, of one authenticated caller, from one client address. None is no bound.
            Addresses are those that the proxies in `forwarded_allow` write into `X-Forwarded-For`.
        forwarded_allow
            Addresses or networks of proxies in front.
        max_body
            Bytes of a request's body; a longer one gets 413.
        websocket, max_websockets
            Whether clients may connect by WebSocket as well, at the same path, and how many at once.
        json_response
            Answer with JSON where a stream is not needed.
        secrets
            Sign request state and messages between nodes; the first signs, all verify. Random unless given.
        options
            Take the place of the server's own.
        pace
            When streams begin, how often they have a keep-alive comment.
        account
            Counts what waits in memory, `Account(bytes)`; 256 MiB unless given.
        in_memory
            No network reaches the app: without a BearerAuth, components with `auth=` are served to everybody, as on stdio.
        """
        given = {name: value for name, value in locals().items() if name != "self"}
        judge = check_auth(auth, authenticate) or check_auth(self.auth)
        given["account"] = account = account or Account()
        service = self.service(options, secrets=secrets, private_lists=judge is not None, account=account)
        proxies = Proxies(forwarded_allow)
        authorization, identify = callers_of(judge, service, resource, proxies)
        if authorization is not None:
            service.auth = authorization.auth
        elif not in_memory:
            refuse_guarded(self.registry)
        sessions = HubOptions(
            node_id=node_id or random_node_id(),
            max_sessions=max_sessions,
            session_idle_timeout=session_idle_timeout,
            max_per_principal=max_sessions_per_principal,
            max_per_address=max_sessions_per_address,
        )
        hub = self.hub(service, sessions)
        pace = pace or Pace()
        rules = Rules(
            None if allowed_hosts is None else Hosts(allowed_hosts),
            None if allowed_origins is None else Origins(allowed_origins),
        )
        gate = Gate(rules, identify)
        life = LifeCycle()
        side_tasks = SideTasks(hold_back=pace.sse_after)
        legacy = LegacyFront(service, hub, pace, side_tasks, life, proxies=proxies, json_response=json_response)
        modern = ModernFront(service, pace, side_tasks, json_response=json_response)
        endpoint = Endpoint(gate, legacy, modern, service.refusals, service.account, life, max_body=max_body)
        websockets = None
        if websocket:
            from trio_mcp.transports.websocket.endpoint import WebSocketEndpoint

            websockets = WebSocketEndpoint(service, hub, gate, life, proxies, max_websockets, max_body)
        return HttpApp(
            service,
            hub,
            endpoint,
            life,
            side_tasks,
            path=path,
            lifespan=self.lifespan,
            routes=self._routes,
            mounts=[replace(mount, app=_mounted(mount, given, judge)) for mount in self._mounts],
            authorization=authorization,
            websockets=websockets,
        )

    def service(
        self,
        options: Options | None = None,
        *,
        secrets: Sequence[bytes] = (),
        private_lists: bool = False,
        transport: Literal["tcp", "pipe"] = "tcp",
        account: Account | None = None,
    ) -> Service:
        """What all requests of one running server share; for those who build a transport."""
        options = options or self.options
        return Service(
            registry=self.registry,
            identity=self.identity,
            context=Context,
            instructions=self.instructions,
            options=replace(options, private_lists=options.private_lists or private_lists),
            keyring=Keyring(secrets),
            bus=LocalBus(self._feed),
            mask_errors=self.mask_errors,
            metrics=Metrics(transport),
            account=account or Account(),
            extensions=self.extensions,
        )

    def hub(self, service: Service, options: HubOptions | None = None) -> Hub:
        """The sessions of one running server (protocol versions up to 2025-11-25)."""
        return Hub(service, options or HubOptions(), hooks=self._session_hooks, restore_hooks=self._restore_hooks)

    def lifespan(self) -> AbstractAsyncContextManager[Any]:
        """The user's lifespan as a context manager; each run enters a new one."""
        return self._lifespan(self)

    @property
    def has_lifespan(self) -> bool:
        """Whether the user gave a lifespan, whose cleanup has to run."""
        return self._lifespan is not _no_lifespan

    def run(self, transport: Transport = "stdio", **settings: Any) -> None:
        """Serve until stopped, then exit the process: on stdio, or on HTTP with `host=`, `port=` and any other setting by name.

        Settings that are not given come from the environment, as for `trio-mcp serve`. Raises ValueError for another transport,
        TypeError for an argument of other MCP packages that does not exist here, or one that only HTTP has on stdio, RuntimeError
        inside of Trio and in another thread than the main one. A server that cannot be served as asked ends the process with a
        message on stderr.
        """
        from trio_mcp.serving.launch import launch
        from trio_mcp.serving.loader import refuse_while_importing
        from trio_mcp.serving.settings import load

        refuse_while_importing()
        if trio.lowlevel.in_trio_run():
            raise RuntimeError("mcp.run() starts an event loop of its own: inside of Trio, await mcp.run_async(…)")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "mcp.run() ends the process: in a thread of your own, trio.run(mcp.run_async, transport)"
            )
        transport = transport_of(transport)
        given = self._run_defaults | run_settings(settings, transport)
        try:
            sys.exit(launch(self, transport, load(**given)))
        except McpError as fault:
            # A mistake in the settings: the message says what to change, a traceback of ours would not help.
            sys.exit(f"{self.name}: {fault}")

    async def run_async(self, transport: Transport = "stdio", **settings: Any) -> int:
        """`run` inside your own `trio.run`: `trio.run(mcp.run_async)`. It does not configure logging or exit the process.

        Returns the exit code. Raises McpError when the server cannot be served as asked, RuntimeError outside of Trio.
        """
        if not trio.lowlevel.in_trio_run():
            raise RuntimeError("run_async needs Trio: trio.run(mcp.run_async), or mcp.run() without a loop of your own")
        from trio_mcp.serving.launch import serve_on
        from trio_mcp.serving.settings import load

        transport = transport_of(transport)
        given = self._run_defaults | run_settings(settings, transport)
        return await serve_on(self, transport, load(**given))

    async def run_stdio_async(self) -> int:
        """`run_async("stdio")`."""
        return await self.run_async("stdio")

    async def run_streamable_http_async(self, **settings: Any) -> int:
        """`run_async("http")`."""
        return await self.run_async("http", **settings)

    run_http_async = run_streamable_http_async

    def streamable_http_app(self, **options: Any) -> HttpApp:
        """`http_app`."""
        return self.http_app(**options)


def _mounted(mount: Mount, given: Mapping[str, Any], judge: BearerAuth | Authenticate | None) -> ASGIApp:
    """A mounted server's app, with what `http_app` of the outer one was given; any other app unchanged.

    The outer app has checked the Host. The inner server's own `auth` comes before the outer one's.
    """
    app = mount.app
    if not isinstance(app, MCPServer):
        return cast("ASGIApp", app)
    path = "/mcp"
    own = {"path": path, "allowed_hosts": None, "auth": app.auth or judge, "authenticate": None}
    if given["resource"] is not None:
        own["resource"] = urljoin(given["resource"], mount.prefix + path)
    return app.http_app(**{**given, **own})


@asynccontextmanager
async def _no_lifespan(server: MCPServer) -> AsyncIterator[None]:
    yield
