"""2026-07-28 over HTTP: what a request must carry, in which order that is checked, and what every answer carries."""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any

import pytest
import trio
from pydantic import Field
from trio.testing import MockClock

from tests.transports.http.harness import JSON, MODERN, SSE, ModernClient, Wire, request, serving, two_users
from trio_mcp import Context, MCPServer
from trio_mcp.protocol.envelope import CLIENT_CAPABILITIES_KEY, LOG_LEVEL_KEY, SERVER_INFO_KEY
from trio_mcp.protocol.era import PROTOCOL_VERSION_KEY

LEGACY_METHODS = [
    ("initialize", {"protocolVersion": MODERN, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}),
    ("ping", {}),
    ("logging/setLevel", {"level": "info"}),
    ("resources/subscribe", {"uri": "note://a"}),
    ("resources/unsubscribe", {"uri": "note://a"}),
    ("tasks/get", {"taskId": "1"}),
    ("tasks/list", {}),
    ("tasks/result", {"taskId": "1"}),
    ("roots/list", {}),
    ("unknown/method", {}),
]


@pytest.fixture(scope="module")
def mcp() -> MCPServer:
    """The tests add nothing to it: to make one takes longer than a test."""
    mcp = MCPServer("test", version="7", instructions="Be kind.")

    @mcp.tool
    async def hello(name: str) -> str:
        return f"hello {name}"

    @mcp.tool
    async def query(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
        rows: Annotated[int | None, Field(json_schema_extra={"type": "integer", "x-mcp-header": "Rows"})] = None,
    ) -> str:
        return f"{region} {rows}"

    @mcp.tool
    async def talk(ctx: Context) -> str:
        for level in ("debug", "info", "warning", "error"):
            await ctx.log(level, level)
        return "talked"

    @mcp.tool
    async def after(seconds: float) -> str:
        await trio.sleep(seconds)
        return "done"

    @mcp.tool
    async def model(ctx: Context) -> str:
        return str(await ctx.sample("x", max_tokens=1))

    @mcp.resource("note://{name}")
    async def note(name: str) -> str:
        return name

    @mcp.prompt
    async def greet() -> str:
        return "Hello"

    return mcp


async def refused(exchange: Any, status: int, code: int) -> dict[str, Any]:
    """The error of a request that was refused with this status and code, under its id."""
    assert await exchange.head() == status
    answer: dict[str, Any] = await exchange.json()
    assert answer["error"]["code"] == code
    assert "id" in answer
    return answer["error"]  # type: ignore[no-any-return]


# The ladder.


@pytest.mark.requirement("P1")
@pytest.mark.parametrize("missing", [PROTOCOL_VERSION_KEY, CLIENT_CAPABILITIES_KEY])
@pytest.mark.parametrize("value", [..., None, 5, []])
async def test_meta_must_hold_a_version_and_capabilities(mcp: MCPServer, missing: str, value: Any) -> None:
    async with serving(mcp) as wire:
        modern = wire.modern()
        meta = modern.meta()
        del meta[missing]
        if value is not ...:
            meta[missing] = value
        await refused(modern.start("server/discover", meta=meta), 400, -32602)


@pytest.mark.requirement("P1")
@pytest.mark.parametrize("params", [None, {}, {"_meta": {}}, {"_meta": 5}])
async def test_a_modern_header_without_a_modern_body_is_invalid_params_not_a_mismatch(
    mcp: MCPServer, params: Any
) -> None:
    async with serving(mcp) as wire:
        headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/list"}
        await refused(wire.post(request(1, "tools/list", params), headers), 400, -32602)


