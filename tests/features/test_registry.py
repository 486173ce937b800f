"""Everything a server offers."""

from __future__ import annotations

from typing import get_args

import pytest

from trio_mcp.features.prompts import Prompt
from trio_mcp.features.registry import ListKind, Registry
from trio_mcp.features.resources import Resource, ResourceTemplate, resource_of
from trio_mcp.features.tools import Tool
from trio_mcp.protocol.versions import V2026_07_28


def add(a: int) -> int:
    return a


def config() -> str:
    return ""


def listening() -> tuple[Registry, list[ListKind]]:
    registry, heard = Registry(), list[ListKind]()
    registry.on_change.append(heard.append)
    return registry, heard


def test_every_change_is_announced_with_its_kind() -> None:
    registry, heard = listening()
    registry.add(Tool.of(add))
    registry.add(resource_of(config, "config://app"))
    registry.add(resource_of(add, "number://{a}"))
    registry.add(Prompt.of(config))
    registry.remove("tools", "add")
    registry.remove("resources", "config://app")
    registry.remove("resources", "number://{a}")
    registry.remove("prompts", "config")
    assert heard == ["tools", "resources", "resources", "prompts"] * 2
    assert not any((registry.tools, registry.resources, registry.templates, registry.prompts))


def test_a_listener_sees_the_change_it_hears_of() -> None:
    registry = Registry()
    seen: list[int] = []
    registry.on_change.append(lambda kind: seen.append(len(registry.tools)))
    registry.add(Tool.of(add))
    registry.remove("tools", "add")
    assert seen == [1, 0]


def test_what_is_refused_is_not_announced() -> None:
    registry, heard = listening()
    registry.add(Tool.of(add))
    registry.add(resource_of(config, "config://app"))
    registry.add(Prompt.of(config))
    for again in (Tool.of(add), resource_of(config, "config://app"), Prompt.of(config)):
        with pytest.raises(ValueError, match="is already registered"):
            registry.add(again)
    with pytest.raises(ValueError, match="A tool's name"):
        Tool.of(add, name="a b")
    assert len(heard) == 3


def test_what_is_not_there_cannot_be_removed() -> None:
    registry, heard = listening()
    for kind in get_args(ListKind):
        with pytest.raises(KeyError):
            registry.remove(kind, "x")
    with pytest.raises(KeyError):
        registry.remove("resources", "a:{x}")
    assert heard == []


def test_a_uri_with_variables_is_a_template() -> None:
    registry, one, many = Registry(), resource_of(config, "config://app"), resource_of(add, "number://{a}")
    assert (type(one), type(many)) == (Resource, ResourceTemplate)
    registry.add(one)
    registry.add(many)
    assert (len(registry.resources), len(registry.templates)) == (1, 1)


def test_options_reach_what_is_registered() -> None:
    tool = Tool.of(add, name="plus", title="T", description="d", meta={"a": 1}, annotations={"title": "x"})
    assert tool.definition(V2026_07_28).items() >= {"name": "plus", "title": "T", "description": "d"}.items()
    resource = resource_of(config, "a:b", name="n", title="T", mime_type="x/y", size=1, description="d")
    assert resource.definition(V2026_07_28) == {
        "uri": "a:b", "name": "n", "title": "T", "description": "d", "mimeType": "x/y", "size": 1,
    }  # fmt: skip
    prompt = Prompt.of(config, name="p", title="T", description="d")
    assert prompt.definition(V2026_07_28) == {"name": "p", "title": "T", "description": "d"}
