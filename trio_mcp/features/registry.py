"""Everything a server offers."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, Unpack

from trio_mcp.features.catalog import Catalog
from trio_mcp.features.completions import Completions
from trio_mcp.features.options import PromptOptions, ResourceOptions, ToolOptions
from trio_mcp.features.prompts import Prompt
from trio_mcp.features.resources import Resource, ResourceTemplate
from trio_mcp.features.tools import Tool
from trio_mcp.features.uri_template import is_template

__all__ = ["Kind", "Registry"]

Kind: TypeAlias = Literal["tools", "resources", "prompts"]
"""Which list a change is about; templates are resources."""


class Registry:
    """Tools, resources, templates, prompts and completions; the listeners in `on_change` hear of a change at once.

    So do the methods given to `call_on_change`. All of them are called in the thread that makes the change.
    """

    def __init__(self) -> None:
        self.tools: Catalog[Tool] = Catalog("Tool")
        self.resources: Catalog[Resource] = Catalog("Resource")
        self.templates: Catalog[ResourceTemplate] = Catalog("Resource template")
        self.prompts: Catalog[Prompt] = Catalog("Prompt")
        self.completions = Completions()
        self.on_change: list[Callable[[Kind], None]] = []
        self._methods: tuple[weakref.WeakMethod[Callable[[Kind], None]], ...] = ()
        self._lock = threading.Lock()

    def call_on_change(self, method: Callable[[Kind], None]) -> None:
        """Call a method of each change from now on, as long as somebody has its object."""
        with self._lock:
            self._methods = (*(known for known in self._methods if known() is not None), weakref.WeakMethod(method))

    def add_tool(self, fn: Callable[..., Any], **options: Unpack[ToolOptions]) -> Tool:
        """Offer a function as a tool; raises ValueError for what clients could not use, or a name that is taken."""
        tool = Tool.of(fn, **options)
        self.tools.add(tool.name, tool)
        self._announce("tools")
        return tool

    def add_resource(
        self, fn: Callable[..., Any], uri: str, **options: Unpack[ResourceOptions]
    ) -> Resource | ResourceTemplate:
        """Offer what a function reads under `uri`, a template where it has {variables}; raises ValueError."""
        resource: Resource | ResourceTemplate
        if is_template(uri):
            resource = ResourceTemplate.of(fn, uri, **options)
            self.templates.add(uri, resource)
        else:
            resource = Resource.of(fn, uri, **options)
            self.resources.add(uri, resource)
        self._announce("resources")
        return resource

    def add_prompt(self, fn: Callable[..., Any], **options: Unpack[PromptOptions]) -> Prompt:
        """Offer a function as a prompt; raises ValueError."""
        prompt = Prompt.of(fn, **options)
        self.prompts.add(prompt.name, prompt)
        self._announce("prompts")
        return prompt

    def remove_tool(self, name: str) -> None:
        """Raises KeyError if there is none."""
        self.tools.remove(name)
        self._announce("tools")

    def remove_resource(self, uri: str) -> None:
        """A resource, or a template by its text; raises KeyError if there is none."""
        (self.templates if is_template(uri) else self.resources).remove(uri)
        self._announce("resources")

    def remove_prompt(self, name: str) -> None:
        """Raises KeyError if there is none."""
        self.prompts.remove(name)
        self._announce("prompts")

    def _announce(self, kind: Kind) -> None:
        for listener in list(self.on_change):
            listener(kind)
        for known in self._methods:
            method = known()
            if method is not None:
                method(kind)
