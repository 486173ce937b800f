"""Schemas as clients can read them."""

from __future__ import annotations

import json
import logging
import math
import subprocess
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from tools.node import environment, node
from trio_mcp.features.client_schemas import readable
from trio_mcp.features.ecma_patterns import is_ecma_pattern
from trio_mcp.features.signature import Signature
from trio_mcp.features.tools import Tool
from trio_mcp.protocol.errors import InvalidArguments, LocalProtocolError
from trio_mcp.protocol.versions import V2026_07_28

GOOD = [
    "",
    "^[a-z]+$",
    r"^\d{3}-\d{4}$",
    r"(?<year>\d+)-\k<year>",
    r"(a)(b)?\2\1",
    r"(?<=a)b(?!c)(?:d|e)*?",
    r"\p{L}+\P{Lu}",
    r"[\w.-]+@[\w-]+",
    r"[^\]\\]",
    "[]",
    "[^]",
    "[a-]",
    r"\u{1F600}|\ud83d\ude00|😀",
    r"\x41\u0041\cA\0\t\/",
    r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$",
    "a{2}b{2,}c{2,3}?",
]
FOREIGN = [
    "(?i)^[a-z]+$",
    r"\Aab\Z",
    r"\Aab\z",
    r"(?P<name>a)",
    r"(?P=name)",
    "(?>a)b",
    "a++",
    "(?#note)a",
    "(?x) a",
    "(?i:a)",
    "(?(1)a|b)",
    "[[:alpha:]]]",
    r"\-",
    r"\_",
    r"[\d-x]",
    "[z-a]",
    "a{2,1}",
    "a{,3}",
    "{",
    "}",
    "]",
    "(",
    ")",
    "*a",
    "^*",
    r"\b+",
    "(?=a)*",
    r"\1",
    r"(a)\2",
    r"\k<n>",
    "(?<n>a)(?<n>b)",
    r"\h",
    r"\N{DASH}",
    r"\p{Greek}",
    r"\u{110000}",
    r"\01",
    "\\",
    "[",
]


@pytest.mark.parametrize("pattern", GOOD)
def test_what_javascript_reads_stays(pattern: str) -> None:
    assert is_ecma_pattern(pattern)


@pytest.mark.parametrize("pattern", FOREIGN)
def test_what_javascript_does_not_read_is_foreign(pattern: str) -> None:
    assert not is_ecma_pattern(pattern)


@given(st.text("ab-[](){}\\d1,^$*+?|:<>=!knpLux0. é😀", max_size=9))
def test_any_text_is_decided(pattern: str) -> None:
    assert is_ecma_pattern(pattern) in (True, False)


@pytest.mark.processes
def test_node_compiles_whatever_we_let_pass() -> None:
    pieces = [
        *"ab-[](){}^$*+?|:<>=!.,1",
        r"\d",
        r"\b",
        r"\1",
        "\\",
        "(?",
        "(?<n>",
        r"\k<n>",
        r"\p{L}",
        r"\u",
        "{1}",
        "é",
    ]
    made = [a + b + c + d for a in pieces for b in pieces for c in pieces for d in ("", "a", ")", "]", "?")]
    passed = [pattern for pattern in (*GOOD, *FOREIGN, *made) if is_ecma_pattern(pattern)]
    script = (
        "const all = JSON.parse(require('fs').readFileSync(0));"
        "console.log(JSON.stringify(all.filter((it) => { try { new RegExp(it, 'u'); } catch { return true; } })))"
    )
    done = subprocess.run(
        [str(node()), "-e", script],
        input=json.dumps(passed),
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    assert json.loads(done.stdout) == []
    assert len(passed) > 1_000


def test_a_foreign_pattern_is_left_out_warned_of_and_checked_here(caplog: pytest.LogCaptureFixture) -> None:
    def fn(code: Annotated[str, Field(pattern="(?i)^[a-z]+$", description="d")]) -> None: ...

    with caplog.at_level(logging.WARNING):
        signature = Signature(fn)
    assert signature.schema["properties"] == {"code": {"type": "string", "description": "d"}}
    [record] = caplog.records
    assert "fn: JavaScript cannot compile the pattern '(?i)^[a-z]+$'" in record.getMessage()
    assert signature.bind({"code": "Ab"}) == {"code": "Ab"}
    with pytest.raises(InvalidArguments, match="should match pattern"):
        signature.bind({"code": "1"})


@pytest.mark.parametrize("pattern", [r"^(?=.*\d).{2,}$", r"^(?=.*\d).{2,}\Z"])
def test_patterns_that_python_alone_compiles_are_checked_too(pattern: str) -> None:
    def fn(code: Any) -> None: ...

    fn.__annotations__ = dict.fromkeys(("code", "return"), Annotated[str, Field(pattern=pattern)])
    tool = Tool.of(fn)
    assert tool.output_schema is not None
    wanted = {"type": "string", "pattern": pattern} if is_ecma_pattern(pattern) else {"type": "string"}
    assert tool.input_schema["properties"] == {"code": wanted}
    assert tool.output_schema["properties"] == {"result": wanted}
    assert tool.bind({"code": "a1"}) == {"code": "a1"}
    assert tool.result("a1", V2026_07_28)["structuredContent"] == {"result": "a1"}
    with pytest.raises(InvalidArguments):
        tool.bind({"code": "ab"})
    with pytest.raises(LocalProtocolError):
        tool.result("ab", V2026_07_28)


def test_a_pattern_that_nothing_compiles_is_refused_at_registration() -> None:
    def fn(code: Annotated[str, Field(pattern="(")]) -> None: ...

    with pytest.raises(ValueError, match="fn: "):
        Signature(fn)


def test_a_foreign_pattern_of_a_result_is_checked_here(caplog: pytest.LogCaptureFixture) -> None:
    def fn() -> Annotated[str, Field(pattern="(?i)^[a-z]+$")]: ...  # type: ignore[empty-body]

    tool = Tool.of(fn)
    assert tool.output_schema is not None
    assert tool.output_schema["properties"] == {"result": {"type": "string"}}
    assert tool.result("Ab", V2026_07_28)["structuredContent"] == {"result": "Ab"}
    with pytest.raises(LocalProtocolError):
        tool.result("1", V2026_07_28)
    assert len(caplog.records) == 1


def test_a_foreign_pattern_in_a_schema_by_hand_is_left_out_on_the_wire_alone(caplog: pytest.LogCaptureFixture) -> None:
    given = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?i)^a$"}}}

    def fn(**arguments: Any) -> None: ...

    tool = Tool.of(fn, input_schema=given)
    assert tool.input_schema["properties"] == {"a": {"type": "string"}}
    assert given["properties"]["a"]["pattern"] == "(?i)^a$"  # type: ignore[index]
    assert tool.bind({"a": "A"}) == {"a": "A"}
    with pytest.raises(InvalidArguments):
        tool.bind({"a": "b"})
    assert len(caplog.records) == 1