@pytest.mark.requirement("P2")
async def test_who_the_client_is_need_not_be_said(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        modern = wire.modern()
        meta = {PROTOCOL_VERSION_KEY: MODERN, CLIENT_CAPABILITIES_KEY: {}}
        assert (await modern.start("server/discover", meta=meta).result())["supportedVersions"]


@pytest.mark.requirement("H11", "X1", "weak-modern-without-header")
@pytest.mark.parametrize(
    "headers",
    [
        {"mcp-protocol-version": None},
        {"mcp-protocol-version": "2025-11-25"},
        {"mcp-method": None},
        {"mcp-method": "tools/call"},
        {"mcp-method": "TOOLS/LIST"},
        {"mcp-protocol-version": None, "mcp-method": None},
    ],
)
async def test_version_and_method_must_stand_in_the_headers_as_in_the_body(
    mcp: MCPServer, headers: dict[str, Any]
) -> None:
    async with serving(mcp) as wire:
        await refused(wire.modern().start("tools/list", headers=headers), 400, -32020)


@pytest.mark.requirement("X2")
@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "hello", "arguments": {"name": "x"}}),
        ("prompts/get", {"name": "greet"}),
        ("resources/read", {"uri": "note://a"}),
    ],
)
@pytest.mark.parametrize(
    "name", [None, "other", "", "HELLO", "=?base64?b3RoZXI=?=", "=?base64?aGVsbG8?=", "=?base64?!!!?="]
)
async def test_the_name_must_stand_in_its_header_as_in_the_body(
    mcp: MCPServer, method: str, params: dict[str, Any], name: str | None
) -> None:
    async with serving(mcp) as wire:
        await refused(wire.modern().start(method, params, headers={"mcp-name": name}), 400, -32020)


@pytest.mark.requirement("X3", "X4", "X5")
@pytest.mark.parametrize(
    "name", ["hello", "  hello\t ", "=?base64?aGVsbG8=?="], ids=["plain", "white space around", "encoded"]
)
async def test_a_name_may_have_white_space_around_it_or_be_encoded(mcp: MCPServer, name: str) -> None:
    async with serving(mcp) as wire:
        modern = wire.modern()
        headers = {"mcp-name": None, "MCP-NAME": name, "mcp-method": None, "Mcp-Method": " tools/call "}
        result = await modern.start(
            "tools/call", {"name": "hello", "arguments": {"name": "x"}}, headers=headers
        ).result()
        assert result["content"][0]["text"] == "hello x"


@pytest.mark.requirement("X5")
async def test_a_name_of_other_characters_comes_encoded(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        modern = wire.modern()
        encoded = f"=?base64?{b64encode('note://ünï'.encode()).decode()}?="
        read = modern.start("resources/read", {"uri": "note://ünï"}, headers={"mcp-name": encoded})
        assert (await read.result())["contents"][0]["text"] == "ünï"


@pytest.mark.requirement("X5")
async def test_what_looks_encoded_is_decoded_even_where_the_body_says_the_same(mcp: MCPServer) -> None:
    """Whoever routed by the header saw the decoded name."""
    async with serving(mcp) as wire:
        disguised = "=?base64?bm90ZTovL2E=?="
        await refused(wire.modern().start("resources/read", {"uri": disguised}), 400, -32020)


@pytest.mark.requirement("X9")
@pytest.mark.parametrize("name", ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-region"])
async def test_routing_headers_that_come_twice_are_refused_even_when_equal(mcp: MCPServer, name: str) -> None:
    async with serving(mcp) as wire:
        modern = wire.modern()
        params = {"name": "query", "arguments": {"region": "eu"}}
        usual = {"host": "localhost", "accept": JSON, "content-type": JSON, "mcp-param-region": "eu"}
        pairs = [(key, str(value)) for key, value in {**usual, **modern.headers("tools/call", params)}.items()]
        body = request(1, "tools/call", {**params, "_meta": modern.meta()})
        assert await wire.start("POST", pairs, body).head() == 200
        again = next(pair for pair in pairs if pair[0] == name)
        await refused(wire.start("POST", [*pairs, again], body), 400, -32020)


@pytest.mark.requirement("X5", "X6", "X7", "X8")
@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ({"region": "eu"}, {"mcp-param-region": "eu"}),
        ({"region": "eu"}, {"MCP-PARAM-REGION": "  eu "}),
        ({"region": "Hello"}, {"mcp-param-region": "=?base64?SGVsbG8=?="}),
        ({"region": "SGVsbG8="}, {"mcp-param-region": "SGVsbG8="}),
        ({"region": "=?base64?SGVsbG8="}, {"mcp-param-region": "=?base64?SGVsbG8="}),
        ({"region": "eu", "rows": 42}, {"mcp-param-region": "eu", "mcp-param-rows": "42.0"}),
        ({"region": "eu", "rows": None}, {"mcp-param-region": "eu"}),
        ({"region": "eu"}, {"mcp-param-region": "eu", "mcp-param-unknown": "anything"}),
    ],
)
async def test_arguments_that_stand_in_their_headers_are_taken(mcp: MCPServer, arguments: Any, headers: Any) -> None:
    async with serving(mcp) as wire:
        assert await wire.modern().tool("query", headers=headers, **arguments).head() == 200


