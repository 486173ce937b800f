"""The paths beside `/mcp`: handlers of `@mcp.custom_route`, and mounted ASGI apps."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import trio

from trio_mcp.dispatch.user_code import call_user, report, user_code, without_crash
from trio_mcp.features.functions import is_async
from trio_mcp.protocol.jsonrpc import encode
from trio_mcp.transports.asgi import ASGIApp, Message, Receive, Scope, Send
from trio_mcp.transports.http.exchange import BodyTooLarge, ClientLeft, HttpExchange
from trio_mcp.transports.http.responses import send_empty, send_json
from trio_mcp.transports.http.route_request import RouteRequest, UnreadableBody

__all__ = [
    "CustomPaths",
    "CustomRoute",
    "Mount",
    "RouteHandler",
    "RouteResponse",
    "check_app",
    "path_of",
    "run_behind_boundary",
]

logger: logging.Logger = logging.getLogger("trio_mcp.http")

RouteAnswer: TypeAlias = "str | bytes | dict[str, Any] | list[Any] | ASGIApp | None"
RouteResponse: TypeAlias = "RouteAnswer | tuple[int, RouteAnswer]"
"""Text, bytes, JSON, any of them behind a status, None for no body (204), or an ASGI response such as Starlette's."""

RouteHandler: TypeAlias = Callable[[RouteRequest], "Awaitable[RouteResponse] | RouteResponse"]

_PATH = re.compile(r"/[^\s?#]*")
_VARIABLE = re.compile(r"\{([A-Za-z_]\w*)(?::(\w+))?\}")
_MATCHES = {None: "[^/]+", "str": "[^/]+", "path": ".+"}
"""What a `{name}` in a path matches, or a `{name:kind}` as in Starlette, by kind."""


def path_of(path: Any, line: str) -> str:
    """`path`, if a request can have it.

    Raises TypeError for what is no text and ValueError for any other; `line` is what to write instead, with `{}` for a path.
    """
    if not isinstance(path, str):
        raise TypeError(f"a path is text, as in {line.format('/health')}, not {path!r:.80}")
    if not _PATH.fullmatch(path):
        raise ValueError(
            f"{path!r} is no path of a request: write {line.format('/' + path.lstrip('/').partition('?')[0])}"
        )
    return path


@dataclass(frozen=True, slots=True)
class CustomRoute:
    """A handler of the user for some methods of one path."""

    path: str
    methods: frozenset[str]
    handler: RouteHandler
    pattern: re.Pattern[str] | None = None
    """What the path matches; None where it has no variables."""

    @staticmethod
    def checked(path: Any, methods: Any) -> tuple[re.Pattern[str] | None, frozenset[str]]:
        """The pattern of a path, and the methods in upper case. Raises TypeError or ValueError for what no request can have."""
        pattern = _pattern(path_of(path, '@mcp.custom_route("{}")'))
        names = [methods] if isinstance(methods, str) else list(methods) if isinstance(methods, Iterable) else [methods]
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f'methods= is a list of HTTP methods, as in methods=["POST"], not {methods!r:.80}')
        if not names or not all(name.isalpha() for name in names):
            raise ValueError(f'methods= names at least one HTTP method, as in methods=["POST"], not {methods!r:.80}')
        return pattern, frozenset(name.upper() for name in names)


def _pattern(path: str) -> re.Pattern[str] | None:
    names = [name for name, _ in _VARIABLE.findall(path)]
    plain = _VARIABLE.sub("", path)
    if "{" in plain or "}" in plain:
        raise ValueError(
            f"{path!r} has braces that name no parameter: write {{name}}, or {{name:path}} for what has slashes"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"{path!r} names a parameter twice")
    if not names:
        return None
    expression, end = "", 0
    for found in _VARIABLE.finditer(path):
        name, kind = found.groups()
        if kind not in _MATCHES:
            raise ValueError(
                f"{{{name}:{kind}}}: parameters of a path are text; write {{{name}}} and convert in the handler"
            )
        expression += f"{re.escape(path[end : found.start()])}(?P<{name}>{_MATCHES[kind]})"
        end = found.end()
    return re.compile(expression + re.escape(path[end:]))


