"""What fails in one session costs that session only, and nothing is left of sessions that ended."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio

from tests.rig.waiting import PATIENCE, until
from tests.serving.peer import Peer, connect, open_session
from tests.serving.process import HERE, ServedProcess, served

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

BATCH = 2_000
"""Two of them fill the memory that `forgetful` has for sessions that ended: after that nothing may grow."""
OPENERS = 8
IDLE_SECONDS = 1.0
FEW_BYTES = 512 * 1024
FEW_BLOCKS = 1_000
"""Live allocations of the interpreter: unlike resident memory they do not depend on how the heap is fragmented."""
PAIRS_TO_SETTLE = 6
"""A batch that has more sessions alive at once than those before it grows the heap for good, and how many that are depends on how
fast the machine is. A leak grows it every time."""


async def test_a_crashed_background_task_ends_its_session_with_one_traceback_and_no_other_session() -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(served())
        doomed, other = await open_session(node.port), await open_session(node.port)
        peer = await stack.enter_async_context(connect(node.port))
        await peer.tool(doomed, 1, "crash_later")
        await peer.answer()
        with trio.fail_after(PATIENCE):
            await node.says("session closed")
        await peer.tool(doomed, 2, "quick")
        gone = await peer.answer()
        assert peer.status == 404
        assert gone["error"]["data"] == {"reason": "crashed", "reinitialize": True}
        await peer.tool(other, 3, "quick")
        assert (await peer.answer())["result"]["content"][0]["text"] == "ok"
    assert node.log.count("Traceback (most recent call last)") == 1
    assert "the background task failed" in node.log


async def test_a_crashed_handler_says_a_reference_to_the_client_and_its_text_to_the_log() -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(served())
        session = await open_session(node.port)
        peer = await stack.enter_async_context(connect(node.port))
        await peer.tool(session, 1, "crash")
        result = (await peer.answer())["result"]
        text = result["content"][0]["text"]
        assert result["isError"] is True
        assert "hunter2" not in text
        reference = text.rpartition("ref ")[2].rstrip(")")
        with trio.fail_after(PATIENCE):
            await node.says("hunter2")
    assert reference in node.log
    assert node.log.count("Traceback (most recent call last)") == 1


async def test_sessions_that_are_dropped_leave_no_task_descriptor_thread_or_memory() -> None:
    flags = ["--session-idle-timeout", str(IDLE_SECONDS), "--max-sessions", "50000"]
    async with served(*flags, target=HERE / "forgetful.py") as node:
        with trio.fail_after(5 * PATIENCE):
            before = await _two_batches(node)
            descriptors, threads = node.descriptors(), node.threads()
            after = await _two_batches(node)
            # One object kept for each session would be 4,000.
            assert after["blocks"] - before["blocks"] < FEW_BLOCKS
            for _ in range(PAIRS_TO_SETTLE):
                if after["bytes"] - before["bytes"] < FEW_BYTES:
                    break
                before, after = after, await _two_batches(node)
        assert after["bytes"] - before["bytes"] < FEW_BYTES
        assert after["tasks"] <= before["tasks"]

        async def asked() -> bool:
            return node.descriptors() <= descriptors and node.threads() <= threads

        # The last connections are gone when the server has noticed, not when we have closed them.
        await until(asked, "no descriptor and no thread is left over")


async def _two_batches(node: ServedProcess) -> dict[str, int]:
    await _open_and_drop(node)
    return await _open_and_drop(node)


async def _open_and_drop(node: ServedProcess) -> dict[str, int]:
    """Open a batch of sessions without ever ending one; what is left when they have all expired."""
    async with trio.open_nursery() as nursery:
        for _ in range(OPENERS):
            nursery.start_soon(_open_sessions, node.port, BATCH // OPENERS)
    async with connect(node.port) as peer:

        async def asked() -> dict[str, int] | None:
            left = await _left_behind(peer)
            return None if left["sessions"] else left

        found = await until(asked, "all sessions have expired", pause=IDLE_SECONDS / 2)
        assert found is not None
        return found


async def _open_sessions(port: int, count: int) -> None:
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "leaky", "version": "1"}}
    async with connect(port) as peer:
        for _ in range(count):
            await peer.request("POST", {}, {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
            await peer.answer()
            assert peer.status == 200


async def _left_behind(peer: Peer) -> dict[str, int]:
    await peer.modern(1, "tools/call", {"name": "left_behind", "arguments": {}}, "left_behind")
    found: dict[str, int] = (await peer.answer())["result"]["structuredContent"]
    return found
