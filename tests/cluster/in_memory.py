"""A cluster without sockets and processes: its store in memory, its network pairs of sockets, its clock virtual.

node1 ── MemoryLine ──▶ SharedMemory ◀── MemoryLine ── node2        instead of redis-server and a TCP proxy for each node
  └──────── MemoryNetwork: a pair of sockets for each connection ─────┘       instead of ports of loopback
"""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

from trio_mcp.cluster.peer import pool
from trio_mcp.cluster.redis.store import Keys
from trio_mcp.cluster.store.memory import MemoryStore, SharedMemory

__all__ = [
    "MemoryLine",
    "MemoryNetwork",
    "MemoryRedis",
    "in_memory",
    "network",
    "run_on_virtual_clock",
    "virtual_clock",
]

T = TypeVar("T")

KEYS = Keys("mcp")
FIRST_PORT = 20_000
NO_EXPIRY = math.inf


# Time.


def virtual_clock() -> trio.testing.MockClock:
    """A clock that jumps when all tasks wait, and that leaps, as `LeapingClock` does."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    leaps: Any = clock
    leaps.leapt = 0.0

    def leap(seconds: float) -> None:
        leaps.leapt += seconds
        clock.jump(seconds)

    leaps.leap = leap
    return clock


def run_on_virtual_clock(
    test: Callable[[], Awaitable[T]], *, clock: trio.abc.Clock | None = None, instruments: Sequence[Any] = ()
) -> T:
    """As `trio.run`, for pytest-trio."""
    return trio.run(test, clock=clock or virtual_clock(), instruments=instruments)


def _time_of_store() -> float:
    """A store knows nothing of leaps."""
    clock: Any = trio.lowlevel.current_clock()
    return trio.current_time() - float(getattr(clock, "leapt", 0.0))


# The store.


class MemoryRedis:
    """What tests ask of `RedisServer`, of a store in memory: it is stopped, frozen and started anew, and understands a few commands."""

    def __init__(self) -> None:
        self.memory = SharedMemory(clock=_time_of_store)

    async def start(self, *, empty: bool = False) -> None:
        """With what it had, unless it shall be `empty`."""
        self.memory.start(empty=empty)

    async def stop(self) -> None:
        """No node reaches it."""
        self.memory.stop()

    def pause(self) -> None:
        """Nothing is answered."""
        self.memory.freeze()

    def resume(self) -> None:
        """Go on."""
        self.memory.thaw()

    async def ask(self, *words: str) -> Any:
        """The reply to one command, as Redis would give it."""
        await trio.lowlevel.checkpoint()
        return getattr(self, f"_{words[0].lower()}")(*words[1:])

    def _shelf(self, key: str) -> tuple[Any, str]:
        _, kind, name = key.split(":", 2)
        return {"session": self.memory.records, "closed": self.memory.tombstones, "node": self.memory.cards}[kind], name

    def _get(self, key: str) -> bytes | None:
        shelf, name = self._shelf(key)
        found: bytes | None = shelf.get(name)
        return found

    def _set(self, key: str, value: str) -> None:
        shelf, name = self._shelf(key)
        shelf.put(name, value.encode(), NO_EXPIRY)

    def _del(self, key: str) -> int:
        if key == KEYS.moves:
            self.memory.changes.clear()
            return 1
        shelf, name = self._shelf(key)
        return int(shelf.remove(name))

    def _exists(self, key: str) -> int:
        return int(self._get(key) is not None)

    def _ttl(self, key: str) -> float:
        shelf, name = self._shelf(key)
        return float(shelf.seconds_left(name))

    def _keys(self, pattern: str) -> list[str]:
        shelf, _ = self._shelf(pattern)
        return list(shelf.names())

    def _flushall(self) -> None:
        self.memory.clear()

    def _publish(self, _: str, message: str) -> int:
        return self.memory.publish(message.encode())

    def _pubsub(self, *_: str) -> list[Any]:
        return [KEYS.bus, self.memory.listeners]

    def _client(self, *_: str) -> None:
        """CLIENT KILL TYPE pubsub."""
        for channel in list(self.memory._subscribers):
            self.memory.unsubscribe(channel)

    def _zadd(self, _: str, score: str, name: str) -> None:
        self.memory.nodes[name.encode()] = float(score)

    def _zscore(self, _: str, name: str) -> float | None:
        return self.memory.nodes.get(name.encode())

    def _zrange(self, *_: str) -> list[bytes]:
        return list(self.memory.nodes)

    def _xrange(self, *_: str) -> list[Any]:
        return [(b"%d-0" % number, [b"m", message]) for number, message in self.memory.changes]


class MemoryLine:
    """What tests ask of `TcpProxy`: one node's way to the store can be cut."""

    def __init__(self, memory: SharedMemory) -> None:
        self.store = MemoryStore(memory)
        self.store.delay = 0.001  # as to a Redis nearby: time passes

    def cut(self) -> None:
        """The store is away for that node."""
        self.store.cut()

    def mend(self) -> None:
        """As before."""
        self.store.mend()


