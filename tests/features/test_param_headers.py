"""Arguments that are repeated in headers."""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from trio_mcp.features.param_headers import ParamHeader, decode_sentinel, mismatch, param_headers
from trio_mcp.features.signature import Signature


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def tagged(name: Any = "Region", type: Any = "string", **more: Any) -> dict[str, Any]:
    return {"type": type, "x-mcp-header": name, **more}


REGION = param_headers(schema(region=tagged()))
COUNT = param_headers(schema(count=tagged("Count", "integer")))
FORCE = param_headers(schema(force=tagged("Force", "boolean")))


def disagree(params: tuple[ParamHeader, ...], arguments: dict[str, Any], *values: str) -> str | None:
    return mismatch(lambda name: list(values) if name == params[0].header else [], arguments, params)


# --- at registration


def test_an_annotated_parameter_has_its_header() -> None:
    def fn(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "eu") -> None: ...

    assert param_headers(Signature(fn).schema) == (ParamHeader("Mcp-Param-Region", ("region",), "string"),)


def test_a_nested_property_is_reached_through_properties() -> None:
    nested = schema(a=schema(b=tagged("B", "integer")))
    assert param_headers(nested) == (ParamHeader("Mcp-Param-B", ("a", "b"), "integer"),)


def test_a_schema_without_annotations_has_none() -> None:
    assert param_headers(schema(a={"type": "string"})) == ()


@pytest.mark.parametrize("name", ["", "a b", "a:b", "é", "a\n", None, 3, ["Region"]])
def test_a_name_that_no_header_can_have_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="region"):
        param_headers(schema(region=tagged(name)))


@pytest.mark.parametrize("type", ["number", "array", "object", "null", None, ["string", "null"]])
def test_a_type_that_no_header_can_repeat_is_refused(type: Any) -> None:
    with pytest.raises(ValueError, match="region"):
        param_headers(schema(region=tagged(type=type)))


def test_a_name_used_twice_is_refused_in_whatever_case() -> None:
    with pytest.raises(ValueError, match=r"inputSchema.b: .* already the header of a"):
        param_headers(schema(a=tagged("Region"), b=tagged("REGION")))


@pytest.mark.parametrize(
    ("where", "place"),
    [
        ({"items": tagged()}, "items"),
        ({"prefixItems": [tagged()]}, "prefixItems"),
        ({"oneOf": [schema(a=tagged())]}, "oneOf"),
        ({"anyOf": [tagged()]}, "anyOf"),
        ({"allOf": [schema(a=tagged())]}, "allOf"),
        ({"not": tagged()}, "not"),
        ({"if": schema(a=tagged())}, "if"),
        ({"then": schema(a=tagged())}, "then"),
        ({"else": schema(a=tagged())}, "else"),
        ({"$defs": {"x": tagged()}}, "defs.x"),
        ({"patternProperties": {".": tagged()}}, "patternProperties"),
        ({"additionalProperties": tagged()}, "additionalProperties"),
        ({"x-mcp-header": "Region"}, "inputSchema"),
    ],
)
def test_a_place_without_a_certain_path_is_refused(where: dict[str, Any], place: str) -> None:
    with pytest.raises(ValueError, match=f"{place}.*reached through nothing but properties"):
        param_headers({"type": "object", **where})


def test_a_property_that_happens_to_be_called_so_is_only_a_property() -> None:
    assert param_headers(schema(**{"x-mcp-header": {"type": "string"}})) == ()


def test_data_in_a_schema_is_not_searched() -> None:
    assert param_headers(schema(a={"default": tagged(), "enum": [tagged()], "const": tagged()})) == ()


# --- at a call


@pytest.mark.parametrize(
    ("params", "arguments", "value"),
    [
        (REGION, {"region": "eu"}, "eu"),
        (REGION, {"region": "eu"}, " \teu\t "),
        (REGION, {"region": "é"}, "=?base64?w6k=?="),
        (REGION, {"region": ""}, ""),
        (REGION, {"region": "=?BASE64?w6k=?="}, "=?BASE64?w6k=?="),
        (COUNT, {"count": 42}, "42"),
        (COUNT, {"count": 42}, "42.0"),
        (COUNT, {"count": 42}, "4.2e1"),
        (COUNT, {"count": 42.0}, "42"),
        (COUNT, {"count": -(2**53 - 1)}, "-9007199254740991"),
        (FORCE, {"force": True}, "true"),
        (FORCE, {"force": False}, "false"),
    ],
)
def test_a_header_that_repeats_its_argument_agrees(
    params: tuple[ParamHeader, ...], arguments: dict[str, Any], value: str
) -> None:
    assert disagree(params, arguments, value) is None


