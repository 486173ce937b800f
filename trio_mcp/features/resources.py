"""Resources and resource templates: their definitions in the lists, and the results of `resources/read`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

from trio_mcp.features.definition import Definition, ResourceOptions, check_options, shared_fields
from trio_mcp.features.functions import describe
from trio_mcp.features.json_values import base64, json_text, json_value, sendable
from trio_mcp.features.path_values import PathGuard
from trio_mcp.features.signature import Signature
from trio_mcp.features.uri_template import UriTemplate, is_template
from trio_mcp.features.validation_text import clean
from trio_mcp.protocol import field_versions
from trio_mcp.protocol.errors import ResourceNotFoundError
from trio_mcp.protocol.wire import to_wire, wire_name

__all__ = ["Resource", "ResourceTemplate", "contents", "resource_of"]

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]*")
"""RFC 3986 as far as it matters here: a scheme, then visible ASCII."""


_CONTENTS: frozenset[str | None] = frozenset({"TextResourceContents", "BlobResourceContents"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(Definition):
    """Something that clients may read under one URI; `Resource.of` makes one."""

    uri: str
    mime_type: str | None = None
    size: int | None = None
    contents_meta: dict[str, Any] | None = None
    """`_meta` of its contents, below what they have of their own; None where they have no more. Not None for apps."""

    @classmethod
    def of(cls, fn: Callable[..., Any], uri: str, **options: Unpack[ResourceOptions]) -> Resource:
        """From the function that reads it.

        Raises ValueError when it takes required arguments, TypeError for an unknown option or one of the wrong type.
        """
        check_options("a resource", options, ResourceOptions)
        signature = Signature(fn)
        if signature.required:
            raise ValueError(
                f"{describe(fn)} takes {_listed(signature.required)}, which {uri} has no value for: give it a default, or make it a variable of the URI"
            )
        return cls(
            **shared_fields(fn, signature, options, uri),
            uri=_checked_uri(uri),
            mime_type=options.get("mime_type"),
            size=options.get("size"),
        )

    def definition(self, version: str) -> dict[str, Any]:
        """The resource as `resources/list` of a protocol version has it."""
        return field_versions.resource(self.fields(uri=self.uri, mimeType=self.mime_type, size=self.size), version)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceTemplate(Definition):
    """Something that clients may read under many URIs; `ResourceTemplate.of` makes one."""

    uri_template: str
    mime_type: str | None = None
    guard: PathGuard

    @classmethod
    def of(cls, fn: Callable[..., Any], uri_template: str, **options: Unpack[ResourceOptions]) -> ResourceTemplate:
        """From the function that reads it.

        Raises ValueError unless variables and parameters agree, TypeError for an unknown option, one of the wrong type, or a size.
        """
        check_options("a resource template", options, ResourceOptions)
        if options.get("size") is not None:
            raise TypeError(f"{uri_template} is a template, and only one resource has a size=: leave it out")
        signature = Signature(fn)
        template = UriTemplate(_checked_uri(uri_template))
        _check_variables(fn, template, signature)
        return cls(
            **shared_fields(fn, signature, options, uri_template),
            uri_template=uri_template,
            mime_type=options.get("mime_type"),
            guard=PathGuard.of(template, signature.hints),
        )

    def match(self, uri: str) -> dict[str, str] | None:
        """The values a URI gives the variables; None if it does not match, or a value could lead out of a folder."""
        values = self.guard.template.match(uri)
        return values if values is not None and self.guard.lets(values) else None

    def arguments(self, uri: str) -> dict[str, Any] | None:
        """Keyword arguments for the function, or None where the URI does not match; raises InvalidArguments.

        Values are not read as JSON: the guard has checked the text, and JSON in it could say something else.
        """
        values = self.match(uri)
        return None if values is None else self.signature.bind(dict(values), blank="", parse_json=False)

    def definition(self, version: str) -> dict[str, Any]:
        """The template as `resources/templates/list` of a protocol version has it."""
        fields = self.fields(uriTemplate=self.uri_template, mimeType=self.mime_type)
        return field_versions.resource_template(fields, version)


def resource_of(fn: Callable[..., Any], uri: str, **options: Unpack[ResourceOptions]) -> Resource | ResourceTemplate:
    """A template where the URI has `{variables}`, else a resource; raises as their `of` does."""
    return ResourceTemplate.of(fn, uri, **options) if is_template(uri) else Resource.of(fn, uri, **options)


def contents(
    uri: str, mime_type: str | None, value: Any, version: str, meta: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The ReadResourceResult of a return value.

    Text, bytes and contents objects (one, a list, a whole ReadResourceResult) are sent as such, anything else as JSON. None means
    that there is no such resource: raises ResourceNotFoundError. With `meta`, each of them has it, and the type, unless it has its own.
    """
    if value is None:
        raise ResourceNotFoundError(uri)
    if wire_name(value) == "ReadResourceResult":
        result = field_versions.own_result(to_wire(value))
    elif isinstance(value, list | tuple) and value and all(map(_is_contents, value)):
        result = {"contents": [to_wire(item) for item in value]}
    else:
        result = {"contents": [_contents(uri, mime_type, value)]}
    if meta is not None:
        result["contents"] = [_of_an_app(item, mime_type, meta) for item in result["contents"]]
    result["contents"] = [field_versions.resource_contents(item, version) for item in result["contents"]]
    sent: dict[str, Any] = sendable(result)
    return sent


def _contents(uri: str, mime_type: str | None, value: Any) -> dict[str, Any]:
    match value:
        case str():
            return {"uri": uri, "mimeType": mime_type or "text/plain", "text": clean(value)}
        case bytes() | bytearray() | memoryview():
            return {"uri": uri, "mimeType": mime_type or "application/octet-stream", "blob": base64(value)}
    if _is_contents(value):
        wire: dict[str, Any] = to_wire(value)
        return wire
    return {"uri": uri, "mimeType": mime_type or "application/json", "text": json_text(json_value(value))}


def _of_an_app(item: dict[str, Any], mime_type: str | None, meta: dict[str, Any]) -> dict[str, Any]:
    own = {"mimeType": mime_type, **item}
    together = {**meta, **item.get("_meta", {})}
    return {**own, "_meta": together} if together else own


def _is_contents(value: Any) -> bool:
    return wire_name(value) in _CONTENTS


def _checked_uri(uri: str) -> str:
    if not _URI.fullmatch(uri):
        raise ValueError(f"{uri!r} is no URI: it needs a scheme, as in config://app, and no spaces")
    return uri


def _check_variables(fn: Callable[..., Any], template: UriTemplate, signature: Signature) -> None:
    unknown = set(template.variables) - set(signature.names)
    if unknown:
        raise ValueError(f"{describe(fn)} has no parameter {_listed(unknown)} for {template.text}")
    missing = signature.required - (set(template.variables) - template.optional)
    if missing:
        raise ValueError(
            f"{describe(fn)} requires {_listed(missing)}, which is optional in {template.text}: give it a default"
        )


def _listed(names: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(names))
