"""`tools/call`: arguments in, content out, failures the model can read."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio

from tests.doubles import DispatchHarness
from trio_mcp import Context, MCPServer, ToolError
from trio_mcp.protocol.errors import ClientTimeout, InvalidParams, LocalProtocolError, MissingClientCapability
from trio_mcp.protocol.versions import SERVED_VERSIONS, V2025_11_25, V2026_07_28

ALL = pytest.mark.parametrize("version", SERVED_VERSIONS)


def failing(fault: BaseException) -> MCPServer:
    mcp = MCPServer("t")

    @mcp.tool
    async def fail() -> None:
        raise fault

    return mcp


def text(result: dict[str, Any]) -> str:
    (block,) = result["content"]
    found: str = block["text"]
    return found


@ALL
async def test_a_tool_answers_in_every_version(version: str) -> None:
    mcp = MCPServer("t")

    @mcp.tool
    async def add(a: int, b: int) -> int:
        return a + b

    result = await DispatchHarness(mcp, version).tool("add", a=1, b=2)
    assert text(result) == "3"
    assert not result.get("isError")


@ALL
@pytest.mark.parametrize(
    "params",
    [{}, {"name": 1}, {"name": "add", "arguments": []}, {"name": "add", "arguments": "x"}, {"name": "sub"}],
)
async def test_a_malformed_call_and_an_unknown_tool_are_protocol_errors(params: dict[str, Any], version: str) -> None:
    mcp = MCPServer("t")

    @mcp.tool
    async def add(a: int) -> int:
        return a

    assert (await DispatchHarness(mcp, version).error("tools/call", params))["code"] == -32602


@ALL
async def test_arguments_that_do_not_fit_are_the_models_to_correct_since_2025_11_25(version: str) -> None:
    mcp = MCPServer("t")

    @mcp.tool
    async def add(a: int) -> int:
        return a

    reply = await DispatchHarness(mcp, version).request("tools/call", {"name": "add", "arguments": {"a": "x"}})
    if version < V2025_11_25:
        assert reply["error"]["code"] == -32602
    else:
        assert reply["result"]["isError"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (ToolError("try Tuesday"), "try Tuesday"),
        (ClientTimeout("The client did not answer"), "The client did not answer"),
        (ExceptionGroup("", [ToolError("one"), ExceptionGroup("", [ToolError("two")])]), "one\ntwo"),
    ],
)
@ALL
async def test_a_failure_in_words_is_a_result_with_them(
    fault: Exception, words: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    result = await DispatchHarness(failing(fault), version).tool("fail")
    assert result["isError"]
    assert text(result) == words
    assert not caplog.records


@pytest.mark.parametrize(
    "fault",
    [
        ValueError("secret"),
        LocalProtocolError(-32603, "secret"),
        ExceptionGroup("", [ToolError("secret"), ValueError("secret")]),
    ],
)
@ALL
async def test_a_crash_is_a_result_with_a_reference_and_one_traceback_in_the_log(
    fault: Exception, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    result = await DispatchHarness(failing(fault), version).tool("fail")
    assert result["isError"]
    assert "secret" not in text(result)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is fault
    assert record.mcp_fields["ref"] in text(result)  # type: ignore[attr-defined]


@ALL
async def test_a_protocol_fault_a_tool_raises_is_a_protocol_error(version: str) -> None:
    harness = DispatchHarness(failing(InvalidParams("not for you")), version)
    assert (await harness.error("tools/call", {"name": "fail"}))["code"] == -32602
    assert harness.outbox.status == (400 if version >= V2026_07_28 else 200)


async def test_a_missing_capability_is_a_protocol_error_where_the_code_exists_and_a_failure_before() -> None:
    fault = MissingClientCapability({"sampling": {}})
    harness = DispatchHarness(failing(fault), "2026-07-28")
    error = await harness.error("tools/call", {"name": "fail"})
    assert error["code"] == -32021
    assert error["data"] == {"requiredCapabilities": {"sampling": {}}}
    assert harness.outbox.status == 400
    assert (await DispatchHarness(failing(fault)).tool("fail"))["isError"]


async def test_a_sync_tool_runs_in_a_thread_of_the_servers_own_limiter() -> None:
    mcp = MCPServer("t")
    harness = DispatchHarness(mcp)
    seen: list[Any] = []

    @mcp.tool
    def where(ctx: Context) -> str:
        seen.append((threading.current_thread() is threading.main_thread(), harness.service.threads.borrowed_tokens))
        return str(ctx.request_id)

    assert text(await harness.tool("where")) == "1"
    assert seen == [(False, 1)]


async def test_a_cancelled_sync_tool_is_left_to_itself_and_keeps_its_place_until_it_ends() -> None:
    mcp = MCPServer("t")
    harness = DispatchHarness(mcp)
    release = threading.Event()
    running = trio.Event()
    token = trio.lowlevel.current_trio_token()

    @mcp.tool
    def block() -> None:
        token.run_sync_soon(running.set)
        release.wait(5)

    from trio_mcp.dispatch.call import Ending
    from trio_mcp.dispatch.dispatcher import respond

    call = harness.call("tools/call", {"name": "block"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(respond, call)
        await running.wait()
        call.cancel(Ending.CANCELLED)
    assert harness.outbox.reply["error"]["code"] == -32800
    assert harness.service.threads.borrowed_tokens == 1
    release.set()


async def test_a_handler_sees_its_request() -> None:
    mcp = MCPServer("t")
    seen: list[Any] = []

    @mcp.tool
    async def look(ctx: Context) -> None:
        seen.extend(
            [
                ctx.request_id,
                ctx.protocol_version,
                ctx.principal.subject,
                ctx.client_info["name"],
                ctx.client_capabilities,
                ctx.headers,
                ctx.session,
                ctx.lifespan_context,
                ctx.supports("roots"),
                ctx.supports("elicitation", "url"),
                ctx.supports("elicitation", "form"),
                repr(ctx),
            ]
        )

    harness = DispatchHarness(mcp)
    assert harness.conversation is not None
    harness.capabilities = {"roots": {}, "elicitation": {"url": {}}}
    await harness.tool("look")
    assert seen == [
        1,
        "2025-11-25",
        "",
        "test",
        harness.capabilities,
        None,
        harness.conversation.user_session,
        None,
        True,
        True,
        False,
        "<Context tools/call look 1 2025-11-25>",
    ]
    modern = DispatchHarness(mcp, "2026-07-28")
    seen.clear()
    await modern.tool("look")
    assert seen[6] is None


async def test_a_stream_is_closed_for_polling_only_where_it_can_be_resumed() -> None:
    mcp = MCPServer("t")

    @mcp.tool
    async def long(ctx: Context) -> None:
        await ctx.close_stream()

    closed = {}
    for version in SERVED_VERSIONS:
        harness = DispatchHarness(mcp, version)
        await harness.tool("long")
        closed[version] = harness.outbox.closed_streams
    assert closed == {version: int(version == "2025-11-25") for version in SERVED_VERSIONS}


async def test_a_context_is_read_as_other_packages_write_it() -> None:
    mcp = MCPServer("t")
    seen: list[Any] = []

    @mcp.tool
    async def look(ctx: Context[dict[str, int]]) -> None:
        await ctx.info("x", logger_name="other")
        seen.append(ctx.request_context.lifespan_context is ctx.lifespan_context)
        for name, words in (
            ("client_id", "ctx.client_info"),
            ("create_message", "ctx.sample"),
            ("none", "has no none$"),
        ):
            with pytest.raises(AttributeError, match=words):
                getattr(ctx, name)

    result = await DispatchHarness(mcp).tool("look")
    assert result.get("isError") is not True, result
    assert seen == [True]
