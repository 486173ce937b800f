"""Connecting to peers, and which connections are used again."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from tests.cluster.peers import PATIENCE, black_hole, free_url, raw_peer
from trio_mcp.cluster.peer.pool import Connection, Pool, connect

pytestmark = pytest.mark.sockets


def idle(connections: Pool) -> int:
    """How many connections it keeps."""
    return sum(map(len, connections._idle.values()))


pool = partial(Pool, connect_timeout=5.0, idle_timeout=30.0, max_idle=3)


Pair = Callable[..., tuple[Connection, socket.socket]]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Makes a connection to the peer `url` and the peer's end; closes both ends at last."""
    with ExitStack() as stack:

        def make(url: str = "a") -> tuple[Connection, socket.socket]:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            stack.enter_context(theirs)
            stack.enter_context(ours)
            return Connection(ours, url), theirs

        yield make


def has_ended(theirs: socket.socket) -> bool:
    theirs.setblocking(False)
    try:
        return theirs.recv(1) == b""
    except BlockingIOError:
        return False


@asynccontextmanager
async def greeting() -> AsyncIterator[str]:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"hello")

    async with raw_peer(greet) as url:
        yield url


async def test_a_connection_reaches_the_peer_by_address_and_by_name() -> None:
    async with greeting() as url:
        for same in (url, url.replace("127.0.0.1", "localhost")):
            with trio.fail_after(PATIENCE):
                connection = await pool().open(same)
                assert await connection.receive() == b"hello"
                assert await connection.receive() == b""
                connection.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system's kernel cannot be told")
async def test_of_a_peer_that_is_silent_the_kernel_asks_before_it_gives_the_connection_up() -> None:
    async with greeting() as url:
        with await connect(url, 5) as connected:
            assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            given_up_after = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000
            asked_after = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            asked_again_after = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
    assert asked_after + asked_again_after < given_up_after <= 30


async def test_ipv6_addresses_stand_in_brackets() -> None:
    with socket.socket(socket.AF_INET6) as listening:
        listening.bind(("::1", 0))
        listening.listen()
        connected = await connect(f"http://[::1]:{listening.getsockname()[1]}", 5)
        connected.close()


async def test_where_nobody_listens_the_connection_is_refused() -> None:
    with pytest.raises(ConnectionRefusedError):
        await connect(free_url(), 5)


