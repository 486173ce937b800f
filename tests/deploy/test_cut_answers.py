"""Answers that Traefik would cut off, were a request not read whole before it is sent on (golang/go#40747).

`strace` makes Traefik lose its CPU for 20 ms after each of its writes, which is where a busy machine does the harm by chance.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from tests.rig.http_connection import Broken, HttpConnection, Response
from tests.rig.traefik import Traefik, traefik
from tests.rig.waiting import until
from trio_mcp import Context, MCPServer
from trio_mcp.cli.export import traefik_dynamic
from trio_mcp.transports.http.event_stream import Pace
from trio_mcp.transports.listener import open_listeners, serve

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

CALLS = 16
LEGACY, MODERN = "2025-11-25", "2026-07-28"
STRACE = ("strace", "-f", "-o", "/dev/null", "-e", "trace=write", "-e", "inject=write:delay_exit=20000")
LARGE = 60_000
"""Letters of an answer, which has them twice: as text and as structured content."""
CASES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "stream": ("report", {}),
    "large stream": ("report", {"size": LARGE}),
    "large JSON": ("letters", {"size": LARGE}),
}


def server() -> MCPServer:
    mcp = MCPServer("test")

    @mcp.tool
    async def report(ctx: Context, size: int = 1, ignored: str = "") -> str:
        await ctx.report_progress(1, 2)
        return "x" * size

    @mcp.tool
    async def letters(size: int = 1, ignored: str = "") -> str:
        return "x" * size

    return mcp


@dataclass
class TraefikClient:
    """Makes calls through Traefik, each on a connection of its own."""

    traefik: Traefik
    version: str
    session: str | None = None
    _ids: int = 0

    async def open(self) -> None:
        """Open a session, where the version has them."""
        if self.version != MODERN:
            client = {"protocolVersion": self.version, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
            # It may be cut as any answer may.
            while self.session is None:
                response = await self._post("initialize", client)
                self.session = response.header("mcp-session-id") if response else None

    async def cut(self, tool: str, arguments: Mapping[str, Any]) -> int:
        """How many of some calls at the same time had no answer."""
        answered: list[bool] = []

        async def call() -> None:
            response = await self._post("tools/call", {"name": tool, "arguments": arguments}, tool)
            answered.append(response is not None and b'"result"' in response.body)

        async with trio.open_nursery() as nursery:
            for _ in range(CALLS):
                nursery.start_soon(call)
        return answered.count(False)

    async def _post(self, method: str, params: Mapping[str, Any], name: str = "") -> Response | None:
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        meta: dict[str, Any] = {"progressToken": "p"}
        if self.version == MODERN:
            prefix = "io.modelcontextprotocol/"
            meta |= {f"{prefix}protocolVersion": MODERN, f"{prefix}clientCapabilities": {}}
            meta[f"{prefix}clientInfo"] = {"name": "c", "version": "1"}
            headers |= {"mcp-protocol-version": MODERN, "mcp-method": method, "mcp-name": name}
        elif self.session is not None:
            headers |= {"mcp-session-id": self.session, "mcp-protocol-version": self.version}
        self._ids += 1
        body = {"jsonrpc": "2.0", "id": self._ids, "method": method, "params": {**params, "_meta": meta}}
        connection = await HttpConnection.open(self.traefik.url)
        try:
            await connection.request("POST", "/mcp", headers, json.dumps(body).encode())
            return await connection.response()
        except Broken:
            return None
        finally:
            connection.close()


@contextmanager
def traced() -> Iterator[Sequence[str]]:
    """The command that runs Traefik; skips the test, saying so, where no process may trace another."""
    if sys.platform != "linux":
        pytest.skip("strace is for Linux")
    try:
        probe = subprocess.run([*STRACE, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise RuntimeError("strace is not installed here. Install it with: make strace") from None
    if probe.returncode != 0:
        pytest.skip(f"ptrace is not allowed here: {probe.stderr.strip()}")
    yield STRACE


@asynccontextmanager
async def behind(folder: Path, *, remedy: Mapping[str, Any] | None, header_routes: bool) -> AsyncIterator[Traefik]:
    """A node that never waits, behind a traced Traefik; `remedy` takes the place of the middleware as shipped."""
    app = server().http_app(allowed_hosts=None, node_id="node1", pace=Pace(stream_delay=0))
    with traced() as under:
        async with app.running(), trio.open_nursery() as nursery:
            (listener,) = await open_listeners(["127.0.0.1:0"])
            port = listener.socket.getsockname()[1]
            await nursery.start(serve, app, [listener])
            dynamic = yaml.safe_load(
                traefik_dynamic([f"http://127.0.0.1:{port}"], names=["node1"], header_routes=header_routes)
            )
            if remedy is not None:
                dynamic["http"]["middlewares"]["mcp-retry"]["retry"] = dict(remedy)
            async with traefik(folder, yaml.safe_dump(dynamic), under=under) as balancer:
                yield balancer
            nursery.cancel_scope.cancel("the test is over")


SHIPPED = yaml.safe_load(traefik_dynamic(["http://127.0.0.1:1"]))["http"]["middlewares"]["mcp-retry"]["retry"]


@pytest.mark.parametrize("header_routes", [False, True], ids=["shipped", "header routes"])
@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_no_answer_is_cut_whatever_its_form_and_size(tmp_path: Path, version: str, header_routes: bool) -> None:
    async with behind(tmp_path, remedy=None, header_routes=header_routes) as balancer:
        client = TraefikClient(balancer, version)
        await client.open()
        cut = {name: await client.cut(tool, arguments) for name, (tool, arguments) in CASES.items()}
    assert cut == dict.fromkeys(CASES, 0)


async def test_without_the_remedy_answers_are_cut_so_these_tests_can_fail(tmp_path: Path) -> None:
    without = {name: SHIPPED[name] for name in ("attempts", "initialInterval")}
    async with behind(tmp_path, remedy=without, header_routes=False) as balancer:
        client = TraefikClient(balancer, MODERN)
        await until(partial(client.cut, "letters", {"size": LARGE}), "an answer is cut")


async def test_a_request_larger_than_the_buffer_may_still_be_cut_and_a_larger_buffer_mends_it(tmp_path: Path) -> None:
    """As deploy/README.md says."""
    request = {"size": LARGE, "ignored": "y" * 200_000}
    (tmp_path / "as shipped").mkdir()
    async with behind(tmp_path / "as shipped", remedy=None, header_routes=False) as balancer:
        await until(partial(TraefikClient(balancer, MODERN).cut, "letters", request), "an answer is cut")
    (tmp_path / "larger").mkdir()
    larger = {**SHIPPED, "maxRequestBodyBytes": 1024 * 1024}
    async with behind(tmp_path / "larger", remedy=larger, header_routes=False) as balancer:
        assert await TraefikClient(balancer, MODERN).cut("letters", request) == 0