# The network.


class MemoryListener(trio.abc.Listener[trio.SocketStream]):
    """Listens on a port of a network."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self.arriving, self._arrived = trio.open_memory_channel[socket.socket](100)

    async def accept(self) -> trio.SocketStream:
        """The next connection."""
        near = await self._arrived.receive()
        return trio.SocketStream(trio.socket.from_stdlib_socket(near))

    async def aclose(self) -> None:
        """The port refuses; who connected and was not accepted sees the end."""
        self._close()
        self.arriving.close()
        while True:
            try:
                self._arrived.receive_nowait().close()
            except (trio.EndOfChannel, trio.WouldBlock, trio.ClosedResourceError):
                break
        self._arrived.close()
        await trio.lowlevel.checkpoint()


class MemoryNetwork:
    """Ports of one host. A connection is a pair of sockets that are nobody else's."""

    def __init__(self) -> None:
        self._listening: dict[int, MemoryListener] = {}
        self._next = FIRST_PORT

    def listen(self, port: int = 0) -> tuple[MemoryListener, str]:
        """A listener on that port, or a free one; and its URL."""
        port = port or self.free_port()
        made = self._listening[port] = MemoryListener(lambda: self._forget(port))
        return made, f"http://127.0.0.1:{port}"

    def black_hole(self) -> str:
        """The URL of a port that takes no connection."""
        listener, url = self.listen()
        listener.arriving, _ = trio.open_memory_channel[socket.socket](0)
        return url

    def _forget(self, port: int) -> None:
        self._listening.pop(port, None)

    def free_port(self) -> int:
        """Nobody listens there yet."""
        self._next += 1
        return self._next

    async def connect(self, url: str, seconds: float) -> socket.socket:
        """Takes the place of `pool.connect`."""
        await trio.lowlevel.checkpoint()
        host, port = pool._address(url)
        listener = self._listening.get(port)
        if host not in ("127.0.0.1", "localhost"):
            raise OSError(errno.EHOSTUNREACH, "no route", host)
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens", url)
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        try:
            listener.arriving.send_nowait(far)
            return near
        except trio.WouldBlock:
            near.close()
            far.close()
        await trio.sleep(seconds)
        raise TimeoutError(f"{url} did not take the connection within {seconds:g} s")


_network: MemoryNetwork | None = None


def network() -> MemoryNetwork | None:
    """That of the test that runs; None when that has real ones."""
    return _network


@contextmanager
def in_memory() -> Iterator[None]:
    """Peers connect within the process."""
    global _network
    with pytest.MonkeyPatch.context() as patch:
        _network = MemoryNetwork()
        patch.setattr("trio_mcp.cluster.peer.pool.connect", _network.connect)
        patch.setattr("trio_mcp.cluster.peer.probe.connect", _network.connect)
        try:
            yield
        finally:
            _network = None
