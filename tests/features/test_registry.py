"""Everything a server offers."""

from __future__ import annotations

import pytest

from trio_mcp.features.registry import Kind, Registry
from trio_mcp.features.resources import Resource, ResourceTemplate
from trio_mcp.protocol.versions import V2026_07_28


def add(a: int) -> int:
    return a


def config() -> str:
    return ""


def listening() -> tuple[Registry, list[Kind]]:
    registry, heard = Registry(), list[Kind]()
    registry.on_change.append(heard.append)
    return registry, heard


def test_every_change_is_announced_with_its_kind() -> None:
    registry, heard = listening()
    registry.add_tool(add)
    registry.add_resource(config, "config://app")
    registry.add_resource(add, "number://{a}")
    registry.add_prompt(config)
    registry.remove_tool("add")
    registry.remove_resource("config://app")
    registry.remove_resource("number://{a}")
    registry.remove_prompt("config")
    assert heard == ["tools", "resources", "resources", "prompts"] * 2
    assert not any((registry.tools, registry.resources, registry.templates, registry.prompts))


def test_a_listener_sees_the_change_it_hears_of() -> None:
    registry = Registry()
    seen: list[int] = []
    registry.on_change.append(lambda kind: seen.append(len(registry.tools)))
    registry.add_tool(add)
    registry.remove_tool("add")
    assert seen == [1, 0]


def test_what_is_refused_is_not_announced() -> None:
    registry, heard = listening()
    registry.add_tool(add)
    registry.add_resource(config, "config://app")
    registry.add_prompt(config)
    for again in (
        lambda: registry.add_tool(add),
        lambda: registry.add_resource(config, "config://app"),
        lambda: registry.add_prompt(config),
        lambda: registry.add_tool(add, name="a b"),
    ):
        with pytest.raises(ValueError, match=r"is already registered|A tool's name"):
            again()
    assert len(heard) == 3


def test_what_is_not_there_cannot_be_removed() -> None:
    registry, heard = listening()
    for remove in (registry.remove_tool, registry.remove_resource, registry.remove_prompt):
        with pytest.raises(KeyError):
            remove("x")
    with pytest.raises(KeyError):
        registry.remove_resource("a:{x}")
    assert heard == []


def test_a_uri_with_variables_is_a_template() -> None:
    registry = Registry()
    assert isinstance(registry.add_resource(config, "config://app"), Resource)
    assert isinstance(registry.add_resource(add, "number://{a}"), ResourceTemplate)
    assert (len(registry.resources), len(registry.templates)) == (1, 1)


def test_options_reach_what_is_registered() -> None:
    registry = Registry()
    tool = registry.add_tool(add, name="plus", title="T", description="d", meta={"a": 1}, annotations={"title": "x"})
    assert tool.definition(V2026_07_28).items() >= {"name": "plus", "title": "T", "description": "d"}.items()
    resource = registry.add_resource(config, "a:b", name="n", title="T", mime_type="x/y", size=1, description="d")
    assert resource.definition(V2026_07_28) == {
        "uri": "a:b", "name": "n", "title": "T", "description": "d", "mimeType": "x/y", "size": 1,
    }  # fmt: skip
    prompt = registry.add_prompt(config, name="p", title="T", description="d")
    assert prompt.definition(V2026_07_28) == {"name": "p", "title": "T", "description": "d"}
