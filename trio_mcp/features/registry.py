"""Everything a server offers: a catalog each of tools, resources, templates and prompts, and the completions."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from trio_mcp.features.completions import Completions
from trio_mcp.features.prompts import Prompt
from trio_mcp.features.resources import Resource, ResourceTemplate
from trio_mcp.features.tools import Tool
from trio_mcp.features.uri_template import is_template
from trio_mcp.protocol.app_types import UI

if TYPE_CHECKING:
    from trio_mcp.auth.checks import Requirements

__all__ = ["Catalog", "ListKind", "Registry"]

ListKind: TypeAlias = Literal["tools", "resources", "prompts"]
"""Which list a change is about; templates are resources."""


class Listed(Protocol):
    """What a catalog has."""

    def definition(self, version: str) -> dict[str, Any]:
        """The item as lists of a protocol version have it."""
        ...


T = TypeVar("T", bound=Listed)


class Catalog(Generic[T]):
    """Tools, resources or prompts in order of registration, the same on every node; `version` counts changes.

    Any thread may change it. Iteration reads a copy, and the cached definitions carry the version they were made of.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.version: int = 0
        self._items: dict[str, T] = {}
        self._definitions: dict[str, tuple[int, list[tuple[T, dict[str, Any]]]]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._items.values()))

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def get(self, key: str) -> T | None:
        """The item of that name or URI."""
        return self._items.get(key)

    def add(self, key: str, item: T) -> None:
        """Raises ValueError if the key is taken."""
        with self._lock:
            if key in self._items:
                raise ValueError(
                    f"{self.kind} {key!r} is already registered: take another for this one, or remove that one first"
                )
            self._items[key] = item
            self.version += 1

    def remove(self, key: str) -> T:
        """Raises KeyError if there is none."""
        with self._lock:
            if key not in self._items:
                raise KeyError(f"no {self.kind.lower()} {key!r} is registered")
            item = self._items.pop(key)
            self.version += 1
        return item

    def page(
        self, protocol_version: str, offset: int, limit: int, shown: Callable[[T], bool] | None = None
    ) -> tuple[list[dict[str, Any]], int | None]:
        """`limit` definitions from `offset` on, and the next offset or None at the end. The cache shares them: do not change them.

        `shown` says which items this caller is shown; None: all.
        """
        version, definitions = self._definitions.get(protocol_version, (-1, []))
        if version != self.version:
            # The version is read first: an item that is added meanwhile changes it, and the definitions are made again.
            version = self.version
            definitions = [(item, item.definition(protocol_version)) for item in self]
            self._definitions[protocol_version] = version, definitions
        if shown is not None:
            definitions = [(item, definition) for item, definition in definitions if shown(item)]
        end = offset + limit
        return [definition for _, definition in definitions[offset:end]], end if end < len(definitions) else None


_KINDS: dict[type, str] = {
    Tool: "Tool",
    Resource: "Resource",
    ResourceTemplate: "Resource template",
    Prompt: "Prompt",
}
"""What error messages call them."""


