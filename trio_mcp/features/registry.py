"""Everything a server offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from trio_mcp.features.catalog import Catalog
from trio_mcp.features.completions import Completions
from trio_mcp.features.prompts import Prompt
from trio_mcp.features.resources import Resource, ResourceTemplate
from trio_mcp.features.tools import Tool
from trio_mcp.features.uri_template import is_template

__all__ = ["Kind", "Registry"]

Kind: TypeAlias = Literal["tools", "resources", "prompts"]
"""Which list a change is about; templates are resources."""


class Registry:
    """Tools, resources, templates, prompts and completions; the listeners in `on_change` hear of a change at once."""

    def __init__(self) -> None:
        self.tools: Catalog[Tool] = Catalog("Tool")
        self.resources: Catalog[Resource] = Catalog("Resource")
        self.templates: Catalog[ResourceTemplate] = Catalog("Resource template")
        self.prompts: Catalog[Prompt] = Catalog("Prompt")
        self.completions = Completions()
        self.on_change: list[Callable[[Kind], None]] = []

    def add_tool(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: Any = None,
        icons: Any = None,
        meta: dict[str, Any] | None = None,
        input_schema: dict[str, Any] | None = None,
        output_schema: dict[str, Any] | None = None,
        structured_output: bool | None = None,
    ) -> Tool:
        """Offer a function as a tool; raises ValueError for what clients could not use, or a name that is taken."""
        tool = Tool.of(
            fn,
            name=name,
            title=title,
            description=description,
            annotations=annotations,
            icons=icons,
            meta=meta,
            input_schema=input_schema,
            output_schema=output_schema,
            structured_output=structured_output,
        )
        self.tools.add(tool.name, tool)
        self._announce("tools")
        return tool

    def add_resource(
        self,
        fn: Callable[..., Any],
        uri: str,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        mime_type: str | None = None,
        size: int | None = None,
        annotations: Any = None,
        icons: Any = None,
        meta: dict[str, Any] | None = None,
    ) -> Resource | ResourceTemplate:
        """Offer what a function reads under `uri`, a template where it has {variables}; raises ValueError."""
        common: dict[str, Any] = {
            "name": name,
            "title": title,
            "description": description,
            "mime_type": mime_type,
            "annotations": annotations,
            "icons": icons,
            "meta": meta,
        }
        resource: Resource | ResourceTemplate
        if is_template(uri):
            resource = ResourceTemplate.of(fn, uri, **common)
            self.templates.add(uri, resource)
        else:
            resource = Resource.of(fn, uri, size=size, **common)
            self.resources.add(uri, resource)
        self._announce("resources")
        return resource

    def add_prompt(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        icons: Any = None,
        meta: dict[str, Any] | None = None,
    ) -> Prompt:
        """Offer a function as a prompt; raises ValueError."""
        prompt = Prompt.of(fn, name=name, title=title, description=description, icons=icons, meta=meta)
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
