"""Connections that go from one worker to another: two servers in one process, real sockets between them."""

from __future__ import annotations

import os
import socket
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.rig.left_over import descriptors
from tests.rig.waiting import PATIENCE
from trio_mcp.serving.workers import moves as moves_module
from trio_mcp.serving.workers.moves import Moves
from trio_mcp.streams.account import Account
from trio_mcp.transports.asgi import MOVE_EXTENSION, Message, Receive, Scope, Send
from trio_mcp.transports.listener import Limits, Listener, serve
from trio_mcp.transports.listener.moving import MOST_BYTES, MOST_MOVES

pytestmark = pytest.mark.sockets


@dataclass
class Worker:
    """One server. It moves connections whose requests name the other, and else says who answers, and what it was sent."""

    name: str
    folder: Path
    others: dict[str, Worker]
    account: Account = field(default_factory=Account)
    stopping: trio.Event = field(default_factory=trio.Event)
    held: trio.Event = field(default_factory=trio.Event)
    """Set to have `/hold` answered."""
    holds: trio.Event = field(default_factory=trio.Event)
    seen: list[str] = field(default_factory=list)
    moves: Moves = field(init=False)

    def __post_init__(self) -> None:
        self.moves = Moves(self.url, lambda: [each.url for each in self.others.values() if each is not self])

    @property
    def url(self) -> str:
        return f"unix:{self.folder}/{self.name}.http"

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        message: Message = {"more_body": True}
        body = b""
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        owner = self.others.get(scope["path"].strip("/"))
        if owner is not None and owner is not self:
            move = scope["extensions"].get(MOVE_EXTENSION)
            if move is not None and await move(body, owner.url):
                return
        self.seen.append(scope["path"])
        if scope["path"] == "/hold":
            self.holds.set()
            await self.held.wait()
        said = f"{self.name} {len(body)}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
        await send({"type": "http.response.body", "body": said})


class Client:
    """One connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.unread = b""

    async def send(self, path: str, body: bytes = b"", *headers: str) -> None:
        length = () if any("transfer-encoding" in header for header in headers) else (f"content-length: {len(body)}",)
        head = "\r\n".join([f"POST /{path} HTTP/1.1", "host: x", *length, *headers, "", ""])
        await self.stream.send_all(head.encode() + body)

    async def answer(self) -> str:
        """The body of the next response; "" at the end."""
        while b"\r\n\r\n" not in self.unread:
            data = await self.stream.receive_some()
            if not data:
                return ""
            self.unread += data
        head, _, rest = self.unread.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100"):
            self.unread = rest
            return await self.answer()
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(rest) < length:
            rest += await self.stream.receive_some()
        self.unread = rest[length:]
        return rest[:length].decode()

    async def ask(self, path: str, body: bytes = b"", *headers: str) -> str:
        await self.send(path, body, *headers)
        return await self.answer()


@dataclass
class Pair:
    a: Worker
    b: Worker
    listening: trio.SocketListener
    nursery: trio.Nursery

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A connection to `a`."""
        host, port = self.listening.socket.getsockname()
        async with await trio.open_tcp_stream(host, port) as stream:
            yield Client(stream)


@pytest.fixture
async def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    # A busy machine is not a worker that answers nobody.
    monkeypatch.setattr(moves_module, "MOVE_SECONDS", PATIENCE)
    workers: dict[str, Worker] = {}
    workers["a"], workers["b"] = Worker("a", tmp_path, workers), Worker("b", tmp_path, workers)
    (listening,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        for worker in workers.values():
            await nursery.start(worker.moves.run)
            listeners: list[Listener] = [worker.moves, *([listening] if worker.name == "a" else [])]
            run = partial(
                serve,
                limits=Limits(body_bytes=1 << 20),
                account=worker.account,
                mover=worker.moves,
                stopping=worker.stopping,
            )
            await nursery.start(run, worker.app, listeners)
        yield Pair(workers["a"], workers["b"], listening, nursery)
        nursery.cancel_scope.cancel("the test is over")


async def test_a_connection_goes_with_its_request_and_is_served_there_from_then_on(pair: Pair) -> None:
    async with pair.client() as client:
        assert await client.ask("here") == "a 0"
        assert await client.ask("b", b"x" * 1000) == "b 1000"
        assert await client.ask("here") == "b 0", "the next request does not reach the first worker any more"
        assert pair.a.seen == ["/here"]


async def test_what_is_pipelined_behind_the_request_goes_along_in_order(pair: Pair) -> None:
    async with pair.client() as client:
        for body in (b"1", b"22", b"333", b"4444"):
            await client.send("b", body)
        assert [await client.answer() for _ in range(4)] == ["b 1", "b 2", "b 3", "b 4"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"x" * MOST_BYTES, ()),
        (b"5\r\nhello\r\n0\r\n\r\n", ("transfer-encoding: chunked",)),
        (b"hello", ("expect: 100-continue",)),
    ],
    ids=["too large", "without a length", "waits for a 100"],
)
async def test_a_request_that_cannot_be_sent_again_as_it_came_is_answered_here(
    pair: Pair, body: bytes, headers: tuple[str, ...]
) -> None:
    async with pair.client() as client:
        assert (await client.ask("b", body, *headers)).startswith("a ")
        assert await client.ask("b") == "b 0", "the connection goes with a later request"


