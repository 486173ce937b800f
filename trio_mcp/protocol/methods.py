"""Every request method a client may send: the versions that have it, and what the specification says of it.

Those of extensions are described by the same class, and come with the extension (`dispatch/extension`).
"""

from __future__ import annotations

from dataclasses import dataclass

from trio_mcp.protocol.versions import V2024_11_05, V2026_07_28

__all__ = ["FOREVER", "METHODS", "NOTIFICATIONS", "Method", "find_method"]

FOREVER = "9999-99-99"
"""A version after all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One request method; `since` and `until` (exclusive) are protocol versions."""

    since: str = V2024_11_05
    until: str = FOREVER
    capability: str | None = None
    """The server capability it belongs to; without that the server does not have the method."""
    name_param: str | None = None
    """The param mirrored in the `Mcp-Name` header (2026-07-28 streamable-http)."""
    cacheable: bool = False
    """Its complete results carry `ttlMs` and `cacheScope` (2026-07-28 server/utilities/caching)."""
    runs_user_code: bool = False
    """A handler of the server's author answers it, so its calls wait when memory is short. What the others send is small."""
    may_ask: bool = False
    """It may end as `input_required` (2026-07-28 basic/patterns/mrtr)."""
    extension: str | None = None
    """The identifier of the extension it belongs to (SEP-2133)."""
    declared_only: bool = False
    """Whether only clients that declared the extension may call it."""

    def exists_in(self, version: str) -> bool:
        """Whether a protocol version has it."""
        return self.since <= version < self.until


_LEGACY_ONLY = V2026_07_28

METHODS: dict[str, Method] = {
    "initialize": Method(until=_LEGACY_ONLY),
    "ping": Method(until=_LEGACY_ONLY),
    "logging/setLevel": Method(until=_LEGACY_ONLY, capability="logging"),
    "resources/subscribe": Method(until=_LEGACY_ONLY, capability="resources"),
    "resources/unsubscribe": Method(until=_LEGACY_ONLY, capability="resources"),
    "tools/list": Method(capability="tools", cacheable=True),
    "tools/call": Method(capability="tools", name_param="name", runs_user_code=True, may_ask=True),
    "resources/list": Method(capability="resources", cacheable=True),
    "resources/templates/list": Method(capability="resources", cacheable=True),
    "resources/read": Method(
        capability="resources", name_param="uri", cacheable=True, runs_user_code=True, may_ask=True
    ),
    "prompts/list": Method(capability="prompts", cacheable=True),
    "prompts/get": Method(capability="prompts", name_param="name", runs_user_code=True, may_ask=True),
    "completion/complete": Method(capability="completions", runs_user_code=True),
    "server/discover": Method(since=V2026_07_28, cacheable=True),
    "subscriptions/listen": Method(since=V2026_07_28),
}


NOTIFICATIONS = frozenset(
    f"notifications/{name}"
    for name in (
        "cancelled",
        "elicitation/complete",
        "initialized",
        "message",
        "progress",
        "prompts/list_changed",
        "resources/list_changed",
        "resources/updated",
        "roots/list_changed",
        "subscriptions/acknowledged",
        "tools/list_changed",
    )
)
"""MCP's own, of both sides and all versions: extensions have others."""


def find_method(name: str, version: str) -> Method | None:
    """The method, or None if `version` does not have it."""
    method = METHODS.get(name)
    return method if method is not None and method.exists_in(version) else None
