"""One request, one reply: results, errors, endings, and faults that stay their request's own."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing

from tests.doubles import DispatchHarness
from trio_mcp import Context, MCPServer, ToolError
from trio_mcp.dispatch.call import Call, Ending
from trio_mcp.dispatch.dispatcher import respond
from trio_mcp.protocol.errors import (
    ClientRefused,
    InvalidParams,
    LocalProtocolError,
    PromptError,
    ProtocolError,
    ResourceError,
    ResourceNotFoundError,
    SlowReader,
)
from trio_mcp.protocol.methods import METHODS, find_method
from trio_mcp.protocol.versions import LEGACY_VERSIONS, SERVED_VERSIONS, V2026_07_28

ALL = pytest.mark.parametrize("version", SERVED_VERSIONS)


def server_with_resource(fault: BaseException | None = None) -> MCPServer:
    mcp = MCPServer("t")

    @mcp.resource("x://y")
    async def resource() -> str:
        if fault is not None:
            raise fault
        return "text"

    return mcp


async def read(version: str, fault: BaseException) -> tuple[dict[str, Any], int | None]:
    harness = DispatchHarness(server_with_resource(fault), version)
    return await harness.error("resources/read", {"uri": "x://y"}), harness.outbox.status


# What may be asked


@ALL
async def test_an_unknown_method_is_not_found(version: str) -> None:
    harness = DispatchHarness(MCPServer("t"), version)
    error = await harness.error("tools/destroy")
    assert error["code"] == -32601
    assert harness.outbox.status == (404 if version >= V2026_07_28 else 200)


@ALL
@pytest.mark.parametrize("method", METHODS)
async def test_a_server_that_offers_nothing_has_only_the_methods_that_need_no_capability(
    method: str, version: str
) -> None:
    found = find_method(method, version)
    if method == "subscriptions/listen" or (found is not None and found.capability in {None, "logging"}):
        return
    assert (await DispatchHarness(MCPServer("t"), version).error(method))["code"] == -32601


async def test_methods_come_and_go_with_what_is_registered() -> None:
    server = MCPServer("t")
    harness = DispatchHarness(server, "2025-11-25")
    asked = {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": "w"}}
    assert (await harness.error("prompts/list"))["code"] == -32601

    def greet(who: str) -> str:
        return who

    def suggest(value: str) -> list[str]:
        return ["world"]

    server.prompt(greet)
    assert len((await harness.result("prompts/list"))["prompts"]) == 1
    assert (await harness.error("completion/complete", asked))["code"] == -32601
    server.completion("greet", "who")(suggest)
    assert (await harness.result("completion/complete", asked))["completion"]["values"] == ["world"]
    server.remove_prompt("greet")
    assert (await harness.error("prompts/list"))["code"] == -32601


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
async def test_a_ping_is_answered_with_nothing(version: str) -> None:
    assert await DispatchHarness(MCPServer("t"), version).result("ping") == {}


async def test_a_second_initialize_in_a_session_is_refused() -> None:
    assert (await DispatchHarness(MCPServer("t")).error("initialize"))["code"] == -32600


@ALL
async def test_a_long_method_name_is_not_repeated_in_full(version: str) -> None:
    error = await DispatchHarness(MCPServer("t"), version).error("x" * 100_000)
    assert len(error["message"]) < 200


# How faults become errors


@ALL
async def test_a_missing_resource_has_the_code_of_its_version_and_its_uri(version: str) -> None:
    harness = DispatchHarness(server_with_resource(), version)
    error = await harness.error("resources/read", {"uri": "x://other"})
    assert error["code"] == (-32602 if version >= V2026_07_28 else -32002)
    assert error["data"] == {"uri": "x://other"}
    assert harness.outbox.status == (400 if version >= V2026_07_28 else 200)


@ALL
async def test_a_handler_may_say_itself_that_a_resource_does_not_exist(version: str) -> None:
    error, _ = await read(version, ResourceNotFoundError("x://deeper"))
    assert error["code"] == (-32602 if version >= V2026_07_28 else -32002)


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (InvalidParams("no such page", {"page": 3}), -32602, "no such page"),
        (ResourceError("the disk is full"), -32603, "the disk is full"),
        (ProtocolError(-1234, "of the application's own"), -1234, "of the application's own"),
        (ClientRefused(-1, "user said no"), -32602, "user said no"),
    ],
)
@ALL
async def test_an_error_raised_on_purpose_reaches_the_client_in_its_own_words(
    fault: Exception, code: int, text: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    error, _ = await read(version, fault)
    assert error["code"] == code
    assert text in error["message"]
    assert not caplog.records


@pytest.mark.parametrize(
    "fault",
    [
        KeyError("secret"),
        ToolError("secret"),
        PromptError("secret"),
        LocalProtocolError(-32603, "secret"),
        ExceptionGroup("", [ValueError("secret")]),
        ProtocolError(-1234, "data that is no JSON", object()),
        ProtocolError(-1234, "text that is no \udcff UTF-8"),
        RecursionError("secret"),
    ],
)
@ALL
async def test_a_crash_is_told_by_a_reference_and_logged_once_with_it(
    fault: Exception, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    error, status = await read(version, fault)
    assert error["code"] == -32603
    assert status == 200
    assert "secret" not in str(error)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.mcp_fields["ref"] in error["message"]  # type: ignore[attr-defined]


async def test_a_result_that_mcp_forbids_is_our_own_fault(caplog: pytest.LogCaptureFixture) -> None:
    mcp = MCPServer("t")

    @mcp.prompt
    async def bad() -> Any:
        return {"role": "secret", "content": {"type": "text", "text": "x"}}

    error = await DispatchHarness(mcp).error("prompts/get", {"name": "bad"})
    assert error["code"] == -32603
    assert "secret" not in str(error)
    assert len(caplog.records) == 1


# How calls end before their handler returns


def sleeper(*, cleanup: Any = None) -> MCPServer:
    mcp = MCPServer("t")

    @mcp.tool
    async def sleep(ctx: Context) -> str:
        try:
            await trio.sleep_forever()
        finally:
            if cleanup is not None:
                await cleanup(ctx)  # noqa: ASYNC102  # as cleanups of handlers do

    return mcp


async def ended(call: Call, ending: Ending) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(respond, call)
        await trio.testing.wait_all_tasks_blocked()
        call.cancel(ending)


@pytest.mark.parametrize(
    ("ending", "code", "text"),
    [
        (Ending.CANCELLED, -32800, "Request cancelled"),
        (Ending.SESSION_CLOSED, -32603, "The session was closed"),
        (Ending.SHUTDOWN, -32603, "The server is shutting down"),
        (Ending.SLOW_READER, -32603, "The client stopped reading"),
    ],
)
async def test_a_call_that_is_ended_is_answered_with_the_reason(ending: Ending, code: int, text: str) -> None:
    harness = DispatchHarness(sleeper())
    await ended(harness.call("tools/call", {"name": "sleep"}), ending)
    assert harness.outbox.reply["error"] == {"code": code, "message": text}
    assert not harness.service.in_flight


async def test_the_first_reason_stands() -> None:
    harness = DispatchHarness(sleeper())
    call = harness.call("tools/call", {"name": "sleep"})
    call.cancel(Ending.SHUTDOWN)
    call.cancel(Ending.CANCELLED)
    await respond(call)
    assert harness.outbox.reply["error"]["message"] == "The server is shutting down"


async def test_a_call_cancelled_from_outside_is_answered_all_the_same() -> None:
    harness = DispatchHarness(sleeper())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(respond, harness.call("tools/call", {"name": "sleep"}))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert harness.outbox.reply["error"]["message"] == "The session was closed"
    assert not harness.service.in_flight


async def test_a_wire_that_wants_silence_gets_it_whatever_the_handler_does_when_cancelled() -> None:
    async def say(ctx: Context) -> None:
        await ctx.error("one last word")

    async def fail(ctx: Context) -> None:
        raise ValueError

    for cleanup in (None, say, fail):
        harness = DispatchHarness(sleeper(cleanup=cleanup), "2026-07-28")
        harness.log_level = "debug"
        await ended(harness.call("tools/call", {"name": "sleep"}, answers_cancelled=False), Ending.CANCELLED)
        assert harness.outbox.finished == 1
        assert harness.outbox.reply is None
        assert not harness.outbox.said


async def test_a_result_that_is_there_when_the_cancellation_comes_is_not_sent_where_silence_is_wanted() -> None:
    mcp = MCPServer("t")
    harness = DispatchHarness(mcp, "2026-07-28")

    @mcp.tool
    async def quick() -> int:
        call.cancel(Ending.CANCELLED)
        return 1

    call = harness.call("tools/call", {"name": "quick"}, answers_cancelled=False)
    await respond(call)
    assert harness.outbox.reply is None


async def test_a_cleanup_that_fails_in_a_nursery_while_cancelled_costs_that_call_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mcp = MCPServer("t")

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("secret")

    @mcp.tool
    async def parent() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.sleep_forever)

    harness = DispatchHarness(mcp)
    await ended(harness.call("tools/call", {"name": "parent"}), Ending.CANCELLED)
    assert "secret" not in str(harness.outbox.reply)
    assert len(caplog.records) == 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(respond, harness.call("tools/call", {"name": "parent"}))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert harness.outbox.finished == 1
    assert len(caplog.records) == 2


async def test_a_reader_that_stopped_reading_is_no_fault_of_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    mcp = MCPServer("t")

    @mcp.tool
    async def talk(ctx: Context) -> None:
        await ctx.info("hello?")

    @mcp.tool
    async def talk_in_tasks(ctx: Context) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ctx.info, "hello?")
            nursery.start_soon(ctx.info, "anybody?")

    @mcp.prompt
    async def ask(ctx: Context) -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ctx.info, "hello?")
            nursery.start_soon(ctx.info, "anybody?")
        return "never"

    harness = DispatchHarness(mcp, "2026-07-28")
    harness.log_level = "debug"
    for method, name in [("tools/call", "talk"), ("tools/call", "talk_in_tasks"), ("prompts/get", "ask")]:
        call = harness.call(method, {"name": name}, reads=False)
        await respond(call)
        assert harness.outbox.reply["error"]["message"] == "The client stopped reading"
        assert call.ending is Ending.SLOW_READER
    assert not caplog.records


async def test_nothing_follows_the_reply() -> None:
    mcp = MCPServer("t")
    kept: list[Context] = []

    @mcp.tool
    async def quick(ctx: Context) -> None:
        kept.append(ctx)

    harness = DispatchHarness(mcp)
    harness.capabilities = {"elicitation": {}}
    await harness.result("tools/call", {"name": "quick", "_meta": {"progressToken": 1}})
    (late,) = kept
    await late.report_progress(1)
    await late.info("late")
    assert not harness.outbox.said
    with pytest.raises(Exception, match="that one is answered"):
        await late.elicit("late?", {"type": "object", "properties": {}})


# What results carry


@ALL
async def test_only_modern_results_name_their_type_and_their_server(version: str) -> None:
    harness = DispatchHarness(server_with_resource(), version)
    result = await harness.result("resources/read", {"uri": "x://y"})
    assert ("resultType" in result) == (version >= V2026_07_28)
    if version >= V2026_07_28:
        assert result["resultType"] == "complete"
        assert result["_meta"]["io.modelcontextprotocol/serverInfo"] == {"name": "t", "version": "0.0.0"}
        assert result["cacheScope"] == "private"
        assert result["ttlMs"] == 0


async def test_metrics_and_in_flight_follow_the_call() -> None:
    harness = DispatchHarness(sleeper())
    call = harness.call("tools/call", {"name": "sleep"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(respond, call)
        await trio.testing.wait_all_tasks_blocked()
        assert harness.service.in_flight == {call}
        call.cancel(Ending.CANCELLED)
    assert not harness.service.in_flight
    text = harness.service.metrics.render()[0].decode()
    assert 'error_type="cancelled"' in text or "cancelled" in text


@pytest.mark.parametrize("fault", [SlowReader("x"), ExceptionGroup("", [SlowReader("x"), SlowReader("y")])])
async def test_slow_readers_in_any_group_are_slow_readers(fault: Exception) -> None:
    error, _ = await read("2026-07-28", fault)
    assert error["message"] == "The client stopped reading"