async def test_a_connection_that_has_moved_often_stays(pair: Pair) -> None:
    async with pair.client() as client:
        answers = [(await client.ask("ba"[number % 2]))[0] for number in range(MOST_MOVES + 3)]
        assert answers[:MOST_MOVES] == ["b", "a"] * (MOST_MOVES // 2)
        assert set(answers[MOST_MOVES:]) == {answers[MOST_MOVES - 1]}


async def test_one_that_is_not_taken_is_answered_here(pair: Pair) -> None:
    pair.b.moves.departing.set()
    async with pair.client() as client:
        assert await client.ask("b") == "a 0"


async def test_one_whose_worker_is_gone_is_answered_here(pair: Pair) -> None:
    os.unlink(pair.b.moves._path)
    async with pair.client() as client:
        assert await client.ask("b") == "a 0"


@pytest.fixture
def answers_nobody(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A process in the place of `b` that takes the bytes, and says nothing."""
    monkeypatch.setattr(moves_module, "MOVE_SECONDS", 0.05)
    os.unlink(pair.b.moves._path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(pair.b.moves._path)
        listening.listen()
        yield listening


async def test_a_worker_that_does_not_answer_is_not_waited_for(pair: Pair, answers_nobody: socket.socket) -> None:
    async with pair.client() as client:
        assert await client.ask("b") == "a 0"


async def test_a_worker_that_ends_before_it_has_said_yes_has_taken_nothing(
    pair: Pair, answers_nobody: socket.socket
) -> None:
    async def dies() -> None:
        taken, _ = await trio.to_thread.run_sync(answers_nobody.accept)
        taken.close()

    async with pair.client() as client, trio.open_nursery() as nursery:
        nursery.start_soon(dies)
        assert await client.ask("b") == "a 0"


async def test_a_sender_that_ends_before_it_has_confirmed_leaves_the_connection_unserved(pair: Pair) -> None:
    """It may have answered the request itself: served here as well, it would run twice."""
    ours, its = socket.socketpair()
    with ours, its, trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sender:
        await sender.connect(pair.b.moves._path)
        request = b"POST /here HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
        frame = len(request).to_bytes(4) + (1).to_bytes(2) + request
        its_number = array("i", [its.fileno()])
        await sender.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, its_number)])
        assert await sender.recv(1) == b"\x01"
        sender.close()
        its.close()
        # The other end is closed once nobody has it any more.
        assert await trio.to_thread.run_sync(ours.recv, 1) == b""
    assert pair.b.seen == []
    async with pair.client() as client:
        assert await client.ask("b") == "b 0", "the worker takes others"


async def test_when_a_worker_is_replaced_its_idle_connections_go_at_once(pair: Pair) -> None:
    async with pair.client() as client, pair.client() as fresh:
        assert await client.ask("here") == "a 0"
        await trio.testing.wait_all_tasks_blocked()
        pair.a.moves.departing.set()
        await trio.testing.wait_all_tasks_blocked()
        pair.a.stopping.set()
        assert await client.ask("here") == "b 0"
        assert await fresh.ask("here") == "b 0"


def test_the_connections_by_which_other_workers_relay_stay(tmp_path: Path) -> None:
    """They are not clients': taken elsewhere, what is relayed on them would reach a worker that does not have the session."""
    moves = Moves(f"unix:{tmp_path}/b1.http", list)
    assert not moves.takes_from((f"{tmp_path}/b1.http", None))
    assert moves.takes_from((f"{tmp_path}/node.sock", None))
    assert moves.takes_from(("127.0.0.1", 8000))
    assert moves.takes_from(None)


async def test_a_connection_with_a_running_request_goes_after_its_response(pair: Pair) -> None:
    async with pair.client() as client:
        await client.send("hold")
        await client.send("here")
        await pair.a.holds.wait()
        pair.a.moves.departing.set()
        pair.a.held.set()
        assert [await client.answer(), await client.answer()] == ["a 0", "b 0"]


@pytest.mark.slow
async def test_moved_connections_leave_nothing_behind(pair: Pair) -> None:
    async def move_some(count: int) -> None:
        for _ in range(count):
            async with pair.client() as client:
                assert await client.ask("b", b"x" * 2000) == "b 2000"

    await move_some(10)
    await trio.testing.wait_all_tasks_blocked()
    before = descriptors(), trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(move_some, 40)
    await trio.testing.wait_all_tasks_blocked()
    now = descriptors(), trio.lowlevel.current_statistics().tasks_living
    # Some connections between the workers are kept for the next move, each with a task that waits.
    assert now[0] - before[0] <= 2 * moves_module.MOST_KEPT
    assert now[1] - before[1] <= moves_module.MOST_KEPT
    assert pair.a.account.used == pair.b.account.used == 0
    assert pair.b.moves._pending == 0
