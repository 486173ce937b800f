"""Everything a server offers."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from difflib import get_close_matches
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
        self.changes = 0
        """Counts them: what was computed from an earlier state is stale."""
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

    def add_completion(self, ref: str, argument: str, fn: Callable[..., Any]) -> None:
        """Let a function complete an argument of a prompt or template, which may be registered later.

        Raises ValueError for an argument that a registered one does not have, or that is completed already.
        """
        arguments = self.arguments_of(ref)
        if arguments is not None and argument not in arguments:
            raise ValueError(_without_argument(ref, argument, arguments))
        self.completions.add(ref, argument, fn)
        self._count_change()

    def arguments_of(self, ref: str) -> tuple[str, ...] | None:
        """The arguments of a prompt, by its name, or of a resource, by its URI or template; None where there is none."""
        prompt, template = self.prompts.get(ref), self.templates.get(ref)
        if prompt is not None:
            return tuple(argument.name for argument in prompt.arguments)
        if template is not None:
            return template.guard.template.variables
        return () if ref in self.resources else None

    def lost_completions(self) -> list[tuple[str, str, str]]:
        """Completions that no client can ask for, as things are registered now: ref, argument, and what is wrong."""
        lost = []
        for ref, argument in self.completions:
            arguments = self.arguments_of(ref)
            if arguments is None:
                every = [each.name for each in self.prompts] + [each.uri_template for each in self.templates]
                lost.append((ref, argument, f"no prompt or resource template is {ref}{_near(ref, every)}"))
            elif argument not in arguments:
                lost.append((ref, argument, _without_argument(ref, argument, arguments)))
        return lost

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

    def _count_change(self) -> None:
        with self._lock:
            self.changes += 1

    def _announce(self, kind: Kind) -> None:
        self._count_change()
        for listener in list(self.on_change):
            listener(kind)
        for known in self._methods:
            method = known()
            if method is not None:
                method(kind)


def _without_argument(ref: str, argument: str, arguments: tuple[str, ...]) -> str:
    return f"{ref} has no argument {argument}{_near(argument, arguments)}"


def _near(given: str, known: Iterable[str]) -> str:
    near = get_close_matches(given, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known) or 'none'}"
