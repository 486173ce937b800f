"""MCP's values as users write them: snake_case in Python, camelCase on the wire, nothing sent that was not set.

Source: schema.ts of 2025-11-25 and 2026-07-28, which agree on these. `protocol/field_versions` leaves out what an older
version does not know. The classes of the `mcp-types` package are accepted wherever these are.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
from msgspec import field

__all__ = [
    "Annotations",
    "AssistantMessage",
    "AudioContent",
    "BlobResourceContents",
    "CallToolResult",
    "Completion",
    "ContentBlock",
    "CreateMessageResult",
    "ElicitResult",
    "EmbeddedResource",
    "GetPromptResult",
    "Icon",
    "ImageContent",
    "Implementation",
    "ListRootsResult",
    "Made",
    "PromptArgument",
    "PromptMessage",
    "ReadResourceResult",
    "ResourceLink",
    "Role",
    "Root",
    "SamplingMessage",
    "TextContent",
    "TextResourceContents",
    "ToolAnnotations",
    "ToolResultContent",
    "ToolUseContent",
    "UserMessage",
    "WireType",
    "class_wire_name",
    "to_wire",
    "wire_name",
]

Role: TypeAlias = Literal["user", "assistant"]
Meta: TypeAlias = dict[str, Any]


class _AsOnTheWire(msgspec.StructMeta):
    """Takes the arguments of a class under their wire names too: `mimeType=` for `mime_type=`, `type="text"` where it is so."""

    if not TYPE_CHECKING:

        def __call__(cls, *args: Any, **fields: Any) -> Any:
            try:
                return super().__call__(*args, **fields)
            except TypeError:
                return super().__call__(*args, **_by_our_names(cls, fields))


def _by_our_names(cls: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Raises TypeError for a field that the class does not have, with those it has."""
    tag = cls.__struct_config__.tag
    ours = dict(zip(cls.__struct_encode_fields__, cls.__struct_fields__, strict=True))
    fields = {}
    for name, value in given.items():
        if name == "type" and tag is not None and name not in ours:
            if value != tag:
                raise TypeError(f"{cls.__name__} is of type {tag!r}, not {value!r:.80}: leave type= out")
        elif name in ours or name in cls.__struct_fields__:
            fields[ours.get(name, name)] = value
        else:
            raise TypeError(f"{cls.__name__} has no field {name}; it has {', '.join(cls.__struct_fields__)}")
    return fields


class WireType(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, metaclass=_AsOnTheWire):
    """Base of every class here: how a value of ours is told from a user's.

    Fields are read and given under their wire names as well (`result.isError`, `mimeType=`), and a block has its `type`.
    """

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            kind = type(self)
            if name == "type" and kind.__struct_config__.tag is not None:
                return kind.__struct_config__.tag
            for wire, ours in zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True):
                if wire == name:
                    return getattr(self, ours)
            raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")


class Icon(WireType, frozen=True):
    """`src` is an https: or data: URI; `sizes` are such as "48x48" or "any"."""

    src: str
    mime_type: str | None = None
    sizes: list[str] | None = None
    theme: Literal["light", "dark"] | None = None


class Annotations(WireType, frozen=True):
    """Hints to the client; `priority` goes from 0 to 1, `last_modified` is ISO 8601."""

    audience: list[Role] | None = None
    priority: float | None = None
    last_modified: str | None = None


class ToolAnnotations(WireType, frozen=True):
    """Hints only: clients must not trust them. Unset means not read-only, destructive, not idempotent, open world."""

    title: str | None = None
    read_only_hint: bool | None = None
    destructive_hint: bool | None = None
    idempotent_hint: bool | None = None
    open_world_hint: bool | None = None


class Implementation(WireType, frozen=True):
    """Who a client or server is."""

    name: str
    version: str
    title: str | None = None
    description: str | None = None
    website_url: str | None = None
    icons: list[Icon] | None = None


class TextResourceContents(WireType, frozen=True):
    """A resource's text."""

    uri: str
    text: str
    mime_type: str | None = None
    meta: Meta | None = field(default=None, name="_meta")


class BlobResourceContents(WireType, frozen=True):
    """A resource's bytes; `blob` is base64."""

    uri: str
    blob: str
    mime_type: str | None = None
    meta: Meta | None = field(default=None, name="_meta")

    @classmethod
    def of(cls, uri: str, data: bytes, mime_type: str | None = None) -> BlobResourceContents:
        """From the bytes themselves."""
        return cls(uri, _base64(data), mime_type)


if TYPE_CHECKING:
    ResourceContents: TypeAlias = TextResourceContents | BlobResourceContents
else:
    # msgspec decodes no union of untagged structs: what a client embeds stays the dict it sent.
    ResourceContents = Any


class TextContent(WireType, frozen=True, tag="text"):
    """Text."""

    text: str
    annotations: Annotations | None = None
    meta: Meta | None = field(default=None, name="_meta")


class ImageContent(WireType, frozen=True, tag="image"):
    """An image; `data` is base64."""

    data: str
    mime_type: str
    annotations: Annotations | None = None
    meta: Meta | None = field(default=None, name="_meta")

    @classmethod
    def of(cls, data: bytes, mime_type: str = "image/png") -> ImageContent:
        """From the bytes themselves."""
        return cls(_base64(data), mime_type)


class AudioContent(WireType, frozen=True, tag="audio"):
    """Sound; `data` is base64."""

    data: str
    mime_type: str
    annotations: Annotations | None = None
    meta: Meta | None = field(default=None, name="_meta")

    @classmethod
    def of(cls, data: bytes, mime_type: str = "audio/wav") -> AudioContent:
        """From the bytes themselves."""
        return cls(_base64(data), mime_type)


