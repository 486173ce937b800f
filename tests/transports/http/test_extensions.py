"""Extensions over HTTP: the order of checks, what headers repeat, what the token must have, in both eras; and over stdio."""

from __future__ import annotations

from typing import Any

import pytest

from tests.auth.issuer import NOW, RESOURCE, token, verifier
from tests.transports.http.harness import LEGACY, MODERN, ModernClient, Wire, serving
from trio_mcp import Context, Extension, MCPServer
from trio_mcp.auth import AuthConfigurationError, BearerAuth, require_scopes
from trio_mcp.auth.checks import Requirements, requirements
from trio_mcp.dispatch.call import Call
from trio_mcp.protocol.era import PROTOCOL_VERSION_KEY
from trio_mcp.protocol.errors import InvalidParams

ECHO = "com.example/echo"
DECLARED: dict[str, Any] = {"extensions": {ECHO: {}}}
READ, WRITE = ({"authorization": f"Bearer {token(scope=scope)}"} for scope in ("mcp:read", "mcp:read mcp:write"))


def echo() -> Extension:
    made = Extension(ECHO, settings={"words": 1})

    @made.method("echo/say", name_param="word")
    async def say(ctx: Context, params: dict[str, Any]) -> dict[str, Any]:
        return {"said": params.get("word")}

    return made


def modern(wire: Wire, **options: Any) -> ModernClient:
    return wire.modern(options.pop("capabilities", DECLARED), **options)


async def refused(
    client: ModernClient, method: str, params: dict[str, Any], status: int, code: int, **more: Any
) -> Any:
    exchange = client.start(method, params, **more)
    error = await exchange.error()
    assert (await exchange.head(), error["code"]) == (status, code)
    return error


async def test_a_session_says_at_its_opening_what_it_has_and_hears_what_its_client_has() -> None:
    async with serving(MCPServer("t", extensions=[echo()])) as wire:
        opened = await wire.initialize(capabilities=DECLARED).result()
        assert opened["capabilities"]["extensions"] == {ECHO: {"words": 1}}
        declared = await wire.open(LEGACY, DECLARED)
        assert (await declared.start("echo/say", {"word": "hi"}).result()) == {"said": "hi"}
        other = await wire.open(LEGACY)
        assert (await other.start("echo/say", {"word": "hi"}).error())["code"] == -32601


async def test_the_name_header_repeats_the_param_that_the_method_names() -> None:
    async with serving(MCPServer("t", extensions=[echo()])) as wire:
        client, hi = modern(wire), {"word": "hi"}
        said = await client.start("echo/say", hi, headers={"mcp-name": "hi"}).result()
        assert said["said"] == "hi"
        encoded = {"mcp-name": "=?base64?aGk=?="}
        assert (await client.start("echo/say", hi, headers=encoded).result())["said"] == "hi"
        await refused(client, "echo/say", hi, 400, -32020)
        await refused(client, "echo/say", hi, 400, -32020, headers={"mcp-name": "ho"})
        assert (await client.start("echo/say", {}).result())["said"] is None, "nothing is to be repeated"


@pytest.mark.requirement("P5", "P6")
async def test_each_request_declares_for_itself() -> None:
    async with serving(MCPServer("t", extensions=[echo()])) as wire:
        assert await modern(wire).start("echo/say", {}).result()
        error = await refused(modern(wire, capabilities={}), "echo/say", {}, 400, -32021)
        assert error["data"] == {"requiredCapabilities": {"extensions": {ECHO: {}}}}


@pytest.mark.requirement("tasks-13")
async def test_a_method_that_does_not_exist_is_said_before_anything_else() -> None:
    async with serving(MCPServer("t", extensions=[echo()])) as wire:
        client = modern(wire)
        broken: list[dict[str, Any]] = [{}, {PROTOCOL_VERSION_KEY: MODERN}, {PROTOCOL_VERSION_KEY: 5}, client.meta()]
        for meta in broken:
            for method in ("echo/other", "tasks/result", "tasks/list", "tasks/foo"):
                headers = {"mcp-method": "wrong", "mcp-name": "wrong"}
                await refused(client, method, {"taskId": 1}, 404, -32601, meta=meta, headers=headers)
        # Of a version that is not served here nobody knows its methods.
        later = {**client.meta(), PROTOCOL_VERSION_KEY: "2099-01-01"}
        await refused(client, "echo/other", {}, 400, -32022, meta=later, headers={"mcp-protocol-version": "2099-01-01"})


# Authorization.


def guarded(guard: Any = None) -> MCPServer:
    auth = BearerAuth(verifier(), resource=RESOURCE, required_scopes=["mcp:read"], now=lambda: float(NOW))
    made = echo()

    @made.method("echo/write", auth=require_scopes("mcp:write"))
    async def write(ctx: Context, params: dict[str, Any]) -> dict[str, Any]:
        return {}

    async def one(call: Call) -> tuple[Requirements, ...]:
        if call.params.get("word") == "unknown":
            raise InvalidParams("unknown word")
        asked = requirements(require_scopes("mcp:write"), hide=False)
        return (asked,) if call.params.get("word") == "guarded" else ()

    async def run(call: Call) -> dict[str, Any]:
        return {}

    made.add_method("echo/one", run, guard=one)
    return MCPServer("t", auth=auth, extensions=[made])


async def test_a_method_asks_for_scopes_as_a_tool_does() -> None:
    async with serving(guarded()) as wire:
        exchange = modern(wire, headers=READ).start("echo/write")
        assert await exchange.head() == 403
        assert 'scope="mcp:read mcp:write"' in exchange.headers["www-authenticate"]
        assert await modern(wire, headers=WRITE).start("echo/write").result()
        session = await wire.open(LEGACY, DECLARED, headers=READ)
        assert await session.start("echo/write").head() == 403
        assert await session.start("echo/write", headers=WRITE).result() == {}


async def test_a_method_may_ask_by_what_one_call_names() -> None:
    async with serving(guarded()) as wire:
        client = modern(wire, headers=READ)
        assert await client.start("echo/one", {"word": "open"}).result()
        assert await client.start("echo/one", {"word": "guarded"}).head() == 403
        assert await modern(wire, headers=WRITE).start("echo/one", {"word": "guarded"}).result()
        await refused(client, "echo/one", {"word": "unknown"}, 400, -32602)
        # Whoever did not declare the extension learns nothing of what it names.
        undeclared = modern(wire, headers=READ, capabilities={})
        await refused(undeclared, "echo/one", {"word": "guarded"}, 400, -32021)


def test_over_a_network_what_asks_for_scopes_needs_somebody_who_verifies_tokens() -> None:
    made = echo()
    mcp = MCPServer("t", extensions=[made])
    mcp.http_app()
    with pytest.raises(AuthConfigurationError, match="echo/write"):
        made.method("echo/write", auth=require_scopes("mcp:write"))(lambda ctx, params: {})
    assert "echo/write" not in made.methods
    with pytest.raises(AuthConfigurationError, match="echo/write"):
        MCPServer("t", extensions=[guarded().extensions[ECHO]]).http_app()
