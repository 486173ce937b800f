"""Connections that go to and fro among four servers at random, with all that may happen to them meanwhile: each request is served once
or not at all, whoever was served has the answer, every end is heard, and nothing is left when all have gone."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

import pytest
import trio

from tests.rig.left_over import descriptors
from tests.rig.waiting import PATIENCE, until
from tests.transports.listener.harness import read_body
from trio_mcp.serving.workers import moves as moves_module
from trio_mcp.serving.workers.moves import Moves
from trio_mcp.streams.account import Account
from trio_mcp.transports.asgi import DISCONNECT_EXTENSION, MOVE_EXTENSION, Receive, Scope, Send
from trio_mcp.transports.listener import Limits, departure, parking, serve
from trio_mcp.transports.listener.parking import Parking
from trio_mcp.transports.listener.wire import RESET_ON_CLOSE

pytestmark = pytest.mark.sockets

WORKERS = 4
CLIENTS = 12
STEPS = 40
"""Of each client."""

_REQUEST: ContextVar[str] = ContextVar("request", default="")


@dataclass
class Node:
    """The workers that there are, and what was served by all that there were."""

    random: Random
    folder: Path
    listening: socket.socket
    most: int | None
    serving: dict[str, Worker] = field(default_factory=dict)
    ever: list[Worker] = field(default_factory=list)
    served: Counter[str] = field(default_factory=Counter)
    mixed: list[str] = field(default_factory=list)
    """Requests that saw a context variable of another one."""
    names: Iterator[int] = field(default_factory=count)

    async def start(self, nursery: trio.Nursery) -> None:
        worker = Worker(f"w{next(self.names)}", self)
        self.ever.append(worker)
        await nursery.start(worker.run)

    async def replace_one(self, nursery: trio.Nursery) -> None:
        """As when the node is rolled: the new one serves first."""
        old = self.random.choice(list(self.serving.values()))
        await self.start(nursery)
        del self.serving[old.name]
        old.moves.departing.set()
        await trio.sleep(self.random.random() / 100)
        old.stopping.set()
        with trio.fail_after(PATIENCE):
            await old.ended.wait()


@dataclass
class Worker:
    """One server. A request that names another goes there by what its head says, or by what the app finds."""

    name: str
    node: Node
    account: Account = field(default_factory=Account)
    stopping: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)
    parking: Parking | None = None
    moves: Moves = field(init=False)

    def __post_init__(self) -> None:
        url = f"unix:{self.node.folder}/{self.name}.http"
        self.moves = Moves(url, self._others, self._elsewhere, lambda: None)

    def _others(self) -> list[str]:
        return [each.moves.url for each in self.node.serving.values() if each is not self]

    def _elsewhere(self, name: str) -> str | None:
        owner = self.node.serving.get(name)
        return None if owner is None or owner is self else owner.moves.url

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.moves.run)
            listening = trio.SocketListener(trio.socket.from_stdlib_socket(self.node.listening.dup()))
            nursery.start_soon(self._serve, listening, task_status)
            await self.ended.wait()
            nursery.cancel_scope.cancel("it has stopped")

    async def _serve(self, listening: trio.SocketListener, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            limits = Limits(connections=self.node.most)
            given = {"limits": limits, "account": self.account, "mover": self.moves, "stopping": self.stopping}

            async def server(*, task_status: trio.TaskStatus[object]) -> None:
                await serve(self.app, [listening], task_status=task_status, **given)  # type: ignore[arg-type]

            await nursery.start(server)
            assert isinstance(self.moves._receiver, Parking)
            self.parking = self.moves._receiver
            self.node.serving[self.name] = self
            task_status.started()
        self.ended.set()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if body is None:
            return
        to, kind, number = scope["path"].strip("/").split("/")
        url = self._elsewhere(to)
        if _REQUEST.get():
            self.node.mixed.append(f"{number} saw {_REQUEST.get()}")
        _REQUEST.set(number)
        move = scope["extensions"].get(MOVE_EXTENSION)
        if url is not None and move is not None and move(body, url):
            return
        self.node.served[number] += 1
        for _ in range(self.node.random.choice((0, 0, 1, 3))):
            await trio.lowlevel.checkpoint()
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(number))]}
        )
        if kind == "tear":
            scope["extensions"][DISCONNECT_EXTENSION]["abort"]()
            return
        await send({"type": "http.response.body", "body": number.encode()})


class Client:
    """One connection after the other, each with requests that are sent singly or pipelined."""

    def __init__(self, node: Node, random: Random, numbers: Iterator[int]) -> None:
        self._node = node
        self._random = random
        self._numbers = numbers
        self._stream: trio.SocketStream | None = None
        self._unread = b""
        self.given_up: set[str] = set()
        """Requests of which the client did not wait for the answer."""
        self.answered: list[str] = []
        self.unanswered: list[str] = []
        """The server has closed the connection without an answer."""

    async def run(self) -> None:
        for _ in range(STEPS):
            await self._step()
        await self._close()

    async def _close(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()
        self._stream, self._unread = None, b""

    async def _step(self) -> None:
        random = self._random
        if self._stream is None:
            host, port = self._node.listening.getsockname()
            self._stream = await trio.open_tcp_stream(host, port)
        kinds = [
            random.choices(("echo", "close", "tear"), (30, 1, 1))[0] for _ in range(random.choice((1, 1, 1, 2, 5)))
        ]
        numbers = [str(next(self._numbers)) for _ in kinds]
        data = b"".join(self._request(kind, number) for kind, number in zip(kinds, numbers, strict=True))
        how = random.choices(("read", "half", "leave", "reset"), (40, 1, 1, 1))[0]
        with suppress(trio.BrokenResourceError):
            # In pieces now and then, so that a connection goes in the middle of a request.
            cut = random.choice((len(data), random.randrange(len(data))))
            await self._stream.send_all(data[:cut])
            if cut < len(data):
                await trio.sleep(random.choice((0, 0.002)))
                await self._stream.send_all(data[cut:])
            if how == "half":
                await self._stream.send_eof()
        if how in ("leave", "reset"):
            self.given_up.update(numbers)
            await trio.sleep(random.choice((0, 0.002)))
            if how == "reset":
                self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            await self._close()
            return
        if await self._read(kinds, numbers) and how == "read":
            await trio.sleep(random.choice((0, 0, 0, 0.01)))
        else:
            await self._close()

    def _request(self, kind: str, number: str) -> bytes:
        random = self._random
        to = random.choice(list(self._node.serving))
        head = [f"POST /{to}/{kind}/{number} HTTP/1.1", "host: x"]
        if random.random() < 0.5:
            head.append(f"mcp-session-id: {to}")
        if kind == "close":
            head.append("connection: close")
        body = b"x" * random.choices((0, 10, 3000, 100_000), (10, 10, 5, 1))[0]
        return "\r\n".join([*head, f"content-length: {len(body)}", "", ""]).encode() + body

    async def _read(self, kinds: list[str], numbers: list[str]) -> bool:
        """Read the answers; whether the connection goes on after that."""
        for at, kind in enumerate(kinds):
            answer = await self._answer()
            if answer is None:
                # What was behind the one that ended the connection is not served.
                if kind == "tear":
                    self.given_up.add(numbers[at])
                    at += 1
                self.unanswered += numbers[at:]
                return False
            if answer == "503":
                self.unanswered += numbers[at:]
                return False
            assert answer == numbers[at], "answers are in order"
            self.answered.append(answer)
        return True

    async def _answer(self) -> str | None:
        """The body of the next response; None at the end."""
        assert self._stream is not None
        with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
            while b"\r\n\r\n" not in self._unread:
                if not await self._receive():
                    return None
            head, _, self._unread = self._unread.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            while len(self._unread) < length:
                if not await self._receive():
                    return None
            body, self._unread = self._unread[:length].decode(), self._unread[length:]
            return "503" if b" 503 " in head[:20] else body
        return None

    async def _receive(self) -> bytes:
        assert self._stream is not None
        data = await self._stream.receive_some()
        self._unread += data
        return bytes(data)


def loses_some(random: Random) -> object:
    """In the place of `_socket_in`: as a process that can open no more descriptors now and then."""
    receive = moves_module._socket_in

    def receive_or_not(extra: list[tuple[int, int, bytes]]) -> socket.socket | None:
        connected = receive(extra)
        if connected is None or random.random() > 0.05:
            return connected
        os.close(connected.detach())
        return None

    return receive_or_not


@pytest.mark.parametrize("rolls", [False, True], ids=["the same workers", "workers are replaced"])
@pytest.mark.parametrize("full", [False, True], ids=["room for all", "workers are full"])
@pytest.mark.parametrize("long", [False, True], ids=["parked for a moment", "parked for an hour"])
async def test_what_moves_at_random(
    tmp_path: Path, rolls: bool, full: bool, long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "3"))
    """Set by hand, to look for more."""
    random = Random(seed)
    monkeypatch.setattr(parking, "PARKED_SECONDS", 3600 if long else 0.01)
    monkeypatch.setattr(departure, "TRUSTED_SECONDS", 3600 if long else 0.02)
    monkeypatch.setattr(moves_module, "HEAR_SECONDS", random.choice((0.001, 0.02)))
    monkeypatch.setattr(moves_module, "_socket_in", loses_some(random))
    before = descriptors()
    numbers = count(10_000)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        node = Node(random, tmp_path, listening, most=CLIENTS // 2 if full else None)
        clients = [Client(node, Random(f"{seed} {number}"), numbers) for number in range(CLIENTS)]
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                await node.start(nursery)

            asked = trio.Event()

            async def roll() -> None:
                while not asked.is_set():
                    await node.replace_one(nursery)

            async with trio.open_nursery() as replacing:
                if rolls:
                    replacing.start_soon(roll)
                async with trio.open_nursery() as asking:
                    for client in clients:
                        asking.start_soon(client.run)
                asked.set()

            async def nothing_is_left() -> bool:
                living = [each.parking for each in node.ever if each.parking is not None]
                return all(each._opened._count == 0 and not each._parked for each in living)

            await until(nothing_is_left, "no connection is counted or parked")
            for worker in node.serving.values():
                assert worker.account.used == 0
                worker.stopping.set()
                with trio.fail_after(PATIENCE):
                    await worker.ended.wait()
    assert not node.mixed
    given_up = {number for client in clients for number in client.given_up}
    assert not [number for number, times in node.served.items() if times > 1], "no request is served twice"
    answered = [number for client in clients for number in client.answered]
    unanswered = [number for client in clients for number in client.unanswered]
    assert not [number for number in unanswered if node.served[number]], "what was served was answered"
    assert {*answered} == {*node.served} - given_up
    assert descriptors() == before
