"""What a developer registers for extensions of MCP: apps, skills, the options `task=` and `ui=` of tools, extensions of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from trio_mcp.features.definition import AppOptions, Definition, ToolOptions
from trio_mcp.features.functions import function_of
from trio_mcp.features.registry import Registry
from trio_mcp.features.task_options import TASKS, Task
from trio_mcp.protocol.versions import V2025_06_18

if TYPE_CHECKING:
    from trio_mcp.auth.checks import Check, Requirements
    from trio_mcp.dispatch.extension import Extension

__all__ = ["ExtensionRegistrar", "guarded", "requirements_of"]

C = TypeVar("C", bound=Definition)
F = TypeVar("F", bound=Callable[..., Any])


class ExtensionRegistrar:
    """The part of `Registrar` that is about extensions; each is loaded by the first thing that needs it."""

    def __init__(self) -> None:
        self.registry: Registry = Registry()
        self.extensions: dict[str, Extension] = {}
        """The extensions of MCP that the server has, by identifier; `add_extension` adds one."""

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

        asked = requirements_of(options)
        self.registry.add(guarded(app_resource(function_of(fn, f'mcp.app("{uri}")(FN)'), uri, **options), asked))

    def add_skill(
        self,
        folder: str | PathLike[str],
        *,
        prefix: str = "",
        auth: Check | Sequence[Check] | None = None,
        hide: bool = False,
    ) -> None:
        """Serve the skill in a folder (SEP-2640): its `SKILL.md` and the files beside and below it, as they are now.

        They are resources under `skill://NAME`, or `skill://PREFIX/NAME`, whose SHA-256 digests clients are told, so that a change of
        a file is served when the server starts anew. `auth` and `hide` are as for `tool`. Needs PyYAML: `trio-mcp[skills]`.

        Raises ValueError for a folder that is no skill, or larger than clients must take, and for one that is served already;
        OSError when it cannot be read.
        """
        from trio_mcp.dispatch.skills import Skills
        from trio_mcp.features.skills import SKILLS, read_skill

        skill = read_skill(Path(folder), prefix).guarded(requirements_of({"auth": auth, "hide": hide}))
        taken = next((each.uri for each in skill.resources if each.uri in self.registry.resources), None)
        if taken is not None:
            raise ValueError(f"{taken} is served already: choose another prefix=")
        extension = self.extensions.get(SKILLS)
        if not isinstance(extension, Skills):
            extension = Skills()
            self.add_extension(extension)
        extension.catalog.add(skill.uri, skill)
        for resource in skill.resources:
            self.registry.add(resource)

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


def requirements_of(options: Any) -> Requirements | None:
    """What `auth=` and `hide=` ask, which are taken out of the options; None where there is neither."""
    auth, hide = options.pop("auth", None), options.pop("hide", False)
    if not isinstance(hide, bool) or (hide and auth is None):
        raise TypeError("hide= is True or False, and says how auth= affects lists: give auth= too")
    if auth is None:
        return None
    # Only a server that asks for something loads this.
    from trio_mcp.auth.checks import requirements

    return requirements(auth, hide=hide)


def guarded(component: C, asked: Requirements | None) -> C:
    return component if asked is None else replace(component, requirements=asked)