class CustomPaths:
    """The handlers by path and method. Paths without variables come first, the others in the order of registration."""

    def __init__(self, routes: Iterable[CustomRoute], threads: trio.CapacityLimiter) -> None:
        self._threads = threads
        self._plain: dict[str, dict[str, RouteHandler]] = {}
        self._patterns: dict[re.Pattern[str], dict[str, RouteHandler]] = {}
        for route in routes:
            handlers = (
                self._plain.setdefault(route.path, {})
                if route.pattern is None
                else self._patterns.setdefault(route.pattern, {})
            )
            handlers.update(dict.fromkeys(route.methods, route.handler))

    def __contains__(self, path: str) -> bool:
        return self._find(path) is not None

    async def answer(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the handler of `path`, and send what it returns. 405 for a method that has none, 413 for too large a body."""
        found = self._find(path)
        assert found is not None, path
        handlers, path_params = found
        scope = {**scope, "path_params": path_params}
        exchange = HttpExchange.over_asgi(scope, receive, send)
        handler = handlers.get(exchange.method) or handlers.get("GET" if exchange.method == "HEAD" else "")
        if handler is None:
            return await send_empty(send, 405, [(b"allow", ", ".join(sorted(handlers)).encode())])
        try:
            request = RouteRequest(scope, exchange, path_params)
            response = await call_user(handler, request, is_async=is_async(handler), limiter=self._threads)
        except BodyTooLarge:
            return await send_json(send, 413, b'{"error":"the body is too large"}', [])
        except UnreadableBody as fault:
            return await send_json(send, 400, encode({"error": str(fault)}), [])
        except ClientLeft:
            return
        await _respond(response, scope, receive, send)

    def _find(self, path: str) -> tuple[dict[str, RouteHandler], Mapping[str, str]] | None:
        if path in self._plain:
            return self._plain[path], {}
        for pattern, handlers in self._patterns.items():
            found = pattern.fullmatch(path)
            if found:
                return handlers, found.groupdict()
        return None


@dataclass(frozen=True, slots=True)
class Mount:
    """An ASGI app, or an MCPServer whose app is made later, under a prefix of paths."""

    prefix: str
    """It ends without a slash; empty for an app that gets every other path."""
    app: Any

    @classmethod
    def of(cls, prefix: Any, app: Any) -> Mount:
        """Check the prefix: raises ValueError for what is no path, TypeError for what is no text."""
        line = 'mcp.mount("{}", app)'
        if not isinstance(prefix, str):
            raise TypeError(f"a mount has a path first, as in {line.format('/site')}, not {prefix!r:.80}")
        return cls(path_of(prefix or "/", line).rstrip("/"), app)

    def matches(self, path: str) -> bool:
        """Whether `path` is the prefix or below it."""
        return path == self.prefix or path.startswith(self.prefix + "/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app with the prefix in `root_path` (ASGI HTTP scope).

        The prefix alone is the app's `/`: frameworks redirect an empty path, and MCP clients do not follow that.
        """
        scope = {**scope, "root_path": scope.get("root_path", "") + self.prefix}
        if scope["path"] == scope["root_path"]:
            scope["path"] += "/"
            if scope.get("raw_path"):
                scope["raw_path"] += b"/"
        await self.app(scope, receive, send)


def check_app(app: Any) -> None:
    """Raise TypeError unless `app` can be called as an ASGI app, as far as its signature tells."""
    if inspect.isclass(app) or not callable(app):
        raise TypeError(f"what is mounted is an ASGI app or an MCPServer, not {app!r:.80}")
    try:
        inspect.signature(app).bind({}, None, None)
    except TypeError:
        raise TypeError(f"{app!r:.80} is no ASGI app: those are called with (scope, receive, send)") from None
    except ValueError:
        return  # A builtin without a signature.


async def run_behind_boundary(app: ASGIApp, path: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Run a route or a mounted app; a crash is a 500 with a reference, and one log line.

    Once its response has begun, a crash is raised instead, and the server breaks the response off.
    """
    begun = False

    async def watched(message: Message) -> None:
        nonlocal begun
        begun = True
        await send(message)

    try:
        with user_code():
            await app(scope, receive, watched)
    except Exception as crash:  # the boundary of user code beside the endpoint
        if begun or isinstance(crash, ClientLeft):
            raise
        reference = report(logger, "route failed", crash, path=path)
        await send_json(send, 500, encode({"error": "internal error", "ref": reference}), [])
    except BaseExceptionGroup as group:
        raise without_crash(logger, "route failed", group, path=path) from None


async def _respond(response: RouteResponse, scope: Scope, receive: Receive, send: Send) -> None:
    status, answer = response if isinstance(response, tuple) else (204 if response is None else 200, response)
    if answer is None:
        return await send_empty(send, status, [])
    if isinstance(answer, str | bytes):
        return await _send_text(send, status, answer)
    if isinstance(answer, dict | list):
        return await send_json(send, status, encode(answer), [])
    await answer(scope, receive, send)


async def _send_text(send: Send, status: int, text: str | bytes) -> None:
    body = text.encode() if isinstance(text, str) else text
    kind = b"text/plain; charset=utf-8" if isinstance(text, str) else b"application/octet-stream"
    head = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
