"""Every message the README's troubleshooting quotes is one the server really says."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from errno import EADDRINUSE
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.http.harness import Exchange, SessionClient, Wire, serving
from tools.readme import README
from trio_mcp import Context, MCPServer, Options, Session
from trio_mcp.cli import execute
from trio_mcp.cluster.peer_forwarder import unavailable
from trio_mcp.cluster.routing import TryAgain
from trio_mcp.protocol.errors import SessionNotFound
from trio_mcp.serving import last_resort
from trio_mcp.serving.composition import build_app
from trio_mcp.serving.drain import drain, end_remaining
from trio_mcp.serving.settings import load
from trio_mcp.testing import asgi_client, connect
from trio_mcp.transports.http.cluster_port import Route
from trio_mcp.transports.http.exchange import HttpExchange

HEADINGS = re.findall(r"^### `+ ?(.+?) ?`+$", README.read_text().partition("\n## Troubleshooting")[2], re.MULTILINE)
QUICKSTART = str(README.parent / "examples" / "quickstart.py")

Said = list[str]
Scenario = Callable[[Said], Awaitable[None]]

SCENARIOS: list[Scenario] = []
"""Each gets into trouble and notes what it is told; log lines are noted by the test."""


def scenario(fn: Scenario) -> Scenario:
    SCENARIOS.append(fn)
    return fn


async def complaint(exchange: Exchange) -> str:
    """The message of an error that came as plain JSON."""
    await exchange.head()
    message: str = (await exchange.raw.json())["error"]["message"]
    return message


def server() -> MCPServer:
    mcp = MCPServer("trouble")

    @mcp.tool
    async def divide(a: int = 1, b: int = 0) -> float:
        return a / b

    @mcp.tool
    async def forever() -> None:
        await trio.sleep_forever()

    @mcp.tool
    async def ask(ctx: Context) -> str:
        form = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
        return (await ctx.elicit("Really?", form)).action

    return mcp


async def running_call(wire: Wire) -> SessionClient:
    """The session of a call that runs."""
    session = await wire.open()
    session.tool("forever")
    await wait_all_tasks_blocked()
    return session


@scenario
async def from_another_host_or_origin(said: Said) -> None:
    async with serving(server()) as wire:
        said.append(await complaint(wire.start("GET", {"host": "evil.example"})))
        said.append(await complaint(wire.start("GET", {"origin": "https://evil.example"})))


@scenario
async def with_a_session_id_that_is_wrong_or_missing(said: Said) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    async with serving(server()) as wire:
        said.append(await complaint(wire.post(ping, {"mcp-session-id": "node.unheard-of"})))
        said.append(await complaint(wire.post(ping)))


@scenario
async def after_a_session_was_left_alone(said: Said) -> None:
    async with serving(server(), session_idle_timeout=60.0) as wire:
        session = await wire.open()
        await trio.sleep(61)
        said.append(await complaint(session.start("ping")))


@scenario
async def after_a_task_of_a_session_failed(said: Said) -> None:
    mcp = server()

    @mcp.on_session
    async def crash(session: Session) -> None:
        raise ValueError("the feed is gone")

    async with serving(mcp) as wire:
        exchange = wire.initialize()
        await exchange.head()
        await wait_all_tasks_blocked()
        headers: dict[str, str | None] = {"mcp-session-id": exchange.headers["mcp-session-id"]}
        said.append(await complaint(wire.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers)))


@scenario
async def without_the_headers_of_2026_07_28(said: Said) -> None:
    async with serving(server()) as wire:
        said.append(await complaint(wire.modern().start("tools/list", headers={"mcp-protocol-version": None})))


@scenario
async def when_there_is_no_room(said: Said) -> None:
    async with serving(server(), max_sessions=1, options=Options(max_in_flight=1)) as wire:
        session = await running_call(wire)
        said.append(await complaint(wire.initialize()))
        said.append(await complaint(session.tool("forever")))


class Lost:
    """A cluster in which every session is lost. A double: what it says is the real one's."""

    overslept = False

    def __init__(self, fault: Exception) -> None:
        self.fault = fault

    async def catch_up(self) -> None:
        raise NotImplementedError

    async def pass_on(self, exchange: HttpExchange) -> bool:
        return False

    def told_address(self, exchange: HttpExchange, *, seen: str | None) -> str | None:
        raise NotImplementedError

    async def open_at_peer(self, exchange: HttpExchange) -> bool:
        return False

    async def route(self, exchange: HttpExchange, session_id: str) -> Route:
        raise self.fault


