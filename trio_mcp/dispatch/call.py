"""One request, `Call`, and the running server that answers it, `Service`. Each refers to the other.

`Call` says who asked what, where its messages go, and why it may be cancelled; `Service` what the server offers, who it is, and what
all requests share. A transport makes a `Call` with an `Outbox` of its own and hands it to `dispatcher.respond`.
"""

from __future__ import annotations

import contextvars
import math
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import trio

from trio_mcp.auth.bearer import mask_credentials
from trio_mcp.auth.keyring import Keyring
from trio_mcp.auth.principal import Principal
from trio_mcp.auth.tokens import AccessToken
from trio_mcp.dispatch.background import BackgroundCall
from trio_mcp.dispatch.extension_port import ServedExtension
from trio_mcp.dispatch.options import Options
from trio_mcp.dispatch.session import Conversation
from trio_mcp.features.injection import HandlerContext
from trio_mcp.features.registry import ListKind, Registry
from trio_mcp.features.tools import Tool
from trio_mcp.observability.metrics import Metrics
from trio_mcp.observability.refusals import Refusals
from trio_mcp.protocol.era import PROTOCOL_VERSION_KEY
from trio_mcp.protocol.errors import METHOD_NOT_FOUND, InvalidParams, RemoteProtocolError
from trio_mcp.protocol.headers import Headers
from trio_mcp.protocol.jsonrpc import RequestId, is_request_id, optional_param
from trio_mcp.protocol.methods import METHODS, Method, find_method
from trio_mcp.protocol.types import Implementation
from trio_mcp.protocol.versions import MODERN_VERSIONS
from trio_mcp.streams.account import Account, Holder
from trio_mcp.streams.backlog import Kind
from trio_mcp.streams.bus import Bus, ListChanged, LocalBus
from trio_mcp.streams.loop import Loop

if TYPE_CHECKING:
    from trio_mcp.auth.bearer_auth import BearerAuth

__all__ = ["Call", "CallScope", "Client", "Ending", "Outbox", "Service"]

_CAPABILITIES: dict[str, dict[str, bool]] = {
    "tools": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "prompts": {"listChanged": True},
    "completions": {},
    "logging": {},
}
"""ServerCapabilities of a server that offers everything."""


class Client(msgspec.Struct, frozen=True):
    """The client as it describes itself, unverified: at `initialize`, or in each modern request."""

    info: dict[str, Any]
    """Its Implementation; {} where it says nothing."""
    capabilities: dict[str, Any]
    """Its ClientCapabilities."""


class Outbox(Protocol):
    """Where the messages of one request go; each transport has its own. Messages are encoded JSON-RPC."""

    answers_cancelled: bool
    """Whether a call that its client cancelled is answered with an error: an HTTP exchange needs an end, stdio sends nothing."""

    @property
    def holder(self) -> Holder | None:
        """What the bytes of unread answers are counted for, such as a session; None where each request stands for itself."""

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        """Take a message that comes before the reply; never blocks.

        `kind` says which messages may be dropped when there is no room, `key` which earlier one this one replaces.
        """

    def finish(self, body: bytes | None, status: int) -> None:
        """Take the reply, after which nothing comes, and its HTTP status; `body` is None where nothing is to be sent."""

    async def wait_for_reader(self) -> None:
        """Wait until the client has read what was sent, where this transport makes handlers wait for it; raises SlowReader."""

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Send a request of the server and return the client's result; raises ClientCallError, always on 2026-07-28."""

    def hold_back(self, until: float) -> None:
        """Begin no stream before `until` (trio clock) but for a message: the reply is near. Does nothing where none is begun by time."""

    def close_stream(self) -> None:
        """End the response that carries this request's stream; the client resumes the stream. Does nothing where it cannot."""


class Ending(Enum):
    """Why the server cancelled a call. The text is the message of the error that answers it."""

    CANCELLED = "Request cancelled"
    CLIENT_LEFT = "The client disconnected"
    SESSION_CLOSED = "The session was closed"
    SHUTDOWN = "The server is shutting down"
    INPUT_REQUIRED = "Input required"
    SLOW_READER = "The client stopped reading"
    NO_TASK = "The server can keep no task now; try again later"


