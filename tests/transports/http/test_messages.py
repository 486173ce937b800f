"""Bodies that are no messages, and which code and id their errors have."""

from __future__ import annotations

from typing import Any

import pytest

from tests.transports.http.harness import MODERN, Wire, request, serving
from trio_mcp import MCPServer

BROKEN = [
    b"",
    b"{",
    b"nonsense",
    b'{"jsonrpc":"2.0","id":1,"method":"ping"} trailing',
    b'{"jsonrpc":"2.0","id":1,"method":"p\xff\xfeng"}',
    '{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"),
    b"[" * 5_000,
    b'{"a":' * 5_000,
]

MISSHAPEN: list[tuple[Any, Any]] = [
    # A body, and the id its error has to carry.
    ({"id": 1, "method": "ping"}, 1),
    ({"jsonrpc": "1.0", "id": "a", "method": "ping"}, "a"),
    ({"jsonrpc": "2.0", "id": 1}, 1),
    ({"jsonrpc": "2.0", "id": 1, "method": 5}, 1),
    ({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}, 1),
    ({"jsonrpc": "2.0", "id": 1, "error": None}, 1),
    ({"jsonrpc": "2.0", "id": 1, "result": {}, "error": {"code": 1, "message": "x"}}, 1),
    ({"jsonrpc": "2.0"}, None),
    ({"jsonrpc": "2.0", "id": None, "method": "ping"}, None),
    ({"jsonrpc": "2.0", "id": 1.5, "method": "ping"}, None),
    ({"jsonrpc": "2.0", "id": True, "method": "ping"}, None),
    ({"jsonrpc": "2.0", "id": {"a": 1}, "method": "ping"}, None),
    ({"jsonrpc": "2.0", "id": [1], "method": "ping"}, None),
    (None, None),
    (17, None),
    ("ping", None),
    ([], None),
]


@pytest.mark.requirement("J1", "weak-null-body-id")
@pytest.mark.parametrize("body", BROKEN, ids=range(len(BROKEN)))
@pytest.mark.parametrize("headers", [{}, {"mcp-protocol-version": MODERN}], ids=["legacy", "modern"])
async def test_what_is_not_json_in_utf8_is_a_parse_error_without_an_id(
    body: bytes, headers: dict[str, str | None]
) -> None:
    async with serving(MCPServer("test")) as wire:
        exchange = wire.post(body, headers)
        assert await exchange.head() == 400
        answer = await exchange.json()
        assert answer["error"]["code"] == -32700
        assert "id" not in answer


@pytest.mark.requirement("J2", "J4", "weak-invalid-ids", "weak-null-body-id")
@pytest.mark.parametrize(("body", "id"), MISSHAPEN, ids=range(len(MISSHAPEN)))
async def test_what_is_no_message_is_refused_under_its_id_where_it_has_one(body: Any, id: Any) -> None:
    async with serving(MCPServer("test")) as wire:
        session = await wire.open()
        for exchange in (wire.post(body), session.post(body), wire.post(body, {"mcp-protocol-version": MODERN})):
            assert await exchange.head() == 400
            answer = await exchange.json()
            assert answer["error"]["code"] == -32600
            assert answer.get("id") == id


@pytest.mark.requirement("J4")
@pytest.mark.parametrize("id", [0, -1, 2**53, 2**70, "", "0", "ünïcödé", "x" * 5_000])
async def test_an_answer_carries_the_id_of_its_request_in_its_json_type(id: int | str) -> None:
    async with serving(MCPServer("test")) as wire:
        session = await wire.open()
        for exchange in (session.start("ping", id=id), wire.modern().start("server/discover", id=id)):
            answer = await exchange.answer()
            assert answer["id"] == id
            assert type(answer["id"]) is type(id)


@pytest.mark.requirement("J5", "L4")
async def test_what_wants_no_answer_gets_202_and_no_body() -> None:
    async with serving(MCPServer("test")) as wire:
        session = await wire.open()
        assert await session.notify("notifications/roots/list_changed") == 202
        assert await session.notify("notifications/nobody/knows", {"x": 1}) == 202
        assert await session.notify("ping") == 202
        assert await session.reply(999, {}) == 202
        assert await session.refuse("never asked", -1, "no") == 202


@pytest.mark.requirement("L5")
async def test_a_refused_notification_or_response_gets_an_error_without_an_id() -> None:
    async with serving(MCPServer("test")) as wire:
        messages: list[Any] = [
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {"jsonrpc": "2.0", "id": 5, "result": {}},
            {"jsonrpc": "2.0", "id": 5, "error": {"code": 1, "message": "x"}},
        ]
        for message in messages:
            exchange = wire.post(message)
            assert await exchange.head() == 400
            assert "id" not in await exchange.json()


@pytest.mark.requirement("J4")
@pytest.mark.parametrize("headers", [{"mcp-protocol-version": "1999-01-01"}, {"mcp-session-id": "nobody.has.this"}])
async def test_a_refused_request_gets_its_error_under_its_id(headers: dict[str, str | None]) -> None:
    async with serving(MCPServer("test")) as wire:
        session = await wire.open()
        exchange = session.start("ping", id="mine", headers=headers)
        assert 400 <= await exchange.head() < 500
        assert (await exchange.json())["id"] == "mine"


async def _never_a_session(wire: Wire, exchange_body: Any) -> None:
    exchange = wire.post(exchange_body)
    await exchange.head()
    assert "mcp-session-id" not in exchange.headers


@pytest.mark.requirement("S1", "weak-minted-ids")
async def test_only_a_successful_initialize_mints_a_session() -> None:
    async with serving(MCPServer("test")) as wire:
        half = request(1, "initialize", {"protocolVersion": 5})
        bodies: list[Any] = [b"?", PING, [], request(1, "initialize"), half]
        for body in bodies:
            await _never_a_session(wire, body)
        for method in ("GET", "DELETE", "PUT"):
            exchange = wire.start(method, {"accept": "text/event-stream"})
            assert await exchange.head() >= 400
        assert len(wire.app.hub) == 0


PING = request(1, "ping")
