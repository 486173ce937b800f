"""What clients may send after the handshake, and with which close frame the rest is answered; a table on one kind of server."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.listener.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Heard,
    close,
    frame,
    frames,
    handshake,
    text,
)
from tests.transports.listener.harness import serving
from tests.transports.listener.test_websocket_handshakes import after_101, echo
from trio_mcp.transports.listener import Limits, Receive, Scope, Send
from trio_mcp.transports.listener.frames import FrameRefusal, Frames, close_frame

MAX = 1000
LIMITS = Limits(websockets=True, body_bytes=MAX)


def letters(data: bytes, size: int) -> bytes:
    """A text message in fragments of `size` bytes."""
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    last = len(parts) - 1
    return b"".join(frame(CONTINUATION if at else TEXT, part, final=at == last) for at, part in enumerate(parts))


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent before the client closes, and what comes back: echoes and pongs, then the close code."""

    sent: bytes
    code: int
    before: tuple[bytes, ...] = ()


EURO = "€".encode()
FACE = "😀".encode()
SERVED = {
    "max - 1": Case(text("a" * (MAX - 1)), 1000, (b"a" * (MAX - 1),)),
    "max": Case(text("a" * MAX), 1000, (b"a" * MAX,)),
    "max, of four bytes each": Case(frame(TEXT, FACE * 250), 1000, (FACE * 250,)),
    "max, in fragments": Case(letters(b"a" * MAX, 7), 1000, (b"a" * MAX,)),
    "one byte each, within characters": Case(letters(EURO * 20, 1), 1000, (EURO * 20,)),
    "empty fragments between": Case(
        frame(TEXT, b"a", final=False) + frame(CONTINUATION, final=False) * 50 + frame(CONTINUATION, b"b"),
        1000,
        (b"ab",),
    ),
    "an empty text": Case(text(""), 1000, (b"",)),
    "a ping between fragments": Case(
        frame(TEXT, b"a", final=False) + frame(PING, b"p") + frame(CONTINUATION, b"b"), 1000, (b"p", b"ab")
    ),
    "a ping of 125 bytes": Case(frame(PING, b"p" * 125), 1000, (b"p" * 125,)),
    "pongs unasked": Case(frame(PONG, b"?") * 3 + text("x"), 1000, (b"x",)),
    "many messages, each within max": Case(text("a" * 600) * 3, 1000, (b"a" * 600,) * 3),
}
REFUSED = {
    "max + 1": Case(text("a" * (MAX + 1)), 1009),
    "max + 1, of four bytes each": Case(frame(TEXT, FACE * 251), 1009),
    "max + 1, in fragments": Case(letters(b"a" * (MAX + 1), 7), 1009),
    "a header that claims 2^40 bytes": Case(frame(TEXT, b"some", size=1 << 40), 1009),
    "a second fragment that claims 2^40 bytes": Case(
        frame(TEXT, b"a", final=False) + frame(CONTINUATION, size=1 << 40), 1009
    ),
    "binary": Case(frame(BINARY, b"{}"), 1003),
    "binary, large": Case(frame(BINARY, size=1 << 40), 1003),
    "unmasked": Case(frame(TEXT, b"x", mask=None), 1002),
    "unmasked ping": Case(frame(PING, b"x", mask=None), 1002),
    "RSV1": Case(frame(TEXT, b"x", rsv=4), 1002),
    "RSV3 of a ping": Case(frame(PING, b"x", rsv=1), 1002),
    "opcode 3": Case(frame(3, b"x"), 1002),
    "opcode 11": Case(frame(11, b"x"), 1002),
    "a ping of 126 bytes": Case(frame(PING, b"p" * 126), 1002),
    "a ping that claims 2^40 bytes": Case(frame(PING, size=1 << 40), 1002),
    "a fragmented ping": Case(frame(PING, b"p", final=False), 1002),
    "bad UTF-8": Case(frame(TEXT, b"a\xff"), 1007),
    "a surrogate": Case(frame(TEXT, b"\xed\xa0\x80"), 1007),
    "a split surrogate": Case(letters(b"\xed\xa0\xbd\xed\xb8\x80", 3), 1007),
    "a character that is cut off": Case(frame(TEXT, FACE[:3]), 1007),
    "a continuation without a start": Case(frame(CONTINUATION, b"x"), 1002),
    "a new text within a message": Case(frame(TEXT, b"a", final=False) + text("b"), 1002),
    "a length in more bytes than it takes": Case(b"\x81\xfe\x00\x05" + b"\0" * 9, 1002),
    "a length with the highest bit": Case(frame(PONG, size=1 << 63), 1002),
    "close code 999": Case(close(999), 1002),
    "close code 1005": Case(close(1005), 1002),
    "close code 2999": Case(close(2999), 1002),
    "a close of one byte": Case(frame(CLOSE, b"\x03"), 1002),
    "a close with a bad reason": Case(frame(CLOSE, b"\x03\xe8\xff"), 1007),
}
CASES = SERVED | REFUSED
SMALL_PIECES = 3


