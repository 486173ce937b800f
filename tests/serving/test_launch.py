import logging
from typing import Any

import pytest

from trio_mcp import MCPServer
from trio_mcp.auth import AccessToken, BearerAuth, StaticTokenVerifier
from trio_mcp.serving.launch import announce, banner
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


def test_the_banner_of_a_node_that_is_not_ready_says_what_it_waits_for() -> None:
    lines = banner(MCPServer("weather"), Settings(), [URL], ["cluster", "keys"]).splitlines()
    assert "  ready     http://127.0.0.1:8000/readyz  (not yet: waits for cluster and keys)" in lines


def test_log_collectors_are_told_listening_until_the_node_is_ready_and_people_get_one_banner(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "trio_mcp.serving"):
        announce(Settings(log_format="json"), "banner", ["keys"], endpoint=URL)
        announce(Settings(log_format="json"), None, endpoint=URL)
        announce(Settings(log_format="text"), "banner", ["keys"], endpoint=URL)
        announce(Settings(log_format="text"), None, endpoint=URL)
    fields = [record.__dict__["mcp_fields"] for record in caplog.records]
    assert caplog.messages == ["listening", "ready", "ready"]
    assert fields == [{"waits_for": "keys", "endpoint": URL}, {"endpoint": URL}, {"endpoint": URL}]
    assert capsys.readouterr().err == "banner\n"
