"""Whose token a handler sees, and who is the same caller as whom."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.transports.http.harness import Exchange, SessionClient, request, serving
from trio_mcp import Context, MCPServer, Principal
from trio_mcp.auth.principal import HttpRequestView
from trio_mcp.dispatch.session import Session


async def by_token(exchange: HttpRequestView) -> Principal | None:
    """`Bearer subject client scope`."""
    scheme, *parts = (exchange.header(b"authorization") or "").split()
    if scheme != "Bearer":
        return None
    subject, client, scope = parts
    return Principal(subject, "https://idp", {"scope": scope}, client_id=client)


def token(subject: str = "ann", client: str = "c1", scope: str = "read") -> dict[str, str | None]:
    return {"authorization": f"Bearer {subject} {client} {scope}"}


def scoped() -> MCPServer:
    """Its tools say what they know of their caller."""
    mcp = MCPServer("test", authenticate=by_token)

    @mcp.tool
    async def scope(ctx: Context) -> str:
        return str(ctx.principal.claims["scope"])

    @mcp.tool
    async def kept(ctx: Context) -> dict[str, Any]:
        assert ctx.session is not None
        principal = ctx.session.principal
        return {"subject": principal.subject, "claims": dict(principal.claims)}

    @mcp.tool
    async def slow(ctx: Context) -> str:
        await trio.sleep(1)
        return str(ctx.principal.claims["scope"])

    return mcp


async def text(exchange: Exchange) -> str:
    return str((await exchange.result())["content"][0]["text"])


@pytest.mark.parametrize(("first", "then"), [("read", "write"), ("write", "read")], ids=["widened", "narrowed"])
async def test_a_handler_sees_the_token_of_the_request_that_called_it(first: str, then: str) -> None:
    async with serving(scoped()) as wire:
        session = await wire.open(headers=token(scope=first))
        assert await text(session.tool("scope")) == first
        assert await text(session.tool("scope", headers=token(scope=then))) == then
        assert await text(session.tool("scope")) == first
        assert await text(wire.modern(headers=token(scope=then)).tool("scope")) == then


async def test_a_batch_has_the_token_of_its_post() -> None:
    async with serving(scoped()) as wire:
        session = await wire.open("2025-03-26", headers=token(scope="read"))
        call = request(7, "tools/call", {"name": "scope", "arguments": {}})
        session.oracle.asked(7, "tools/call")
        (answer,) = await session.post([call], token(scope="write")).json()
        assert answer["result"]["content"][0]["text"] == "write"


async def test_a_call_keeps_its_token_however_its_stream_is_read(autojump_clock: MockClock) -> None:
    async with serving(scoped()) as wire:
        session = await wire.open(headers=token(scope="read"))
        call = session.tool("slow", headers=token(scope="write"))
        event = await call.event()
        assert event is not None
        call.disconnect()
        assert await text(session.listen(event["id"])) == "write"


async def test_a_session_keeps_who_its_caller_is_and_nothing_of_the_token() -> None:
    mcp, met = scoped(), list[Principal]()

    @mcp.on_session
    async def begun(session: Session) -> None:
        met.append(session.principal)

    async with serving(mcp) as wire:
        session = await wire.open(headers=token())
        assert (await session.tool("kept").result())["structuredContent"] == {"subject": "ann", "claims": {}}
        assert met == [Principal("ann", "https://idp", client_id="c1")]
        assert met[0].claims == {}


@pytest.mark.parametrize(
    "other", [token("bob"), token(client="c2"), token(client="ann")], ids=["a user", "a client", "a client named so"]
)
async def test_another_user_and_another_client_of_the_same_user_hear_what_an_unknown_id_hears(
    other: dict[str, str | None],
) -> None:
    async with serving(scoped()) as wire:
        session = await wire.open(headers=token())
        stream = session.listen()
        assert await stream.head() == 200
        nobody = {**other, "mcp-session-id": "node.AAAAAAAAAAAAAAAAAAAAAAAA"}
        foreign, unknown = [await heard(session, headers) for headers in (other, nobody)]
        assert foreign == unknown
        assert {status for status, _ in foreign} == {404}
        assert await session.start("ping").result() == {}


async def heard(session: SessionClient, headers: dict[str, str | None]) -> list[tuple[int, bytes]]:
    """What each way of naming a session is told."""
    exchanges = [
        session.start("ping", id=99, headers=headers),
        session.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}, headers),
        session.post({"jsonrpc": "2.0", "id": 1, "result": {}}, headers),
        session.listen(headers=headers),
        session.listen("0.g.1", headers=headers),
        session.delete(headers),
    ]
    return [(await each.head(), await each.raw.body()) for each in exchanges]


async def test_a_token_of_the_same_user_and_client_goes_on_with_the_session() -> None:
    async with serving(scoped()) as wire:
        session = await wire.open(headers=token())
        session.headers |= token(scope="refreshed")
        assert await text(session.tool("scope")) == "refreshed"
        assert await session.delete().nothing() == 204