@pytest.mark.requirement("X5", "X6", "X7")
@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ({"region": "eu"}, {}),
        ({"region": "eu"}, {"mcp-param-region": "us"}),
        ({"region": "eu"}, {"mcp-param-region": "EU"}),
        ({"region": "Hello"}, {"mcp-param-region": "=?base64?SGVsbG8?="}),
        ({"region": "Hello"}, {"mcp-param-region": "=?base64?SGVs!!!bG8=?="}),
        ({"region": "é"}, {"mcp-param-region": "é"}),
        ({"region": "eu", "rows": 42}, {"mcp-param-region": "eu"}),
        ({"region": "eu", "rows": 42}, {"mcp-param-region": "eu", "mcp-param-rows": "43"}),
        ({"region": "eu"}, {"mcp-param-region": "eu", "mcp-param-rows": "1"}),
    ],
)
async def test_arguments_that_differ_from_their_headers_are_refused(
    mcp: MCPServer, arguments: Any, headers: Any
) -> None:
    async with serving(mcp) as wire:
        await refused(wire.modern().tool("query", headers=headers, **arguments), 400, -32020)


@pytest.mark.requirement("H12", "weak-supported-versions")
@pytest.mark.parametrize("version", ["v999.0.0", "2099-01-01", "2025-11-25", "1999-01-01", ""])
async def test_a_version_we_do_not_serve_this_way_is_refused_with_those_we_do(mcp: MCPServer, version: str) -> None:
    async with serving(mcp) as wire:
        modern = wire.modern()
        supported = (await modern.start("server/discover").result())["supportedVersions"]
        meta = {**modern.meta(), PROTOCOL_VERSION_KEY: version}
        error = await refused(
            modern.start("tools/list", headers={"mcp-protocol-version": version}, meta=meta), 400, -32022
        )
        assert error["data"] == {"supported": supported, "requested": version}
        assert {"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"} == set(supported)


@pytest.mark.requirement("H13", "P8", "405")
@pytest.mark.parametrize(("method", "params"), LEGACY_METHODS)
async def test_unknown_and_removed_methods_are_404(mcp: MCPServer, method: str, params: dict[str, Any]) -> None:
    async with serving(mcp) as wire:
        await refused(wire.modern().start(method, params), 404, -32601)


@pytest.mark.requirement("H13", "T1")
@pytest.mark.parametrize("method", ["tools/list", "prompts/list", "resources/list", "completion/complete"])
async def test_what_the_server_does_not_offer_does_not_exist(method: str) -> None:
    async with serving(MCPServer("test")) as wire:
        await refused(wire.modern().start(method), 404, -32601)


