"""A server's own extension of MCP (SEP-2133): what is declared, who may call its methods, what it makes of tool calls and streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from tests.doubles import DispatchHarness
from trio_mcp import Context, Extension, MCPServer, ProtocolError, ToolError
from trio_mcp.dispatch.call import Call, Service
from trio_mcp.dispatch.dispatcher import respond
from trio_mcp.dispatch.extension_port import Listening, Send
from trio_mcp.protocol.versions import SERVED_VERSIONS, V2025_11_25, V2026_07_28
from trio_mcp.streams.backlog import Kind

ECHO = "com.example/echo"
DECLARED: dict[str, Any] = {"extensions": {ECHO: {"loud": True}}}
REQUIRED: dict[str, Any] = {"requiredCapabilities": {"extensions": {ECHO: {}}}}

Proceed = Callable[[], Awaitable[dict[str, Any]]]


def echo(**options: Any) -> Extension:
    """An extension with a method of each kind."""
    made = Extension(ECHO, **options)

    @made.method("echo/say")
    async def say(ctx: Context, params: dict[str, Any]) -> dict[str, Any]:
        return {"said": params["word"], "loud": ctx.client_extension(ECHO)}

    @made.method("echo/thread")
    def thread(ctx: Context, params: dict[str, Any]) -> dict[str, Any]:
        return {"supported": ctx.client_supports_extension(ECHO)}

    @made.method("echo/open", declared_only=False)
    async def everybody(ctx: Context, params: dict[str, Any]) -> dict[str, Any]:
        return {}

    @made.method("echo/refuse")
    async def refuse(ctx: Context, params: dict[str, Any]) -> dict[str, Any]:
        raise ProtocolError(-31000, "no", {"why": 1})

    @made.method("echo/crash")
    async def crash(ctx: Context, params: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("secret")

    @made.method("echo/nothing")
    async def nothing(ctx: Context, params: dict[str, Any]) -> Any:
        return None

    return made


def harness(
    extension: Extension | None = None, version: str = V2026_07_28, capabilities: Any = DECLARED
) -> DispatchHarness:
    made = DispatchHarness(MCPServer("t", extensions=[extension or echo()]), version)
    made.capabilities = capabilities
    return made


@pytest.mark.parametrize("version", SERVED_VERSIONS)
async def test_a_method_is_dispatched_in_every_version_of_its_extension(version: str) -> None:
    result = await harness(version=version).result("echo/say", {"word": "hi"})
    assert result["said"] == "hi"
    assert result["loud"] == {"loud": True}
    assert result.get("resultType") == ("complete" if version == V2026_07_28 else None)


async def test_a_function_that_is_not_async_runs_in_a_thread() -> None:
    assert (await harness().result("echo/thread"))["supported"] is True


@pytest.mark.parametrize(
    ("method", "code"), [("echo/refuse", -31000), ("echo/crash", -32603), ("echo/nothing", -32603)]
)
async def test_what_a_function_raises_is_answered_as_from_any_handler(method: str, code: int) -> None:
    error = await harness().error(method)
    assert error["code"] == code
    assert "secret" not in error["message"]


UNDECLARED: list[dict[str, Any]] = [
    {},
    {"extensions": {}},
    {"extensions": {"com.example/other": {}}},
    {"extensions": None},
    {"extensions": {ECHO: None}},
    {"extensions": [ECHO]},
    {ECHO: {}},
]


@pytest.mark.requirement("P9")
@pytest.mark.parametrize("capabilities", UNDECLARED)
async def test_only_a_client_that_declared_it_may_call_its_methods(capabilities: dict[str, Any]) -> None:
    modern = harness(capabilities=capabilities)
    error = await modern.error("echo/say", {"word": 1})
    assert (error["code"], error["data"]) == (-32021, REQUIRED)
    assert ECHO in error["message"]
    assert modern.outbox.status == 400
    assert (await harness(version=V2025_11_25, capabilities=capabilities).error("echo/say"))["code"] == -32601
    assert await modern.result("echo/open")


async def test_methods_exist_in_the_versions_they_were_given() -> None:
    made = Extension(ECHO, since=V2026_07_28)

    @made.method("echo/say")
    async def say(ctx: Context, params: dict[str, Any]) -> dict[str, Any]:
        return {}

    assert (await harness(made, V2025_11_25).error("echo/say"))["code"] == -32601
    assert await harness(made).result("echo/say")


@pytest.mark.requirement("P9")
async def test_discovery_says_what_is_declared() -> None:
    found = (await harness(echo(settings={"a": 1})).result("server/discover"))["capabilities"]
    assert found["extensions"] == {ECHO: {"a": 1}}
    without = DispatchHarness(MCPServer("t"), V2026_07_28)
    assert "extensions" not in (await without.result("server/discover"))["capabilities"]


async def test_one_for_used_only_comes_and_goes_with_the_tools_that_use_it() -> None:
    mcp = MCPServer("t", extensions=[echo(when_used=True)])
    made = DispatchHarness(mcp, V2026_07_28)
    made.capabilities = DECLARED

    async def there() -> bool:
        capabilities = (await made.result("server/discover"))["capabilities"]
        answered = "result" in await made.request("echo/say", {"word": 1})
        assert answered == ("extensions" in capabilities)
        return answered

    assert not await there()
    mcp.add_tool(lambda: 1, name="plain")
    assert not await there()
    mcp.add_tool(lambda: 1, name="used", extensions={ECHO: None})
    assert await there()
    mcp.remove_tool("used")
    assert not await there()


async def test_a_method_may_be_registered_when_the_server_has_the_extension() -> None:
    made = echo()
    served = harness(made)
    assert (await served.error("echo/late"))["code"] == -32601

    @made.method("echo/late")
    async def late(ctx: Context, params: dict[str, Any]) -> dict[str, Any]:
        return {}

    assert await served.result("echo/late")


# Calls of tools.


def around(**options: Any) -> tuple[MCPServer, Extension]:
    """A server with a tool that has options for an extension around its calls, and one that has not."""
    made = Extension(ECHO, **options)
    mcp = MCPServer("t", extensions=[made])

    @mcp.tool(extensions={ECHO: "!", "com.example/absent": 1})
    async def shout(word: str) -> str:
        if word == "fail":
            raise ToolError("failed")
        return word

    @mcp.tool
    async def quiet(word: str) -> str:
        return word

    return mcp, made


async def test_a_function_around_tool_calls_changes_what_they_say() -> None:
    mcp, made = around()

    @made.on_tool_call
    async def louder(ctx: Context, options: str, proceed: Proceed) -> dict[str, Any]:
        result = await proceed()
        return result | {"_meta": {"said": result["content"][0]["text"] + options}}

    served = DispatchHarness(mcp, V2026_07_28)
    assert (await served.tool("shout", word="hi"))["_meta"]["said"] == "hi!"
    assert "said" not in (await served.tool("quiet", word="hi"))["_meta"]
    failed = await served.tool("shout", word="fail")
    assert (failed["isError"], failed["_meta"]["said"]) == (True, "failed!")
    assert (await served.tool("shout"))["isError"], "arguments that do not fit are the tool's matter"
    assert (await served.error("tools/call", {"name": "shout", "arguments": 1}))["code"] == -32602


async def test_a_tool_with_options_for_an_extension_that_does_nothing_is_called_plainly() -> None:
    mcp, _ = around()
    assert (await DispatchHarness(mcp).tool("shout", word="hi"))["content"][0]["text"] == "hi"


async def test_an_extension_that_a_version_does_not_have_is_not_asked() -> None:
    mcp, made = around(since=V2026_07_28)

    @made.on_tool_call
    async def never(ctx: Context, options: str, proceed: Proceed) -> dict[str, Any]:
        raise ToolError("asked")

    assert not (await DispatchHarness(mcp).tool("shout", word="hi"))["isError"]
    refused = await DispatchHarness(mcp, V2026_07_28).tool("shout", word="hi")
    assert (refused["isError"], refused["content"][0]["text"]) == (True, "asked")


async def test_a_tool_that_needs_the_extension_refuses_clients_without_it() -> None:
    mcp, made = around()
    ran = []

    @made.on_tool_call
    async def needs(ctx: Context, options: str, proceed: Proceed) -> dict[str, Any]:
        ctx.require_extension(ECHO)
        ran.append(ctx.client_extension(ECHO))
        return await proceed()

    served = DispatchHarness(mcp, V2026_07_28)
    error = await served.error("tools/call", {"name": "shout", "arguments": {"word": "hi"}})
    assert (error["code"], error["data"], ran) == (-32021, REQUIRED, [])
    served.capabilities = DECLARED
    assert not (await served.tool("shout", word="hi"))["isError"]
    assert ran == [{"loud": True}]


async def test_a_crash_around_a_tool_call_is_that_tools_failure() -> None:
    mcp, made = around()

    @made.on_tool_call
    async def crash(ctx: Context, options: str, proceed: Proceed) -> dict[str, Any]:
        raise KeyError("secret")

    failed = await DispatchHarness(mcp, V2026_07_28).tool("shout", word="hi")
    assert failed["isError"]
    assert "secret" not in str(failed)


async def test_extensions_are_asked_in_the_order_of_the_tools_options() -> None:
    order: list[str] = []
    mcp = MCPServer("t")
    for name in ("com.example/b", "com.example/a"):
        made = Extension(name)

        async def noted(ctx: Context, options: str, proceed: Proceed) -> dict[str, Any]:
            order.append(options)
            return await proceed()

        made.on_tool_call(noted)
        mcp.add_extension(made)
    mcp.add_tool(lambda: 1, name="t", extensions={"com.example/a": "first", "com.example/b": "second"})
    await DispatchHarness(mcp).tool("t")
    assert order == ["first", "second"]


# Streams, and what runs beside requests.


class Ticking(Extension):
    """Sends what it is told on listen streams that ask for `ticks`, and runs something beside requests."""

    def __init__(self) -> None:
        super().__init__(ECHO)
        self.sends: list[Send] = []
        self.runs = 0

    async def listen(self, call: Call, asked: Mapping[str, Any]) -> Listening | None:
        async def run(send: Send) -> None:
            self.sends.append(send)
            try:
                await trio.sleep_forever()
            finally:
                self.sends.remove(send)

        return Listening({"ticks": asked["ticks"]}, run) if "ticks" in asked else None

    @asynccontextmanager
    async def running(self, service: Service) -> AsyncIterator[str]:
        self.runs += 1
        yield f"run {self.runs}"
        self.runs -= 1


async def test_an_extension_adds_to_a_listen_stream_until_it_ends() -> None:
    made = Ticking()
    served = harness(made)
    call = served.call("subscriptions/listen", {"notifications": {"ticks": 3}})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(respond, call)
        await trio.testing.wait_all_tasks_blocked()
        (acknowledged,) = served.outbox.said
        assert acknowledged["params"]["notifications"] == {"ticks": 3}
        made.sends[0]("notifications/echo", {"n": 1}, key="echo")
        made.sends[0]("notifications/echo", {"n": 2})
        assert served.outbox.kinds[1:] == [(Kind.LATEST, "echo"), (Kind.LATEST, None)], "none of them is vital"
        served.service.listen_calls[call].set()
    told = served.outbox.said[1]
    assert (told["method"], told["params"]["n"]) == ("notifications/echo", 1)
    assert told["params"]["_meta"] == {"io.modelcontextprotocol/subscriptionId": call.request_id}
    assert made.sends == []
    assert served.outbox.finished == 1


async def test_an_extension_runs_around_the_requests_of_each_app() -> None:
    made = Ticking()
    mcp = MCPServer("t", extensions=[made])
    seen = []

    @mcp.tool
    async def state(ctx: Context) -> None:
        seen.append(ctx.extension_state(ECHO))

    first, second = mcp.http_app(), mcp.http_app()
    async with first.running(), second.running():
        assert (first.service.extension_state, second.service.extension_state) == ({ECHO: "run 1"}, {ECHO: "run 2"})
    assert made.runs == 0
    await DispatchHarness(mcp).tool("state")
    assert seen == [None]


async def test_a_handler_notifies_clients_that_declared_the_extension() -> None:
    mcp, _ = around()

    @mcp.tool
    async def tell(ctx: Context) -> None:
        await ctx.notify_extension(ECHO, "notifications/echo/heard", {"n": 1})
        await ctx.notify_extension(ECHO, "notifications/echo/heard")
        for name in ("notifications/message", "notifications/tools/list_changed", "echo/heard", ""):
            with pytest.raises(ValueError, match="notifications/echo/heard"):
                await ctx.notify_extension(ECHO, name)

    for version in (V2025_11_25, V2026_07_28):
        served = DispatchHarness(mcp, version)
        await served.tool("tell")
        assert served.outbox.said == []
        served.capabilities = DECLARED
        await served.tool("tell")
        assert [told.get("params") for told in served.outbox.said] == [{"n": 1}, {}]


# Mistakes of its author.


@pytest.mark.parametrize(
    "identifier", ["", "echo", "/echo", "com.example/", "-a/b", "com..x/y", "com.example/echo_", "a/b/c", "ä/b", 5]
)
def test_an_identifier_has_a_prefix_and_a_name(identifier: Any) -> None:
    with pytest.raises(ValueError, match=r"com\.example/echo"):
        Extension(identifier)


def test_names_that_are_taken_are_refused() -> None:
    made = echo()
    mcp = MCPServer("t", extensions=[made])
    for name in ("tools/call", "echo/say"):
        with pytest.raises(ValueError, match="exists already"):
            made.method(name)(lambda ctx, params: {})
    with pytest.raises(ValueError, match="has the extension"):
        mcp.add_extension(echo())
    other = Extension("com.example/other")
    other.method("echo/say")(lambda ctx, params: {})
    with pytest.raises(ValueError, match="another extension has the method echo/say"):
        mcp.add_extension(other)
    assert list(mcp.extensions) == [ECHO]
    with pytest.raises(TypeError, match="Extension"):
        mcp.add_extension("com.example/x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a list of Extension"):
        MCPServer("t", extensions=made)  # type: ignore[arg-type]


def test_a_function_around_tool_calls_is_async_and_the_only_one() -> None:
    made = Extension(ECHO)
    with pytest.raises(TypeError, match="async"):
        made.on_tool_call(lambda ctx, options, proceed: {})

    async def fine(ctx: Context, options: Any, proceed: Proceed) -> dict[str, Any]:
        return await proceed()

    made.on_tool_call(fine)
    with pytest.raises(ValueError, match="already"):
        made.on_tool_call(fine)


def test_options_for_extensions_are_a_dict() -> None:
    with pytest.raises(TypeError, match="extensions= of a tool"):
        MCPServer("t").add_tool(lambda: 1, name="t", extensions=[ECHO])  # type: ignore[arg-type]
