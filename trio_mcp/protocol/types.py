"""The values of MCP as users write them: snake_case in Python, camelCase on the wire; what was not set is not sent.

Source: schema.ts of 2025-11-25 and 2026-07-28, which agree on these. `protocol/field_versions` leaves out what an older
version does not know. The classes of the `mcp-types` package are accepted wherever these are.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import field

from trio_mcp.protocol.wire import Made, WireType

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
]

Role: TypeAlias = Literal["user", "assistant"]
Meta: TypeAlias = dict[str, Any]


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


class UserMessage(WireType, frozen=True, omit_defaults=False):
    """A `PromptMessage` of the user."""

    content: ContentBlock | Made | str
    role: Literal["user"] = "user"


class AssistantMessage(WireType, frozen=True, omit_defaults=False):
    """A `PromptMessage` of the assistant."""

    content: ContentBlock | Made | str
    role: Literal["assistant"] = "assistant"


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
