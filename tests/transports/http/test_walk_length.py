"""How many files of the package one call passes: a reader who follows it must not have to open too many."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trio

import trio_mcp
from trio_mcp import MCPServer
from trio_mcp.transports.http.app import HttpApp

FILES = 24
SWITCHES = 48
PACKAGE = f"{Path(trio_mcp.__file__).parent}/"

MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
MIRRORED = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "add"}


class Walk:
    """The files of the package that were entered, and how often a call led from one file to another."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.switches = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event != "call" or not file.startswith(PACKAGE):
            return
        self.files.add(file)
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(PACKAGE):
            caller = caller.f_back
        if caller is None or caller.f_code.co_filename != file:
            self.switches += 1


async def post(app: HttpApp, body: dict[str, Any], headers: dict[str, str]) -> tuple[dict[bytes, bytes], bytes]:
    """One POST as an ASGI server drives it: the headers and body of the response, which must be a 200 or 202."""
    raw = json.dumps(body).encode()
    received = iter([{"type": "http.request", "body": raw, "more_body": False}])
    sent: list[Any] = []

    async def receive() -> Any:
        for message in received:
            return message
        await trio.sleep_forever()

    async def send(message: Any) -> None:
        sent.append(message)

    both = {"host": "localhost", "accept": "application/json, text/event-stream", "content-type": "application/json"}
    given = {**both, "content-length": str(len(raw)), **headers}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    await app(scope, receive, send)
    assert sent[0]["status"] in (200, 202), sent
    return dict(sent[0]["headers"]), b"".join(message["body"] for message in sent[1:])


async def opened(app: HttpApp) -> dict[str, str]:
    """The headers of a session."""
    client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    head, _ = await post(app, {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": client}, {})
    session = {"mcp-session-id": head[b"mcp-session-id"].decode(), "mcp-protocol-version": "2025-11-25"}
    await post(app, {"jsonrpc": "2.0", "method": "notifications/initialized"}, session)
    return session


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_call_passes_few_files(era: str) -> None:
    mcp = MCPServer("t")

    @mcp.tool
    async def add(a: int, b: int) -> int:
        return a + b

    params: dict[str, Any] = {"name": "add", "arguments": {"a": 1, "b": 2}}
    app = mcp.http_app()
    async with app.running():
        headers = await opened(app) if era == "legacy" else MIRRORED
        if era == "modern":
            params["_meta"] = MODERN
        for number in range(1, 4):
            walk = Walk()
            # The first calls fill caches.
            sys.setprofile(walk if number == 3 else None)
            _, body = await post(
                app, {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}, headers
            )
            sys.setprofile(None)
            assert json.loads(body)["result"]["structuredContent"] == {"result": 3}
    assert len(walk.files) <= FILES, sorted(walk.files)
    assert walk.switches <= SWITCHES
    assert len(walk.files) > 10, "the walk was seen"
