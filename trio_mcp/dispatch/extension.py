"""`Extension`: methods, notifications and settings that a server adds to MCP (SEP-2133, 2026-07-28 basic/lifecycle).

client declares it ─▶ its methods are dispatched like MCP's own ─▶ a function of the extension ─▶ result
                  └─▶ `tools/call` of a tool with options for it ─▶ `on_tool_call` ─▶ the tool
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from trio_mcp.dispatch.call import Call, Service
from trio_mcp.dispatch.extension_port import Answer, Listening
from trio_mcp.dispatch.user_code import call_user
from trio_mcp.features.functions import function_of, is_async
from trio_mcp.features.registry import Registry
from trio_mcp.protocol.errors import (
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MissingClientCapability,
    ProtocolError,
    RemoteProtocolError,
)
from trio_mcp.protocol.methods import FOREVER, METHODS, NOTIFICATIONS, Method
from trio_mcp.protocol.versions import V2024_11_05

if TYPE_CHECKING:
    from trio_mcp.auth.bearer_auth import BearerAuth
    from trio_mcp.auth.checks import Check, Requirements

__all__ = ["Extension", "require_declared"]

F = TypeVar("F", bound=Callable[..., Any])
Run: TypeAlias = Callable[[Call], Awaitable[Answer]]
Guard: TypeAlias = "Callable[[Call], Awaitable[tuple[Requirements, ...]]]"

_LABEL = r"[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_IDENTIFIER = re.compile(rf"{_LABEL}(?:\.{_LABEL})*/[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
"""The grammar of keys in `_meta`, with a prefix (SEP-2133)."""


class Extension:
    """One extension of MCP, given to a server with `MCPServer(extensions=[…])`.

    Raises ValueError for an identifier that is none.

    Parameters
    ----------
    identifier
        Its name: a domain that its author controls, reversed, a slash and a name, as in `com.example/echo`.
    settings
        The object that the server declares under `capabilities.extensions`; {} unless given.
    since, until
        The protocol versions that have it, from `since` to before `until`; all unless given.
    when_used
        Declare it, and have its methods, only while a registered tool has options for it.
    """

    def __init__(
        self,
        identifier: str,
        *,
        settings: Mapping[str, Any] | None = None,
        since: str = V2024_11_05,
        until: str = FOREVER,
        when_used: bool = False,
    ) -> None:
        if not isinstance(identifier, str) or not _IDENTIFIER.fullmatch(identifier):
            raise ValueError(f"an extension is called as in com.example/echo (SEP-2133), not {identifier!r:.80}")
        self.identifier: str = identifier
        self.settings: dict[str, Any] = dict(settings or {})
        self.since: str = since
        self.until: str = until
        self.when_used: bool = when_used
        self.methods: dict[str, Method] = {}
        """Its request methods by name."""
        self._registries: list[Registry] = []
        """Of the servers that have it."""
        self._asked: dict[str, Requirements | None] = {}
        self._runs: dict[str, Run] = {}
        self._guards: dict[str, Guard] = {}
        self._notifications: dict[str, Callable[..., Any]] = {}
        self._on_tool_call: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        return f"<Extension {self.identifier}>"

    # For its author.

    def method(
        self,
        name: str,
        *,
        since: str | None = None,
        until: str | None = None,
        name_param: str | None = None,
        declared_only: bool = True,
        auth: Check | list[Check] | None = None,
    ) -> Callable[[F], F]:
        """Register a function `(ctx, params) -> dict` as the request method `name`; a sync one runs in a worker thread.

        What it returns is the result. It raises ProtocolError for an error of its own; any other exception is logged, and
        answered as an internal error.

        `since` and `until`: the protocol versions that have the method, those of the extension unless given. `name_param`: the
        param that clients repeat in the header `Mcp-Name` (2026-07-28 streamable-http). `declared_only`: only for clients
        that declared the extension; others get -32021, and -32601 in a session. `auth`: what the caller's token must have, as
        for tools.

        Raises ValueError for a name that MCP or the extension has already, TypeError for anything but a function.
        """

        asked = None
        if auth is not None:
            # Only a server that asks for something loads this.
            from trio_mcp.auth.checks import requirements

            asked = requirements(auth, hide=False)
        settings: dict[str, Any] = {"since": since, "until": until, "name_param": name_param}

        def register(fn: F) -> F:
            function = function_of(fn, f'extension.method("{name}")(FN)')
            self.add_method(name, partial(_answer, function), declared_only=declared_only, asked=asked, **settings)
            return fn

        return register

    def notification(self, name: str) -> Callable[[F], F]:
        """Register a function `(ctx, params)` for a notification of clients that declared the extension.

        One task calls these functions, one after the other, each for 30 s at most; what they raise is logged. `ctx` belongs to no
        request: it can send and ask nothing. In a session `ctx.principal` has no claims.

        Raises ValueError for a name that has a function, TypeError for anything but a function.
        """

        def register(fn: F) -> F:
            if name in self._notifications or name in NOTIFICATIONS:
                raise ValueError(f"{name} is taken: choose another name")
            self._notifications[name] = function_of(fn, f'extension.notification("{name}")(FN)')
            return fn

        return register

    def on_tool_call(self, fn: F) -> F:
        """Register a function `(ctx, options, proceed) -> result` around calls of tools with options for this extension.

        A tool has them by `@mcp.tool(extensions={"com.example/echo": options})`. `await proceed()` runs the tool and returns
        its CallToolResult, a dict, which the function may change or replace. Raises TypeError for anything but an async
        function, and ValueError for a second one.
        """
        function = function_of(fn, "extension.on_tool_call(FN)")
        if not is_async(function):
            raise TypeError("on_tool_call takes an async function (ctx, options, proceed), for it awaits proceed()")
        if self._on_tool_call is not None:
            raise ValueError(f"{self.identifier} has a function for tool calls already")
        self._on_tool_call = function
        return fn

    # For the server, and for extensions of this package, which override what they need.

    def add_method(
        self,
        name: str,
        run: Run,
        *,
        since: str | None = None,
        until: str | None = None,
        name_param: str | None = None,
        declared_only: bool = True,
        asked: Requirements | None = None,
        guard: Guard | None = None,
    ) -> None:
        """Register a function of a Call as a request method; other arguments and errors as for `method`.

        `asked` is what the caller's token must have for every call, `guard` what it must have for one: it is awaited before `run`.
        """
        if name in METHODS or name in self.methods:
            raise ValueError(f"the method {name!r} exists already: choose another name")
        for registry in self._registries:
            registry.add_methods({name: asked})
        self.methods[name] = Method(
            since=max(since or self.since, self.since),
            until=min(until or self.until, self.until),
            name_param=name_param,
            runs_user_code=True,
            extension=self.identifier,
            declared_only=declared_only,
        )
        self._asked[name] = asked
        self._runs[name] = run
        if guard is not None:
            self._guards[name] = guard

    def add_to(self, registry: Registry) -> None:
        """A server has it from now on; raises ValueError where another of its extensions has a method of that name."""
        registry.add_methods(self._asked)
        self._registries.append(registry)

    def declared(self, registry: Registry, version: str) -> Mapping[str, Any] | None:
        """The settings that the server declares in a protocol version; None where it does not declare the extension."""
        if not self.since <= version < self.until:
            return None
        if self.when_used and not any(self.identifier in tool.extensions for tool in registry.tools):
            return None
        return self.settings

    async def answer(self, call: Call) -> Answer:
        """The result of a call of one of its methods.

        Raises MissingClientCapability for a client that did not declare it, and ProtocolError where the caller's token does not
        have what the `guard` of the method asks. Over HTTP on 2026-07-28 that was a 403 before.
        """
        if self.methods[call.method].declared_only:
            require_declared(call, self.identifier)
        if not call.permitted and call.service.auth is not None:
            _require_permission(call, call.service.auth, await self.requirements(call))
        return await self._runs[call.method](call)

    async def requirements(self, call: Call) -> tuple[Requirements, ...]:
        """What the `guard` of its method asks of the caller's token; nothing of a client that is refused anyway."""
        guard = self._guards.get(call.method)
        refused = self.methods[call.method].declared_only and call.client_extension(self.identifier) is None
        if guard is None or refused:
            return ()
        return await guard(call)

    async def call_tool(self, call: Call, options: Any, proceed: Callable[[Call], Awaitable[Answer]]) -> Answer:
        """The result of a call of a tool that has `options` for it: `on_tool_call` if there is one, else the tool's."""
        if self._on_tool_call is None:
            return await proceed(call)
        result: Answer = await self._on_tool_call(call.service.context(call), options, partial(proceed, call))
        return result

    async def listen(self, call: Call, asked: Mapping[str, Any]) -> Listening | None:
        """What it adds to a `subscriptions/listen` with these `notifications`; nothing unless overridden."""
        return None

    def takes_notification(self, method: str, version: str) -> bool:
        """Whether it has a function for a notification of clients in a protocol version."""
        return method in self._notifications and self.since <= version < self.until

    async def notified(self, call: Call) -> None:
        """Run the function for a notification of a client that declared the extension; raises what it raises."""
        if call.client_extension(self.identifier) is not None:
            await _call(self._notifications[call.method], call)

    def running(self, service: Service) -> AbstractAsyncContextManager[Any] | None:
        """What runs around all requests of a service, inside its lifespan; nothing unless overridden.

        What it yields is `service.extension_state[identifier]`: an extension that is given to a server has one for each app.
        """
        return None


