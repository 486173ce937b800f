"""What a developer registers on a server: tools, resources, prompts and completions, session functions, other HTTP paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Unpack, overload

from trio_mcp.dispatch.session import Session
from trio_mcp.features.definition import AppOptions, Definition, PromptOptions, ResourceOptions, ToolOptions
from trio_mcp.features.functions import function_of, takes_one
from trio_mcp.features.prompts import Prompt
from trio_mcp.features.registry import Registry
from trio_mcp.features.resources import resource_of
from trio_mcp.features.task_options import TASKS, Task
from trio_mcp.features.tools import Tool
from trio_mcp.protocol.versions import V2025_06_18
from trio_mcp.transports.asgi import ASGIApp
from trio_mcp.transports.http.routes import CustomRoute, Mount, RouteHandler, check_app

if TYPE_CHECKING:
    from trio_mcp.auth.checks import Requirements
    from trio_mcp.dispatch.extension import Extension

__all__ = ["Registrar", "SessionFunction"]

C = TypeVar("C", bound=Definition)
F = TypeVar("F", bound=Callable[..., Any])
SessionFunction: TypeAlias = Callable[[Session], object]
H = TypeVar("H", bound=SessionFunction)
R = TypeVar("R", bound=RouteHandler)


class Registrar:
    """The decorators of `MCPServer`, and the `add_`, `remove_` and `mount` methods.

    They check what they are given at once. What cannot work raises TypeError or ValueError with the line to write instead, so
    that no registration fails later, in a client's call.
    """

    def __init__(self) -> None:
        self.registry: Registry = Registry()
        self.extensions: dict[str, Extension] = {}
        """The extensions of MCP that the server has, by identifier; `add_extension` adds one."""
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
        asked = _requirements(options)
        self._take_ui_option(options)
        self._take_task_option(options)
        self.registry.add(_guarded(Tool.of(function_of(fn, "mcp.tool(FN)"), **options), asked))

    def _take_task_option(self, options: ToolOptions) -> None:
        """Make `task=` what it is: an option for the extension of tasks, which the server then has."""
        task = Task.of(options.pop("task", None))
        if task is None:
            return
        options["extensions"] = {**(options.get("extensions") or {}), TASKS: task}
        if TASKS not in self.extensions:
            # Only a server that has such a tool loads this.
            from trio_mcp.tasks.extension import Tasks

            self.add_extension(Tasks())

    def _take_ui_option(self, options: ToolOptions) -> None:
        """Make `ui=` what it is: `_meta.ui`, and an option for the extension of apps, which the server then has."""
        given = options.pop("ui", None)
        if given is None:
            return
        # Only a server that has apps loads this.
        from trio_mcp.features.apps import tool_ui, with_ui
        from trio_mcp.protocol.app_types import UI

        ui = tool_ui(given)
        options["meta"] = with_ui(options.get("meta"), ui)
        options["extensions"] = {**(options.get("extensions") or {}), UI: ui}
        if UI not in self.extensions:
            from trio_mcp.dispatch.extension import Extension

            self.add_extension(Extension(UI, since=V2025_06_18, when_used=True))

    def app(self, uri: str, **options: Unpack[AppOptions]) -> Callable[[F], F]:
        """Register a function as the app at `uri`, a `ui://` URI: it returns the HTML that shows the results of tools (SEP-1865).

        A tool names its app with `@mcp.tool(ui="ui://sales/chart")`.

        Options, all of them keywords: `csp` (an `AppCsp`: the origins that it may use), `permissions` ("camera", "microphone",
        "geolocation", "clipboardWrite"), `domain`, `prefers_border`, and `name`, `title`, `description`, `icons`, `meta`, `auth`
        and `hide` as for `resource`. Raises ValueError for a URI that is taken or not of an app, an origin that is none and a
        permission that apps do not have; TypeError as `tool` does.
        """
        if not isinstance(uri, str):
            raise TypeError(f'an app has a URI, as in @mcp.app("ui://sales/chart"), not {uri!r:.80}')

        def register(fn: F) -> F:
            self.add_app(fn, uri, **options)
            return fn

        return register

    def add_app(self, fn: Callable[..., Any], uri: str, **options: Unpack[AppOptions]) -> None:
        """Register a function as the app at `uri`; options and errors as for `app`."""
        from trio_mcp.features.apps import app_resource

        asked = _requirements(options)
        self.registry.add(_guarded(app_resource(function_of(fn, f'mcp.app("{uri}")(FN)'), uri, **options), asked))

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
        asked = _requirements(options)
        self.registry.add(_guarded(resource_of(function_of(fn, f'mcp.resource("{uri}")(FN)'), uri, **options), asked))

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
        asked = _requirements(options)
        self.registry.add(_guarded(Prompt.of(function_of(fn, "mcp.prompt(FN)"), **options), asked))

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

    def add_extension(self, extension: Extension) -> None:
        """Give the server an extension of MCP (SEP-2133), as `MCPServer(extensions=[…])` does.

        One that runs something of its own beside requests has to be there before the server runs. Raises ValueError where the
        server has that extension, or one of its methods, already, TypeError for anything but an Extension.
        """
        from trio_mcp.dispatch.extension import Extension

        if not isinstance(extension, Extension):
            raise TypeError(f'an extension is made as Extension("com.example/echo"), not {extension!r:.80}')
        if extension.identifier in self.extensions:
            raise ValueError(f"the server has the extension {extension.identifier} already")
        extension.add_to(self.registry)
        self.extensions[extension.identifier] = extension

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


def _requirements(options: Any) -> Requirements | None:
    """What `auth=` and `hide=` ask, which are taken out of the options; None where there is neither."""
    auth, hide = options.pop("auth", None), options.pop("hide", False)
    if not isinstance(hide, bool) or (hide and auth is None):
        raise TypeError("hide= is True or False, and says how auth= affects lists: give auth= too")
    if auth is None:
        return None
    # Only a server that asks for something loads this.
    from trio_mcp.auth.checks import requirements

    return requirements(auth, hide=hide)


def _guarded(component: C, asked: Requirements | None) -> C:
    return component if asked is None else replace(component, requirements=asked)


def _hook(hooks: list[SessionFunction], kind: str, given: Any) -> Any:
    def register(fn: H) -> H:
        function = function_of(fn, f"mcp.{kind}(FN)")
        takes_one(function, "the session")
        hooks.append(function)
        return fn

    return register if given is None else register(given)
