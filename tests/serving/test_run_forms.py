"""The forms of `run`: aliases, what the constructor said, and a `trio.run` of one's own."""

from __future__ import annotations

from typing import Any

import pytest

from trio_mcp import MCPServer
from trio_mcp.server_arguments import transport_of
from trio_mcp.serving import launch as launching
from trio_mcp.serving.settings import Settings


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Settings]]:
    """What would have been served, and how."""
    found: list[tuple[str, Settings]] = []

    def launch(server: MCPServer, transport: str, settings: Settings) -> int:
        found.append((transport, settings))
        return 0

    async def serve_on(server: MCPServer, transport: str, settings: Settings) -> int:
        found.append((transport, settings))
        return 0

    monkeypatch.setattr(launching, "launch", launch)
    monkeypatch.setattr(launching, "serve_on", serve_on)
    return found


@pytest.mark.parametrize(("name", "transport"), [("stdio", "stdio"), ("http", "http"), ("streamable-http", "http")])
def test_a_transport_has_its_name_and_its_alias(name: str, transport: str) -> None:
    assert transport_of(name) == transport


def run(mcp: MCPServer, *arguments: Any, **settings: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        mcp.run(*arguments, **settings)
    assert ended.value.code == 0


def test_what_the_constructor_said_is_what_run_uses_unless_told_otherwise(
    started: list[tuple[str, Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIO_MCP_PORT", "4444")
    mcp = MCPServer("t", host="127.0.0.2", port=3333, debug=True, log_level="INFO", streamable_http_path="/x")
    run(mcp, "streamable-http")
    run(mcp, "http", port=5555, path="/y", log_level="ERROR")
    run(MCPServer("t"), "http")
    assert [kind for kind, _ in started] == ["http"] * 3
    assert [(s.host, s.port, s.path, s.log_level) for _, s in started] == [
        ("127.0.0.2", 3333, "/x", "DEBUG"),
        ("127.0.0.2", 5555, "/y", "ERROR"),
        ("127.0.0.1", 4444, "/mcp", "INFO"),
    ]


async def test_a_trio_run_of_ones_own_serves_with_every_name_the_call_has(started: list[tuple[str, Settings]]) -> None:
    mcp = MCPServer("t", port=3333)
    for serve in (mcp.run_async, mcp.run_stdio_async, mcp.run_http_async, mcp.run_streamable_http_async):
        assert await serve() == 0
    assert await mcp.run_async("streamable-http", port=5555) == 0
    assert [(kind, s.port) for kind, s in started] == [
        ("stdio", 3333),
        ("stdio", 3333),
        ("http", 3333),
        ("http", 3333),
        ("http", 5555),
    ]


def test_run_async_outside_of_trio_says_how_to_write_it() -> None:
    coroutine = MCPServer("t").run_async()
    with pytest.raises(RuntimeError, match=r"trio\.run\(mcp\.run_async\)"):
        coroutine.send(None)


def test_the_app_has_both_of_its_names() -> None:
    mcp = MCPServer("t")
    assert type(mcp.streamable_http_app(path="/x")) is type(mcp.http_app())
