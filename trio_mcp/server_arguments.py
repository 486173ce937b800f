"""The arguments of `MCPServer` and its `run`: checked, and those of other MCP packages accepted or refused with what to write."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, cast

from trio_mcp.dispatch.options import Options
from trio_mcp.features.functions import describe, shown, takes_one

__all__ = [
    "RunDefaults",
    "Transport",
    "check_arguments",
    "check_auth",
    "lifespan_function",
    "run_settings",
    "transport_of",
]

if TYPE_CHECKING:
    from trio_mcp.auth.bearer_auth import BearerAuth
    from trio_mcp.auth.principal import Authenticate

Transport: TypeAlias = Literal["stdio", "http", "streamable-http"]
"""`http` and `streamable-http` are the same."""

_TRANSPORTS: dict[str, Literal["stdio", "http"]] = {"stdio": "stdio", "http": "http", "streamable-http": "http"}


def transport_of(given: Any) -> Literal["stdio", "http"]:
    """The transport by its name or alias; raises ValueError for any other."""
    if isinstance(given, str) and given in _TRANSPORTS:
        return _TRANSPORTS[given]
    if given == "sse":
        raise ValueError('the transport "sse" (HTTP+SSE of 2024-11-05) is not served: write mcp.run("http")')
    near = get_close_matches(str(given).lower().replace("_", "-"), _TRANSPORTS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "there are 'stdio' and 'http'"
    raise ValueError(f"unknown transport {given!r}, {hint}")


class RunDefaults(TypedDict, total=False):
    """The settings that `MCPServer` takes for its `run`."""

    host: str
    port: int
    log_level: str
    debug: bool
    """Log level DEBUG."""
    json_response: bool
    streamable_http_path: str
    """Another name of the path of the endpoint, `path=` of `run`."""


_NOT_HERE = {
    "dependencies": "list packages in pyproject.toml or requirements.txt, and leave it out",
    "stateless_http": "leave it out: clients of 2026-07-28 have no session, and older ones need theirs",
    "sse_path": "leave it out: HTTP+SSE is not served",
    "message_path": "leave it out: HTTP+SSE is not served",
    "mount_path": "leave it out, and see mcp.http_app() for mounting",
    "transport_security": 'write mcp.run("http", allowed_hosts=[…], allowed_origins=[…])',
    "token_verifier": "write auth=BearerAuth(verifier, resource=…, authorization_servers=[…]), from trio_mcp.auth",
    "auth_server_provider": "run an authorization server beside, and write auth=BearerAuth.from_issuer(…), from trio_mcp.auth",
    "event_store": "leave it out: streams are resumable as they are",
    "middleware": "wrap mcp.http_app(), which is an ASGI app",
    "tags": "leave it out",
    "tools": "register them: mcp.add_tool(fn)",
    "resources": "register them: mcp.add_resource(fn, uri)",
    "prompts": "register them: mcp.add_prompt(fn)",
    "tool_serializer": "return the text from the tool",
    "warn_on_duplicate_tools": "leave it out: a name that is taken is a ValueError",
    "warn_on_duplicate_resources": "leave it out: a URI that is taken is a ValueError",
    "warn_on_duplicate_prompts": "leave it out: a name that is taken is a ValueError",
    "on_duplicate_tools": "leave it out: a name that is taken is a ValueError",
    "on_duplicate_resources": "leave it out: a URI that is taken is a ValueError",
    "on_duplicate_prompts": "leave it out: a name that is taken is a ValueError",
    "show_banner": "leave it out: on stdio there is none, and logs in JSON have a line instead",
}
"""Arguments of other MCP packages that do not exist here, and what to do instead."""


def run_settings(given: Mapping[str, Any], transport: str) -> dict[str, Any]:
    """The settings by our names.

    Raises TypeError for an argument of other packages that does not exist here, and on stdio for one that only HTTP has.
    """
    settings = _by_our_names(given)
    if transport == "stdio" and settings:
        from trio_mcp.serving.settings_report import of_http

        if without_effect := sorted(settings.keys() & of_http()):
            raise TypeError(
                f'{without_effect[0]}= means nothing on stdio: write mcp.run("http", {without_effect[0]}=…)'
            )
    return settings


def _by_our_names(given: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, value in given.items():
        if name in _NOT_HERE:
            raise TypeError(f"{name}= does not exist here: {_NOT_HERE[name]}")
        if name == "debug":
            if value:
                settings.setdefault("log_level", "DEBUG")
        elif name == "streamable_http_path":
            settings["path"] = value
        elif name == "log_level" and given.get("debug"):
            settings["log_level"] = "DEBUG"
        else:
            settings[name] = value
    return settings


_TEXT = (str, "text")
_ARGUMENTS: dict[str, tuple[Any, str]] = {
    "name": _TEXT,
    "instructions": _TEXT,
    "version": _TEXT,
    "title": _TEXT,
    "description": _TEXT,
    "website_url": _TEXT,
    "icons": ((list, tuple), "a list of Icon"),
    "options": (Options, "an Options(…)"),
    "mask_errors": (bool, "True or False"),
    "extensions": ((list, tuple), "a list of Extension"),
}


def check_arguments(given: Mapping[str, Any]) -> None:
    """Raise TypeError for an argument of `MCPServer` of the wrong type, or one it does not have."""
    for name, (kind, words) in _ARGUMENTS.items():
        value = given[name]
        if not isinstance(value, kind) and (value is not None or name in ("name", "version")):
            raise TypeError(f"{name}= of MCPServer is {words}, not {value!r:.80}")
    check_auth(given["auth"], given["authenticate"])
    known = RunDefaults.__annotations__
    for name in given["settings"]:
        if name not in known and name not in _NOT_HERE:
            near = get_close_matches(name, (*_ARGUMENTS, "lifespan", "auth", *known), n=1)
            hint = f"did you mean {near[0]}=?" if near else f'settings go to mcp.run("http", {name}=…)'
            raise TypeError(f"MCPServer has no argument {name}=; {hint}")


def check_auth(auth: Any, authenticate: Any = None) -> BearerAuth | Authenticate | None:
    """What judges requests, by `auth=` or its old name: a verifier of tokens becomes a BearerAuth.

    Raises TypeError for anything else but a function of one argument, and for both, AuthConfigurationError for a verifier that
    needs more than itself.
    """
    if auth is not None and authenticate is not None:
        raise TypeError("authenticate= is the old name of auth=: leave it out")
    name, given = ("auth", auth) if authenticate is None else ("authenticate", authenticate)
    if given is None or inspect.isroutine(given):
        _check_function(given, name)
        return cast("Authenticate | None", given)
    # Loaded already where it is used; a server without authorization does without it.
    from trio_mcp.auth.bearer_auth import BearerAuth

    if isinstance(given, BearerAuth):
        return given
    if hasattr(given, "verify_token") and not inspect.isclass(given):
        return BearerAuth(given)
    _check_function(given, name)
    return cast("Authenticate", given)


def _check_function(given: Any, name: str) -> None:
    if given is None:
        return
    line = f"async def {name}(request) -> Principal | None: ..."
    if inspect.isclass(given) or not callable(given):
        kinds = "an async or sync function" if name == "authenticate" else "a BearerAuth, or an async or sync function"
        raise TypeError(f"{name}= is {kinds}, not {shown(given)}. Write\n{line}")
    try:
        takes_one(given, "the request")
    except TypeError as error:
        raise TypeError(f"{name}= is wrong: {error}. Write\n{line}") from None
    except ValueError:
        raise TypeError(
            f"{name}= gives a Principal or None, and {describe(given)} is a generator. Write\n{line}"
        ) from None


def lifespan_function(given: Any) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
    """The lifespan as a function that gives an async context manager; an async generator function is decorated.

    Raises TypeError for anything else.
    """
    line = "@asynccontextmanager\nasync def lifespan(server): ...; yield ..."
    if inspect.isasyncgenfunction(given):
        return asynccontextmanager(given)
    if not callable(given):
        raise TypeError(f"lifespan= is a function that is called with the server, not {given!r:.80}. Write\n{line}")
    # A generator function, too, where @contextmanager is around it: that one is not async.
    if inspect.iscoroutinefunction(given) or inspect.isgeneratorfunction(inspect.unwrap(given)):
        raise TypeError(f"{given.__name__} does not give an async context manager. Write\n{line}")
    try:
        inspect.signature(given).bind(object())
    except TypeError as error:
        raise TypeError(f"lifespan= is called with the server alone: {error}. Write\n{line}") from None
    except ValueError:
        pass  # A builtin without a signature.
    function: Callable[[Any], AbstractAsyncContextManager[Any]] = given
    return function
