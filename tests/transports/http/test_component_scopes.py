"""What components ask of a caller's token: a 403 before anything runs, with all that the request needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
import trio
from pydantic import BaseModel
from trio.testing import MockClock

from tests.auth.issuer import NOW, RESOURCE, token, verifier
from tests.transports.http.harness import BOTH, JSON, SSE, Exchange, Wire, request, serving
from trio_mcp import Context, MCPServer, Principal
from trio_mcp.auth import (
    AccessToken,
    AuthConfigurationError,
    BearerAuth,
    Claim,
    get_access_token,
    require_roles,
    require_scopes,
)
from trio_mcp.auth.principal import HttpRequestView
from trio_mcp.features.registry import Registry
from trio_mcp.protocol.methods import METHODS
from trio_mcp.transports.http.permission import components

METADATA_URL = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
READ = {"authorization": f"Bearer {token()}"}
WRITE = {"authorization": f"Bearer {token(scope='mcp:read mcp:write')}"}
ADMIN = {"authorization": f"Bearer {token(scope='mcp:admin')}"}
HR = {"authorization": f"Bearer {token(roles=['hr'])}"}
HIERARCHY = {"mcp:admin": ["mcp:write"], "mcp:write": ["mcp:read"]}

STRANGERS: list[dict[str, Any]] = [{"sub": "bob"}, {"client_id": "other"}]

write = require_scopes("mcp:write")


class Name(BaseModel):
    value: str


def server(ran: list[str], **options: Any) -> MCPServer:
    """Its components note that they ran."""
    auth = BearerAuth(
        verifier(), resource=RESOURCE, required_scopes=["mcp:read"], scope_implies=HIERARCHY, now=lambda: float(NOW)
    )
    mcp = MCPServer("test", auth=auth, **options)

    @mcp.tool
    async def r() -> str:
        ran.append("r")
        return "r"

    @mcp.tool(auth=write)
    async def w(ctx: Context, more: bool = False) -> str:
        ran.append("w")
        if more:
            await ctx.report_progress(1)
            await trio.sleep(1)
        return " ".join(ctx.token.scopes) if ctx.token is not None else "nobody"

    @mcp.tool(auth=require_scopes("mcp:delete"), hide=True)
    async def hidden() -> None: ...

    @mcp.tool(auth=[write, require_roles("hr")])
    async def hr() -> None: ...

    @mcp.tool(auth=write)
    async def asks(ctx: Context) -> str:
        answer = await ctx.elicit("name?", Name)
        return "" if answer.data is None else answer.data.value

    @mcp.resource("a://guarded", auth=write)
    async def guarded() -> str:
        ran.append("a://guarded")
        return "secret"

    @mcp.resource("a://people/{id}", auth=write)
    async def person(id: str) -> str:
        ran.append("person")
        return id

    @mcp.prompt(auth=write)
    async def ask(topic: str) -> str:
        ran.append("ask")
        return topic

    @mcp.prompt(auth=write, hide=True)
    async def shy() -> None: ...

    mcp.completion("ask", "topic")(complete)
    mcp.completion("a://people/{id}", "id")(complete)
    return mcp


async def complete(value: str) -> list[str]:
    return [value]


@asynccontextmanager
async def guarded(ran: list[str] | None = None, **options: Any) -> AsyncIterator[Wire]:
    async with serving(server([] if ran is None else ran), **options) as wire:
        yield wire


USES: list[tuple[str, dict[str, Any]]] = [
    ("tools/call", {"name": "w", "arguments": {}}),
    ("resources/read", {"uri": "a://guarded"}),
    ("resources/read", {"uri": "a://people/ann"}),
    ("prompts/get", {"name": "ask", "arguments": {"topic": "x"}}),
    (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "topic", "value": "x"}},
    ),
    (
        "completion/complete",
        {"ref": {"type": "ref/resource", "uri": "a://people/{id}"}, "argument": {"name": "id", "value": "x"}},
    ),
]
IDS = ["tool", "resource", "template", "prompt", "prompt completion", "template completion"]


async def refused(exchange: Exchange, id: int | str | None, *, scope: str = "mcp:read mcp:write") -> str:
    """The description in a 403 for want of scopes."""
    assert await exchange.head() == 403
    answer = await exchange.json()
    assert answer.get("id") == id
    assert answer["error"]["data"] == {"error": "insufficient_scope"}
    description = answer["error"]["message"]
    assert exchange.headers["www-authenticate"] == (
        f'Bearer error="insufficient_scope", error_description="{description}", '
        f'scope="{scope}", resource_metadata="{METADATA_URL}"'
    )
    return str(description)


async def names(exchange: Exchange) -> list[str]:
    return [it["name"] for it in (await exchange.result())["tools"]]


@pytest.mark.requirement("auth-36", "auth-40")
@pytest.mark.parametrize("accept", [BOTH, JSON, SSE])
@pytest.mark.parametrize(("method", "params"), USES, ids=IDS)
async def test_a_component_whose_scope_is_missing_is_refused_and_not_run(
    method: str, params: dict[str, Any], accept: str
) -> None:
    ran: list[str] = []
    async with guarded(ran) as wire:
        session = await wire.open(headers=READ)
        calls = [
            session.start(method, params, 7, {"accept": accept}),
            wire.modern(headers={**READ, "accept": accept}).start(method, params, id=7),
        ]
        for call in calls:
            assert (await refused(call, 7)).endswith(" needs mcp:write")
        assert not wire.app.service.in_flight
        (live,) = wire.app.hub.sessions
        assert not live.used
        assert ran == []
        # The same id is free: the refused request was not counted.
        assert "result" in await session.start(method, params, 7, {**WRITE, "accept": accept}).answer()
        assert "result" in await wire.modern(headers=WRITE).start(method, params, id=7).answer()


@pytest.mark.requirement("auth-40")
async def test_subscriptions_ask_for_what_reading_asks_for() -> None:
    async with guarded() as wire:
        session = await wire.open(headers=READ)
        await refused(session.start("resources/subscribe", {"uri": "a://people/ann"}, 1), 1)
        assert await session.start("resources/unsubscribe", {"uri": "a://people/ann"}).result() == {}
        assert await session.start("resources/subscribe", {"uri": "a://people/ann"}, headers=WRITE).result() == {}
        # Updates of what is below are notified, too.
        for above in ("a:", "a://", "a://people", "a://people/"):
            await refused(session.start("resources/subscribe", {"uri": above}, above), above)
        modern = wire.modern(headers=READ)
        await refused(modern.listen(2, resourceSubscriptions=["a://other", "a://guarded"]), 2)
        stream = modern.listen(3, toolsListChanged=True, resourceSubscriptions=["a://other"])
        assert (await stream.message())["method"] == "notifications/subscriptions/acknowledged"


@pytest.mark.requirement("auth-38")
@pytest.mark.parametrize("headers", [WRITE, ADMIN], ids=["itself", "implied"])
async def test_who_has_the_scope_is_served(headers: dict[str, str]) -> None:
    ran: list[str] = []
    async with guarded(ran) as wire:
        session = await wire.open(headers=headers)
        await session.tool("w").result()
        await wire.modern(headers=headers).tool("w").result()
        assert ran == ["w", "w"]


@pytest.mark.parametrize("fault", [KeyError("tenant"), OSError("away")], ids=repr)
async def test_a_check_that_raises_refuses_its_component_and_no_other(fault: Exception) -> None:
    def check(token: AccessToken) -> bool:
        raise fault

    mcp = server([])

    @mcp.tool(auth=check)
    async def broken() -> None: ...

    async with serving(mcp) as wire:
        session = await wire.open(headers=READ)
        modern = wire.modern(headers=READ)
        for call in (session.tool("broken"), modern.tool("broken")):
            assert await call.head() == 403
            assert "error" in await call.json()
        for listed in (session.start("tools/list", {}), modern.start("tools/list", {})):
            found = await names(listed)
            assert "r" in found
            assert "broken" not in found


@pytest.mark.requirement("auth-39")
@pytest.mark.parametrize("scope", ["mcp:read mcp:writeX", "mcp:read MCP:WRITE", "mcp:read mcp:writ"])
async def test_scopes_are_compared_whole(scope: str) -> None:
    async with guarded() as wire:
        await refused(wire.modern(headers={"authorization": f"Bearer {token(scope=scope)}"}).tool("w"), 1)


@pytest.mark.requirement("auth-41", "auth-42")
async def test_each_request_of_a_session_is_judged_by_its_own_token() -> None:
    ran: list[str] = []
    async with guarded(ran) as wire:
        session = await wire.open(headers=READ)
        await refused(session.tool("w", id=1), 1)
        result = await session.tool("w", headers=WRITE).result()
        assert result["content"][0]["text"] == "mcp:read mcp:write"
        wider = await wire.open(headers=WRITE)
        await refused(wider.tool("w", id=2, headers=READ), 2)
        assert ran == ["w"]


@pytest.mark.requirement("auth-37")
async def test_lists_show_what_only_a_scope_stands_against_unless_it_hides() -> None:
    async with guarded() as wire:
        session = await wire.open(headers=READ)
        modern = wire.modern(headers=READ)
        for exchange in (session.start("tools/list"), modern.start("tools/list")):
            assert await names(exchange) == ["r", "w", "asks"]
        result = await modern.start("tools/list").result()
        assert result["cacheScope"] == "private"
        # Another caller's list is another one, and the first one's is not changed by it.
        assert await names(session.start("tools/list", headers=HR)) == ["r", "w", "hr", "asks"]
        assert await names(session.start("tools/list")) == ["r", "w", "asks"]
        assert [it["name"] for it in (await modern.start("prompts/list").result())["prompts"]] == ["ask"]
        everything = await modern.start("prompts/list", headers=WRITE).result()
        assert [it["name"] for it in everything["prompts"]] == ["ask", "shy"]
        deleter = {"authorization": f"Bearer {token(scope='mcp:read mcp:delete')}"}
        assert await names(modern.start("tools/list", headers=deleter)) == ["r", "w", "hidden", "asks"]


async def test_pages_are_pages_of_what_the_caller_is_shown() -> None:
    from trio_mcp.dispatch.options import Options

    async with serving(server([], options=Options(page_size=2))) as wire:
        session = await wire.open(headers=HR)
        first = await session.start("tools/list").result()
        assert [it["name"] for it in first["tools"]] == ["r", "w"]
        second = await session.start("tools/list", {"cursor": first["nextCursor"]}).result()
        assert [it["name"] for it in second["tools"]] == ["hr", "asks"]
        assert "nextCursor" not in second


async def test_what_no_scope_would_change_has_no_challenge() -> None:
    async with guarded() as wire:
        call = wire.modern(headers=WRITE).tool("hr")
        assert await call.head() == 403
        assert "www-authenticate" not in call.headers
        assert "data" not in (await call.json())["error"]


@pytest.mark.requirement("auth-45")
async def test_one_element_of_a_batch_without_scope_refuses_all_of_it() -> None:
    ran: list[str] = []
    async with guarded(ran) as wire:
        session = await wire.open("2025-03-26", headers=READ)
        calls = [
            request(number, "tools/call", {"name": name, "arguments": {}})
            for number, name in [(1, "r"), (2, "w"), (3, "hidden")]
        ]
        cancelled = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        description = await refused(session.post([cancelled, *calls]), None, scope="mcp:read mcp:write mcp:delete")
        assert description == "The request needs mcp:write mcp:delete"
        assert ran == []
        answers = await session.batch(*calls[:2], headers=WRITE).json()
        assert len(answers) == 2


@pytest.mark.requirement("auth-47")
async def test_a_retry_is_judged_anew_and_bound_to_its_caller() -> None:
    async with guarded() as wire:
        capable: dict[str, Any] = {"elicitation": {"form": {}}}
        modern = wire.modern(capable, headers=WRITE)
        params = {"name": "asks", "arguments": {}}
        asked = await modern.start("tools/call", params).result()
        (key,) = asked["inputRequests"]
        answer = {"action": "accept", "content": {"value": "ann"}}
        retry = {**params, "inputResponses": {key: answer}, "requestState": asked["requestState"]}
        await refused(modern.start("tools/call", retry, id=9, headers=READ), 9)
        for who in STRANGERS:
            other = {"authorization": f"Bearer {token(scope='mcp:read mcp:write', **who)}"}
            error = await modern.start("tools/call", retry, headers=other).error()
            assert "was altered" in error["message"]
        result = await modern.start("tools/call", retry).result()
        assert result["content"][0]["text"] == "ann"


@pytest.mark.requirement("auth-48")
@pytest.mark.parametrize("version", ["2025-11-25", "2025-03-26"])
async def test_the_rest_of_a_stream_needs_the_scopes_of_its_call(version: str, autojump_clock: MockClock) -> None:
    async with guarded() as wire:
        session = await wire.open(version, headers=READ)
        call = request(5, "tools/call", {"name": "w", "arguments": {"more": True}, "_meta": {"progressToken": 1}})
        session.oracle.asked(5, "tools/call")
        exchange = session.post([call] if version == "2025-03-26" else call, WRITE)
        first = await exchange.event()
        assert first is not None
        exchange.disconnect()
        narrowed = session.listen(first["id"])
        assert await refused(narrowed, None) == "The stream needs mcp:write"
        messages = await session.listen(first["id"], WRITE).messages()
        assert messages[-1]["result"]["content"][0]["text"] == "mcp:read mcp:write"


@pytest.mark.requirement("auth-43", "auth-44")
@pytest.mark.parametrize("who", STRANGERS, ids=["another subject", "another client"])
async def test_a_session_of_somebody_else_is_one_that_never_was(who: dict[str, Any]) -> None:
    stranger = {"authorization": f"Bearer {token(**who)}"}
    async with guarded() as wire:
        session = await wire.open(headers=READ)
        call = request(1, "tools/call", {"name": "r", "arguments": {}})

        def exchanges(id: str, headers: Mapping[str, str | None]) -> list[Exchange]:
            named: dict[str, str | None] = {"mcp-session-id": id, **headers}
            return [
                wire.post(call, named),
                wire.start("GET", {"accept": SSE, **named}),
                wire.start("GET", {"accept": SSE, "last-event-id": "0.g.0", **named}),
                wire.start("DELETE", named),
            ]

        unknown = session.id[:-4] + "AAAA"
        for theirs, nobodys in zip(exchanges(session.id, stranger), exchanges(unknown, stranger), strict=True):
            assert await theirs.head() == await nobodys.head() == 404
            assert await theirs.raw.body() == await nobodys.raw.body()
            assert theirs.headers == nobodys.headers
        # Without a token a session that exists and one that does not are the same 401.
        for mine, nobodys in zip(
            exchanges(session.id, {"authorization": None}), exchanges(unknown, {"authorization": None}), strict=True
        ):
            assert await mine.head() == await nobodys.head() == 401
            assert await mine.raw.body() == await nobodys.raw.body()
            assert mine.headers == nobodys.headers
        assert "result" in await session.tool("r").answer()


@pytest.mark.requirement("auth-46")
async def test_answers_and_cancellations_of_somebody_else_do_not_reach_a_session() -> None:
    stranger = {"authorization": f"Bearer {token(sub='bob')}"}
    async with guarded() as wire:
        session = await wire.open(capabilities={"elicitation": {}}, headers=WRITE)
        call = session.tool("asks", id=3)
        question = await call.message()
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"value": "bob"}}}
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3}}
        for message in (answer, cancelled):
            assert await session.post(message, stranger).head() == 404
        # A part of a call that was allowed: its answer needs no scope of the tool.
        assert (
            await session.post({**answer, "result": {"action": "accept", "content": {"value": "ann"}}}, READ).nothing()
            == 202
        )
        assert (await call.messages())[-1]["result"]["content"][0]["text"] == "ann"


@pytest.mark.requirement("auth-77")
async def test_what_nobody_verifies_is_not_served_over_a_network() -> None:
    async def by_function(_: HttpRequestView) -> Principal:
        return Principal("ann")

    for who in (None, by_function):
        mcp = MCPServer("test")
        mcp.tool(auth=write)(complete)
        with pytest.raises(AuthConfigurationError, match=r"tool 'complete' has auth="):
            mcp.http_app(auth=who)


@pytest.mark.requirement("auth-77")
def test_nor_is_it_added_to_an_app_that_verifies_nothing() -> None:
    mcp = MCPServer("test")
    mcp.http_app(in_memory=True)
    mcp.tool(auth=write)(complete)
    mcp.remove_tool("complete")
    mcp.http_app()
    with pytest.raises(AuthConfigurationError, match="'complete' has auth="):
        mcp.tool(auth=write)(complete)
    mcp.tool(complete)


async def test_handlers_get_the_token_and_its_claims_and_no_header_shows_it() -> None:
    mcp = server([])

    @mcp.tool
    async def told(
        ctx: Context,
        token: AccessToken,
        subject: Annotated[str, Claim("sub")],
        tenant: Annotated[str, Claim("t")] = "-",
    ) -> str:
        assert token is ctx.token is get_access_token()
        assert ctx.headers is not None
        return " ".join([token.token, subject, tenant, ctx.headers["authorization"]])

    @mcp.tool
    def in_thread(token: AccessToken) -> str:
        held = get_access_token()
        return str(held is token)

    @mcp.tool
    async def missing(tenant: Annotated[str, Claim("t")]) -> None: ...

    @mcp.resource("a://missing")
    async def missing_too(tenant: Annotated[str, Claim("t")]) -> None: ...

    async with serving(mcp) as wire:
        for client in (await wire.open(headers=READ), wire.modern(headers=READ)):
            content = (await client.tool("told").result())["content"]
            assert content[0]["text"] == f"{READ['authorization'].removeprefix('Bearer ')} ann - Bearer ***"
            assert (await client.tool("in_thread").result())["content"][0]["text"] == "True"
            failed = await client.tool("missing").result()
            assert failed["isError"] is True
            assert failed["content"][0]["text"] == "The token has no claim t"
            error = await client.start("resources/read", {"uri": "a://missing"}).error()
            assert (error["code"], error["message"]) == (-32602, "The token has no claim t")


async def test_what_outlives_a_call_has_no_token() -> None:
    mcp = server([])
    seen: list[object] = []
    done = trio.Event()

    async def background() -> None:
        seen.append(get_access_token())
        done.set()

    @mcp.tool
    async def start(ctx: Context) -> None:
        assert ctx.session is not None
        ctx.session.start_soon(background)
        seen.append(dict(ctx.session.principal.claims))

    async with serving(mcp) as wire:
        session = await wire.open(headers=READ)
        await session.tool("start").result()
        await done.wait()
    assert {str(it) for it in seen} == {"None", "{}"}


def test_every_method_that_names_a_component_is_asked_about() -> None:
    registry: Registry = server([]).registry
    known = {method for method, params in USES} | {"resources/subscribe", "subscriptions/listen"}
    assert {name for name, method in METHODS.items() if method.name_param or method.may_ask} <= known
    for method, params in USES:
        (component,) = components(registry, method, params)
        assert component.requirements is not None


@pytest.mark.requirement("auth-40")
@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("b://plain", ["plain"]),
        ("b:", ["plain", "leaf", "file", "page", "part"]),
        ("b://dir", ["leaf"]),
        ("b://dir/", ["leaf"]),
        ("b://dir/leaf", ["leaf"]),
        ("b://di", []),
        ("b://files/a/b", ["file"]),
        ("b://pages/1", ["page"]),
        ("b://pages/1/2", []),
        ("b://parts/1", ["part"]),
        ("b://parts/1/part", ["part"]),
        ("c:", []),
    ],
)
def test_a_subscription_is_to_what_is_below_as_well(uri: str, named: list[str]) -> None:
    mcp = MCPServer("test")
    for name, place in [
        ("plain", "b://plain"),
        ("leaf", "b://dir/leaf"),
        ("file", "b://files/{+it}"),
        ("page", "b://pages/{it}"),
        ("part", "b://parts/{it}/part"),
    ]:
        fn: Any = (lambda it: it) if "{" in place else (lambda: "")
        mcp.resource(place, name=name)(fn)
    listened = {"notifications": {"resourceSubscriptions": [uri]}}
    for method, params in (("resources/subscribe", {"uri": uri}), ("subscriptions/listen", listened)):
        assert list(dict.fromkeys(it.name for it in components(mcp.registry, method, params))) == named


def test_the_completion_of_a_plain_resource_names_it() -> None:
    ref = {"ref": {"type": "ref/resource", "uri": "a://guarded"}, "argument": {}}
    assert [it.name for it in components(server([]).registry, "completion/complete", ref)] == ["guarded"]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {}),
        ("tools/call", {"name": ["w"]}),
        ("tools/call", {"name": "other"}),
        ("prompts/get", {"name": 1}),
        ("resources/read", {"uri": None}),
        ("resources/read", {"uri": "a://people/../x"}),
        ("completion/complete", {"ref": "ask"}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": []}}),
        ("completion/complete", {"ref": {"type": "ref/tool", "name": "w"}}),
        ("subscriptions/listen", {"notifications": 1}),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": "a://guarded"}}),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": [1, {}]}}),
        ("tools/list", {"name": "w"}),
        ("resources/unsubscribe", {"uri": "a://guarded"}),
    ],
)
def test_what_does_not_fit_is_left_to_the_method(method: str, params: dict[str, Any]) -> None:
    assert list(components(server([]).registry, method, params)) == []
