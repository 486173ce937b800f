"""Whatever a client sends, it gets an answer from the specification's table: never a 500, a traceback or silence."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples.everything import mcp
from tests.transports.http.harness import BOTH, HOST, JSON, LEGACY, MODERN, Exchange, serving
from trio_mcp.protocol.envelope import CLIENT_CAPABILITIES_KEY
from trio_mcp.protocol.era import PROTOCOL_VERSION_KEY
from trio_mcp.protocol.methods import METHODS

STATUSES = {200, 202, 204, 400, 403, 404, 405, 406, 413, 415, 421, 429}
CODES = {-32700, -32600, -32601, -32602, -32001, -32002, -32020, -32021, -32022}
PATIENCE = 120.0

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
methods = st.sampled_from(
    [*METHODS, "notifications/cancelled", "notifications/initialized", "", "tools/call\n"]
) | st.text(max_size=12)
keys = st.sampled_from(
    ["name", "uri", "arguments", "cursor", "level", "ref", "argument", "context", "notifications", "protocolVersion",
     "capabilities", "clientInfo", "requestId", "inputResponses", "requestState", "_meta"]
)  # fmt: skip
names = st.sampled_from(
    [tool.name for tool in mcp.registry.tools] + ["test://static-text", "test_prompt_with_arguments"]
)
metas = st.fixed_dictionaries(
    {},
    optional={
        PROTOCOL_VERSION_KEY: st.just(MODERN) | values,
        CLIENT_CAPABILITIES_KEY: st.just({}) | values,
        "io.modelcontextprotocol/logLevel": values,
        "progressToken": values,
    },
)
params = st.dictionaries(keys, values | names, max_size=4).flatmap(
    lambda given: metas.map(lambda meta: {**given, "_meta": meta}) | st.just(given)
)
messages = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | values},
    optional={
        "id": st.integers(0, 5) | values,
        "method": methods | values,
        "params": params | values,
        "result": values,
        "error": values,
    },
)
bodies = (
    messages.map(lambda message: json.dumps(message).encode())
    | st.lists(messages | values, max_size=3).map(lambda batch: json.dumps(batch).encode())
    | values.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60)
)
header_names = st.sampled_from(
    ["accept", "content-type", "mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-region", "last-event-id", "origin", "host"]
)  # fmt: skip
header_values = (
    st.sampled_from([BOTH, JSON, "*/*", LEGACY, MODERN, "tools/call", "=?base64?SGVs!!!bG8=?=", "0.g.0", "0.1-i1.9"])
    | st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=12)
)  # fmt: skip
headers = st.lists(st.tuples(header_names, header_values), max_size=4)
verbs = st.sampled_from(["POST", "POST", "POST", "GET", "DELETE", "OPTIONS", "PUT", "HEAD", "BREW"])

several = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@several
@given(body=bodies, more=headers, verb=verbs, in_session=st.booleans())
def test_any_request_gets_an_answer_of_the_table(
    caplog: pytest.LogCaptureFixture, body: bytes, more: list[tuple[str, str]], verb: str, in_session: bool
) -> None:
    trio.run(_send, body, more, verb, in_session)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def _send(body: bytes, more: list[tuple[str, str]], verb: str, in_session: bool) -> None:
    async with serving(mcp) as wire:
        own = {"host": HOST, "accept": BOTH, "content-type": JSON}
        if in_session:
            own["mcp-session-id"] = (await wire.open()).id
        changed = {name for name, _ in more}
        pairs = [(name, value) for name, value in own.items() if name not in changed] + more
        exchange = wire.start(verb, pairs, body, opens=True)
        with trio.fail_after(PATIENCE):
            await _judge(exchange)


async def _judge(exchange: Exchange) -> None:
    status = await exchange.raw.head()
    assert status in STATUSES
    kind = exchange.headers.get("content-type")
    if kind == JSON:
        answer = await exchange.raw.json()
        for message in answer if isinstance(answer, list) else [answer]:
            _judge_message(message)
    elif kind == "text/event-stream":
        # A stream that may never end: what opens it is enough.
        await exchange.raw.chunk()
    else:
        assert await exchange.raw.body() == b""


def _judge_message(message: dict[str, Any]) -> None:
    assert message["jsonrpc"] == "2.0"
    assert ("result" in message) != ("error" in message)
    if "error" in message:
        assert message["error"]["code"] in CODES, message
        assert isinstance(message["error"]["message"], str)
