"""JSON-RPC 2.0 messages, as MCP narrows them: bytes in, typed messages out, and back.

Source: specification `basic/index` of every version. Ids are strings or integers, never null, float or bool;
`params` is an object; a batch (an array) exists on 2025-03-26 only, so the caller decides whether to accept one.
An optional member that is null counts as left out: many clients send null.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypeGuard

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trio_mcp.protocol.errors import INVALID_REQUEST, PARSE_ERROR, InvalidParams, ProtocolError, RemoteProtocolError

__all__ = [
    "MAX_DEPTH",
    "Batch",
    "InvalidMessage",
    "Message",
    "Notification",
    "Reply",
    "Request",
    "RequestId",
    "decode",
    "encode",
    "encode_error",
    "encode_notification",
    "encode_request",
    "encode_result",
    "is_request_id",
    "object_param",
    "optional_param",
    "string_param",
]

RequestId: TypeAlias = int | str


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request: it is answered under its id."""

    id: RequestId
    method: str
    params: dict[str, Any]


class Notification(msgspec.Struct, frozen=True, gc=False):
    """A notification: it has no answer."""

    method: str
    params: dict[str, Any]


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The client's answer to a request of the server; `error` is None when it succeeded."""

    id: RequestId
    result: Any
    error: dict[str, Any] | None


class InvalidMessage(RemoteProtocolError):
    """Bytes that are no JSON-RPC message; `id` is that of the request where it could be read."""

    def __init__(self, code: int, message: str, id: RequestId | None = None) -> None:
        super().__init__(code, message)
        self.id = id


Message: TypeAlias = Request | Notification | Reply
Batch: TypeAlias = list[Message | InvalidMessage]


class _Wire(msgspec.Struct, gc=False):
    jsonrpc: Literal["2.0"]
    method: str | UnsetType = UNSET
    id: RequestId | UnsetType = UNSET
    params: dict[str, Any] | UnsetType | None = UNSET
    result: Any = UNSET
    error: dict[str, Any] | UnsetType | None = UNSET


_typed = msgspec.json.Decoder(_Wire)
_untyped = msgspec.json.Decoder()


MAX_DEPTH = 128
"""Levels of nesting. Far below Python's recursion limit, so that validators and encoders never reach it."""


def decode(body: bytes) -> Message | Batch:
    """One message, or the elements of a batch; raises InvalidMessage. A byte order mark at its beginning is ignored."""
    try:
        message: Message | Batch = _message(_typed.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = _diagnose(_parse(body.removeprefix(BOM_UTF8)))
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _depth_exceeds(MAX_DEPTH, _contents(message)):
        readable = None if isinstance(message, list | Notification) else message.id
        raise InvalidMessage(INVALID_REQUEST, f"The JSON is nested more than {MAX_DEPTH} levels deep", readable)
    return message


def _contents(message: Message | Batch | InvalidMessage) -> list[Any]:
    match message:
        case list():
            return [content for element in message for content in _contents(element)]
        case Reply():
            return [message.result, message.error]
        case Request() | Notification():
            return [message.params]
        case _:
            return []


def _depth_exceeds(limit: int, level: list[Any]) -> bool:
    for _ in range(limit):
        nested = [
            value.values() if isinstance(value, dict) else value for value in level if isinstance(value, dict | list)
        ]
        level = [inner for values in nested for inner in values]
        if not level:
            return False
    return True


def _message(wire: _Wire) -> Message:
    params: Any = _given(wire.params) or {}
    if wire.method is not UNSET:
        if wire.id is UNSET:
            return Notification(wire.method, params)
        return Request(wire.id, wire.method, params)
    if wire.id is not UNSET:
        error = _given(wire.error)
        if error is not None and _given(wire.result) is None:
            return Reply(wire.id, None, error)
        if error is None and wire.result is not UNSET:
            return Reply(wire.id, wire.result, None)
    raise InvalidMessage(
        INVALID_REQUEST,
        "A message has a method, or an id with exactly one of result and error",
        None if wire.id is UNSET else wire.id,
    )


def _given(member: Any) -> Any:
    return None if member is UNSET else member


def _parse(body: bytes) -> Any:
    try:
        return _untyped.decode(body)
    except RecursionError:
        raise InvalidMessage(PARSE_ERROR, "The JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidMessage(PARSE_ERROR, f"Not valid JSON in UTF-8: {error}") from None


def _diagnose(value: Any) -> Message | Batch:
    """Valid JSON that the typed decoder refused: a batch, or a message with something wrong, which the error names."""
    if isinstance(value, list):
        if not value:
            raise InvalidMessage(INVALID_REQUEST, "A batch has at least one message")
        return [_element(element) for element in value]
    return _convert(value)


def _element(value: Any) -> Message | InvalidMessage:
    try:
        return _convert(value)
    except InvalidMessage as fault:
        return fault


def _convert(value: Any) -> Message:
    try:
        return _message(msgspec.convert(value, _Wire))
    except msgspec.ValidationError as error:
        raise InvalidMessage(INVALID_REQUEST, f"Not a JSON-RPC 2.0 message: {error}", _readable_id(value)) from None


def _readable_id(value: Any) -> RequestId | None:
    found = value.get("id") if isinstance(value, dict) else None
    return found if is_request_id(found) else None


def is_request_id(value: Any) -> TypeGuard[RequestId]:
    """Whether a JSON value may be an id or a progress token: a string or an integer, not a boolean."""
    return isinstance(value, (int, str)) and not isinstance(value, bool)


# Members of a request's params, with the type their schema demands; else InvalidParams.


def string_param(params: dict[str, Any], name: str) -> str:
    """A required member that is a string; raises InvalidParams."""
    value = params.get(name)
    if not isinstance(value, str):
        raise InvalidParams(f"params.{name} must be a string")
    return value


def optional_param(params: dict[str, Any], name: str, default: Any) -> Any:
    """The value, or `default` when it is left out or null."""
    value = params.get(name)
    return default if value is None else value


def object_param(params: dict[str, Any], name: str) -> dict[str, Any]:
    """An optional member that is an object, {} when it is left out or null; raises InvalidParams."""
    value = optional_param(params, name, {})
    if not isinstance(value, dict):
        raise InvalidParams(f"params.{name} must be an object")
    return value


class _Result(msgspec.Struct, gc=False, kw_only=True):
    jsonrpc: str = "2.0"
    id: RequestId
    result: Any


class _Outgoing(msgspec.Struct, gc=False, omit_defaults=True):
    jsonrpc: str
    id: RequestId | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Any = UNSET
    error: Any = UNSET


_encoder = msgspec.json.Encoder()
encode: Callable[[Any], bytes] = _encoder.encode
"""Encode any JSON value; NaN and infinities become null."""


def encode_result(id: RequestId, result: dict[str, Any] | Raw) -> bytes:
    """A success response; a `msgspec.Raw` result is copied unchanged."""
    return _encoder.encode(_Result(id=id, result=result))


def encode_error(id: RequestId | None, error: ProtocolError) -> bytes:
    """An error response; without an id the member is left out, since the schema does not allow null."""
    body = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    return _encoder.encode(_Outgoing("2.0", id=UNSET if id is None else id, error=body))


def encode_notification(method: str, params: dict[str, Any] | None = None) -> bytes:
    """A notification; `params` is left out when None."""
    return _encoder.encode(_Outgoing("2.0", method=method, params=UNSET if params is None else params))


def encode_request(id: RequestId, method: str, params: dict[str, Any]) -> bytes:
    """A request of the server to a client of a session."""
    return _encoder.encode(_Outgoing("2.0", id=id, method=method, params=params))