def test_a_foreign_pattern_in_an_output_schema_by_hand_is_checked_here() -> None:
    def fn() -> None: ...

    given = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?i)^a$"}}}
    tool = Tool.of(fn, output_schema=given)
    assert tool.output_schema == {"type": "object", "properties": {"a": {"type": "string"}}}
    assert tool.result({"a": "A"}, V2026_07_28)["structuredContent"] == {"a": "A"}
    with pytest.raises(LocalProtocolError):
        tool.result({"a": "b"}, V2026_07_28)


def test_javascript_s_patterns_stay_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    def fn(
        code: Annotated[str, Field(pattern="^[a-z]+$")], by: dict[Annotated[str, Field(pattern="^a")], int]
    ) -> None: ...

    assert Signature(fn).schema["properties"] == {
        "code": {"type": "string", "pattern": "^[a-z]+$"},
        "by": {"type": "object", "patternProperties": {"^a": {"type": "integer"}}},
    }
    assert caplog.records == []


@pytest.mark.parametrize(
    ("part", "kept"),
    [
        ({"patternProperties": {"(?i)a": {"type": "integer"}}}, {"additionalProperties": {"type": "integer"}}),
        (
            {"patternProperties": {"(?i)a": {"type": "integer"}}, "additionalProperties": False},
            {"additionalProperties": {"type": "integer"}},
        ),
        (
            {"patternProperties": {"(?i)a": {}}, "additionalProperties": {"type": "null"}},
            {"additionalProperties": True},
        ),
        (
            {"patternProperties": {"(?i)a": {"type": "integer"}, "(?i)b": {}}},
            {"additionalProperties": {"anyOf": [{"type": "integer"}, {}]}},
        ),
        ({"default": {"pattern": "(?i)"}, "enum": [{"pattern": "(?i)"}]}, {"enum": [{"pattern": "(?i)"}]}),
    ],
)
def test_names_that_a_foreign_pattern_allowed_are_still_allowed(part: Any, kept: Any) -> None:
    found = readable({"type": "object", **part}, "fn")
    assert {key: found[key] for key in found if key not in ("type", "default")} == kept


# --- definitions


class Unit(Enum):
    METRE = "m"


class Small(BaseModel):
    """Said once."""

    unit: Unit = Unit.METRE


class Node(BaseModel):
    children: list[Node] = []


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


Large = type("Large", (BaseModel,), {"__annotations__": {f"member_{at}": Literal["x" * 60, "y"] for at in range(40)}})


def test_enums_and_models_stand_where_they_are_used() -> None:
    def fn(small: Annotated[Small, Field(description="here")], unit: Unit = Unit.METRE) -> None: ...

    unit = {"enum": ["m"], "title": "Unit", "type": "string", "default": "m"}
    assert Signature(fn).schema == {
        "type": "object",
        "properties": {
            "small": {
                "title": "Small",
                "description": "here",
                "type": "object",
                "properties": {"unit": unit},
            },
            "unit": unit,
        },
        "required": ["small"],
    }


