"""Tools: their definitions in `tools/list`, and arguments and results of `tools/call`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Unpack

import msgspec

from trio_mcp.features.client_schemas import without_foreign_patterns
from trio_mcp.features.content import blocks, text_block
from trio_mcp.features.definition import Definition, ToolOptions, check_options, own_name_of, shared_fields
from trio_mcp.features.functions import describe
from trio_mcp.features.json_values import SHORTEST_BEYOND, json_value, sendable, with_text
from trio_mcp.features.outputs import Output, output_of, output_with
from trio_mcp.features.param_headers import ParamHeader, param_headers
from trio_mcp.features.schemas import Validator
from trio_mcp.features.signature import Signature
from trio_mcp.features.validation_text import clean
from trio_mcp.protocol import field_versions
from trio_mcp.protocol.types import CallToolResult
from trio_mcp.protocol.wire import to_wire, wire_name

__all__ = ["Tool", "error_result"]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
"""2025-11-25 server/tools#tool-names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool(Definition):
    """A function that clients may call; `Tool.of` makes one."""

    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None = None
    param_headers: tuple[ParamHeader, ...] = ()
    extensions: Mapping[str, Any] = field(default_factory=dict)
    """What it asks of extensions, by their identifier."""
    _validator: Validator | None = field(default=None, repr=False)
    _output: Output | None = field(default=None, repr=False)
    _scalar: type | None = field(default=None, repr=False)

    @classmethod
    def of(cls, fn: Callable[..., Any], **options: Unpack[ToolOptions]) -> Tool:
        """From a function's name, docstring and annotations.

        An `input_schema` is sent unchanged, but for patterns that JavaScript cannot compile, and checked before the
        annotations are. Raises ValueError for a name or schema that clients could not use, TypeError for an unknown option or
        one of the wrong type.
        """
        check_options("a tool", options, ToolOptions)
        name = _checked_name(own_name_of(fn, options))
        by_hand = options.get("input_schema")
        signature = Signature(fn, open_ended=by_hand is not None)
        schema = signature.schema
        if by_hand is not None:
            schema = without_foreign_patterns(_object_schema(by_hand, name), name)
        output = _output(fn, options.get("output_schema"), options.get("structured_output"))
        return cls(
            **shared_fields(fn, signature, options, name),
            input_schema=schema,
            output_schema=output.schema if output else None,
            param_headers=param_headers(schema),
            extensions=dict(options.get("extensions") or {}),
            _validator=None if by_hand is None else Validator(by_hand, what=f"the input_schema of {name}"),
            _output=output,
            _scalar=output.scalar if output else None,
        )

    @property
    def structured(self) -> bool:
        """Whether its results carry `structuredContent`."""
        return self._output is not None

    def definition(self, version: str) -> dict[str, Any]:
        """The tool as `tools/list` of a protocol version has it."""
        return field_versions.tool(self.fields(inputSchema=self.input_schema, outputSchema=self.output_schema), version)

    def bind(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Keyword arguments for the function, without its context; raises InvalidArguments."""
        if self._validator is not None:
            arguments = self._validator.fit(arguments)
        return self.signature.bind(arguments)

    def result(self, value: Any, version: str) -> dict[str, Any]:
        """The CallToolResult of a return value; raises LocalProtocolError when it does not fit the output schema."""
        if type(value) is self._scalar and (text := _scalar_text(value)) is not None:
            return _scalar_result(text if type(value) is str else value, text, version)
        if wire_name(value) == "CallToolResult":
            return self._explicit(field_versions.own_result(to_wire(_plain_result(value))), version)
        if self._output is None:
            return {"content": [field_versions.content_block(it, version) for it in blocks(value)], "isError": False}
        structured = self._output.structured(value)
        bare, encoded = with_text(structured["result"] if self._output.wrapped else structured)
        structured = {"result": bare} if self._output.wrapped else bare
        if len(encoded) >= SHORTEST_BEYOND:
            self._output.check_numbers(structured)
        content = [{"type": "text", "text": bare if isinstance(bare, str) else encoded}]
        if not field_versions.has_structured_content(structured, version):
            return {"content": content, "isError": False}
        return {"content": content, "structuredContent": structured, "isError": False}

    def _explicit(self, result: dict[str, Any], version: str) -> dict[str, Any]:
        """A CallToolResult that the handler made; unless it is an error, it must fit the output schema too."""
        result.setdefault("isError", False)
        structured = result.get("structuredContent")
        if self._output and not result["isError"]:
            self._output.checked(structured)
            self._output.check_numbers(structured)
        if structured is not None and not field_versions.has_structured_content(structured, version):
            del result["structuredContent"]
        result["content"] = [field_versions.content_block(it, version) for it in result.get("content", ())]
        sent: dict[str, Any] = sendable(result)
        return sent


def _plain_result(result: Any) -> Any:
    """A CallToolResult, ours or of `mcp-types`, with its structured content as a JSON value."""
    if isinstance(result, CallToolResult):
        return msgspec.structs.replace(result, structured_content=json_value(result.structured_content))
    for name in ("structured_content", "structuredContent"):
        if getattr(result, name, None) is not None:
            return result.model_copy(update={name: json_value(getattr(result, name))})
    return result


def error_result(text: str) -> dict[str, Any]:
    """An error result (`isError`) with a text for the model."""
    return {"content": [text_block(text)], "isError": True}


def _scalar_result(value: Any, text: str, version: str) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    if version < field_versions.STRUCTURED_OBJECTS_SINCE:
        return {"content": content, "isError": False}
    return {"content": content, "structuredContent": {"result": value}, "isError": False}


def _scalar_text(value: Any) -> str | None:
    """A scalar as text; None for a number that JSON cannot represent."""
    match value:
        case str():
            return clean(value)
        case bool():
            return "true" if value else "false"
        case int() if -_PLAIN < value < _PLAIN:
            return str(value)
        case float() if isfinite(value):
            return repr(value)
    return None


_PLAIN = 1 << 256
"""Larger integers take the general path: Python refuses to print some thousand digits, and that is reported there."""


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"A tool's name has 1 to 128 of A-Z a-z 0-9 _ . -, not {name!r}: give another with name=")
    return name


def _object_schema(schema: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise ValueError(f'The input_schema of {name} needs "type": "object" at its root')
    return schema


def _output(fn: Callable[..., Any], schema: dict[str, Any] | None, structured: bool | None) -> Output | None:
    if structured is False:
        return None
    if schema is not None:
        return output_with(schema, describe(fn))
    return output_of(fn, required=structured is True)
