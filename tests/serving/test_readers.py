"""A client that stops reading costs nobody but itself."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio

from tests.rig.waiting import PATIENCE, until
from tests.serving.peer import connect, open_session
from tests.serving.process import served

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

WRITE_TIMEOUT = 2.0
CUT_WITHIN = 28.0
"""Before the kernel would do it, after 30 s."""
SESSION_BOUND = 4 * 1024 * 1024
FLOOD = 10_000


async def test_stalled_streams_hold_up_neither_their_session_nor_its_memory_and_are_cut() -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(served("--write-timeout", str(WRITE_TIMEOUT)))
        session = await open_session(node.port)
        before = node.memory()
        listening = await stack.enter_async_context(connect(node.port))
        await listening.listen(session)
        flooding = await stack.enter_async_context(connect(node.port))
        await flooding.tool(session, 1, "flood", count=FLOOD)

        other = await stack.enter_async_context(connect(node.port))
        for number in range(2, 12):
            await other.tool(session, number, "quick")
            with trio.fail_after(PATIENCE):
                assert (await other.answer())["result"]["content"][0]["text"] == "ok"

        for stalled in (listening, flooding):
            await _until_cut(stalled.stream)
        # Two streams within the session's bound, kernel buffers and Python's own slack aside.
        assert node.memory() - before < 4 * SESSION_BOUND
        await other.tool(session, 99, "quick")
        assert (await other.answer())["result"]["content"][0]["text"] == "ok"


async def _until_cut(stream: trio.SocketStream) -> None:
    """Wait for the reset without reading what came before it: epoll tells an error without our help."""

    async def is_gone() -> bool:
        return _peer_is_gone(stream)

    # Nothing wakes a task for this but reading, which is what a stalled reader does not do.
    await until(is_gone, "the connection is cut", patience=CUT_WITHIN)


def _peer_is_gone(stream: trio.SocketStream) -> bool:
    state = stream.socket.getsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_INFO, 1)[0]
    established = 1
    return bool(state != established)


async def test_a_client_that_reads_gets_every_notification_and_the_result() -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(served())
        session = await open_session(node.port)
        peer = await stack.enter_async_context(connect(node.port))
        await peer.tool(session, 1, "flood", count=1_000)
        *notes, result = await peer.answer()
        assert [note["params"]["data"]["number"] for note in notes] == list(range(1_000))
        assert result["result"]["content"][0]["text"] == "said 1000"


async def test_a_client_that_reads_gets_its_result_behind_ten_thousand_notifications() -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(served())
        session = await open_session(node.port)
        peer = await stack.enter_async_context(connect(node.port))
        await peer.tool(session, 1, "flood", count=FLOOD)
        messages = await peer.answer()
        assert messages[-1]["result"]["content"][0]["text"] == f"said {FLOOD}"


async def test_a_modern_handler_waits_for_its_reader_and_is_cancelled_when_it_stops() -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(served("--write-timeout", str(WRITE_TIMEOUT)))
        peer = await stack.enter_async_context(connect(node.port))
        await peer.modern(
            1, "tools/call", {"name": "flood", "arguments": {"count": 1_000_000}}, "flood", log_level="info"
        )
        await _until_cut(peer.stream)
        assert "Traceback" not in node.log