def test_what_recurses_stays_a_definition() -> None:
    def fn(node: Node, small: Small) -> None: ...

    schema = Signature(fn).schema
    assert set(schema["$defs"]) == {"Node"}
    assert schema["properties"]["node"] == {"$ref": "#/$defs/Node"}


def test_what_is_large_and_used_twice_stays_a_definition_and_what_is_used_once_does_not() -> None:
    def twice(a: Large, b: Large) -> None: ...  # type: ignore[valid-type]

    def once(a: Large) -> None: ...  # type: ignore[valid-type]

    assert set(Signature(twice).schema["$defs"]) == {"Large"}
    assert "$defs" not in Signature(once).schema


def test_definitions_that_double_with_each_level_do_not_explode() -> None:
    kind: Any = Small
    for level in range(20):
        kind = type(f"Level{level}", (BaseModel,), {"__annotations__": {"left": kind, "right": kind}})

    def fn(a: Any) -> None: ...

    fn.__annotations__["a"] = kind
    assert len(json.dumps(Signature(fn).schema)) < 40_000


@pytest.mark.parametrize("kind", [Cat | Dog, list[Annotated[Cat | Dog, Field(discriminator="kind")]]])
def test_no_mapping_points_at_nothing(kind: Any) -> None:
    def fn(pet: Any) -> None: ...

    fn.__annotations__["pet"] = kind
    text = json.dumps(Signature(fn).schema)
    assert "#/$defs" not in text


def test_a_mapping_whose_definitions_stay_stays() -> None:
    class Branch(BaseModel):
        kind: Literal["branch"]
        rest: list[Annotated[Branch | Leaf, Field(discriminator="kind")]] = []

    class Leaf(BaseModel):
        kind: Literal["leaf"]
        branch: Branch | None = None

    def fn(tree: Branch) -> None: ...

    fn.__annotations__["tree"] = Branch
    Branch.model_rebuild(_types_namespace={"Branch": Branch, "Leaf": Leaf})
    schema = Signature(fn).schema
    mapping = schema["$defs"]["Branch"]["properties"]["rest"]["items"]["discriminator"]["mapping"]
    assert mapping == {"branch": "#/$defs/Branch", "leaf": "#/$defs/Leaf"}
    assert set(schema["$defs"]) == {"Branch", "Leaf"}


def test_a_constraint_beside_a_reference_is_said_in_addition() -> None:
    schema = {
        "$ref": "#/$defs/A",
        "minLength": 3,
        "description": "d",
        "$defs": {"A": {"type": "string", "minLength": 1}},
    }
    assert readable(schema, "fn") == {
        "allOf": [{"type": "string", "minLength": 1}],
        "minLength": 3,
        "description": "d",
    }


# --- defaults


class WithDefaults(BaseModel):
    tag: str = None  # type: ignore[assignment]
    late: float = math.inf
    fine: str = "x"


@pytest.mark.parametrize(
    ("hint", "default", "told"),
    [
        (str, None, False),
        (str, "a", True),
        (str | None, None, True),
        (int, True, False),
        (int, "1", False),
        (float, 1, True),
        (float, math.inf, False),
        (float, math.nan, False),
        (list[int], None, False),
        (list[int], [], True),
        (list[int], [1], True),
        (list[int], ["x"], False),
        (list[float], [math.inf], False),
        (dict[str, int], {}, True),
        (dict[str, int], {"a": "x"}, False),
        (Annotated[int, Field(ge=5)], 1, False),
        (Annotated[int, Field(ge=5)], 5, True),
        (Literal["a"], "b", False),
        (Unit, Unit.METRE, True),
        (Any, None, True),
        (Any, "\ud800", False),
        (Small, None, False),
        (Node, None, False),
        (Small | None, None, True),
        (SecretStr, SecretStr("s"), False),
    ],
)
def test_no_default_is_told_that_its_own_type_refuses(hint: Any, default: Any, told: bool) -> None:
    def fn(a: Any = default) -> None: ...

    fn.__annotations__["a"] = hint
    signature = Signature(fn)
    assert ("default" in signature.schema["properties"]["a"]) is told
    assert "a" not in signature.required
    bound = signature.bind({})["a"]
    assert bound is default or bound == default


def test_the_same_holds_for_the_members_of_models() -> None:
    def fn(a: WithDefaults) -> WithDefaults: ...  # type: ignore[empty-body]

    tool = Tool.of(fn)
    wanted = {"tag": {"type": "string"}, "late": {"type": "number"}, "fine": {"type": "string", "default": "x"}}
    assert tool.input_schema["properties"]["a"]["properties"] == wanted
    assert tool.output_schema is not None
    assert tool.output_schema["properties"] == wanted
