"""Made-up frames, in any order and cut anywhere: every connection ends with a close frame or for want of an answer to a ping.

python -m tests.transports.listener.websocket_fuzz --cases 10000
"""

from __future__ import annotations

import argparse
import logging

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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
    handshake,
)
from tests.transports.listener.harness import serving
from tests.transports.listener.test_websocket_handshakes import after_101, echo
from trio_mcp.streams.account import Account
from trio_mcp.transports.listener import Limits

__all__ = ["fuzz"]

LIMITS = Limits(websockets=True, body_bytes=40_000)

PAYLOADS = (
    st.sampled_from(
        [b"", b"x", "€😀".encode(), b"\xff", b"\xed\xa0\x80", b"\x03\xe8", b"\x03\xe8bye", b"\x03\xed", b"\0", b"{}"]
    )
    | st.binary(max_size=130)
    | st.text(max_size=40).map(str.encode)
    | st.integers(1, 50_000).map(lambda size: b"y" * size)
)
FRAMES = st.builds(
    frame,
    st.sampled_from([CONTINUATION, TEXT, TEXT, TEXT, BINARY, 3, CLOSE, PING, PING, PONG, 11, 15]),
    PAYLOADS,
    final=st.booleans() | st.just(True),
    rsv=st.sampled_from([0] * 15 + [1, 2, 4]),
    mask=st.sampled_from([b"\x11\x22\x33\x44"] * 9 + [b"\0\0\0\0", None]),
    size=st.sampled_from([None] * 15) | st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, 1 << 40, 1 << 63]),
)  # fmt: skip
GOOD = st.sampled_from(
    [frame(TEXT, b"hello"), frame(PING, b"p"), frame(TEXT, b"a", final=False) + frame(CONTINUATION, b"b")]
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A few frames, good and bad, with some bytes changed, dropped or added."""
    data = bytearray(b"".join(draw(st.lists(GOOD | FRAMES, max_size=8))))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


class Complaints(logging.Handler):
    """What is logged at INFO and above, which no client may cause."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


async def _converse(data: bytes, cuts: list[int]) -> list[Heard]:
    account = Account()
    async with serving(echo, LIMITS, account) as server:
        client = server.connect()
        await client.say(handshake())
        ends = sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)})
        try:
            for begin, end in zip([0, *ends], ends, strict=False):
                await client.say(data[begin:end])
                await wait_all_tasks_blocked()
            await client.say(close(1000))
        except trio.BrokenResourceError:
            pass
        heard = after_101(await client.hear_all())
        server.stopping.set()
        with trio.fail_after(1000):
            await server.stopped.wait()
        assert account.used == 0
        return heard


def _check(data: bytes, cuts: list[int], complaints: Complaints) -> None:
    heard = trio.run(_converse, data, cuts, clock=MockClock(autojump_threshold=0))
    assert [record.getMessage() for record in complaints.records] == []
    assert heard, "it ended without a word"
    # A frame that is not complete takes what follows for its payload: no answer to the ping, and the connection is reset.
    assert heard[-1].opcode == CLOSE or heard[-1] == Heard(PING, b"")
    assert [each for each in heard[:-1] if each.opcode == CLOSE] == []


def fuzz(cases: int) -> None:
    """Run so many made-up streams; raises AssertionError with the smallest that breaks a rule."""
    complaints = Complaints()
    logger = logging.getLogger("trio_mcp")
    logger.addHandler(complaints)
    strategy = given(streams(), st.lists(st.integers(0, 200_000), max_size=4))
    limits = settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    try:
        limits(strategy(lambda data, cuts: _check(data, cuts, complaints)))()
    finally:
        logger.removeHandler(complaints)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    cases: int = parser.parse_args().cases
    fuzz(cases)
    print(f"{cases} cases, every one as it must be")


if __name__ == "__main__":
    main()