def require_declared(call: Call, identifier: str) -> None:
    """Raise unless the client declared an extension: -32021 on 2026-07-28, in a session -32601."""
    if call.client_extension(identifier) is not None:
        return
    if call.modern:
        raise MissingClientCapability({"extensions": {identifier: {}}})
    raise RemoteProtocolError(
        METHOD_NOT_FOUND, f"{call.method} is for clients that declared {identifier} at initialize"
    )


def _require_permission(call: Call, auth: BearerAuth, asked: tuple[Requirements, ...]) -> None:
    refused = auth.refusal_for(asked, call.token, "The request")
    if refused is not None:
        call.service.refusals.note(refused.status, refused.reason.value, **refused.log_fields)
        raise ProtocolError(INVALID_REQUEST, refused.description, refused.data or None)


async def _answer(function: Callable[..., Any], call: Call) -> Answer:
    result = await _call(function, call)
    if not isinstance(result, dict):
        raise TypeError(f"the function of {call.method} returns the result as a dict, not {result!r:.80}")
    return result


async def _call(function: Callable[..., Any], call: Call) -> Any:
    context = call.service.context(call)
    awaited = is_async(function)
    limiter = None if awaited else call.service.threads
    return await call_user(function, context, call.params, is_async=awaited, limiter=limiter)