class CallScope(AbstractContextManager[object, bool], Protocol):
    """What a call runs in, once: a `trio.CancelScope`, or a kept one (`dispatcher.KeptScope`)."""

    def cancel(self, reason: str | None = None) -> None:
        """Cancel the block, now or when it begins; nothing once it is over."""


class Call(msgspec.Struct, eq=False):
    """One request, from its arrival to its reply. `version` is the protocol version it is answered in."""

    service: Service
    request_id: RequestId
    method: str
    params: dict[str, Any]
    version: str
    principal: Principal
    client: Client
    outbox: Outbox
    session: Conversation | None = None
    """The session it belongs to; None since 2026-07-28."""
    tool: Tool | None = None
    """The registered tool of a `tools/call`; `respond` looks it up where the transport has not."""
    log_level: str | None = None
    """From which level up a modern request wants log messages, None for none; a session has a level of its own."""
    headers: Mapping[bytes, bytes] | None = None
    """Those of the HTTP request, by lower-case name; None on stdio."""
    token: AccessToken | None = None
    """The token that its HTTP request came with; None without authorization by tokens, and on stdio."""
    permitted: bool = False
    """Whether its transport has judged by the token what the method of an extension asks for this one call."""
    started: float = msgspec.field(default_factory=trio.current_time)
    """When it began (trio clock)."""
    ended: float = math.inf
    """When it was answered (trio clock)."""
    scope: CallScope = msgspec.field(default_factory=trio.CancelScope)
    """The handler runs in it; `cancel` cancels it."""
    ending: Ending | None = None
    """Why the server cancelled it; None unless it did."""
    finished: bool = False
    """Whether it is answered: then a task that still has its context can send nothing."""
    questions: dict[str, msgspec.Raw] = {}
    """What a modern handler asked in this round and has no answer to, by key."""
    answers: dict[str, Any] | None = None
    """What a retry brought, by key; None until they are read."""
    bound_to: bytes = b""
    """What a retry must repeat, as `note_binding` found it."""
    keys: set[str] = set()
    """The keys of the questions asked in this run of the handler."""
    progress: float | None = None
    """The last value of its progress that was sent."""
    background: BackgroundCall | None = None
    """What may go on without its request: a task. None for all calls but those of tools with `task=`."""
    counted: bool = True
    """Whether metrics and the access log count it: not a call that a task makes for the request it came from."""
    reference: str | None = None
    """The reference of the crash that ended it: the client is shown it, and the log line has it."""

    @property
    def modern(self) -> bool:
        """Whether it belongs to no session, as all requests since 2026-07-28."""
        return self.session is None

    @property
    def label(self) -> str:
        """What logs call it: the method, and the name of the tool if there is such a tool."""
        return self.method if self.tool is None else f"{self.method} {self.tool.name}"

    @property
    def tool_name(self) -> str | None:
        """For logs and metrics: None where there is no such tool, because a client can invent names without end."""
        return None if self.tool is None else self.tool.name

    @property
    def progress_token(self) -> RequestId | None:
        """`_meta.progressToken`, echoed with its JSON type; raises InvalidParams for what is neither text nor integer."""
        meta = self.params.get("_meta")
        token = meta.get("progressToken") if isinstance(meta, dict) else None
        if token is not None and not is_request_id(token):
            raise InvalidParams("_meta.progressToken must be a string or an integer")
        return token

    @property
    def task_id(self) -> str | None:
        """The id of the task that it is by now; None for a call that its request waits for."""
        return None if self.background is None else self.background.task_id

    @property
    def shown_headers(self) -> Headers | None:
        """The headers as handlers get them: without a verified token, which they could pass on by accident. None in a task."""
        if self.task_id is not None:
            return None
        if self.headers is None or self.token is None:
            return None if self.headers is None else Headers(self.headers)
        masked = mask_credentials(self.headers.get(b"authorization", b"").decode("latin-1"))
        return Headers({**self.headers, b"authorization": masked.encode("latin-1")})

    @property
    def definition(self) -> Method | None:
        """What the specification, or its extension, says of the method; None for one that does not exist here."""
        return METHODS.get(self.method) or self.service.methods(self.version).get(self.method)

    def client_extension(self, identifier: str) -> dict[str, Any] | None:
        """The settings with which the client declared an extension, {} where it gave none; None where it did not declare it."""
        declared = self.client.capabilities.get("extensions")
        settings = declared.get(identifier) if isinstance(declared, dict) else None
        return settings if isinstance(settings, dict) else None

    def note_binding(self) -> None:
        """Note what a retry must repeat: method, target and arguments. To be called before a handler could change these."""
        if not self.bound_to:
            method = self.definition
            target = self.params.get((method and method.name_param) or "", "")
            salient = [self.method, target, optional_param(self.params, "arguments", {})]
            self.bound_to = msgspec.json.encode(salient, order="sorted")

    def cancel(self, ending: Ending) -> None:
        """Cancel the handler. The first of several reasons counts."""
        if self.ending is None:
            self.ending = ending
        self.scope.cancel(ending.value)

    def emit(self, data: bytes, kind: Kind, key: Any = None) -> None:
        """Send a message that belongs to this request; nothing is sent once it is answered or its client has cancelled it."""
        if not (self.finished or self.ending is Ending.CANCELLED):
            self.outbox.emit(data, kind, key)


