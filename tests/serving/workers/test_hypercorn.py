"""A node with workers behind Hypercorn: connections do not move, requests are relayed; over TLS, HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
import trio

from tests.rig.client import LEGACY, LegacyClient
from tests.rig.waiting import until
from tests.serving.test_tls import files
from tests.serving.workers.node import SERVER, Clients, all_gone, node

__all__ = ["files"]

pytestmark = [pytest.mark.sockets, pytest.mark.processes]


@pytest.fixture
def certificate(files: tuple[Path, Path]) -> Path:
    """With its key in the same file."""
    chain, key = files
    chain.write_bytes(chain.read_bytes() + key.read_bytes())
    return chain


class Http2:
    """One connection over HTTP/2; one request at a time."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._http.initiate_connection()

    @classmethod
    async def open(cls, port: int) -> Http2:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context, https_compatible=True)
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == "h2"
        return cls(stream)

    async def tool(self, session: str) -> dict[str, Any]:
        """What the tool `process` tells."""
        body = json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "process", "arguments": {}}}
        ).encode()
        head = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "127.0.0.1"),
            (":path", "/mcp"),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-session-id", session),
            ("mcp-protocol-version", LEGACY),
        ]
        number = self._http.get_next_available_stream_id()
        self._http.send_headers(number, head)
        self._http.send_data(number, body, end_stream=True)
        content = b""
        while True:
            await self._stream.send_all(self._http.data_to_send())
            for each in self._http.receive_data(await self._stream.receive_some()):
                if isinstance(each, h2.events.DataReceived):
                    content += each.data
                    self._http.acknowledge_received_data(each.flow_controlled_length, number)
                elif isinstance(each, h2.events.StreamEnded):
                    result: dict[str, Any] = json.loads(content)["result"]["structuredContent"]
                    return result

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)


async def test_sessions_are_found_by_any_connection_and_workers_are_killed_rolled_and_stopped(
    certificate: Path,
) -> None:
    async with node("--restore", certificate=certificate) as served_node:
        clients = Clients(served_node)
        await clients.open(6)
        for client, owner in zip(clients.clients, clients.owners, strict=True):
            # Each call on a connection of its own, that any worker may accept.
            assert {await clients.process(client) for _ in range(4)} == {owner}
        http2 = await Http2.open(served_node.run.port)
        for client, owner in zip(clients.clients, clients.owners, strict=True):
            assert await http2.tool(client.session) == {"process": owner}, "one of two workers has accepted it"
        await http2.close()
        page = await served_node.metrics()
        assert page["trio_mcp_moves_total"] == 0
        assert page["trio_mcp_sessions_active"] == len(clients.clients)

        # Killed: its sessions go on.
        victim = clients.owners[0]
        os.kill(victim, signal.SIGKILL)
        await served_node.run.says('"worker died"')
        for client in clients.clients:

            async def goes_on(client: LegacyClient = client) -> bool:
                return not (await client.tool("process")).error

            await until(goes_on, "the session goes on")
        await served_node.all_ready()

        # Rolled: no call fails on a connection that is new.
        before = served_node.pids
        failed: Counter[str] = Counter()
        rolled = trio.Event()

        async def call_all_the_time(client: LegacyClient) -> None:
            while not rolled.is_set():
                failed[(await client.tool("process")).error] += 1

        async with trio.open_nursery() as nursery:
            for client in clients.clients:
                nursery.start_soon(call_all_the_time, client)
            served_node.signal(signal.SIGHUP)
            await served_node.run.says('"rolled"')
            await served_node.all_ready()
            rolled.set()
        assert failed.pop("") > 0
        assert not failed
        assert not before & served_node.pids

        pids = served_node.pids
        served_node.signal(signal.SIGTERM)
        assert await served_node.ended() == 0
        await all_gone(list(pids))


async def test_a_certificate_that_cannot_be_used_is_said_once_with_the_next_step(files: tuple[Path, Path]) -> None:
    certificate, _ = files
    flags = ["--server", "hypercorn", "--certfile", str(certificate), "--port", "0", "--workers", "2"]
    command = [sys.executable, "-m", "trio_mcp", "serve", str(SERVER), *flags]
    done = await trio.run_process(command, capture_stderr=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count(b"cannot serve TLS with") == 1
    assert b"Give a PEM certificate chain" in done.stderr
