"""Deadlines, pings, memory and the end of a WebSocket, on memory streams and a virtual clock."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from tests.transports.listener.frames import CLOSE, PING, PONG, TEXT, Heard, close, frame, frames, handshake, text
from tests.transports.listener.harness import RawClient, Server, serving
from tests.transports.listener.test_websocket_handshakes import after_101, echo
from trio_mcp.streams.account import BODY_WAIT_SECONDS, SMALL, Account
from trio_mcp.transports.listener import ClientDisconnected, Limits, Receive, Scope, Send
from trio_mcp.transports.listener.frames import CLOSE_BYTE
from trio_mcp.transports.listener.upgraded_stream import UpgradedStream

LIMITS = Limits(websockets=True, ping_seconds=20)
KIB = 1024


class Told:
    """What an app was told; it accepts, echoes, and can be had to do something first."""

    def __init__(self, first: Callable[[Send, Scope], Awaitable[None]] | None = None) -> None:
        self.messages: list[dict[str, object]] = []
        self._first = first
        self.ended = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        async with trio.open_nursery() as nursery:
            if self._first is not None:
                nursery.start_soon(self._first, send, scope)
            while True:
                message = await receive()
                self.messages.append(dict(message))
                if message["type"] == "websocket.disconnect":
                    break
                await send({"type": "websocket.send", "text": message["text"]})
            self.ended.set()
            nursery.cancel_scope.cancel("the client left")

    @property
    def codes(self) -> list[object]:
        return [message["code"] for message in self.messages if "code" in message]


async def opened(server: Server) -> RawClient:
    client = server.connect()
    await client.say(handshake())
    assert after_101(await client.hear()) == []
    return client


@pytest.mark.requirement("ws-27")
async def test_a_quiet_client_is_pinged_and_one_that_stays_quiet_is_gone(autojump_clock: MockClock) -> None:
    app = Told()
    async with serving(app, LIMITS) as server:
        client = await opened(server)
        began = trio.current_time()
        assert list(frames(await client.hear_all())) == [Heard(PING, b"")]
        assert trio.current_time() - began == pytest.approx(2 * LIMITS.ping_seconds, abs=0.1)
    assert app.codes == [1006]


async def test_a_client_that_answers_pings_stays(autojump_clock: MockClock) -> None:
    app = Told()
    async with serving(app, LIMITS) as server:
        client = await opened(server)
        for _ in range(20):
            assert list(frames(bytes(await client.stream.receive_some()))) == [Heard(PING, b"")]
            await trio.sleep(LIMITS.ping_seconds - 1)
            await client.say(frame(PONG))
        assert trio.current_time() > 20 * LIMITS.ping_seconds
        await client.say(close())
        await client.hear_all()
    assert app.codes == [1000]


async def test_a_client_that_says_something_now_and_then_is_not_pinged(autojump_clock: MockClock) -> None:
    async with serving(echo, LIMITS) as server:
        client = await opened(server)
        for _ in range(10):
            await trio.sleep(LIMITS.ping_seconds - 1)
            await client.say(text("x"))
            assert list(frames(await client.hear())) == [Heard(TEXT, b"x")]


@pytest.mark.requirement("ws-27")
async def test_thousands_of_pings_are_answered_and_other_tasks_run(autojump_clock: MockClock) -> None:
    """The account stays empty, and nothing is kept: each ping is answered before the next is read."""
    async with serving(echo, LIMITS) as server:
        client, other = await opened(server), await opened(server)
        heard = bytearray()

        async def hear() -> None:
            while data := await client.stream.receive_some():
                heard.extend(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear)
            await client.say(frame(PING, b"p" * 100) * 1000)
            await other.say(text("still there?"))
            assert b"still there?" in await other.stream.receive_some()
            assert len(heard) < 1000 * 102, "the other did not wait for all of them"
            await client.say(close())
    *pongs, _ = frames(bytes(heard))
    assert pongs == [Heard(PONG, b"p" * 100)] * 1000


async def test_a_message_that_trickles_is_closed_with_1008(autojump_clock: MockClock) -> None:
    app = Told()
    async with serving(app, LIMITS) as server:
        client = await opened(server)
        whole = text("x" * 1000)

        async def trickle() -> None:
            with suppress(trio.BrokenResourceError):
                for at in range(len(whole)):
                    await client.say(whole[at : at + 1])
                    await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            began = trio.current_time()
            heard = [bytes(await client.stream.receive_some())]
            assert trio.current_time() - began == pytest.approx(LIMITS.body_seconds, abs=10)
            nursery.cancel_scope.cancel("the server has closed")
    [last] = frames(b"".join(heard))
    assert (last.opcode, last.code) == (CLOSE, 1008)
    assert app.codes == [1008]


# Memory.


async def test_a_large_message_counts_for_the_node_until_the_next_is_asked_for(autojump_clock: MockClock) -> None:
    account = Account()
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            if len(message["text"]) > SMALL:
                seen.append(account.used - len(message["text"]))
            await send({"type": "websocket.send", "text": "got it"})

    async with serving(app, LIMITS, account) as server:
        client = await opened(server)
        for parts in (1, 3):
            size = 100 * KIB // parts
            await client.say(frame(TEXT, b"x" * size, final=parts == 1))
            for at in range(1, parts):
                await client.say(frame(0, b"x" * size, final=at == parts - 1))
            await client.hear()
        assert seen == [0, 0]
        await client.say(text("small"))
        await client.hear()
        assert account.used == 0
        await client.say(frame(TEXT, b"x" * 100 * KIB)[: 50 * KIB])
        await wait_all_tasks_blocked()
        assert account.used >= 100 * KIB, "what is on its way has its whole size reserved"
        await client.hang_up()
        await wait_all_tasks_blocked()
        assert account.used == 0


async def test_a_message_waits_for_room_and_is_read_when_there_is_some(autojump_clock: MockClock) -> None:
    account = Account(1 << 20)
    async with serving(echo, LIMITS, account) as server, trio.open_nursery() as nursery:
        nursery.start_soon(account.relieve)
        client = await opened(server)
        with account.hold(2 << 20):
            await client.say(frame(TEXT, b"x" * 100 * KIB))
            await trio.sleep(BODY_WAIT_SECONDS / 2)
        heard = b""
        while len(heard) < 100 * KIB:
            heard += await client.stream.receive_some()
        nursery.cancel_scope.cancel("it was answered")
    assert [len(each.payload) for each in frames(heard)] == [100 * KIB]


async def test_a_message_for_which_there_is_no_room_is_closed_with_1011(autojump_clock: MockClock) -> None:
    account = Account(1 << 20)
    async with serving(echo, LIMITS, account) as server, trio.open_nursery() as nursery:
        nursery.start_soon(account.relieve)
        client = await opened(server)
        with account.hold(2 << 20):
            began = trio.current_time()
            await client.say(frame(TEXT, b"x" * 100 * KIB))
            [last] = frames(bytes(await client.stream.receive_some()))
            assert trio.current_time() - began == pytest.approx(BODY_WAIT_SECONDS, abs=1)
        nursery.cancel_scope.cancel("it was closed")
    assert last.code == 1011


async def test_small_messages_need_no_room(autojump_clock: MockClock) -> None:
    account = Account(1 << 20)
    async with serving(echo, LIMITS, account) as server:
        client = await opened(server)
        with account.hold(2 << 20):
            await client.say(frame(TEXT, b"x" * (SMALL // 2)))
            assert [len(each.payload) for each in frames(await client.hear())] == [SMALL // 2]


# Writing.


def say_much(size: int) -> Callable[[Send, Scope], Awaitable[None]]:
    async def first(send: Send, scope: Scope) -> None:
        with suppress(ClientDisconnected):
            await send({"type": "websocket.send", "text": "y" * size})

    return first


async def locked_step(server: Server) -> trio.abc.Stream:
    """A connection with nothing between: each byte that is written waits until it is read."""
    ours, theirs = lockstep_stream_pair()
    server.accept(theirs)
    await ours.send_all(handshake())
    assert bytes(await ours.receive_some()).startswith(b"HTTP/1.1 101")
    return ours


@pytest.mark.requirement("ws-25")
async def test_a_client_that_stops_reading_is_gone_after_the_write_timeout(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    app = Told(say_much(10 * KIB))
    limits = replace(LIMITS, ping_seconds=1000)
    caplog.set_level(logging.INFO)
    async with serving(app, limits) as server:
        client = await locked_step(server)
        began = trio.current_time()
        await app.ended.wait()
        assert trio.current_time() - began == pytest.approx(limits.write_seconds, abs=0.1)
        await client.aclose()
    assert app.codes == [1006]
    assert "took too little" in caplog.text


@pytest.mark.requirement("ws-26", "ws-28")
async def test_a_client_that_reads_slowly_lives_and_its_progress_is_told(autojump_clock: MockClock) -> None:
    """Pings wait while it is being sent something: it can answer them only when it has read that."""
    progress: list[float] = []

    async def first(send: Send, scope: Scope) -> None:
        scope["extensions"]["trio_mcp.disconnect"]["on_progress"](lambda: progress.append(trio.current_time()))
        await send({"type": "websocket.send", "text": "y" * 200 * KIB})

    app = Told(first)
    async with serving(app, LIMITS) as server:
        client = await locked_step(server)
        began = trio.current_time()
        heard = b""
        while len(heard) < 200 * KIB:
            await trio.sleep(LIMITS.write_seconds - 1)
            heard += await client.receive_some(16 * KIB)
            if len(heard) == 16 * KIB:
                await client.send_all(frame(PING, b"are you there?"))
        assert trio.current_time() - began > 4 * LIMITS.ping_seconds, "far longer than a quiet client may be"
        while b"are you there?" not in heard:
            heard += await client.receive_some()
        await client.aclose()
        await app.ended.wait()
    message, pong = (each for each in frames(heard) if each.opcode != PING)
    assert len(message.payload) == 200 * KIB
    assert pong == Heard(PONG, b"are you there?")
    assert len(progress) >= 12


async def test_after_a_write_that_was_cut_short_nothing_is_written(autojump_clock: MockClock) -> None:
    """Not even a close frame: it would be read as a part of the message."""

    async def first(send: Send, scope: Scope) -> None:
        with trio.move_on_after(1):
            await send({"type": "websocket.send", "text": "y" * 100 * KIB})
        with suppress(ClientDisconnected):
            await send({"type": "websocket.send", "text": "more"})
        await send({"type": "websocket.close", "code": 1000})

    app = Told(first)
    async with serving(app, LIMITS) as server:
        client = await locked_step(server)
        heard = bytes(await client.receive_some(KIB))
        await trio.sleep(2)
        with suppress(trio.BrokenResourceError):
            while data := await client.receive_some():
                heard += data
    assert set(heard[10:]) == {ord("y")}


async def test_a_ping_after_a_write_has_failed_leaves_no_error(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """trio-websocket has given the connection up by then, and would fail if it were given the ping."""
    failed = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with trio.move_on_after(1):
            await send({"type": "websocket.send", "text": "y" * 100 * KIB})
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "more"})
        failed.set()
        await trio.sleep(1)
        assert (await receive())["code"] == 1006

    async with serving(app, LIMITS) as server:
        client = await locked_step(server)
        await failed.wait()
        with suppress(trio.BrokenResourceError):
            await client.send_all(frame(PING))
        await trio.sleep(2)
        await client.aclose()
    assert caplog.records == []


async def test_a_write_that_begins_after_a_hang_up_does_not_wait(autojump_clock: MockClock) -> None:
    took: list[float] = []

    async def first(send: Send, scope: Scope) -> None:
        gone = trio.Event()
        scope["extensions"]["trio_mcp.disconnect"]["register"](gone.set)
        await gone.wait()
        with trio.CancelScope(shield=True), suppress(ClientDisconnected):
            began = trio.current_time()
            try:
                await send({"type": "websocket.send", "text": "y" * 100 * KIB})
            finally:
                took.append(trio.current_time() - began)

    app = Told(first)
    async with serving(app, LIMITS) as server:
        client = await locked_step(server)
        assert isinstance(client, trio.StapledStream)
        # Not while the server still writes its 101: that would be a client that left amid the handshake.
        await wait_all_tasks_blocked()
        await client.send_eof()
        await app.ended.wait()
        await wait_all_tasks_blocked()
        await client.aclose()
    assert took == [0]


# The end.


def close_with(code: int, reason: str = "") -> Callable[[Send, Scope], Awaitable[None]]:
    async def first(send: Send, scope: Scope) -> None:
        await send({"type": "websocket.close", "code": code, "reason": reason})
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "too late"})

    return first


async def test_the_app_closes_and_the_clients_echo_ends_the_connection(autojump_clock: MockClock) -> None:
    app = Told(close_with(1001, "going away"))
    async with serving(app, LIMITS) as server:
        client = server.connect()
        await client.say(handshake())
        [said] = after_101(await client.hear())
        assert (said.code, said.payload[2:]) == (1001, b"going away")
        began = trio.current_time()
        await client.say(frame(PING, b"meanwhile"))
        await wait_all_tasks_blocked()
        # It is still open: a ping that is not answered any more is no end.
        await client.say(frame(PONG))
        await wait_all_tasks_blocked()
        await client.say(close(1001))
        assert await client.hear_all() == b""
        assert trio.current_time() == began


async def test_a_client_that_does_not_echo_has_a_second(autojump_clock: MockClock) -> None:
    app = Told(close_with(1000))
    async with serving(app, LIMITS) as server:
        client = server.connect()
        began = trio.current_time()
        await client.say(handshake())
        heard = await client.hear_all()
        assert trio.current_time() - began == pytest.approx(1.0, abs=0.1)
    assert [each.code for each in after_101(heard)] == [1000]


@pytest.mark.requirement("ws-30")
async def test_closes_of_both_that_cross_leave_no_error(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The client's close comes while a large message is on its way out, and the app closes, too."""

    async def first(send: Send, scope: Scope) -> None:
        await say_much(100 * KIB)(send, scope)
        with suppress(ClientDisconnected):
            await send({"type": "websocket.close", "code": 1001})

    async with serving(Told(first), LIMITS) as server:
        client = await locked_step(server)
        heard = bytes(await client.receive_some(16 * KIB))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, close(1000))
            with suppress(trio.BrokenResourceError):
                while data := await client.receive_some():
                    heard += data
    *_, last = frames(heard)
    assert last.opcode == CLOSE
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_a_server_that_is_cancelled_says_that_it_is_going_away(autojump_clock: MockClock) -> None:
    async with serving(echo, LIMITS) as server:
        client = await opened(server)
    assert [each.code for each in frames(bytes(await client.stream.receive_some()))] == [1001]


