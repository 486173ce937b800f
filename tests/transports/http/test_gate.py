"""What a request must be before anybody reads its body."""

from __future__ import annotations

import pytest

from tests.transports.http.harness import BOTH, HOST, JSON, LEGACY, MODERN, SSE, request, serving, two_users
from trio_mcp import MCPServer

PING = request(1, "ping")


@pytest.mark.requirement("O4")
@pytest.mark.parametrize("host", ["evil.example.com", "evil.example.com:8000", "localhost.evil.example", "", None])
async def test_a_host_that_is_not_ours_gets_421(host: str | None) -> None:
    async with serving(MCPServer("test")) as wire:
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            assert await wire.start(method, {"host": host}).head() == 421


@pytest.mark.requirement("O4")
@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:99", "[::1]", "[::1]:80"]
)
async def test_every_spelling_of_loopback_is_served(host: str) -> None:
    async with serving(MCPServer("test")) as wire:
        assert await wire.initialize(headers={"host": host}).head() == 200


async def test_without_an_allow_list_every_host_is_served() -> None:
    async with serving(MCPServer("test"), allowed_hosts=None) as wire:
        assert await wire.initialize(headers={"host": "mcp.example.com"}).head() == 200


@pytest.mark.requirement("O1", "O2")
@pytest.mark.parametrize(
    "origin", ["http://evil.example.com", "null", "http://127.0.0.1:9999", "http://[", "file://", "", "x" * 9999]
)
async def test_a_foreign_or_malformed_origin_gets_403_whatever_the_method(origin: str) -> None:
    async with serving(MCPServer("test")) as wire:
        session = await wire.open()
        for method in ("POST", "GET", "DELETE", "OPTIONS"):
            exchange = wire.start(
                method, {**session.headers, "accept": BOTH, "content-type": JSON, "origin": origin}, PING
            )
            assert await exchange.head() == 403
            assert "access-control-allow-origin" not in exchange.headers
            assert "id" not in await exchange.json()


@pytest.mark.requirement("O3")
async def test_clients_that_are_no_browsers_send_no_origin_and_are_served() -> None:
    async with serving(MCPServer("test")) as wire:
        exchange = wire.initialize()
        assert await exchange.head() == 200
        assert not [name for name in exchange.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("options", "origin"),
    [({}, f"http://{HOST}"), ({"allowed_origins": ["https://app.example"]}, "https://app.example")],
)
async def test_an_allowed_page_may_read_the_session_id_and_the_challenge(
    options: dict[str, list[str]], origin: str
) -> None:
    async with serving(MCPServer("test"), **options) as wire:
        exchange = wire.initialize(headers={"origin": origin})
        assert await exchange.head() == 200
        assert exchange.headers["access-control-allow-origin"] == origin
        assert exchange.headers["access-control-expose-headers"] == "Mcp-Session-Id, WWW-Authenticate"
        assert exchange.headers["vary"] == "Origin"


async def test_a_preflight_is_answered_before_anybody_authenticates() -> None:
    async with serving(MCPServer("test"), authenticate=two_users) as wire:
        asked = "content-type, mcp-session-id, mcp-param-region"
        exchange = wire.start("OPTIONS", {"origin": f"http://{HOST}", "access-control-request-headers": asked})
        assert await exchange.nothing() == 204
        assert exchange.headers["access-control-allow-headers"] == asked
        assert exchange.headers["access-control-allow-methods"] == "GET, POST, DELETE, OPTIONS"


async def test_a_401_can_be_read_by_an_allowed_page() -> None:
    async with serving(MCPServer("test"), authenticate=two_users) as wire:
        exchange = wire.initialize(headers={"origin": f"http://{HOST}"})
        assert await exchange.head() == 401
        assert exchange.headers["access-control-allow-origin"] == f"http://{HOST}"


@pytest.mark.requirement("L3")
@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON ;charset=UTF-8", 200),
        ("text/plain", 415),
        ("application/json-patch+json", 415),
        ("", 415),
        (None, 415),
    ],
)
async def test_the_content_type_must_be_json(content_type: str | None, status: int) -> None:
    async with serving(MCPServer("test")) as wire:
        assert await wire.initialize(headers={"content-type": content_type}).head() == status


