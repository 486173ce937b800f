"""What the server asks of an extension of MCP (SEP-2133). `dispatch/extension` implements it.

The classes of calls and services are parameters here: those refer to their extensions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import msgspec

from trio_mcp.features.registry import Registry
from trio_mcp.protocol.methods import Method

if TYPE_CHECKING:
    from trio_mcp.auth.checks import Requirements

__all__ = ["Answer", "Listening", "Send", "ServedExtension"]

C = TypeVar("C", contravariant=True)
S = TypeVar("S", contravariant=True)

Answer: TypeAlias = dict[str, Any] | msgspec.Raw
"""The result of a call, not encoded or encoded."""


class Send(Protocol):
    """Sends notifications on one `subscriptions/listen` stream."""

    def __call__(self, method: str, params: Mapping[str, Any], key: Any = None) -> None:
        """Never blocks; dropped where the client reads too slowly. With a `key` it replaces an earlier, unread one of that key."""


@dataclass(frozen=True, slots=True)
class Listening:
    """What an extension adds to one `subscriptions/listen` stream."""

    acknowledged: Mapping[str, Any]
    """Members of the acknowledgement's `notifications`."""
    run: Callable[[Send], Awaitable[None]]
    """Sends notifications. Started behind the acknowledgement, cancelled at the end of the stream."""


class ServedExtension(Protocol[C, S]):
    """An extension that a server has; C is the class of calls, S that of services."""

    @property
    def identifier(self) -> str:
        """Its name, such as `io.modelcontextprotocol/ui`."""

    @property
    def methods(self) -> Mapping[str, Method]:
        """Its request methods by name."""

    def declared(self, registry: Registry, version: str) -> Mapping[str, Any] | None:
        """The settings that the server declares in a protocol version; None where it does not declare the extension."""

    async def answer(self, call: C) -> Answer:
        """The result of a call of one of its methods."""

    async def call_tool(self, call: C, options: Any, proceed: Callable[[Any], Awaitable[Answer]]) -> Answer:
        """The result of a call of a tool that has `options` for it; `proceed(call)` runs the tool."""

    async def requirements(self, call: C) -> tuple[Requirements, ...]:
        """What the token of the caller must have for this call of one of its methods, beyond what the method itself asks."""

    async def listen(self, call: C, asked: Mapping[str, Any]) -> Listening | None:
        """What it adds to a `subscriptions/listen` with these `notifications`; None for nothing."""

    def takes_notification(self, method: str, version: str) -> bool:
        """Whether it has a function for a notification of clients in a protocol version."""

    async def notified(self, call: C) -> None:
        """Take a notification, which is a call without an id, and nothing answers it."""

    def running(self, service: S) -> AbstractAsyncContextManager[Any] | None:
        """What runs around all requests of a service, inside its lifespan; None for nothing."""
