"""What a developer registers on a server: tools, resources, prompts and completions, session functions, other HTTP paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar, Unpack, overload

from trio_mcp.dispatch.session import Session
from trio_mcp.extension_registrar import ExtensionRegistrar, guarded, requirements_of
from trio_mcp.features.definition import Definition, PromptOptions, ResourceOptions, ToolOptions
from trio_mcp.features.functions import function_of, takes_one
from trio_mcp.features.prompts import Prompt
from trio_mcp.features.resources import resource_of
from trio_mcp.features.tools import Tool
from trio_mcp.transports.asgi import ASGIApp
from trio_mcp.transports.http.routes import CustomRoute, Mount, RouteHandler, check_app

__all__ = ["Registrar", "SessionFunction"]

C = TypeVar("C", bound=Definition)
F = TypeVar("F", bound=Callable[..., Any])
SessionFunction: TypeAlias = Callable[[Session], object]
H = TypeVar("H", bound=SessionFunction)
R = TypeVar("R", bound=RouteHandler)


class Registrar(ExtensionRegistrar):
    """The decorators of `MCPServer`, and the `add_`, `remove_` and `mount` methods.

    They check what they are given at once. What cannot work raises TypeError or ValueError with the line to write instead, so
    that no registration fails later, in a client's call.
    """

    def __init__(self) -> None:
        super().__init__()
        self._session_hooks: list[SessionFunction] = []
        self._restore_hooks: list[SessionFunction] = []
        self._routes: list[CustomRoute] = []
        self._mounts: list[Mount] = []

    # Tools, resources, prompts and completions.

    @overload
    def tool(self, fn: F, /, **options: Unpack[ToolOptions]) -> F: ...
    @overload
    def tool(self, name_given: str | None = None, /, **options: Unpack[ToolOptions]) -> Callable[[F], F]: ...
    def tool(self, given: Any = None, /, **options: Any) -> Any:
        """Register a function as a tool: `@mcp.tool`, `@mcp.tool("name", title=…)`, `mcp.tool(fn, name=…)`.

        Its parameters become the input schema, its return annotation the output schema, its docstring the description. A
        parameter annotated with `Context` gets the context and is not in the schema. A function that is not async runs in a
        worker thread.

        Options, all of them keywords: `name`, `title`, `description`, `icons`, `meta` (the `_meta` of the definition),
        `annotations` (hints such as `readOnlyHint`), `input_schema` and `output_schema` (JSON Schemas in place of those from
        the annotations), `structured_output` (True requires an output schema, False leaves it out), `auth` (what the caller's
        token must have, such as `require_scopes("mcp:write")`), `hide` (leave it out of lists for those without the scope),
        `ui` (the app that shows its results, see `app`), `task` (True or a `Task(…)`: a call that takes long becomes a task, for
        clients that take tasks), `extensions` (options for extensions of the server, by their identifier).

        Raises ValueError for a name that is taken, and for a name, schema or signature that clients could not call; TypeError
        for anything but a function, and for an unknown option or one of the wrong type.
        """
        return _decorate(self.add_tool, "tool", given, options)

    def add_tool(self, fn: Callable[..., Any], **options: Unpack[ToolOptions]) -> None:
        """Register a function as a tool; options and errors as for `tool`."""
        asked = requirements_of(options)
        self._take_ui_option(options)
        self._take_task_option(options)
        self.registry.add(guarded(Tool.of(function_of(fn, "mcp.tool(FN)"), **options), asked))

    def resource(self, uri: str, **options: Unpack[ResourceOptions]) -> Callable[[F], F]:
        """Register a function as the resource at `uri`; a URI with `{variables}` is a template (RFC 6570, levels 1 to 3).

        The function returns text, bytes, contents or anything that becomes JSON; None means that there is no such resource.

        Options, all of them keywords: `name`, `title`, `description`, `icons`, `meta`, `annotations` (audience, priority, last
        modified), `mime_type`, `size` (in bytes, not for templates), `auth` and `hide` as for `tool`.

        Raises ValueError for a URI that is taken or malformed, and for variables that are not the function's parameters;
        TypeError as `tool` does.
        """
        if not isinstance(uri, str):
            raise TypeError(f'a resource has a URI, as in @mcp.resource("config://app"), not {uri!r:.80}')

        def register(fn: F) -> F:
            self.add_resource(fn, uri, **options)
            return fn

        return register

    def add_resource(self, fn: Callable[..., Any], uri: str, **options: Unpack[ResourceOptions]) -> None:
        """Register a function as the resource at `uri`; options and errors as for `resource`."""
        if isinstance(fn, str) or not isinstance(uri, str):
            raise TypeError('a resource is added as mcp.add_resource(fn, "config://app")')
        asked = requirements_of(options)
        self.registry.add(guarded(resource_of(function_of(fn, f'mcp.resource("{uri}")(FN)'), uri, **options), asked))

    @overload
    def prompt(self, fn: F, /, **options: Unpack[PromptOptions]) -> F: ...
    @overload
    def prompt(self, name_given: str | None = None, /, **options: Unpack[PromptOptions]) -> Callable[[F], F]: ...
    def prompt(self, given: Any = None, /, **options: Any) -> Any:
        """Register a function as a prompt; it returns text, messages, or a list of them.

        Its parameters become the prompt's arguments. Options, all of them keywords: `name`, `title`, `description`, `icons`,
        `meta`, `auth`, `hide`. Forms, these options and errors as for `tool`.
        """
        return _decorate(self.add_prompt, "prompt", given, options)

    def add_prompt(self, fn: Callable[..., Any], **options: Unpack[PromptOptions]) -> None:
        """Register a function as a prompt; options and errors as for `prompt`."""
        asked = requirements_of(options)
        self.registry.add(guarded(Prompt.of(function_of(fn, "mcp.prompt(FN)"), **options), asked))

    def completion(self, ref: str = "", argument: str = "") -> Callable[[F], F]:
        """Register a function that suggests values for `argument` of `ref`, a prompt's name or a resource template's URI.

        The function takes `(value)` or `(value, arguments)`: the text typed so far, and the arguments already known. The prompt
        or template may be registered later; if there is none when the server starts, the log has a warning.

        Raises TypeError unless both are given, ValueError for a function with other parameters, and for an argument that a
        registered prompt or template does not have.
        """
        for given in (ref, argument):
            if not isinstance(given, str) or not given:
                raise TypeError(
                    'a completion names a prompt or URI template and an argument of it: @mcp.completion("ref", "argument")'
                )

        def register(fn: F) -> F:
            write = f'mcp.completion("{ref}", "{argument}")(FN)'
            self.registry.add_completion(ref, argument, function_of(fn, write))
            return fn

        return register

    def remove_tool(self, name: str) -> None:
        """Remove a tool, and notify clients that listen; raises KeyError if there is none."""
        self.registry.remove("tools", name)

    def remove_resource(self, uri: str) -> None:
        """Remove a resource or template, and notify clients that listen; raises KeyError if there is none."""
        self.registry.remove("resources", uri)

    def remove_prompt(self, name: str) -> None:
        """Remove a prompt, and notify clients that listen; raises KeyError if there is none."""
        self.registry.remove("prompts", name)

    # Functions that run in sessions.

    @overload
    def on_session(self, fn: H, /) -> H: ...
    @overload
    def on_session(self, fn: None = None, /) -> Callable[[H], H]: ...
    def on_session(self, fn: Any = None, /) -> Any:
        """Run `fn(session)` in the nursery of every session (protocol versions up to 2025-11-25).

        It is cancelled when the session ends; what it raises ends the session. A function that is not async runs in a worker
        thread. Raises TypeError for anything but a function of one argument.
        """
        return _hook(self._session_hooks, "on_session", fn)

    @overload
    def on_restore(self, fn: H, /) -> H: ...
    @overload
    def on_restore(self, fn: None = None, /) -> Callable[[H], H]: ...
    def on_restore(self, fn: Any = None, /) -> Any:
        """Run `fn(session)` when this node takes a session over from another, before its first request is handled.

        `@mcp.on_session` functions start after it. All `on_restore` functions together have 30 s; a later end, or an exception,
        ends the session with the reason `crashed`. A function that is not async runs in a worker thread. Raises TypeError for
        anything but a function of one argument.
        """
        return _hook(self._restore_hooks, "on_restore", fn)

    # Other HTTP paths.

    def custom_route(self, path: str, methods: str | Iterable[str] = ("GET",)) -> Callable[[R], R]:
        """Serve another path beside `/mcp`: `fn(request) -> str | bytes | dict | (status, body) | ASGI response`.

        `{name}` in the path is one segment, `{name:path}` the rest: `request.path_params["name"]`. `methods` are HTTP methods. A
        function that is not async runs in a worker thread. Raises ValueError for a path that no request can have, and for a path
        and method that are taken.
        """
        pattern, allowed = CustomRoute.checked(path, methods)

        def register(handler: R) -> R:
            fn = function_of(handler, f'mcp.custom_route("{path}")(FN)')
            takes_one(fn, "the request")
            route = CustomRoute(path, allowed, fn, pattern)
            for other in self._routes:
                if other.path == path and other.methods & allowed:
                    raise ValueError(
                        f"{path} has a handler for {', '.join(sorted(other.methods & allowed))} already: choose another path"
                    )
            self._routes.append(route)
            return handler

        return register

    def mount(self, prefix: str, app: ASGIApp | Registrar | None = None) -> None:
        """Serve another ASGI app, or another MCPServer, under a path prefix; its lifespan runs with this server's.

        The prefix answers with and without a slash at its end. The endpoint of a mounted server is `<prefix>/mcp`; it is served
        with the settings of this one, and with this one's `authenticate` unless it has its own. Raises ValueError for a prefix
        that is taken or no path, and for a server inside itself; TypeError for anything but an app.
        """
        if isinstance(prefix, Registrar) or app is None:
            raise TypeError('a mount has a path and an app: mcp.mount("/site", app)')
        if isinstance(app, Registrar):
            if app.reaches(self):
                raise ValueError("a server cannot be mounted into itself")
        else:
            check_app(app)
        mount = Mount.of(prefix, app)
        if any(other.prefix == mount.prefix for other in self._mounts):
            raise ValueError(f"something is mounted at {prefix} already: choose another prefix")
        self._mounts.append(mount)

    def reaches(self, other: Registrar) -> bool:
        """Whether this is the other server, or has it mounted somewhere below."""
        below = [mount.app for mount in self._mounts]
        return self is other or any(isinstance(app, Registrar) and app.reaches(other) for app in below)


def _decorate(add: Callable[..., None], kind: str, given: Any, options: dict[str, Any]) -> Any:
    """A decorator's result, with parentheses or without; its positional argument is the function or a name."""
    if given is not None and not isinstance(given, str):
        add(given, **options)
        return given
    if given is not None:
        if options.get("name") is not None:
            raise TypeError(
                f'the {kind} has two names, {given!r} and {options["name"]!r}: write @mcp.{kind}("{given}")'
            )
        options["name"] = given

    def register(fn: F) -> F:
        add(fn, **options)
        return fn

    return register


def _hook(hooks: list[SessionFunction], kind: str, given: Any) -> Any:
    def register(fn: H) -> H:
        function = function_of(fn, f"mcp.{kind}(FN)")
        takes_one(function, "the session")
        hooks.append(function)
        return fn

    return register if given is None else register(given)
