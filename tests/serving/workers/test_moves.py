"""Connections that go from one worker to another: two servers in one process, real sockets between them."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import trio

from tests.rig.left_over import descriptors
from tests.rig.waiting import PATIENCE, until
from tests.transports.listener.harness import read_body
from trio_mcp.serving.workers import moves as moves_module
from trio_mcp.serving.workers.moves import MOST_UNANSWERED, Moves
from trio_mcp.streams.account import Account
from trio_mcp.transports.asgi import DISCONNECT_EXTENSION, MOVE_EXTENSION, Receive, Scope, Send
from trio_mcp.transports.listener import Limits, Listener, departure, parking, serve
from trio_mcp.transports.listener.connection import Connection
from trio_mcp.transports.listener.eviction import IdleConnections
from trio_mcp.transports.listener.moving import MOST_BYTES, Moved

pytestmark = pytest.mark.sockets

_VARIABLE: ContextVar[str] = ContextVar("variable", default="unset")


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
    ends: tuple[object, object] | None = None
    """The addresses of the client and of the server of the last request."""
    ended: trio.Event = field(default_factory=trio.Event)
    """Set when it serves no more."""
    took: int = 0
    """Connections that came from the other."""
    found: list[str] = field(default_factory=list)
    """The context variable as each request found it, before it set it and when it had waited."""
    moves: Moves = field(init=False)

    def __post_init__(self) -> None:
        self.moves = Moves(
            self.url, lambda: [each.url for each in self.others.values() if each is not self], self._known, self._count
        )

    def _count(self) -> None:
        self.took += 1

    def _known(self, session: str) -> str | None:
        """The sessions that everybody knows have the names of their workers."""
        return None if session == self.name else self.others[session].url

    @property
    def url(self) -> str:
        return f"unix:{self.folder}/{self.name}.http"

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if body is None:
            return
        path = scope["path"].strip("/")
        owner = self.others["b" if self.name == "a" else "a"] if path == "other" else self.others.get(path)
        if owner is not None and owner is not self:
            move = scope["extensions"].get(MOVE_EXTENSION)
            if move is not None and move(body, owner.url):
                _VARIABLE.set("set by a request that went on")
                if scope["query_string"] == b"raise":
                    raise ValueError("raised by what is around the app")
                return
        self.seen.append(scope["path"])
        self.ends = scope["client"], scope["server"]
        self.found.append(_VARIABLE.get())
        _VARIABLE.set("set")
        if scope["path"] == "/hold":
            self.holds.set()
            await self.held.wait()
        if scope["path"] == "/tear":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            scope["extensions"][DISCONNECT_EXTENSION]["abort"]()
            return
        self.found.append(_VARIABLE.get())
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


async def run(worker: Worker, listeners: list[Listener], *, task_status: trio.TaskStatus[Sequence[Listener]]) -> None:
    """Serve until it is told to stop."""
    await serve(
        worker.app,
        listeners,
        limits=Limits(body_bytes=1 << 20),
        account=worker.account,
        mover=worker.moves,
        stopping=worker.stopping,
        task_status=task_status,
    )
    worker.ended.set()


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    workers: dict[str, Worker] = {}
    workers["a"], workers["b"] = Worker("a", tmp_path, workers), Worker("b", tmp_path, workers)
    (listening,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        for worker in workers.values():
            await nursery.start(worker.moves.run)
            listeners: list[Listener] = [listening] if worker.name == "a" else []
            await nursery.start(run, worker, listeners)
        yield Pair(workers["a"], workers["b"], listening, nursery)
        nursery.cancel_scope.cancel("the test is over")


async def test_a_connection_goes_with_its_request_and_is_served_there_from_then_on(pair: Pair) -> None:
    async with pair.client() as client:
        assert await client.ask("here") == "a 0"
        assert await client.ask("b", b"x" * 1000) == "b 1000"
        assert await client.ask("here") == "b 0", "the next request does not reach the first worker any more"
        assert (pair.a.took, pair.b.took) == (0, 1)
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


async def test_a_connection_goes_as_often_as_its_requests_do(pair: Pair) -> None:
    async with pair.client() as client:
        assert [(await client.ask("ba"[number % 2]))[0] for number in range(20)] == ["b", "a"] * 10


async def test_a_request_goes_once_also_where_each_worker_takes_the_other_for_the_right_one(pair: Pair) -> None:
    async with pair.client() as client:
        assert [(await client.ask("other"))[0] for _ in range(4)] == ["b", "a", "b", "a"]
        for _ in range(4):
            await client.send("other")
        assert [(await client.answer())[0] for _ in range(4)] == ["b", "a", "b", "a"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"hello", ()),
        (b"x" * 2 * MOST_BYTES, ()),
        (b"5\r\nhello\r\n0\r\n\r\n", ("transfer-encoding: chunked",)),
        (b"hello", ("expect: 100-continue",)),
    ],
    ids=["small", "large", "without a length", "waits for a 100"],
)
async def test_a_connection_goes_before_its_request_is_read_where_the_head_names_a_session_that_is_known(
    pair: Pair, body: bytes, headers: tuple[str, ...]
) -> None:
    length = 5 if headers[:1] == ("transfer-encoding: chunked",) else len(body)
    async with pair.client() as client:
        assert await client.ask("here", body, "Mcp-Session-Id: b", *headers) == f"b {length}"
        assert await client.ask("here", body, *headers, "mcp-session-id: a") == f"a {length}"
        assert await client.ask("here", body, "MCP-SESSION-ID: b", *headers) == f"a {length}", (
            "it is not looked for in all ways to write it"
        )
        assert pair.a.seen == ["/here"] * 2


async def test_one_that_is_not_taken_is_answered_here(pair: Pair) -> None:
    pair.b.moves.departing.set()
    async with pair.client() as client:
        assert await client.ask("b") == "a 0"
    assert pair.b.took == 0


async def test_one_whose_worker_is_gone_is_answered_here(pair: Pair) -> None:
    os.unlink(pair.b.moves._path)
    async with pair.client() as client:
        assert await client.ask("b") == "a 0"


@pytest.fixture
def in_the_place_of_b(pair: Pair) -> Iterator[socket.socket]:
    """Where a process listens that answers moves as the test says."""
    os.unlink(pair.b.moves._path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(pair.b.moves._path)
        listening.listen()
        yield listening


def take(line: socket.socket) -> bytes:
    """The request of the next move; the connection that comes with it is closed here."""
    data, descriptors, _, _ = socket.recv_fds(line, 4096, 1)
    for each in descriptors:
        os.close(each)
    return msgspec.msgpack.decode(data, type=Moved).first


def move_of(request: bytes) -> bytes:
    """A move, as it is sent."""
    return msgspec.msgpack.encode(Moved(request, None, None, 1, {}))


async def test_a_worker_that_ends_before_it_has_answered_has_taken_nothing(
    pair: Pair, in_the_place_of_b: socket.socket
) -> None:
    """It has answered the first move, read the second and not the third."""
    async with pair.client() as first, pair.client() as second, pair.client() as third, trio.open_nursery() as nursery:
        answers: dict[Client, str] = {}

        async def ask(client: Client) -> None:
            answers[client] = await client.ask("b")

        for client in (first, second, third):
            nursery.start_soon(ask, client)
            await trio.testing.wait_all_tasks_blocked()
        with in_the_place_of_b.accept()[0] as line:
            assert take(line).startswith(b"POST /b ")
            line.send(b"\x01")
            assert take(line)
    assert answers == {first: "", second: "a 0", third: "a 0"}


async def test_a_worker_that_does_not_answer_is_waited_for_for_it_may_have_taken_the_connection(
    pair: Pair, in_the_place_of_b: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    async with pair.client() as client:
        with trio.move_on_after(20):
            await client.ask("b")
            raise AssertionError("it was answered")
        in_the_place_of_b.close()
        assert await client.answer() == "a 0"


async def test_requests_are_answered_here_where_a_worker_has_many_moves_to_answer(
    pair: Pair, in_the_place_of_b: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves_module, "MOST_UNANSWERED", 1)
    async with pair.client() as client, pair.client() as other:
        await client.send("b")
        await trio.testing.wait_all_tasks_blocked()
        assert await other.ask("b") == "a 0"


async def test_a_move_without_its_connection_is_not_taken(pair: Pair) -> None:
    """The kernel leaves it out where a process can open no more descriptors."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(pair.b.moves._path)
        line.send(move_of(b"POST /here HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"))
        assert await trio.to_thread.run_sync(line.recv, 10) == b"\0"
    assert pair.b.seen == []
    async with pair.client() as client:
        assert await client.ask("b") == "b 0", "the worker takes others"


