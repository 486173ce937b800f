"""The running server as a request sees it: what it offers, who it is, and the resources all requests share."""

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
    """Bounds and deadlines of requests; seconds unless the name says otherwise. Raises ValueError for a bound below 1."""

    page_size: int = PAGE_SIZE
    request_timeout: float = REQUEST_TIMEOUT
    """How long a client may take to answer a request of ours."""
    write_timeout: float = WRITE_TIMEOUT
    """How long a reader may make no progress."""
    request_state_ttl: float = REQUEST_STATE_TTL
    """How long a modern client may take from `input_required` to its retry."""
    cache_ttl: float = 0.0
    """`ttlMs` of lists and `server/discover`, in seconds. 0: ask again every time."""
    private_lists: bool = False
    """Whether lists depend on the caller, so that no shared cache may keep them."""
    streams: StreamBounds = field(default_factory=StreamBounds)
    max_in_flight: int = MAX_IN_FLIGHT
    max_listen_streams: int = MAX_LISTEN_STREAMS
    worker_threads: int = WORKER_THREADS
    """Sync handlers that run at the same time."""

    def __post_init__(self) -> None:
        """A bound of nothing would have clients wait for ever, or ask for page after page."""
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
    """Whether clients see a reference in place of the text of exceptions."""
    told_of_mask: bool = False
    """Whether the log has said so."""
    variables: contextvars.Context = field(default_factory=contextvars.Context)
    """The context variables as the lifespan left them: what belongs to a session starts with a copy."""
    in_flight: set[Call] = field(default_factory=set)
    listeners: dict[Call, trio.Event] = field(default_factory=dict)
    """Open `subscriptions/listen` requests; setting the event ends one with its result."""
    unsaid: set[str] = field(default_factory=set)
    """Tools and methods that have been warned of a message which could not be sent."""
    cache: dict[Any, Any] = field(default_factory=dict)
    """What was computed from the registry; emptied when it changes."""
    refusals: Refusals = field(init=False)
    _threads: trio.CapacityLimiter | None = None
    _methods: dict[str, tuple[int, dict[str, Method]]] = field(default_factory=dict)
    """By protocol version, with the state of the registry that it was computed from."""

    def __post_init__(self) -> None:
        """From now on a change of the registry is a change on the bus."""
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
        """The limiter of sync handlers: theirs alone, so that nothing else waits for user code."""
        if self._threads is None:
            self._threads = trio.CapacityLimiter(self.options.worker_threads)
        return self._threads

    def capabilities(self) -> dict[str, Any]:
        """ServerCapabilities: what is registered now, and logging."""
        return {name: settings for name, settings in _SETTINGS.items() if self.offers(name)}

    def offers(self, capability: str) -> bool:
        """Whether the server has anything of that kind now."""
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
        # Every app of the server hears of the change from the registry, and tells its own clients.
        self.bus.take(ListChanged(kind))