async def test_a_server_that_stops_leaves_it_to_the_app_to_close(autojump_clock: MockClock) -> None:
    async with serving(echo, LIMITS) as server:
        client = await opened(server)
        server.stopping.set()
        await client.say(text("x"))
        assert list(frames(await client.hear())) == [Heard(TEXT, b"x")]
        assert not server.stopped.is_set()
        await client.say(close())
        await client.hear_all()
        await server.stopped.wait()


async def test_an_app_can_end_the_connection_at_once(autojump_clock: MockClock) -> None:
    async def first(send: Send, scope: Scope) -> None:
        scope["extensions"]["trio_mcp.disconnect"]["abort"]()

    app = Told(first)
    async with serving(app, LIMITS) as server:
        client = server.connect()
        began = trio.current_time()
        await client.say(handshake())
        heard = await client.hear_all()
        assert trio.current_time() == began
    assert bytes([CLOSE_BYTE]) not in heard
    assert app.codes == [1006]


async def test_an_app_can_be_told_of_the_disconnect(autojump_clock: MockClock) -> None:
    told: list[str] = []

    async def first(send: Send, scope: Scope) -> None:
        scope["extensions"]["trio_mcp.disconnect"]["register"](lambda: told.append("gone"))

    async with serving(Told(first), LIMITS) as server:
        client = await opened(server)
        await client.hang_up()
        await wait_all_tasks_blocked()
        assert told == ["gone"]


async def test_a_frame_in_the_smallest_pieces_takes_little_more_than_its_bytes() -> None:
    size = 128 * 1024
    came = b"\x81\xff" + size.to_bytes(8, "big") + bytes(4 + size)
    at = 0

    class Wire:
        async def receive(self) -> bytes:
            nonlocal at
            await trio.lowlevel.checkpoint()
            at += 2
            # New ones each time, as those that a socket gives.
            return bytes([came[at - 2], came[at - 1]])

    exchange: Any = SimpleNamespace(
        wire=Wire(), limits=Limits(), account=Account(), rest=b"", tell_when_client_leaves=lambda callback: True
    )
    stream = UpgradedStream(exchange, b"")
    stream.accepted.set()
    tracemalloc.start()
    try:
        assert (await stream.receive_some()).startswith(came[:14])
        assert tracemalloc.get_traced_memory()[1] < 4 * size
    finally:
        tracemalloc.stop()
