"""A process with few descriptors, and clients that take them."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import trio

from tests.rig.waiting import PATIENCE, until
from tests.serving.process import served

pytestmark = [pytest.mark.sockets, pytest.mark.processes]

GET = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
KEPT = GET.replace(b"Connection: close\r\n", b"")


async def test_idle_connections_take_neither_the_admin_listener_nor_the_place_of_others(tmp_path: Path) -> None:
    admin = tmp_path / "admin"
    with trio.fail_after(PATIENCE):
        async with served("--admin-bind", f"unix:{admin}", descriptors=64) as node, AsyncExitStack() as stack:
            for _ in range(120):
                await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", node.port))
            async with await trio.open_unix_socket(admin) as operator:
                await operator.send_all(GET)
                assert (await operator.receive_some()).startswith(b"HTTP/1.1 200 ")
            async with await trio.open_tcp_stream("127.0.0.1", node.port) as client:
                await client.send_all(GET)
                assert (await client.receive_some()).startswith(b"HTTP/1.1 200 ")
            assert "Cannot accept" not in node.log


@pytest.mark.parametrize("front", ["own", "hypercorn"])
async def test_connections_whose_clients_have_left_keep_no_descriptor(front: str) -> None:
    async with served("--server", front, "--connection-idle-timeout", "1h") as node:

        async def ask(request: bytes) -> None:
            async with await trio.open_tcp_stream("127.0.0.1", node.port) as client:
                if request:
                    await client.send_all(request)
                    assert (await client.receive_some()).startswith(b"HTTP/1.1 200 ")

        # The first one opens what is kept.
        await ask(KEPT)
        before = node.descriptors()
        for request in [b"", KEPT, GET] * 4:
            await ask(request)

        async def asked() -> bool:
            return node.descriptors() <= before

        await until(asked, "the descriptors are closed")


async def test_busy_connections_leave_the_admin_listener_alone_and_one_line_says_that_more_were_refused(
    tmp_path: Path,
) -> None:
    admin = tmp_path / "admin"
    with trio.fail_after(PATIENCE):
        async with (
            served("--admin-bind", f"unix:{admin}", "--head-timeout", "1h", descriptors=64) as node,
            AsyncExitStack() as stack,
            trio.open_nursery() as nursery,
        ):
            refused = trio.Event()

            async def hear(client: trio.SocketStream) -> None:
                with suppress(trio.BrokenResourceError):
                    if (await client.receive_some()).startswith(b"HTTP/1.1 503 "):
                        refused.set()

            # A connection makes way for the next one as long as nothing of its request has been read.
            while not refused.is_set():
                client = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", node.port))
                nursery.start_soon(hear, client)
                await client.send_all(b"POST /mcp HTTP/1.1\r\n")
                with trio.move_on_after(0.02):
                    await refused.wait()
            await node.says("request refused")
            async with await trio.open_unix_socket(admin) as operator:
                await operator.send_all(GET.replace(b"/livez", b"/metrics"))
                page = b""
                async for data in operator:
                    page += data
            (line,) = [line for line in page.decode().splitlines() if line.startswith("trio_mcp_refused_total{")]
            assert 'reason="connections"' in line
            assert float(line.rpartition(" ")[2]) >= 1
            nursery.cancel_scope.cancel("seen")
        logged = [json.loads(line) for line in node.lines if '"request refused"' in line]
        assert [(line["status"], line["reason"]) for line in logged] == [(503, "connections")]