@pytest.mark.requirement("L2")
@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (BOTH, 200),
        ("*/*", 200),
        (None, 200),
        ("application/*", 200),
        ("text/event-stream", 200),
        ("application/json;q=0.5, text/html", 200),
        ("text/html", 406),
        ("application/json;q=0, text/event-stream; q=0.0", 406),
        ("", 406),
    ],
)
async def test_a_post_must_accept_json_or_a_stream(accept: str | None, status: int) -> None:
    async with serving(MCPServer("test")) as wire:
        assert await wire.initialize(headers={"accept": accept}).head() == status


@pytest.mark.requirement("L2")
@pytest.mark.parametrize(("accept", "status"), [(SSE, 200), ("*/*", 200), (JSON, 406)])
async def test_a_get_must_accept_a_stream(accept: str, status: int) -> None:
    async with serving(MCPServer("test")) as wire:
        session = await wire.open()
        assert await session.listen(headers={"accept": accept}).head() == status


async def test_a_body_that_says_it_is_too_large_gets_413_unread() -> None:
    async with serving(MCPServer("test"), max_body=100) as wire:
        for length in ("101", "9" * 30, "9" * 5000):
            assert await wire.post(b"{}", {"content-length": length}).head() == 413


async def test_a_body_that_turns_out_too_large_gets_413() -> None:
    async with serving(MCPServer("test"), max_body=100) as wire:
        exchange = wire.post(b" " * 101)
        assert await exchange.head() == 413
        assert exchange.headers["connection"] == "close"
        assert "id" not in await exchange.json()


@pytest.mark.requirement("405")
@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "TRACE"])
async def test_other_methods_get_405_with_those_that_are_allowed(method: str) -> None:
    async with serving(MCPServer("test")) as wire:
        exchange = wire.start(method)
        assert await exchange.head() == 405
        assert exchange.headers["allow"] == "GET, POST, DELETE"


@pytest.mark.requirement("H14")
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_modern_client_has_only_post(method: str) -> None:
    async with serving(MCPServer("test")) as wire:
        exchange = wire.start(method, {"mcp-protocol-version": MODERN, "accept": SSE})
        assert await exchange.head() == 405
        assert exchange.headers["allow"] == "POST"


async def test_two_session_headers_are_refused_even_when_equal() -> None:
    async with serving(MCPServer("test")) as wire:
        session = await wire.open()
        pairs = [("host", HOST), ("accept", BOTH), ("content-type", JSON), ("mcp-protocol-version", LEGACY)]
        twice = [*pairs, ("mcp-session-id", session.id), ("Mcp-Session-Id", session.id)]
        for method in ("POST", "GET", "DELETE"):
            assert await wire.start(method, twice, PING).head() == 400
        assert await session.start("ping").result() == {}


@pytest.mark.requirement("P11", "SB1")
async def test_every_request_is_authenticated_and_a_session_id_is_no_substitute() -> None:
    async with serving(MCPServer("test"), authenticate=two_users) as wire:
        alice = await wire.open(headers={"authorization": "Bearer alice"})
        for headers in ({"authorization": None}, {"authorization": "Bearer mallory"}):
            for exchange in (
                alice.start("ping", headers=headers),
                alice.listen(headers=headers),
                alice.delete(headers),
            ):
                assert await exchange.head() == 401
                assert exchange.headers["www-authenticate"] == "Bearer"
        assert await wire.modern().start("server/discover").head() == 401
        assert await alice.start("ping").result() == {}


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
async def test_both_spellings_of_the_path_are_served_and_never_redirected(path: str) -> None:
    async with serving(MCPServer("test")) as wire:
        assert await wire.post(request(1, "ping"), path=path).head() == 400
        assert await wire.modern().start("server/discover", path=path).head() == 200


async def test_the_gate_asks_its_questions_in_order() -> None:
    async with serving(MCPServer("test"), authenticate=two_users, max_body=100) as wire:
        wrong: dict[str, str | None] = {
            "host": "evil.example",
            "origin": "http://evil.example",
            "content-type": "text/plain",
            "accept": "text/html",
        }
        mended: list[tuple[int, str, str | None]] = [
            (421, "host", HOST),
            (403, "origin", None),
            (401, "authorization", "Bearer alice"),
            (415, "content-type", JSON),
            (406, "accept", BOTH),
        ]
        for status, name, right in mended:
            assert await wire.start("POST", wrong, b"?" * 101).head() == status
            wrong[name] = right
        assert await wire.start("POST", wrong, b"?" * 101).head() == 413
        exchange = wire.start("POST", wrong, b"?")
        assert await exchange.head() == 400
        assert (await exchange.error())["code"] == -32700