class Registry:
    """Tools, resources, templates, prompts and completions.

    The functions in `on_change`, and the methods given to `call_on_change`, are called with each change, in the thread that
    makes it.
    """

    def __init__(self) -> None:
        self.tools: Catalog[Tool] = Catalog(_KINDS[Tool])
        self.resources: Catalog[Resource] = Catalog(_KINDS[Resource])
        self.templates: Catalog[ResourceTemplate] = Catalog(_KINDS[ResourceTemplate])
        self.prompts: Catalog[Prompt] = Catalog(_KINDS[Prompt])
        self.completions: Completions = Completions()
        self.changes: int = 0
        """How often anything was added or removed: what was computed at another number is stale."""
        self.extension_methods: dict[str, Requirements | None] = {}
        """The request methods of extensions, with what each asks of the token of its caller."""
        self.check_requirements: Callable[[dict[str, Requirements]], None] | None = None
        """Raises for components that may not be served, by name as in `requirements`; called with each new one that asks something
        of its callers. None where all may be."""
        self.on_change: list[Callable[[ListKind], None]] = []
        self._methods: tuple[weakref.WeakMethod[Callable[[ListKind], None]], ...] = ()
        self._lock = threading.Lock()

    def called_tool(self, params: Mapping[str, Any]) -> Tool | None:
        """The tool that a `tools/call` with these params names; None where there is none, or where they name none."""
        name = params.get("name")
        return self.tools.get(name) if isinstance(name, str) else None

    def call_on_change(self, method: Callable[[ListKind], None]) -> None:
        """Call a method at each change, as long as its object exists."""
        with self._lock:
            self._methods = (*(known for known in self._methods if known() is not None), weakref.WeakMethod(method))

    def add(self, item: Tool | Resource | ResourceTemplate | Prompt) -> None:
        """Add to what is offered; raises ValueError for a name or URI that is taken, and what `check_requirements` raises."""
        if self.check_requirements is not None and item.requirements is not None:
            self.check_requirements({f"{_KINDS[type(item)].lower()} {item.name!r}": item.requirements})
        match item:
            case Tool():
                self.tools.add(item.name, item)
                self._announce("tools")
            case Resource():
                self.resources.add(item.uri, item)
                self._announce("resources")
            case ResourceTemplate():
                self.templates.add(item.uri_template, item)
                self._announce("resources")
            case Prompt():
                self.prompts.add(item.name, item)
                self._announce("prompts")

    def add_completion(self, ref: str, argument: str, fn: Callable[..., Any]) -> None:
        """Let a function complete an argument of a prompt or template, which may be registered later.

        Raises ValueError for an argument that a registered one does not have, or that is completed already.
        """
        arguments = self.arguments_of(ref)
        if arguments is not None and argument not in arguments:
            raise ValueError(_without_argument(ref, argument, arguments))
        self.completions.add(ref, argument, fn)
        self._count_change()

    def add_methods(self, methods: Mapping[str, Requirements | None]) -> None:
        """Note the request methods of an extension; raises ValueError for a name that is taken, and what `check_requirements` raises."""
        taken = self.extension_methods.keys() & methods.keys()
        if taken:
            raise ValueError(f"another extension has the method {', '.join(sorted(taken))}: choose another name")
        if self.check_requirements is not None:
            self.check_requirements(_guarded(methods))
        self.extension_methods |= methods
        self._count_change()

    def resource_at(self, uri: str) -> Resource | ResourceTemplate | None:
        """The resource of that URI, else the first template that it matches."""
        found = self.resources.get(uri)
        return found or next((template for template in self.templates if template.match(uri) is not None), None)

    def requirements(self) -> dict[str, Requirements]:
        """What is asked of callers, by components as errors name them; those that ask nothing are left out."""
        catalogs: tuple[Catalog[Any], ...] = (self.tools, self.resources, self.templates, self.prompts)
        components = {
            f"{catalog.kind.lower()} {item.name!r}": item.requirements
            for catalog in catalogs
            for item in catalog
            if item.requirements is not None
        }
        return components | _guarded(self.extension_methods)

    def arguments_of(self, ref: str) -> tuple[str, ...] | None:
        """The arguments of a prompt, by its name, or of a resource, by its URI or template; None where there is none."""
        prompt, template = self.prompts.get(ref), self.templates.get(ref)
        if prompt is not None:
            return tuple(argument.name for argument in prompt.arguments)
        if template is not None:
            return template.guard.template.variables
        return () if ref in self.resources else None

    def lost_completions(self) -> list[tuple[str, str, str]]:
        """The completions whose prompt, template or argument is not registered: ref, argument, and what is wrong."""
        lost = []
        for ref, argument in self.completions:
            arguments = self.arguments_of(ref)
            if arguments is None:
                every = [each.name for each in self.prompts] + [each.uri_template for each in self.templates]
                lost.append((ref, argument, f"no prompt or resource template is {ref}{_near(ref, every)}"))
            elif argument not in arguments:
                lost.append((ref, argument, _without_argument(ref, argument, arguments)))
        return lost

    def lost_apps(self) -> list[tuple[str, str]]:
        """The tools whose app is not registered, each with the app's URI: no client could show their results with it."""
        named = [(tool.name, tool.extensions.get(UI, {}).get("resourceUri")) for tool in self.tools]
        return [(tool, uri) for tool, uri in named if uri is not None and uri not in self.resources]

    def lost_extensions(self, known: Iterable[str]) -> list[tuple[str, str, str]]:
        """The tools with options for an extension that is not among those `known`: tool, identifier, and what there is."""
        asked = [(tool.name, identifier) for tool in self.tools for identifier in tool.extensions]
        return [
            (tool, identifier, f"the server has no extension {identifier}{_near(identifier, known)}")
            for tool, identifier in asked
            if identifier not in known
        ]

    def remove(self, kind: ListKind, key: str) -> None:
        """Remove from what is offered; `key` is a name, a URI or the text of a template. Raises KeyError if there is none."""
        match kind:
            case "tools":
                self.tools.remove(key)
            case "resources":
                (self.templates if is_template(key) else self.resources).remove(key)
            case "prompts":
                self.prompts.remove(key)
        self._announce(kind)

    def _count_change(self) -> None:
        with self._lock:
            self.changes += 1

    def _announce(self, kind: ListKind) -> None:
        self._count_change()
        for listener in list(self.on_change):
            listener(kind)
        for known in self._methods:
            method = known()
            if method is not None:
                method(kind)


def _guarded(methods: Mapping[str, Requirements | None]) -> dict[str, Requirements]:
    return {f"method {name!r}": asked for name, asked in methods.items() if asked is not None}


def _without_argument(ref: str, argument: str, arguments: tuple[str, ...]) -> str:
    return f"{ref} has no argument {argument}{_near(argument, arguments)}"


def _near(given: str, known: Iterable[str]) -> str:
    near = get_close_matches(given, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known) or 'none'}"