async def conversation(data: bytes, pieces: int) -> list[Heard]:
    """What comes back for `data`, which arrives `pieces` bytes at a time; the server closes."""
    async with serving(echo, LIMITS) as server:
        client = server.connect()
        await client.say(handshake())
        await wait_all_tasks_blocked()
        with suppress(trio.BrokenResourceError):
            for at in range(0, len(data), pieces):
                await client.say(data[at : at + pieces])
            await wait_all_tasks_blocked()
            await client.say(close(1000))
        return after_101(await client.hear_all())


@pytest.mark.requirement("ws-11", "ws-12", "ws-13", "ws-14", "ws-15")
@pytest.mark.parametrize("pieces", [1 << 20, SMALL_PIECES])
@pytest.mark.parametrize("case", CASES)
async def test_every_end_has_a_close_frame(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, case: str, pieces: int
) -> None:
    expected = CASES[case]
    *before, last = await conversation(expected.sent, pieces)
    assert [each.payload for each in before] == list(expected.before)
    assert last.opcode == CLOSE
    assert last.code == expected.code
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.requirement("ws-13")
async def test_empty_fragments_are_counted(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_mcp.transports.listener.frames.MAX_FRAGMENTS", 100)
    data = frame(TEXT, final=False) + frame(CONTINUATION, final=False) * 100
    assert [each.code for each in await conversation(data, 1 << 20)] == [1009]
    fits = frame(TEXT, final=False) + frame(CONTINUATION, final=False) * 98 + frame(CONTINUATION, b"x")
    assert [each.payload for each in await conversation(fits, 1 << 20)][:1] == [b"x"]


@pytest.mark.requirement("ws-29")
@pytest.mark.parametrize(
    ("sent", "answered", "told"),
    [
        (close(1000, "bye"), close_frame(1000, "bye"), (1000, "bye")),
        (close(None), b"\x88\x00", (1005, "")),
        (close(4321), close_frame(4321, ""), (4321, "")),
        (close(1001) + text("more") + frame(PING), close_frame(1001, ""), (1001, "")),
    ],
)
async def test_a_clients_close_is_echoed_and_told(
    autojump_clock: MockClock, sent: bytes, answered: bytes, told: tuple[int, str]
) -> None:
    seen: list[tuple[int, str]] = []

    async def listen(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(2):
            message = await receive()
            seen.append((message["code"], message["reason"]))

    async with serving(listen, LIMITS) as server:
        client = server.connect()
        await client.say(handshake() + sent)
        heard = await client.hear_all()
    assert heard.endswith(b"\r\n\r\n" + answered)
    assert seen == [told, told]


def test_a_header_is_read_when_it_is_complete() -> None:
    whole = frame(TEXT, b"x" * 200)
    for length in range(8):
        assert Frames(MAX).begin(whole[:length], 0) is None
    assert Frames(MAX).begin(b"before" + whole, 6) == len(whole)


@pytest.mark.parametrize("broken", [{"rsv": 1}, {"rsv": 4}, {"mask": None}], ids=str)
def test_what_no_client_may_send_is_refused_before_its_payload_is_read(broken: dict[str, Any]) -> None:
    with pytest.raises(FrameRefusal) as refused:
        Frames(MAX).begin(frame(TEXT, b"x" * MAX, **broken)[:14], 0)
    assert refused.value.code == 1002


def test_a_message_is_counted_over_its_fragments_and_forgotten_after_them() -> None:
    reader = Frames(10)
    for data, message, unfinished in [
        (frame(TEXT, b"12345", final=False), 5, True),
        (frame(PING, b"1234567890"), 5, True),
        (frame(CONTINUATION, b"67890"), 10, False),
        (frame(TEXT, b"1"), 1, False),
    ]:
        reader.begin(data, 0)
        assert (reader.message, reader.in_message) == (message, unfinished)
    reader.begin(frame(TEXT, b"12345", final=False), 0)
    with pytest.raises(FrameRefusal, match="10 bytes at most") as refused:
        reader.begin(frame(CONTINUATION, b"123456"), 0)
    assert refused.value.code == 1009


def test_a_reason_is_cut_between_characters() -> None:
    sent = close_frame(1008, "€" * 50)
    [heard] = frames(sent)
    assert len(heard.payload) == 2 + 123
    assert heard.payload[2:].decode() == "€" * 41
