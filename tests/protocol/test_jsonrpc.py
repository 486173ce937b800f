"""JSON-RPC as MCP narrows it: what is taken for a message, what is not, and what we write."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.protocol.errors import INVALID_REQUEST, PARSE_ERROR, InvalidParams
from trio_mcp.protocol.jsonrpc import (
    MAX_DEPTH,
    Batch,
    InvalidMessage,
    Message,
    Notification,
    Reply,
    Request,
    decode,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "x"])
NEAR_MESSAGES = st.dictionaries(MEMBERS, JSON | st.just("2.0") | st.integers(0, 3))


def raw(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **members}).encode()


def fault_of(body: bytes) -> InvalidMessage:
    with pytest.raises(InvalidMessage) as caught:
        decode(body)
    return caught.value


def taken(body: bytes) -> Message | Batch | InvalidMessage:
    try:
        return decode(body)
    except InvalidMessage as fault:
        return fault


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (raw(id=1, method="ping"), Request(1, "ping", {})),
        (raw(id="", method="ping", params={"a": [1, None]}), Request("", "ping", {"a": [1, None]})),
        (raw(id=-7, method=""), Request(-7, "", {})),
        (raw(id=10**29, method="ping"), Request(10**29, "ping", {})),
        (raw(method="notifications/x"), Notification("notifications/x", {})),
        (raw(method="notifications/x", params={}), Notification("notifications/x", {})),
        (raw(id=1, result={"a": 1}), Reply(1, {"a": 1}, None)),
        (raw(id=1, result=None), Reply(1, None, None)),
        (raw(id="s", error={"code": -1, "message": "no"}), Reply("s", None, {"code": -1, "message": "no"})),
        (raw(id=1, method="ping", unknown=True), Request(1, "ping", {})),
    ],
)
def test_a_message_is_read_as_what_it_is(body: bytes, message: Message) -> None:
    assert decode(body) == message


@pytest.mark.parametrize("id", [None, 1.5, 1.0, True, [], {}])
def test_an_id_that_is_neither_string_nor_integer_is_refused_and_never_taken_for_a_notification(id: object) -> None:
    fault = fault_of(raw(id=id, method="ping"))
    assert (fault.code, fault.id) == (INVALID_REQUEST, None)


@pytest.mark.parametrize(
    "members",
    [
        {"id": 4, "method": 5},
        {"id": 4, "method": None},
        {"id": 4, "method": "ping", "params": []},
        {"id": 4, "method": "ping", "params": "x"},
        {"id": 4, "method": "ping", "jsonrpc": "1.0"},
        {"id": 4, "method": "ping", "jsonrpc": 2.0},
        {"id": 4},
        {"id": 4, "result": {}, "error": {}},
        {"id": 4, "error": None},
        {"id": 4, "error": "text"},
    ],
)
def test_a_message_of_the_wrong_shape_is_an_invalid_request_under_its_own_id(members: dict[str, object]) -> None:
    fault = fault_of(raw(**members))
    assert (fault.code, fault.id) == (INVALID_REQUEST, 4)


@pytest.mark.parametrize("body", [b"{}", b"1", b"null", b'"text"', b'{"id": 1, "method": "ping"}', raw(result={})])
def test_json_that_is_no_message_is_an_invalid_request(body: bytes) -> None:
    assert fault_of(body).code == INVALID_REQUEST


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        raw(id=1, method="ping")[:-1],
        raw(id=1, method="ping") + b"}",
        b'{"jsonrpc":"2.0","id":1,"method":"\xff"}',
        b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1e999}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}',
        b"\xef\xbb\xbf" * 2 + raw(id=1, method="ping"),
        b"\xef\xbb\xbf" * 100_000,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_what_is_not_json_in_utf_8_is_a_parse_error_without_an_id(body: bytes) -> None:
    fault = fault_of(body)
    assert (fault.code, fault.id) == (PARSE_ERROR, None)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def test_nesting_is_bounded_well_before_python_runs_out_of_stack() -> None:
    assert isinstance(decode(raw(id=1, method="m", params=nested(MAX_DEPTH - 1))), Request)
    for members in ({"method": "m", "params": nested(MAX_DEPTH)}, {"result": nested(MAX_DEPTH)}):
        fault = fault_of(raw(id=1, **members))
        assert (fault.code, fault.id) == (INVALID_REQUEST, 1)
    assert fault_of(raw(method="m", params=nested(MAX_DEPTH))).id is None
    assert fault_of(b"[1," + raw(id=1, method="m", params=nested(MAX_DEPTH)) + b"]").id is None


@pytest.mark.parametrize(
    "body", [b"[" * 60_000, b'{"a":' * 60_000, b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"zz":' + b"[" * 60_000]
)
def test_what_is_nested_beyond_the_decoders_stack_is_refused(body: bytes) -> None:
    assert fault_of(body).code == PARSE_ERROR


def test_a_wide_message_is_not_a_deep_one() -> None:
    assert isinstance(decode(raw(id=1, method="m", params={"a": [{}] * 1000})), Request)


def test_a_batch_keeps_the_order_of_its_elements_and_names_the_bad_ones() -> None:
    body = b"[%b, 1, %b, %b]" % (raw(id=1, method="ping"), raw(id=2, method=3), raw(method="notifications/x"))
    first, bad, worse, last = decode(body)  # type: ignore[misc]
    assert (first, last) == (Request(1, "ping", {}), Notification("notifications/x", {}))
    assert isinstance(bad, InvalidMessage)
    assert isinstance(worse, InvalidMessage)
    assert (bad.id, worse.id) == (None, 2)


def test_an_empty_batch_and_a_batch_in_a_batch_are_invalid_requests() -> None:
    assert fault_of(b"[]").code == INVALID_REQUEST
    (inner,) = decode(b"[[]]")  # type: ignore[misc]
    assert isinstance(inner, InvalidMessage)


@given(st.binary())
def test_any_bytes_give_a_message_or_invalid_message(body: bytes) -> None:
    assert taken(body) is not None


@given(JSON | NEAR_MESSAGES | st.lists(NEAR_MESSAGES))
def test_any_json_gives_a_message_a_batch_or_invalid_message(value: Any) -> None:
    message = taken(msgspec.json.encode(value))
    if isinstance(value, list) and value:
        assert isinstance(message, list)
        assert len(message) == len(value)
    else:
        assert isinstance(message, Request | Notification | Reply | InvalidMessage)


@given(st.integers() | st.text(), st.text(), st.dictionaries(st.text(), JSON))
def test_what_we_write_as_a_request_reads_back_the_same(id: int | str, method: str, params: dict[str, Any]) -> None:
    assert decode(encode_request(id, method, params)) == Request(id, method, params)
    assert decode(encode_notification(method, params)) == Notification(method, params)
    assert decode(encode_result(id, params)) == Reply(id, params, None)


@given(st.binary(), st.integers(0, 200))
def test_a_message_cut_anywhere_is_a_parse_error(junk: bytes, at: int) -> None:
    whole = raw(id=1, method="tools/call", params={"name": "é", "arguments": {"a": [1, 2.5, None, "x" * 50]}})
    assert isinstance(taken(whole[: at % len(whole)] + b"\x00" + junk), InvalidMessage)


def test_an_error_without_a_readable_id_leaves_the_member_out() -> None:
    assert json.loads(encode_error(None, InvalidParams("no"))) == {
        "jsonrpc": "2.0",
        "error": {"code": -32602, "message": "no"},
    }


def test_an_error_carries_its_data_and_its_id_with_its_type() -> None:
    assert json.loads(encode_error("0", InvalidParams("no", {"uri": "x"}))) == {
        "jsonrpc": "2.0",
        "id": "0",
        "error": {"code": -32602, "message": "no", "data": {"uri": "x"}},
    }


def test_a_raw_result_is_copied_as_it_stands_and_empty_params_are_left_out() -> None:
    assert json.loads(encode_result(0, msgspec.Raw(b'{"a": 1}'))) == {"jsonrpc": "2.0", "id": 0, "result": {"a": 1}}
    assert json.loads(encode_notification("n")) == {"jsonrpc": "2.0", "method": "n"}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"id": 1, "method": "ping", "params": None}, Request(1, "ping", {})),
        ({"method": "x", "params": None}, Notification("x", {})),
        ({"id": 1, "result": {"a": 1}, "error": None}, Reply(1, {"a": 1}, None)),
        ({"id": 1, "result": None, "error": None}, Reply(1, None, None)),
        ({"id": 1, "result": None, "error": {"code": 1}}, Reply(1, None, {"code": 1})),
    ],
)
def test_null_is_left_out(members: dict[str, object], message: object) -> None:
    assert decode(raw(**members)) == message
    assert decode(b"\xef\xbb\xbf" + raw(**members)) == message
