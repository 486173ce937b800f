"""Prompts: their definitions in `prompts/list`, and arguments and results of `prompts/get`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack, get_args

from trio_mcp.features.content import block, is_block
from trio_mcp.features.definition import Definition, PromptOptions, check_options, own_name_of, shared_fields
from trio_mcp.features.json_values import sendable
from trio_mcp.features.signature import Signature
from trio_mcp.features.validation_text import shown
from trio_mcp.protocol import field_versions
from trio_mcp.protocol.errors import INTERNAL_ERROR, InvalidArguments, InvalidParams, LocalProtocolError
from trio_mcp.protocol.types import PromptArgument, Role
from trio_mcp.protocol.wire import to_wire, wire_name

__all__ = ["Prompt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt(Definition):
    """Messages that begin a conversation, which users pick by name; `Prompt.of` makes one."""

    arguments: tuple[PromptArgument, ...] = ()

    @classmethod
    def of(cls, fn: Callable[..., Any], **options: Unpack[PromptOptions]) -> Prompt:
        """From a function's name, docstring and parameters.

        Raises ValueError for a prompt that clients could not use, TypeError for an unknown option or one of the wrong type.
        """
        check_options("a prompt", options, PromptOptions)
        name = own_name_of(fn, options)
        if not name or name == "<lambda>":
            raise ValueError("A prompt needs a name: give one with name=")
        signature = Signature(fn)
        return cls(**shared_fields(fn, signature, options, name), arguments=_arguments(signature))

    def definition(self, version: str) -> dict[str, Any]:
        """The prompt as `prompts/list` of a protocol version has it."""
        return field_versions.prompt(self.fields(arguments=to_wire(self.arguments) or None), version)

    def bind(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Keyword arguments for the function, without its context; raises InvalidParams.

        An optional argument that is null is left out, and so is one that is empty where its type takes no empty text:
        forms send every field they show.
        """
        required = self.signature.required
        arguments = {name: value for name, value in arguments.items() if value is not None or name in required}
        for name, value in arguments.items():
            if not isinstance(value, str):
                raise InvalidParams(f"The argument {name[:64]} of a prompt is a string; got {shown(value)}")
        try:
            return self.signature.bind(arguments, blank="")
        except InvalidArguments as error:
            raise InvalidParams(str(error)) from None

    def result(self, value: Any, version: str) -> dict[str, Any]:
        """The GetPromptResult of a return value: text, blocks and messages, one or a list; raises LocalProtocolError."""
        result: dict[str, Any] = {"description": self.description} if self.description else {}
        if wire_name(value) == "GetPromptResult":
            result |= field_versions.own_result(to_wire(value))
            messages = result["messages"]
        else:
            messages = value if isinstance(value, list | tuple) else [value]
        result["messages"] = [_gated(_message(item), version) for item in messages if item is not None]
        sent: dict[str, Any] = sendable(result)
        return sent


def _arguments(signature: Signature) -> tuple[PromptArgument, ...]:
    return tuple(
        PromptArgument(name, description=schema.get("description"), required=name in signature.required)
        for name, schema in signature.schema["properties"].items()
    )


def _message(item: Any) -> dict[str, Any]:
    """One message as it is sent; without a role it is the user's."""
    if not (isinstance(item, str) or is_block(item)):
        wire = to_wire(item)
        if isinstance(wire, dict) and wire.keys() >= {"role", "content"}:
            if wire["role"] not in get_args(Role):
                raise LocalProtocolError(
                    INTERNAL_ERROR, f"A prompt's message has the role user or assistant: {wire!r:.200}"
                )
            content = wire["content"]
            return {"role": wire["role"], "content": content if isinstance(content, dict) else block(content)}
    return {"role": "user", "content": block(item)}


def _gated(message: dict[str, Any], version: str) -> dict[str, Any]:
    return {**message, "content": field_versions.content_block(message["content"], version)}