class _Offered(NamedTuple):
    """What a service has in one protocol version, as long as `Registry.changes` is `changes`."""

    changes: int
    methods: Mapping[str, Method]
    extensions: Mapping[str, Mapping[str, Any]]
    """Settings by identifier."""
    capabilities: dict[str, Any]
    """What it says of all that at `initialize` and `server/discover`."""


@dataclass(slots=True, weakref_slot=True)
class Service:
    """Shared by every request of one server, in both eras."""

    registry: Registry
    """The tools, resources, prompts and completions it offers."""
    identity: Implementation
    """Its `serverInfo`."""
    context: Callable[[Call], HandlerContext]
    """Makes what the `Context` parameter of a handler gets."""
    instructions: str | None = None
    options: Options = field(default_factory=Options)
    auth: BearerAuth | None = None
    """Judges what components ask of a caller's token; None without authorization by tokens."""
    extensions: Mapping[str, ServedExtension[Call, Service]] = field(default_factory=dict)
    """The extensions of MCP that it has, by identifier."""
    extension_state: dict[str, Any] = field(default_factory=dict)
    """What the `running` of each extension has yielded, by identifier."""
    take_notice: Callable[[Call], None] | None = None
    """Takes a notification of a client to an extension; None where nothing runs that could (`dispatch/notices`)."""
    keyring: Keyring = field(default_factory=Keyring)
    """Seals cursors and `requestState`."""
    bus: Bus = field(default_factory=LocalBus)
    """Changes of lists and resources, for sessions and `subscriptions/listen`."""
    metrics: Metrics = field(default_factory=Metrics)
    account: Account = field(default_factory=Account)
    """Counts what waits in the memory of this node."""
    lifespan_context: Any = None
    """What the user's lifespan has yielded."""
    mask_errors: bool = True
    """Whether clients are shown a reference in place of the text of exceptions."""
    mask_explained: bool = False
    """Whether the log has explained that."""
    variables: contextvars.Context = field(default_factory=contextvars.Context)
    """The context variables as the lifespan left them; tasks of sessions start with a copy."""
    in_flight: set[Call] = field(default_factory=set)
    """Calls that have begun and are not answered."""
    listen_calls: dict[Call, trio.Event] = field(default_factory=dict)
    """Open `subscriptions/listen` requests; one ends, with its result, when its event is set."""
    warned_handlers: set[str] = field(default_factory=set)
    """Tools and methods for which the log has warned of a message that could not be sent."""
    cache: dict[Any, Any] = field(default_factory=dict)
    """What was computed from the registry; emptied when it changes."""
    refusals: Refusals = field(init=False)
    _threads: trio.CapacityLimiter | None = None
    _known: dict[str, _Offered] = field(default_factory=dict)
    """By protocol version."""

    def __post_init__(self) -> None:
        """Connect registry, bus and metrics: from now on a change of the registry is published on the bus."""
        self.refusals = Refusals(self.metrics)
        self.registry.call_on_change(self._registry_changed)
        self.metrics.count_requests_with(lambda: len(self.in_flight))
        self.metrics.count_kept_with(lambda: self.account.used, limit=self.account.limit)
        self.account.report_to(self.metrics.relieved)

    @property
    def loop(self) -> Loop:
        """The event loop its requests run in."""
        return self.bus.loop

    @property
    def threads(self) -> trio.CapacityLimiter:
        """The limiter of sync handlers. They have their own, so that nothing else waits for user code."""
        if self._threads is None:
            self._threads = trio.CapacityLimiter(self.options.worker_threads)
        return self._threads

    def capabilities(self, version: str) -> dict[str, Any]:
        """ServerCapabilities: what is registered now, logging, and the extensions that a protocol version has. Not to be changed."""
        return self._offered(version).capabilities

    def declared_extensions(self, version: str) -> Mapping[str, Mapping[str, Any]]:
        """The extensions that are declared in a protocol version now, with their settings."""
        return self._offered(version).extensions

    def offers(self, capability: str) -> bool:
        """Whether the server has anything of a capability now; always for one that depends on nothing registered."""
        registry = self.registry
        match capability:
            case "tools":
                return bool(registry.tools)
            case "resources":
                return bool(registry.resources or registry.templates)
            case "prompts":
                return bool(registry.prompts)
            case "completions":
                return bool(registry.completions)
            case _:
                return True

    def standing_until(self, token: AccessToken | None) -> float:
        """When a standing stream that is opened with `token` now ends (trio clock); infinite where it does not expire.

        Each ends at another moment of ten seconds: the clients of an issuer often have tokens that expire together.
        """
        ends = self.auth and token and self.auth.stream_ends_at(token, random.random())
        return trio.current_time() + max(0.0, ends - self.auth.now()) if ends and self.auth else math.inf

    def methods(self, version: str) -> Mapping[str, Method]:
        """The request methods that `version` has and this server offers now, by name."""
        return self._offered(version).methods

    def _offered(self, version: str) -> _Offered:
        known = self._known.get(version)
        if known is None or known.changes != self.registry.changes:
            known = self._known[version] = self._find_offered(version)
        return known

    def _find_offered(self, version: str) -> _Offered:
        changes = self.registry.changes
        methods = {
            name: method
            for name, method in METHODS.items()
            if find_method(name, version) and (method.capability is None or self.offers(method.capability))
        }
        found = {name: each.declared(self.registry, version) for name, each in self.extensions.items()}
        declared = {name: settings for name, settings in found.items() if settings is not None}
        for identifier in declared:
            more = self.extensions[identifier].methods
            methods |= {name: method for name, method in more.items() if method.exists_in(version)}
        capabilities: dict[str, Any] = {name: each for name, each in _CAPABILITIES.items() if self.offers(name)}
        if declared:
            capabilities["extensions"] = declared
        return _Offered(changes, methods, declared, capabilities)

    def modern_method(self, name: str, params: Mapping[str, Any]) -> Method | None:
        """The method of a modern request, looked up before anything else of it is checked (SEP-2663).

        Raises RemoteProtocolError (-32601) where there is none. In a version that is not served here, nobody knows: then None
        where ours do not have it.
        """
        meta = params.get("_meta")
        version = meta.get(PROTOCOL_VERSION_KEY) if isinstance(meta, dict) else None
        if isinstance(version, str) and version not in MODERN_VERSIONS:
            return METHODS.get(name)
        # That a request names no version is said later.
        method = self.methods(version if isinstance(version, str) else MODERN_VERSIONS[-1]).get(name)
        if method is None:
            raise RemoteProtocolError(METHOD_NOT_FOUND, f"Method not found: {name[:128]}")
        return method

    def _registry_changed(self, kind: ListKind) -> None:
        self.cache.clear()
        # Each app of the server gets this call from the registry, and tells its own clients.
        self.bus.take(ListChanged(kind))
