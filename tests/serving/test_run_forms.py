"""The forms of `run`: aliases, what the constructor said, and a `trio.run` of one's own."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.rig.waiting import PATIENCE
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


async def test_run_inside_of_trio_says_what_to_await() -> None:
    with pytest.raises(RuntimeError, match=r"await mcp\.run_async"):
        MCPServer("t").run("http")


def test_run_in_a_thread_says_what_to_write_there() -> None:
    raised: list[BaseException] = []

    def run_there() -> None:
        try:
            MCPServer("t").run("http")
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=run_there)
    thread.start()
    thread.join()
    (error,) = raised
    assert "in a thread of your own, trio.run(mcp.run_async, transport)" in str(error)


@pytest.mark.parametrize("name", ["port", "host", "allowed_hosts", "redis_url", "auth_issuer"])
async def test_a_setting_of_http_on_stdio_says_how_to_write_it(name: str, started: list[tuple[str, Settings]]) -> None:
    """Without it the server waited for stdin, and nothing listened on the port."""
    with pytest.raises(TypeError, match=rf'{name}= means nothing on stdio: write mcp\.run\("http", {name}=…\)'):
        await MCPServer("t").run_async("stdio", **{name: "x"})
    assert started == []


@pytest.mark.sockets
def test_a_server_in_a_thread_serves_until_it_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """As tests of other code embed one. It handles no signals there, and its end is no failure."""
    codes: list[str] = []

    async def main() -> None:
        served = trio.Event()

        @asynccontextmanager
        async def lifespan(server: MCPServer) -> AsyncIterator[None]:
            served.set()
            yield
            codes.append("never: it is cancelled")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(MCPServer("t", lifespan=lifespan).run_async, "http", port=0))
            await served.wait()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        codes.append("ended")

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    thread.join(PATIENCE)
    assert codes == ["ended"]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_run_async_outside_of_trio_says_how_to_write_it() -> None:
    coroutine = MCPServer("t").run_async()
    with pytest.raises(RuntimeError, match=r"trio\.run\(mcp\.run_async\)"):
        coroutine.send(None)


def test_the_app_has_both_of_its_names() -> None:
    mcp = MCPServer("t")
    assert type(mcp.streamable_http_app(path="/x")) is type(mcp.http_app())
