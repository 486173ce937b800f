"""The channel between a supervisor and a worker: what breaks it, and what is bounded."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import closing

import msgspec
import pytest
import trio

from trio_mcp.serving.workers import channel as module
from trio_mcp.serving.workers.channel import Channel, ChannelBroken
from trio_mcp.serving.workers.messages import Done, FromSupervisor, FromWorker, Heard, Stop


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Channel[FromWorker, FromSupervisor], socket.socket]]:
    """A supervisor's end of a channel, and the other process' socket."""
    ours, its = socket.socketpair()
    with closing(Channel[FromWorker, FromSupervisor](ours, FromWorker)) as channel, its:
        yield channel, its


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data


async def test_a_process_that_takes_nothing_is_kept_no_more_than_the_bytes_that_may_wait(
    ends: tuple[Channel[FromWorker, FromSupervisor], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 10_000)
    channel, _ = ends
    sent = 0
    while not channel.broken.is_set():
        assert channel.send(Heard(bytes(1_000)))
        sent += 1
    assert sent <= 11, "as many as fit, and the one that did not"
    assert channel.why_broken == "the other process takes nothing"
    # It waits no more, and takes no more.
    await channel.sent()
    assert channel.send(Stop(15))


async def test_what_was_taken_counts_no_more(
    ends: tuple[Channel[FromWorker, FromSupervisor], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 10_000)
    channel, its = ends
    other: Channel[Done, FromWorker] = Channel(its.dup(), Done)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.write)
        with closing(other):
            for number in range(100):
                channel.send(Done(number, bytes(1_000)))
                assert (await other.receive()).number == number
        nursery.cancel_scope.cancel("taken")
    assert not channel.broken.is_set()


async def test_a_message_that_is_too_long_is_not_sent_and_breaks_nothing(
    ends: tuple[Channel[FromWorker, FromSupervisor], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_MESSAGE_BYTES", 100)
    channel, _ = ends
    assert not channel.send(Heard(bytes(101)))
    assert channel.send(Stop(15))
    assert not channel.broken.is_set()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the other process has ended"),
        (b"\x00\x00\x00\x09half", "the other process has ended"),
        (b"\xff\xff\xff\xff", "a message of impossible size"),
        (framed(b"\xc1"), "a message that cannot be read"),
        (framed(msgspec.msgpack.encode({"type": "Sing"})), "Invalid value 'Sing'"),
        (
            framed(msgspec.msgpack.encode({"type": "Idle", "idle": "yes"})),
            r"Expected `bool`, got `str` - at `\$.idle`",
        ),
        (framed(b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0"), "a message that cannot be read"),
    ],
    ids=["nothing", "a part", "size", "no MessagePack", "another message", "another type", "nested"],
)
async def test_bytes_that_are_no_message_break_the_channel_with_the_reason(
    data: bytes, why: str, ends: tuple[Channel[FromWorker, FromSupervisor], socket.socket]
) -> None:
    channel, its = ends
    its.sendall(data)
    its.shutdown(socket.SHUT_WR)
    with pytest.raises(ChannelBroken, match=why):
        await channel.receive()
    assert channel.broken.is_set()
    assert channel.why_broken
