"""No result breaks the schema that promised it, in Ajv as here, and no client is lost over a schema.

The types are in `tests/clients/promises.py`, which real clients go through as well.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs
import pytest

from tests.clients.promises import CASES, SCHEMAS, mcp
from tools.node import PACKAGES, environment, node, package_file
from trio_mcp.features.tools import Tool
from trio_mcp.protocol.versions import V2025_11_25

TOOLS = {tool.name: tool for tool in mcp.registry.tools}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, _, value in CASES], ids=[name for name, _, _ in CASES]
)
def test_a_result_of_every_type_fits_the_schema_that_promised_it(name: str, value: Any) -> None:
    tool = TOOLS[name]
    result = tool.result(value, V2025_11_25)
    assert tool.output_schema is not None
    # As clients get it: through JSON.
    sent = json.loads(json.dumps(result["structuredContent"], allow_nan=False))
    jsonschema_rs.validator_for(tool.output_schema, validate_formats=True).validate(sent)


@pytest.mark.processes
def test_ajv_with_formats_takes_every_result_and_compiles_every_schema() -> None:
    package_file("ajv-formats/package.json")
    cases = list(_for_ajv())
    done = subprocess.run(
        [str(node()), "tests/clients/ajv.mjs", str(PACKAGES)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    verdicts = json.loads(done.stdout)
    assert len(verdicts) == 2 * len(cases)
    assert {name: verdict for name, verdict in verdicts.items() if verdict != "ok"} == {}


def _for_ajv() -> Iterator[dict[str, Any]]:
    for name, _, value in CASES:
        schema = TOOLS[name].output_schema
        sent = TOOLS[name].result(value, V2025_11_25)["structuredContent"]
        yield {"name": name, "schema": schema, "value": sent, "patterns": list(_patterns(schema))}
    for tool in TOOLS.values():
        yield {
            "name": f"{tool.name} input",
            "schema": tool.input_schema,
            "patterns": list(_patterns(tool.input_schema)),
        }
    by_hand = TOOLS["by_hand"].output_schema
    yield {"name": "by hand", "schema": by_hand, "value": {"code": "Ab"}, "patterns": list(_patterns(by_hand))}


def _patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        if isinstance(schema.get("patternProperties"), dict):
            yield from schema["patternProperties"]
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _patterns(part)


@pytest.mark.parametrize("fn", SCHEMAS)
def test_every_reference_and_every_mapping_has_its_definition(fn: Callable[..., Any]) -> None:
    schema = Tool.of(fn).input_schema
    text = json.dumps(schema)
    for name in set(schema.get("$defs", ())):
        assert f'"#/$defs/{name}"' in text
    assert text.count("#/$defs/") == sum(text.count(f'"#/$defs/{name}"') for name in schema.get("$defs", ()))
    assert "mapping" not in text