async def test_of_several_addresses_the_one_that_did_not_refuse_tells_how_it_went(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A peer is gone only when nobody listens at any of its addresses."""

    def addresses(*urls: str) -> None:
        def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
            ports = [int(url.rpartition(":")[2]) for url in urls]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)

    async with greeting() as url:
        addresses(free_url(), url)
        (await connect("http://peer:1", 5)).close()
    addresses(free_url(), "http://127.0.0.1:0", free_url())
    monkeypatch.setattr(socket.socket, "connect_ex", _unroutable_for_port_0)
    with pytest.raises(OSError, match="No route"):
        await connect("http://peer:1", 5)


def _unroutable_for_port_0(self: socket.socket, to: tuple[str, int]) -> int:
    return errno.EHOSTUNREACH if to[1] == 0 else errno.ECONNREFUSED


async def test_a_peer_that_takes_no_connection_is_given_up_after_the_timeout() -> None:
    with black_hole() as url:
        with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
            await connect(url, 0.05)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "10.0.0.7:8000",
        "https://127.0.0.1:1",
        "ftp://127.0.0.1:1",
        "http://",
        "http://:80",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:x",
        "http://user@127.0.0.1:1",
        "http://[::1:80",
        "http://" + "a" * 70 + ".invalid:80",
        "http://ä:80",
        "http://a b:80",
        "http://a\r\nb:80",
        "http://no-such-host.invalid:80",
    ],
)
async def test_a_url_that_makes_no_sense_or_names_nobody_fails_like_a_dead_peer(url: str) -> None:
    with trio.fail_after(PATIENCE):
        with pytest.raises(OSError) as failure:  # noqa: PT011 - the kind is what counts, and tested below
            await connect(url, 5)
    assert not isinstance(failure.value, ConnectionRefusedError)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "017700000001", "127.1", "0x7f.0.1", "0"])
async def test_an_address_in_disguise_is_not_called(host: str) -> None:
    async with greeting() as url:
        with pytest.raises(OSError, match="has the form"):
            await connect(url.replace("127.0.0.1", host), 5)


async def test_a_socket_connected_with_itself_counts_as_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the kernel does when it happens to choose the port asked for as the socket's own.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    plain = socket.socket.connect_ex

    def bound_first(self: socket.socket, to: tuple[str, int]) -> int:
        self.bind(address)
        return plain(self, to)

    monkeypatch.setattr(socket.socket, "connect_ex", bound_first)
    with pytest.raises(ConnectionRefusedError, match="itself"):
        await connect(f"http://127.0.0.1:{address[1]}", 5)


async def test_cancelling_a_connect_closes_its_socket() -> None:
    with black_hole() as url:
        with trio.move_on_after(0.05) as given_up:
            await connect(url, 60)
        assert given_up.cancelled_caught
    # A socket left open would be a ResourceWarning, and those are errors here.


async def test_the_connection_last_used_is_used_first_and_of_its_own_peer_only(pair: Pair) -> None:
    connections = pool()
    (first, _a), (second, _b), (other, _c) = pair(), pair(), pair("b")
    for each in (first, second, other):
        connections.keep(each)
    assert idle(connections) == 3
    assert [connections.kept("a"), connections.kept("a"), connections.kept("a")] == [second, first, None]
    assert connections.kept("b") is other


async def test_one_that_the_peer_closed_is_not_used_again(pair: Pair) -> None:
    connections = pool()
    (dead, theirs), (alive, _theirs) = pair(), pair()
    connections.keep(alive)
    connections.keep(dead)
    theirs.close()
    assert connections.kept("a") is alive


async def test_one_on_which_the_peer_said_something_unasked_is_not_used_again(pair: Pair) -> None:
    connections = pool()
    connection, theirs = pair()
    connections.keep(connection)
    theirs.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert connections.kept("a") is None


async def test_one_that_waited_too_long_is_closed_when_met(autojump_clock: MockClock, pair: Pair) -> None:
    connections = pool(idle_timeout=30)
    (old, theirs), (young, _theirs) = pair(), pair()
    connections.keep(old)
    await trio.sleep(29)
    connections.keep(young)
    await trio.sleep(2)
    assert connections.kept("a") is young
    assert not has_ended(theirs)
    assert connections.kept("a") is None
    assert has_ended(theirs)


async def test_those_of_a_peer_nobody_asks_any_more_are_closed_too(autojump_clock: MockClock, pair: Pair) -> None:
    connections = pool(idle_timeout=30)
    (forgotten, theirs), (other, _theirs) = pair("gone"), pair("b")
    connections.keep(forgotten)
    await trio.sleep(31)
    connections.keep(other)
    assert has_ended(theirs)
    assert idle(connections) == 1
    connections.close()


async def test_no_more_than_max_idle_are_kept_of_a_peer(pair: Pair) -> None:
    connections = pool(max_idle=2)
    pairs = [pair() for _ in range(3)]
    for connection, _ in pairs:
        connections.keep(connection)
    assert [has_ended(theirs) for _, theirs in pairs] == [False, False, True]
    connections.close()


async def test_after_the_close_nothing_waits_and_what_comes_back_is_closed(pair: Pair) -> None:
    connections = pool()
    (waiting, theirs), (late, late_theirs) = pair(), pair()
    connections.keep(waiting)
    connections.close()
    assert has_ended(theirs)
    connections.keep(late)
    assert has_ended(late_theirs)
    assert idle(connections) == 0


async def test_what_the_kernel_cannot_take_is_not_counted_as_sent(pair: Pair) -> None:
    connection, theirs = pair()
    size = 1 << 26
    sent = connection.send_now(bytes(size))
    assert 0 < sent < size
    while connection.send_now(bytes(1024)):
        pass
    theirs.close()
    with pytest.raises(OSError, match=r"pipe|reset"):
        connection.send_now(b"x")
