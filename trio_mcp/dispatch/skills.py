"""The extension `io.modelcontextprotocol/skills` (SEP-2640, 2026-07-28): `skills/list`, `skills/get`, `resources/directory/read`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.discovery import cache_hints, list_page
from trio_mcp.dispatch.extension import Extension
from trio_mcp.dispatch.extension_port import Answer
from trio_mcp.features.registry import Catalog, Registry
from trio_mcp.features.skills import SKILLS, Skill
from trio_mcp.protocol.errors import InvalidParams
from trio_mcp.protocol.jsonrpc import string_param
from trio_mcp.protocol.versions import V2026_07_28

if TYPE_CHECKING:
    from trio_mcp.auth.checks import Requirements

__all__ = ["Skills"]


class Skills(Extension):
    """Given to a server by its first `mcp.add_skill`, and declared as long as it has a skill.

    Clients need not declare it: they only list and read.
    """

    def __init__(self) -> None:
        super().__init__(SKILLS, settings={"directoryRead": True}, since=V2026_07_28)
        self.catalog: Catalog[Skill] = Catalog("Skill")
        self.add_method("skills/list", self._list, declared_only=False)
        self.add_method("skills/get", self._get, declared_only=False, guard=self._guard)
        self.add_method("resources/directory/read", self._read_directory, declared_only=False, guard=self._guard)

    def declared(self, registry: Registry, version: str) -> Mapping[str, Any] | None:
        """Its settings, while there is a skill whose resources are registered."""
        return (
            super().declared(registry, version)
            if any(each.uri in registry.resources for each in self.catalog)
            else None
        )

    async def _guard(self, call: Call) -> tuple[Requirements, ...]:
        uri = call.params.get("uri")
        skill = self._at(uri) if isinstance(uri, str) else None
        return () if skill is None or skill.requirements is None else (skill.requirements,)

    def _at(self, uri: str) -> Skill | None:
        """The skill that a URI is of, or in."""
        return next((each for each in self.catalog if f"{uri}/".startswith(f"{each.root}/")), None)

    async def _list(self, call: Call) -> Answer:
        return list_page(call, self.catalog, "skills")

    async def _get(self, call: Call) -> Answer:
        uri = string_param(call.params, "uri")
        skill = self.catalog.get(uri)
        if skill is None:
            raise InvalidParams(f"No skill is served at {uri[:256]}")
        hints = cache_hints(call, seconds=call.service.options.cache_ttl, shared=False)
        return {"skill": skill.definition(call.version), **hints}

    async def _read_directory(self, call: Call) -> Answer:
        uri = string_param(call.params, "uri")
        skill = self._at(uri)
        children = None if skill is None else skill.children(uri, call.version)
        if children is None:
            raise InvalidParams(f"{uri[:256]} is not a directory resource")
        return {"resources": children}
