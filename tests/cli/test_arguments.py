from typing import Any

import pytest

from trio_mcp.cli.arguments import UsageError, parse_arguments, undeclared

SCHEMA = {
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "either": {"type": ["string", "integer"]},
        "choice": {"enum": ["1", "2"]},
        "loose": True,
    }
}


def test_a_name_that_comes_twice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^n is given twice: leave one out, or write a list as n='\[1, 2\]'$"):
        parse_arguments(["n=1", "m=1", "n=2"], {})


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("text=12345", "12345"),
        ("text=true", "true"),
        ('text="quoted"', '"quoted"'),
        ("text=a=b", "a=b"),
        ("text=", ""),
        ("count=-1", -1),
        ("count=many", "many"),
        ("maybe=null", None),
        ("maybe=5", "5"),
        ("either=5", 5),
        ("either=1.5", "1.5"),
        ("choice=1", "1"),
        ("loose=5", 5),
        ('undeclared={"a":[1]}', {"a": [1]}),
        ("undeclared=plain", "plain"),
    ],
)
def test_a_value_is_what_the_schema_wants_else_json_else_text(pair: str, value: Any) -> None:
    assert list(parse_arguments([pair], SCHEMA).values()) == [value]


@pytest.mark.parametrize("pair", ["plain", "=5", ""])
def test_what_is_not_name_value_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match="expected an argument such as city=Berlin"):
        parse_arguments([pair], {})


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ({"properties": {"a": {}}}, ["b"]),
        ({"properties": {"a": {}}, "additionalProperties": False}, ["b"]),
        ({"properties": {"a": {}}, "additionalProperties": True}, []),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "integer"}}, []),
        ({"properties": {"a": {}}, "patternProperties": {"^b": {}}}, []),
        ({"properties": {}}, []),
        ({"properties": {}, "additionalProperties": False}, ["a", "b"]),
        ({"additionalProperties": False}, ["a", "b"]),
        ({"properties": {"a": {}}, "allOf": [{"properties": {"b": {}}}]}, []),
        ({"properties": {"a": {}}, "$ref": "#/$defs/x"}, []),
        ({"properties": {"a": {}}, "required": ["a"], "title": "T"}, ["b"]),
        ({}, []),
    ],
)
def test_arguments_that_a_schema_does_not_name(schema: dict[str, Any], names: list[str]) -> None:
    assert undeclared({"a": 1, "b": 2}, schema) == names