@scenario
async def when_the_node_of_a_session_is_gone_or_silent(said: Said) -> None:
    for fault in (SessionNotFound("node_gone"), unavailable(TryAgain.DIRECTORY), unavailable(TryAgain.OWNER_SILENT)):
        async with serving(server()) as wire:
            wire.app.endpoint.join(Lost(fault))
            headers: dict[str, str | None] = {"mcp-session-id": "node.elsewhere"}
            said.append(await complaint(wire.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers)))


@scenario
async def with_a_body_that_is_too_large(said: Said) -> None:
    async with serving(server(), max_body=10) as wire:
        said.append(await complaint(wire.post(b"x" * 11)))


@scenario
async def when_the_handler_is_at_fault(said: Said) -> None:
    async with connect(server(), "legacy") as client:
        for tool in ("divide", "ask"):
            said.append(getattr((await client.call_tool(tool, {})).content[0], "text", ""))


@scenario
async def with_the_request_state_of_another_process(said: Said) -> None:
    async with serving(server()) as wire:
        asked = await wire.modern({"elicitation": {}}).tool("ask").result()
    retry = {"name": "ask", "arguments": {}, "requestState": asked["requestState"]}
    async with serving(server()) as wire:
        said.append(await complaint(wire.modern({"elicitation": {}}).start("tools/call", retry)))


@scenario
async def without_a_lifespan(said: Said) -> None:
    app = server().http_app()
    async with asgi_client(app) as client:
        said.append(await complaint(Wire(app, client).post({})))


@scenario
async def while_the_server_stops(said: Said) -> None:
    async with serving(server()) as wire:
        await running_call(wire)
        await drain(wire.app, 0)
        said.append(await complaint(wire.initialize()))
        await end_remaining(wire.app)
    last_resort._exit(0, last_resort.Stage.CALLS, lambda: ["tools/call forever"], None)


@scenario
async def bound_to_everything_without_allowed_hosts(said: Said) -> None:
    build_app(server(), load(host="0.0.0.0"))


@scenario
async def without_the_official_client(said: Said) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "trio_mcp.testing.official", raising=False)
        patch.setitem(sys.modules, "mcp", None)
        try:
            async with connect(server()):
                pass
        except ImportError as error:
            said.append(str(error))


COMMANDS: list[tuple[list[str], dict[str, str]]] = [
    (["serve", QUICKSTART], {"TRIO_MCP_PROT": "1"}),
    (["serve", QUICKSTART, "--workers", "4"], {}),
    (["serve", QUICKSTART, "--certfile", QUICKSTART], {}),
    (["serve", QUICKSTART, "--server", "hypercorn"], {}),
    (["serve", QUICKSTART, "--redis-url", "redis://localhost"], {}),
]


async def taken(*_: object, **__: object) -> None:
    raise OSError(EADDRINUSE, os.strerror(EADDRINUSE))


def same(text: str) -> str:
    """References and limits differ from case to case."""
    return re.sub(r"\d+", "0", re.sub(r"\(ref \w+\)", "(ref …)", text))


@pytest.fixture
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What commands do to the process they normally own is undone."""
    for name in [name for name in os.environ if name.startswith("TRIO_MCP_") or name in ("PORT", "LOG_LEVEL")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "_exit", lambda code: None)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    root = logging.getLogger()
    handlers, level, path = root.handlers[:], root.level, sys.path[:]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.path[:] = path


def test_the_readme_helps_with_each_message_once() -> None:
    assert len(HEADINGS) > 20
    assert len(set(HEADINGS)) == len(HEADINGS)


IN_MEMORY = [heading for heading in HEADINGS if not re.match("cannot|--|certfile|TRIO|redis_url", heading)]


async def test_every_quoted_message_of_a_running_server_is_one_it_says(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, undisturbed: None
) -> None:
    said: Said = []
    caplog.set_level(logging.INFO)
    for get_into_trouble in SCENARIOS:
        before = len(said) + len(caplog.records)
        await get_into_trouble(said)
        assert len(said) + len(caplog.records) > before, f"{get_into_trouble.__name__} says nothing"
    heard = {same(text) for text in [*said, *(record.getMessage() for record in caplog.records)]}
    assert [heading for heading in IN_MEMORY if same(heading) not in heard] == []


def test_every_quoted_message_of_a_command_is_one_it_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, undisturbed: None, tmp_path: Path
) -> None:
    monkeypatch.setattr("trio_mcp.serving.front.open_listeners", taken)
    monkeypatch.setattr("trio_mcp.serving.launch.find_spec", lambda name: None)
    for argv, environment in COMMANDS:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            assert execute(argv) != 0
    heard = capsys.readouterr().err
    assert [heading for heading in HEADINGS if heading not in IN_MEMORY and heading not in heard] == []