class ResourceLink(WireType, frozen=True, tag="resource_link"):
    """A resource the client may read later; text with the URI before 2025-06-18."""

    uri: str
    name: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None
    annotations: Annotations | None = None
    icons: list[Icon] | None = None
    meta: Meta | None = field(default=None, name="_meta")


class EmbeddedResource(WireType, frozen=True, tag="resource"):
    """A resource's contents, inline."""

    resource: ResourceContents
    annotations: Annotations | None = None
    meta: Meta | None = field(default=None, name="_meta")


ContentBlock: TypeAlias = TextContent | ImageContent | AudioContent | ResourceLink | EmbeddedResource


class CallToolResult(WireType, frozen=True):
    """A tool's whole result, when its return value alone cannot say it."""

    content: list[ContentBlock] = field(default_factory=list)
    structured_content: Any = None
    is_error: bool = False
    meta: Meta | None = field(default=None, name="_meta")


class ReadResourceResult(WireType, frozen=True):
    """A resource's whole result: one or more contents."""

    contents: list[ResourceContents]
    meta: Meta | None = field(default=None, name="_meta")


class PromptArgument(WireType, frozen=True):
    """One argument of a prompt; its value is a string."""

    name: str
    title: str | None = None
    description: str | None = None
    required: bool | None = None


class PromptMessage(WireType, frozen=True):
    """One message of a prompt; a string stands for a text block."""

    role: Role
    content: ContentBlock | str


class GetPromptResult(WireType, frozen=True):
    """A prompt's whole result."""

    messages: list[PromptMessage]
    description: str | None = None
    meta: Meta | None = field(default=None, name="_meta")


class Completion(WireType, frozen=True):
    """Suggestions for an argument; `total` counts those not sent as well."""

    values: list[str]
    total: int | None = None
    has_more: bool | None = None


class ToolUseContent(WireType, frozen=True, tag="tool_use"):
    """A model's wish to call a tool, in sampling."""

    id: str
    name: str
    input: dict[str, Any]
    meta: Meta | None = field(default=None, name="_meta")


class ToolResultContent(WireType, frozen=True, tag="tool_result"):
    """What a tool answered, in sampling."""

    tool_use_id: str
    content: list[ContentBlock] = field(default_factory=list)
    structured_content: Any = None
    is_error: bool = False
    meta: Meta | None = field(default=None, name="_meta")


SamplingContent: TypeAlias = TextContent | ImageContent | AudioContent | ToolUseContent | ToolResultContent


class SamplingMessage(WireType, frozen=True):
    """One message to or from a model, in sampling."""

    role: Role
    content: SamplingContent | list[SamplingContent]
    meta: Meta | None = field(default=None, name="_meta")


class CreateMessageResult(WireType, frozen=True):
    """What the client's model said."""

    role: Role
    content: SamplingContent | list[SamplingContent]
    model: str
    stop_reason: str | None = None
    meta: Meta | None = field(default=None, name="_meta")


class ElicitResult(WireType, frozen=True):
    """What the user did with a question; `content` comes with "accept" in form mode."""

    action: Literal["accept", "decline", "cancel"]
    content: dict[str, Any] | None = None
    meta: Meta | None = field(default=None, name="_meta")


class Root(WireType, frozen=True):
    """A place the client lets the server work in; `uri` is a file: URI."""

    uri: str
    name: str | None = None
    meta: Meta | None = field(default=None, name="_meta")


class ListRootsResult(WireType, frozen=True):
    """The client's roots."""

    roots: list[Root]
    meta: Meta | None = field(default=None, name="_meta")


class Made:
    """Base of what is made from bytes or a file (`protocol/media`): `wire` is the block it becomes."""

    wire: ImageContent | AudioContent | EmbeddedResource
    wire_class: type[WireType]


class UserMessage(WireType, frozen=True, omit_defaults=False):
    """A `PromptMessage` of the user."""

    content: ContentBlock | Made | str
    role: Literal["user"] = "user"


class AssistantMessage(WireType, frozen=True, omit_defaults=False):
    """A `PromptMessage` of the assistant."""

    content: ContentBlock | Made | str
    role: Literal["assistant"] = "assistant"


def to_wire(value: Any) -> Any:
    """The JSON value of one of these, of its `mcp-types` twin, or of a mapping or sequence of them."""
    if isinstance(value, Made):
        value = value.wire
    if isinstance(value, WireType):
        return msgspec.to_builtins(value, enc_hook=_twin_to_wire)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, Mapping):
        return {key: to_wire(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_wire(item) for item in value]
    return value


def wire_name(value: object) -> str | None:
    """What MCP calls this value's class, if it is one of these or of the `mcp` and `mcp-types` packages; else None."""
    kind: type = type(value)
    return class_wire_name(kind)


@lru_cache(maxsize=1024)
def class_wire_name(kind: type) -> str | None:
    """The same for a class."""
    if issubclass(kind, Made):
        return kind.wire_class.__name__
    for base in kind.__mro__:
        if base.__module__ == __name__ or base.__module__.partition(".")[0] in _TWINS:
            return base.__name__
    return None


def _twin_to_wire(value: Any) -> Any:
    """One of theirs inside one of ours, or a kind of `str`, which msgspec does not write."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Made) or hasattr(value, "model_dump"):
        return to_wire(value)
    raise TypeError(f"{type(value).__qualname__} has no place in {__name__}")


_TWINS = frozenset({"mcp", "mcp_types"})


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