@pytest.mark.parametrize(
    ("params", "arguments", "value"),
    [
        (REGION, {"region": "eu"}, "us"),
        (REGION, {"region": "eu"}, "EU"),
        (REGION, {"region": "eu"}, "=?base64?dXM=?="),
        (COUNT, {"count": 42}, "43"),
        (COUNT, {"count": 42}, "0x2a"),
        (COUNT, {"count": 42}, "4_2"),
        (COUNT, {"count": 42}, "NaN"),
        (COUNT, {"count": 42}, "1e999999999"),
        (COUNT, {"count": 42}, "٤٢"),
        (COUNT, {"count": 2**53}, "9007199254740992"),
        (COUNT, {"count": True}, "1"),
        (FORCE, {"force": True}, "True"),
        (FORCE, {"force": True}, "1"),
        (REGION, {"region": ["eu"]}, "eu"),
    ],
)
def test_a_header_that_says_something_else_is_a_mismatch(
    params: tuple[ParamHeader, ...], arguments: dict[str, Any], value: str
) -> None:
    assert str(disagree(params, arguments, value)).startswith(params[0].header)


def test_a_given_argument_needs_its_header() -> None:
    assert disagree(REGION, {"region": "eu"}) == "Mcp-Param-Region is missing while the argument region is given"
    assert disagree(FORCE, {"force": False}) is not None


@pytest.mark.parametrize("arguments", [{}, {"region": None}])
def test_an_argument_that_is_null_or_absent_expects_none(arguments: dict[str, Any]) -> None:
    assert disagree(REGION, arguments) is None


def test_a_header_without_its_argument_is_a_mismatch() -> None:
    assert disagree(REGION, {}, "eu") == "Mcp-Param-Region is given while the argument region is not"


def test_a_header_given_twice_is_a_mismatch_even_if_both_agree() -> None:
    assert disagree(REGION, {"region": "eu"}, "eu", "eu") == "Mcp-Param-Region is given more than once"


@pytest.mark.parametrize("value", ["e\x00u", "e\x7fu", "é", "e\nu"])
def test_a_header_with_characters_no_header_may_have_is_a_mismatch(value: str) -> None:
    assert "characters" in str(disagree(REGION, {"region": value}, value))


@pytest.mark.parametrize("value", ["=?base64?!!!?=", "=?base64?dXM?=", "=?base64?dXN=?=", "=?base64?/w==?="])
def test_a_malformed_sentinel_is_a_mismatch(value: str) -> None:
    assert "base64" in str(disagree(REGION, {"region": "us"}, value))


def test_an_argument_no_header_can_repeat_is_left_to_its_own_check() -> None:
    assert disagree(REGION, {"region": ["eu"]}) is None


@pytest.mark.parametrize("arguments", [{}, {"a": None}, {"a": 1}, {"a": []}, {"a": {}}])
def test_a_nested_argument_may_be_missing_at_any_depth(arguments: dict[str, Any]) -> None:
    assert disagree(param_headers(schema(a=schema(b=tagged()))), arguments) is None


def test_the_first_disagreement_is_told() -> None:
    params = param_headers(schema(a=tagged("A"), b=tagged("B")))
    assert mismatch(lambda name: ["x"], {"a": "x", "b": "y"}, params) == "Mcp-Param-B does not match the argument b"


# --- the sentinel


@pytest.mark.parametrize(
    "value", ["x", "", "=?base64?", "?=", "=?base64?=", "=?Base64?dXM=?=", "dXM=?=", "=?base64?dXM="]
)
def test_a_value_that_is_no_sentinel_is_literal(value: str) -> None:
    assert decode_sentinel(value) == value


def test_an_empty_sentinel_is_an_empty_text() -> None:
    assert decode_sentinel("=?base64??=") == ""


@given(st.text())
def test_any_text_survives_the_sentinel(text: str) -> None:
    assert decode_sentinel(f"=?base64?{b64encode(text.encode()).decode()}?=") == text


@given(st.text(), st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()))
def test_hostile_headers_and_arguments_only_ever_disagree(value: str, argument: Any) -> None:
    for params in (REGION, COUNT, FORCE):
        result = disagree(params, {params[0].path[0]: argument}, value)
        assert result is None or isinstance(result, str)
