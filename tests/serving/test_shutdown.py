"""A node stops in time whatever its clients and handlers do, and tells everybody who can hear."""

from __future__ import annotations

import signal
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import pytest
import trio

from tests.serving.peer import Peer, connect, open_session
from tests.serving.process import LAST_WORDS_SECONDS, WORKERS, ServedProcess, served

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

DRAIN = 3.0
FOR_EVER = 600.0
"""Seconds: how long handlers would run, and how long a drain would last that waited for them."""
MUCH_SOONER = 60.0
"""The machine may be busy: this only tells a stop from one that waits. `stop_times` has the seconds that are promised."""
STREAMS = 200


async def _exit_code(node: ServedProcess) -> int:
    with trio.fail_after(MUCH_SOONER):
        code = await node.process.wait()
    with trio.fail_after(LAST_WORDS_SECONDS):
        await node.silent.wait()
    return code


async def _open_streams(stack: AsyncExitStack, port: int, count: int) -> list[Peer]:
    peers = []
    for _ in range(count):
        peer = await stack.enter_async_context(connect(port))
        await peer.listen(await open_session(port))
        assert await peer.head() == 200
        peers.append(peer)
    return peers


async def _ends_cleanly(peer: Peer) -> None:
    await peer.rest()


@pytest.mark.parametrize("front", ["own", "hypercorn"])
async def test_sigterm_ends_streams_cleanly_and_answers_calls_whatever_else_goes_on(front: str) -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(served_with(front))
        port = node.port
        streams = await _open_streams(stack, port, STREAMS)
        listening = await stack.enter_async_context(connect(port))
        await listening.modern(7, "subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        assert (await _first_message(listening))["method"] == "notifications/subscriptions/acknowledged"
        session = await open_session(port)
        sleeping = await _call(stack, port, session, 1, "sleep", FOR_EVER)
        modern = await stack.enter_async_context(connect(port))
        await modern.modern(2, "tools/call", {"name": "sleep", "arguments": {"seconds": FOR_EVER}}, "sleep")
        blocking = await _call(stack, port, session, 3, "blocking", FOR_EVER)
        shielded = await _call(stack, port, session, 4, "shielded", FOR_EVER)
        for peer in (sleeping, modern, blocking, shielded):
            assert await peer.head() == 200
        await _stall(stack, node)

        node.process.send_signal(signal.SIGTERM)

        async with trio.open_nursery() as nursery:
            for peer in streams:
                nursery.start_soon(_ends_cleanly, peer)
            for peer, number in ((sleeping, 1), (modern, 2), (blocking, 3)):
                nursery.start_soon(_is_told_of_the_shutdown, peer, number)
            result = await listening.message()
            assert result["id"] == 7
            assert result["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == 7
            assert await _exit_code(node) == 0
    assert "Traceback" not in node.log
    assert "tools/call shielded" in node.log, "what could not be stopped is named"


async def test_nothing_left_to_do_is_a_reason_to_stop_at_once() -> None:
    async with served_with("own", FOR_EVER) as node:
        await open_session(node.port)
        node.process.send_signal(signal.SIGTERM)
        assert await _exit_code(node) == 0


async def test_a_second_signal_ends_the_process_at_once() -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(served_with("own", FOR_EVER))
        session = await open_session(node.port)
        sleeping = await _call(stack, node.port, session, 1, "sleep", FOR_EVER)
        assert await sleeping.head() == 200
        node.process.send_signal(signal.SIGTERM)
        await _until_draining(node)
        node.process.send_signal(signal.SIGTERM)
        # A supervisor handles it, and says so as a shell would.
        assert await _exit_code(node) == (-signal.SIGTERM if WORKERS == 1 else 128 + signal.SIGTERM)


async def test_a_draining_node_opens_no_sessions_and_serves_those_it_has() -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(served_with("own", FOR_EVER))
        session = await open_session(node.port)
        sleeping = await _call(stack, node.port, session, 1, "sleep", FOR_EVER)
        assert await sleeping.head() == 200
        node.process.send_signal(signal.SIGTERM)
        await _until_draining(node)

        newcomer = await stack.enter_async_context(connect(node.port))
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
        await newcomer.request("POST", {}, {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        await newcomer.answer()
        assert newcomer.status == 503
        assert "retry-after" in newcomer.headers

        known = await stack.enter_async_context(connect(node.port))
        await known.tool(session, 2, "quick")
        assert (await known.answer())["result"]["content"][0]["text"] == "ok"


def served_with(front: str, drain: float = DRAIN) -> AbstractAsyncContextManager[ServedProcess]:
    """A node with a short drain, unless told."""
    return served("--drain-timeout", str(drain), "--server", front)


async def _stall(stack: AsyncExitStack, node: ServedProcess) -> None:
    """A client that opens a GET stream and a flood of messages, and reads neither; returns when all of them are there."""
    session = await open_session(node.port)
    stalled = await stack.enter_async_context(connect(node.port))
    await stalled.listen(session)
    flooding = await stack.enter_async_context(connect(node.port))
    await flooding.tool(session, 1, "flood", count=2_000, size=4_000)
    with trio.fail_after(LAST_WORDS_SECONDS):
        await node.says('"tool":"flood"')


async def _call(stack: AsyncExitStack, port: int, session: str, id: int, tool: str, seconds: float) -> Peer:
    peer = await stack.enter_async_context(connect(port))
    await peer.tool(session, id, tool, seconds=seconds)
    return peer


async def _first_message(peer: Peer) -> dict[str, object]:
    assert await peer.head() == 200
    message: dict[str, object] = await peer.message()
    return message


async def _is_told_of_the_shutdown(peer: Peer, id: int) -> None:
    message = await peer.message()
    assert message["id"] == id
    assert message["error"]["message"] == "The server is shutting down"
    await peer.rest()


async def _until_draining(node: ServedProcess) -> None:
    with trio.fail_after(MUCH_SOONER):
        await node.says('"draining"', WORKERS)
