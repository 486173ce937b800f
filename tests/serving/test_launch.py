from typing import Any

import pytest

from trio_mcp import MCPServer
from trio_mcp.auth import AccessToken, BearerAuth, StaticTokenVerifier
from trio_mcp.serving.launch import banner
from trio_mcp.serving.settings import Settings

URL = "http://127.0.0.1:8000/mcp"


def shown(*urls: str, name: str = "weather", **settings: Any) -> list[str]:
    return banner(MCPServer(name), Settings(**settings), list(urls)).splitlines()


def test_the_banner_is_at_most_eight_lines_whatever_is_bound() -> None:
    lines = shown(*[URL] * 9, admin_bind="127.0.0.1:9464")
    assert len(lines) == 8
    assert lines[1] == f"  endpoint  {URL}  (open to all who reach it)"
    assert any("admin     127.0.0.1:9464" in line for line in lines)


def test_the_commands_can_be_pasted() -> None:
    lines = shown(URL, name="my server; rm -rf /")
    assert f"  claude    claude mcp add --transport http my-server-rm--rf {URL}" in lines
    assert f"  inspect   npx @modelcontextprotocol/inspector --server-url {URL} --transport http" in lines
    assert "  ready     http://127.0.0.1:8000/readyz" in lines


@pytest.mark.parametrize(("bound", "reached"), [("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")])
def test_a_server_bound_everywhere_is_reached_by_this_machines_own_address(bound: str, reached: str) -> None:
    lines = shown(f"http://{bound}:80/mcp")
    assert lines[1].startswith(f"  endpoint  http://{bound}:80/mcp  (")
    assert any(line.endswith(f"--transport http weather http://{reached}:80/mcp") for line in lines)


async def who(request: object) -> None:
    """Lets nobody in."""


@pytest.mark.parametrize(
    ("auth", "settings", "callers"),
    [
        (None, {}, "open to all who reach it"),
        (None, {"auth_resource": URL}, "open to all who reach it"),
        (None, {"auth_issuer": "https://login.example.com"}, "asks for a token"),
        (None, {"auth_tokens": "tokens"}, "asks for a token"),
        (BearerAuth(StaticTokenVerifier({"t": AccessToken("ci")})), {}, "asks for a token"),
        (who, {}, "asks auth= who calls"),
    ],
)
def test_the_banner_says_who_may_call(auth: Any, settings: dict[str, Any], callers: str) -> None:
    line = banner(MCPServer("weather", auth=auth), Settings(**settings), [URL]).splitlines()[1]
    assert line == f"  endpoint  {URL}  ({callers})"


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({}, "memory (one node)"),
        ({"redis_url": "redis://:secret@r", "secret": "s" * 32}, "Redis, not restored"),
        ({"redis_url": "redis://:secret@r", "secret": "s" * 32, "restore": True}, "Redis, restored"),
    ],
)
def test_the_banner_says_where_sessions_are_found(settings: dict[str, Any], where: str) -> None:
    line = shown(URL, **settings)[-1]
    assert line.split("Ctrl+C")[0].strip() == f"sessions  {where}"


def test_a_unix_socket_has_no_commands_to_paste() -> None:
    assert [line.split()[0] for line in shown("unix:/run/mcp")[1:]] == ["endpoint", "sessions"]