@pytest.mark.requirement("P6")
async def test_a_capability_the_client_did_not_declare_is_named(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        error = await refused(wire.modern().tool("model"), 400, -32021)
        assert error["data"] == {"requiredCapabilities": {"sampling": {}}}


@pytest.mark.requirement("P5")
async def test_nothing_is_remembered_of_the_request_before(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        able, unable = wire.modern({"sampling": {}}), wire.modern()
        assert (await able.tool("model").result())["resultType"] == "input_required"
        await refused(unable.tool("model"), 400, -32021)


@pytest.mark.requirement("ladder")
async def test_what_is_wrong_is_found_in_the_order_of_the_ladder(mcp: MCPServer) -> None:
    """Everything is wrong at first; each step mends one thing and meets the next."""
    async with serving(mcp) as wire:
        modern = wire.modern()
        params: dict[str, Any] = {
            "name": "query",
            "arguments": {"region": 5},
            "_meta": {PROTOCOL_VERSION_KEY: "2099-01-01"},
        }
        headers: dict[str, str | None] = {"mcp-protocol-version": MODERN, "mcp-method": "tools/nothing"}
        method = "tools/none"

        def post() -> Any:
            return wire.post(request(1, method, params), headers)

        await refused(post(), 400, -32602)
        params["_meta"][CLIENT_CAPABILITIES_KEY] = {}
        await refused(post(), 400, -32020)
        headers["mcp-protocol-version"] = "2099-01-01"
        await refused(post(), 400, -32020)
        headers["mcp-method"] = method
        await refused(post(), 400, -32022)
        headers["mcp-protocol-version"] = params["_meta"][PROTOCOL_VERSION_KEY] = MODERN
        await refused(post(), 404, -32601)
        headers["mcp-method"] = method = "tools/call"
        await refused(post(), 400, -32020)
        headers["mcp-name"] = "query"
        await refused(post(), 400, -32020)
        headers["mcp-param-region"] = "5"
        exchange = post()
        exchange.oracle = modern.oracle
        modern.oracle.asked(1, "tools/call")
        assert (await exchange.result())["isError"] is True


# Which era.


@pytest.mark.requirement("dual-era", "H9", "H14")
async def test_a_modern_request_may_carry_the_leftovers_of_a_session_which_are_ignored(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        for stale in (session.id, "stale.id", ""):
            leftovers = {"mcp-session-id": stale, "last-event-id": "0.g.7"}
            exchange = wire.modern().tool("hello", name="x", headers=leftovers)
            assert (await exchange.result())["resultType"] == "complete"
            assert "mcp-session-id" not in exchange.headers


@pytest.mark.requirement("dual-era")
async def test_routing_headers_on_a_legacy_request_are_never_looked_at(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        session = await wire.open()
        headers: dict[str, str | None] = {"mcp-method": "nonsense", "mcp-name": "nonsense", "mcp-param-region": "us"}
        result = await session.start(
            "tools/call", {"name": "query", "arguments": {"region": "eu"}}, headers=headers
        ).result()
        assert result["content"][0]["text"] == "eu None"
        assert "resultType" not in result


@pytest.mark.requirement("dual-era")
async def test_both_eras_are_served_at_the_same_time(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with serving(mcp) as wire:
        session, modern = await wire.open(), wire.modern()
        old, new = session.tool("after", seconds=3), modern.tool("after", seconds=3)
        assert (await new.result())["resultType"] == "complete"
        assert "resultType" not in await old.result()
        assert trio.current_time() == pytest.approx(3)


# What is not a request.


@pytest.mark.requirement("H3", "P8")
@pytest.mark.parametrize("method", ["notifications/initialized", "notifications/roots/list_changed", "notifications/x"])
async def test_a_notification_is_accepted_and_has_no_effect(mcp: MCPServer, method: str) -> None:
    async with serving(mcp) as wire:
        modern = wire.modern()
        for params in ({}, {"_meta": modern.meta()}):
            note = {"jsonrpc": "2.0", "method": method, "params": params}
            assert await wire.post(note, {"mcp-protocol-version": MODERN}).nothing() == 202


@pytest.mark.requirement("J11", "H6")
async def test_a_posted_response_is_refused(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        contents: list[dict[str, Any]] = [{"result": {}}, {"error": {"code": 1, "message": "x"}}]
        for content in contents:
            exchange = wire.post({"jsonrpc": "2.0", "id": 1, **content}, {"mcp-protocol-version": MODERN})
            assert await exchange.head() == 400
            assert (await exchange.json())["error"]["code"] == -32600


# What every answer carries.


async def one_of_each(wire: Wire, modern: ModernClient) -> list[tuple[str, dict[str, Any]]]:
    asked: list[tuple[str, dict[str, Any]]] = [
        ("server/discover", {}),
        ("tools/list", {}),
        ("tools/call", {"name": "hello", "arguments": {"name": "x"}}),
        ("resources/list", {}),
        ("resources/templates/list", {}),
        ("resources/read", {"uri": "note://a"}),
        ("prompts/list", {}),
        ("prompts/get", {"name": "greet"}),
    ]
    return [(method, await modern.start(method, params).result()) for method, params in asked]


@pytest.mark.requirement("P3", "P4")
async def test_every_result_names_its_type_and_its_server(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        for method, result in await one_of_each(wire, wire.modern()):
            assert result["resultType"] == "complete", method
            assert result["_meta"][SERVER_INFO_KEY] == {"name": "test", "version": "7"}, method


@pytest.mark.requirement("K1", "K2", "K4", "gap-discover-cache-hints")
async def test_what_can_be_cached_says_for_how_long_and_by_whom_and_nothing_else_does(mcp: MCPServer) -> None:
    cacheable = {
        "server/discover",
        "tools/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "prompts/list",
    }
    async with serving(mcp) as wire:
        for method, result in await one_of_each(wire, wire.modern()):
            assert ({"ttlMs", "cacheScope"} <= result.keys()) == (method in cacheable), method
            if method in cacheable:
                assert type(result["ttlMs"]) is int
                assert result["ttlMs"] >= 0
                assert result["cacheScope"] in {"public", "private"}
        session = await wire.open()
        assert "ttlMs" not in await session.start("tools/list").result()


@pytest.mark.requirement("K4")
async def test_with_authentication_nothing_is_for_shared_caches(mcp: MCPServer) -> None:
    async with serving(mcp, authenticate=two_users) as wire:
        modern = wire.modern(headers={"authorization": "Bearer alice"})
        scopes = {result.get("cacheScope") for _, result in await one_of_each(wire, modern)}
        assert scopes == {"private", None}


@pytest.mark.requirement("P7", "gap-discover-cache-hints")
async def test_discover_tells_versions_capabilities_and_instructions(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        result = await wire.modern().start("server/discover").result()
        assert result["supportedVersions"][0] == MODERN
        assert set(result["capabilities"]) == {"tools", "resources", "prompts", "logging"}
        assert result["instructions"] == "Be kind."
        assert "serverInfo" not in result


# Streams.


@pytest.mark.requirement("H4", "H5", "H9")
async def test_a_slow_answer_is_a_stream_without_event_ids(mcp: MCPServer, autojump_clock: MockClock) -> None:
    async with serving(mcp) as wire:
        exchange = wire.modern().tool("after", seconds=5)
        event = await exchange.event()
        assert event is not None
        assert set(event) == {"event", "data"}
        assert await exchange.event() is None


async def test_a_modern_client_that_takes_only_a_stream_gets_one_but_errors_keep_their_status(mcp: MCPServer) -> None:
    async with serving(mcp) as wire:
        modern = wire.modern(headers={"accept": SSE})
        exchange = modern.tool("hello", name="x")
        assert await exchange.head() == 200
        assert exchange.headers["content-type"] == SSE
        assert (await exchange.result())["content"][0]["text"] == "hello x"
        await refused(modern.tool("nothing"), 400, -32602)


@pytest.mark.requirement("N4", "gap-loglevel-filtering")
@pytest.mark.parametrize(
    ("level", "heard"), [(None, []), ("debug", 4), ("info", 3), ("warning", 2), ("error", 1), ("emergency", 0)]
)
async def test_log_messages_come_only_when_asked_for_and_from_that_level(
    mcp: MCPServer, level: str | None, heard: Any
) -> None:
    async with serving(mcp) as wire:
        modern = wire.modern()
        exchange = modern.tool("talk", meta=modern.meta(**({"logLevel": level} if level else {})))
        if not heard:
            assert (await exchange.json())["result"]["content"][0]["text"] == "talked"
            return
        *logs, answer = await exchange.messages()
        expected = ["debug", "info", "warning", "error"][-heard:]
        assert [(it["method"], it["params"]["level"]) for it in logs] == [
            ("notifications/message", it) for it in expected
        ]
        assert "result" in answer


@pytest.mark.requirement("N5")
@pytest.mark.parametrize("level", ["loud", "", 5, ["info"]])
async def test_an_unknown_log_level_refuses_the_request(mcp: MCPServer, level: Any) -> None:
    async with serving(mcp) as wire:
        modern = wire.modern()
        await refused(modern.tool("talk", meta={**modern.meta(), LOG_LEVEL_KEY: level}), 400, -32602)


@pytest.mark.requirement("G1", "G2", "G3")
@pytest.mark.parametrize("token", ["abc", 7, "7"])
async def test_progress_goes_to_the_token_in_its_json_type_and_only_grows(token: Any) -> None:
    mcp = MCPServer("test")

    @mcp.tool
    async def steps(ctx: Context) -> None:
        for number in (1, 2, 2, 1, 2.5, 3):
            await ctx.report_progress(number, 3, "going")

    async with serving(mcp) as wire:
        modern = wire.modern()
        *progress, answer = await modern.tool("steps", meta={**modern.meta(), "progressToken": token}).messages()
        assert [it["params"]["progress"] for it in progress] == [1, 2, 2.5, 3]
        assert all(
            it["params"]["progressToken"] == token and type(it["params"]["progressToken"]) is type(token)
            for it in progress
        )
        assert "result" in answer
        assert "result" in await modern.tool("steps").json()
