"""A running server as its requests see it: what it offers, who it is, and what all requests share."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from trio_mcp.auth.keyring import Keyring
from trio_mcp.defaults import (
    MAX_IN_FLIGHT,
    MAX_LISTEN_STREAMS,
    PAGE_SIZE,
    REQUEST_STATE_TTL,
    REQUEST_TIMEOUT,
    WORKER_THREADS,
    WRITE_TIMEOUT,
)
from trio_mcp.features.registry import Registry
from trio_mcp.features.signature import HandlerContext
from trio_mcp.observability.metrics import Metrics
from trio_mcp.observability.refusals import Refusals
from trio_mcp.protocol.methods import METHODS, Method, find_method
from trio_mcp.protocol.types import Implementation
from trio_mcp.streams.account import Account
from trio_mcp.streams.budget import StreamBounds
from trio_mcp.streams.bus import Bus, ListChanged, ListKind, LocalBus
from trio_mcp.streams.loop import Loop

if TYPE_CHECKING:
    from trio_mcp.dispatch.call import Call

__all__ = ["Options", "Service"]


_SETTINGS: dict[str, dict[str, bool]] = {
    "tools": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "prompts": {"listChanged": True},
    "completions": {},
    "logging": {},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Bounds and deadlines of requests; times in seconds. Raises ValueError for a bound below 1."""

    page_size: int = PAGE_SIZE
    request_timeout: float = REQUEST_TIMEOUT
    """How long a client may take to answer a request of the server, such as an elicitation."""
    write_timeout: float = WRITE_TIMEOUT
    """After how long a client that reads nothing loses its connection."""
    request_state_ttl: float = REQUEST_STATE_TTL
    """How long a modern client may take from `input_required` to its retry."""
    cache_ttl: float = 0.0
    """For how long clients may cache lists and `server/discover` (`ttlMs`). 0: not at all."""
    private_lists: bool = False
    """Whether lists depend on the caller, so that no shared cache may keep them."""
    streams: StreamBounds = field(default_factory=StreamBounds)
    max_in_flight: int = MAX_IN_FLIGHT
    """Requests of one session, or of stdio, that run at the same time."""
    max_listen_streams: int = MAX_LISTEN_STREAMS
    """Of `subscriptions/listen`, of all clients together."""
    worker_threads: int = WORKER_THREADS
    """Sync handlers that run at the same time."""

    def __post_init__(self) -> None:
        """With a bound of 0 clients would wait for ever, or ask for page after page."""
        for name in ("page_size", "max_in_flight", "max_listen_streams", "worker_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}= of Options is at least 1, not {getattr(self, name)!r}")


@dataclass(slots=True, weakref_slot=True)
class Service:
    """Shared by every request of one server, in both eras."""

    registry: Registry
    identity: Implementation
    context: Callable[[Call], HandlerContext]
    """Makes what a handler's `Context` parameter receives."""
    instructions: str | None = None
    options: Options = field(default_factory=Options)
    keyring: Keyring = field(default_factory=Keyring)
    bus: Bus = field(default_factory=LocalBus)
    metrics: Metrics = field(default_factory=Metrics)
    account: Account = field(default_factory=Account)
    """Everything that waits in the memory of this node."""
    lifespan_context: Any = None
    mask_errors: bool = True
    """Whether clients are shown a reference in place of the text of exceptions."""
    mask_explained: bool = False
    """Whether the log has explained that."""
    variables: contextvars.Context = field(default_factory=contextvars.Context)
    """The context variables as the lifespan left them; tasks of sessions start with a copy."""
    in_flight: set[Call] = field(default_factory=set)
    listeners: dict[Call, trio.Event] = field(default_factory=dict)
    """Open `subscriptions/listen` requests; one ends, with its result, when its event is set."""
    warned_handlers: set[str] = field(default_factory=set)
    """Tools and methods for which the log has warned of a message that could not be sent."""
    cache: dict[Any, Any] = field(default_factory=dict)
    """What was computed from the registry, by anybody; emptied when it changes."""
    refusals: Refusals = field(init=False)
    _threads: trio.CapacityLimiter | None = None
    _methods: dict[str, tuple[int, dict[str, Method]]] = field(default_factory=dict)
    """By protocol version, with the state of the registry that it was computed from."""

    def __post_init__(self) -> None:
        """Connect registry, bus and metrics: from now on a change of the registry is told on the bus."""
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

    def capabilities(self) -> dict[str, Any]:
        """ServerCapabilities: what is registered now, and logging."""
        return {name: settings for name, settings in _SETTINGS.items() if self.offers(name)}

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

    def methods(self, version: str) -> Mapping[str, Method]:
        """The request methods that `version` has and this server offers now, by name."""
        changes = self.registry.changes
        known = self._methods.get(version)
        if known is None or known[0] != changes:
            known = self._methods[version] = changes, self._offered_methods(version)
        return known[1]

    def _offered_methods(self, version: str) -> dict[str, Method]:
        return {
            name: method
            for name, method in METHODS.items()
            if find_method(name, version) and (method.capability is None or self.offers(method.capability))
        }

    def _registry_changed(self, kind: ListKind) -> None:
        self.cache.clear()
        # Each app of the server gets this call from the registry, and tells its own clients.
        self.bus.take(ListChanged(kind))