async def test_what_is_no_connection_ends_the_way_it_came_and_stays_open_nowhere(pair: Pair) -> None:
    reading, writing = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(pair.b.moves._path)
        socket.send_fds(line, [move_of(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")], [reading])
        os.close(reading)
        assert await trio.to_thread.run_sync(line.recv, 10) == b""
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"nobody has the other end")
    os.close(writing)
    async with pair.client() as client:
        assert await client.ask("b") == "b 0", "the worker takes others"


async def test_a_move_that_cannot_be_read_ends_the_way_it_came_and_its_connection(pair: Pair) -> None:
    ours, sent = socket.socketpair()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line, ours:
        line.connect(pair.b.moves._path)
        socket.send_fds(line, [b"no move"], [sent.fileno()])
        sent.close()
        assert await trio.to_thread.run_sync(line.recv, 10) == b""
        assert await trio.to_thread.run_sync(ours.recv, 10) == b""
    async with pair.client() as client:
        assert await client.ask("b") == "b 0", "the worker takes others"


async def test_the_addresses_of_a_connection_go_along(pair: Pair) -> None:
    async with pair.client() as client:
        ends = client.stream.socket.getsockname(), client.stream.socket.getpeername()
        for to in "aba":
            await client.ask(to)
            assert pair.a.others[to].ends == ends


async def test_a_request_that_came_with_its_connection_has_context_variables_of_its_own(pair: Pair) -> None:
    pair.b.held.set()
    async with pair.client() as client:
        for _ in range(2):
            assert await client.ask("hold", b"", "mcp-session-id: b") == "b 0"
    assert pair.b.found == ["unset", "set"] * 2


async def test_a_client_sees_the_end_at_once_while_the_worker_before_still_has_the_connection(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves_module, "HEAR_SECONDS", 3600)
    async with pair.client() as client:
        assert await client.ask("b", b"", "connection: close") == "b 0"
        with trio.fail_after(PATIENCE):
            assert await client.answer() == ""
        assert any(line.unanswered for line in pair.a.moves._lines.values()), "its answer was not looked at"


@pytest.fixture
def parked_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is released because of the time that has gone by."""
    monkeypatch.setattr(parking, "PARKED_SECONDS", 3600)
    monkeypatch.setattr(departure, "TRUSTED_SECONDS", 3600)


def parking_of(worker: Worker) -> parking.Parking:
    receiver = worker.moves._receiver
    assert isinstance(receiver, parking.Parking)
    return receiver


async def to_and_fro(client: Client) -> None:
    """From now on the connection is parked where it is not."""
    for to in "baba":
        assert await client.ask(to) == f"{to} 0"


async def test_a_connection_that_goes_to_and_fro_is_parked_where_it_is_not_and_makes_nothing_anew(
    pair: Pair, parked_for_an_hour: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves_module, "HEAR_SECONDS", 0)
    async with pair.client() as client:
        await to_and_fro(client)
        await trio.testing.wait_all_tasks_blocked(0.01)
        before = descriptors(), trio.lowlevel.current_statistics().tasks_living
        monkeypatch.setattr(
            moves_module, "_socket_in", lambda extra: pytest.fail("a descriptor came") if extra else None
        )
        for to in "ba" * 10:
            assert await client.ask(to, b"", "mcp-session-id: " + to) == f"{to} 0"
        monkeypatch.undo()
        assert pair.a.found == pair.b.found == ["unset", "set"] * 12, "what a request has set is not there for the next"
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert (descriptors(), trio.lowlevel.current_statistics().tasks_living) == before


async def test_a_client_sees_the_end_while_its_connection_is_parked_elsewhere(
    pair: Pair, parked_for_an_hour: None
) -> None:
    async def is_released() -> bool:
        return not any(parking_of(each)._parked for each in (pair.a, pair.b))

    async with pair.client() as client:
        await to_and_fro(client)
        assert await client.ask("b", b"", "connection: close") == "b 0"
        with trio.fail_after(PATIENCE):
            assert await client.answer() == ""
        await until(is_released, "no descriptor of it is left, and the client has not closed its own")


async def test_a_connection_that_is_parked_elsewhere_is_reset_when_its_response_is_cut_short(
    pair: Pair, parked_for_an_hour: None
) -> None:
    async with pair.client() as client:
        await to_and_fro(client)
        await client.ask("b")
        await client.send("tear")
        with pytest.raises(trio.BrokenResourceError):
            await client.answer()


async def test_a_connection_ends_with_the_worker_that_serves_it_where_another_has_it_parked(
    pair: Pair, in_the_place_of_b: socket.socket, parked_for_an_hour: None
) -> None:
    """The kernel sends the end when the last descriptor is closed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as to_a, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        async with await trio.open_tcp_stream(*listening.getsockname()) as stream:
            accepted, _ = listening.accept()
            to_a.connect(pair.a.moves._path)
            socket.send_fds(to_a, [move_of(b"")], [accepted.fileno()])
            accepted.close()
            client = Client(stream)
            await client.send("b")
            await trio.testing.wait_all_tasks_blocked(0.01)
            line, _ = in_the_place_of_b.accept()
            request, taken, _, _ = socket.recv_fds(line, 4096, 1)
            assert list(msgspec.msgpack.decode(request, type=Moved).parked) == [pair.a.url]
            line.send(b"\x01")
            await trio.testing.wait_all_tasks_blocked(0.01)
            os.close(taken[0])
            line.close()
            with trio.fail_after(PATIENCE):
                assert await client.answer() == ""


async def test_a_client_sees_the_end_of_a_connection_that_was_sent_in_vain_before(
    pair: Pair, parked_for_an_hour: None
) -> None:
    """It was accepted where it ends, and is parked where it went later."""
    receiver = pair.b.moves._receiver
    pair.b.moves.serve_with(None)
    async with pair.client() as client:
        assert await client.ask("b") == "a 0"
        pair.b.moves.serve_with(receiver)
        await to_and_fro(client)
        assert await client.ask("a", b"", "connection: close") == "a 0"
        with trio.fail_after(PATIENCE):
            assert await client.answer() == ""


@pytest.mark.parametrize(("taken", "answer"), [(True, "b 0"), (False, "")], ids=["taken", "not taken"])
async def test_an_error_after_a_move_sends_nothing_and_the_connection_is_not_counted_any_more(
    pair: Pair, taken: bool, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    if not taken:
        pair.b.moves.departing.set()
    async with pair.client() as client:
        assert await client.ask("b?raise") == answer
        assert "raised by what is around the app" in caplog.text
    await until(nothing_is_counted(pair), "no connection is counted")


def nothing_is_counted(pair: Pair) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        await trio.testing.wait_all_tasks_blocked(0.1)
        return all(parking_of(each)._opened._count == 0 for each in (pair.a, pair.b))

    return is_so


async def test_a_request_that_has_come_to_a_connection_that_is_being_closed_is_answered_here(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere the end of what can be read would be taken for that of the client, and the request would be cancelled."""
    idle: list[Connection] = []
    monkeypatch.setattr(IdleConnections, "add", lambda self, connection: idle.append(connection))
    async with pair.client() as client:
        assert await client.ask("here") == "a 0"
        await trio.testing.wait_all_tasks_blocked()
        os.write(client.stream.socket.fileno(), b"POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        idle[-1].dismiss()
        assert await client.answer() == "a 0"
        assert await client.answer() == ""


async def test_a_worker_that_was_sent_a_connection_it_has_not_parked_sends_it_back(
    pair: Pair, parked_for_an_hour: None
) -> None:
    async with pair.client() as client:
        await to_and_fro(client)
        parking_of(pair.b).release_parked()
        assert await client.ask("b") == "a 0"
        assert await client.ask("b") == "b 0"


async def test_a_worker_that_stops_does_not_wait_for_connections_that_are_served_elsewhere(
    pair: Pair, parked_for_an_hour: None
) -> None:
    async with pair.client() as client:
        await to_and_fro(client)
        assert await client.ask("b") == "b 0"
        pair.a.stopping.set()
        await pair.a.ended.wait()
        assert await client.ask("here") == "b 0"
        assert await client.ask("a") == "b 0", "it is not taken back"


async def test_many_answers_are_looked_at_before_their_time(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves_module, "HEAR_SECONDS", 3600)
    monkeypatch.setattr(moves_module, "MANY_UNANSWERED", 2)
    async with pair.client() as client:
        assert [(await client.ask("ba"[number % 2]))[0] for number in range(2 * MOST_UNANSWERED + 20)] == ["b", "a"] * (
            MOST_UNANSWERED + 10
        )


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
    moves = Moves(f"unix:{tmp_path}/b1.http", list, lambda session: None, lambda: None)
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
async def test_ten_thousand_moved_connections_leave_nothing_behind(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "PARKED_SECONDS", 0.05)

    async def left_over() -> tuple[int, int]:
        await trio.testing.wait_all_tasks_blocked()
        return descriptors(), trio.lowlevel.current_statistics().tasks_living

    async def move_some(count: int) -> None:
        for _ in range(count):
            async with pair.client() as client:
                for to in "ba":
                    assert await client.ask(to, b"x" * 2000) == f"{to} 2000"

    async def is_as_before() -> bool | None:
        return await left_over() == before or None

    open_before, living_before = await left_over()
    # The way from each worker to the other has a socket at both ends, and a task where connections come.
    before = open_before + 4, living_before + 2
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(move_some, 200)
    await until(is_as_before, "what moved connections have left behind is gone")
    assert pair.a.account.used == pair.b.account.used == 0
