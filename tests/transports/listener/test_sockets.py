"""What only real sockets show. Time is real here, so the limits are short."""

from __future__ import annotations

import contextvars
import errno
import http.client
import logging
import os
import resource
import socket
import stat
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import open_stream_to_socket_listener, wait_all_tasks_blocked

from tests.rig.waiting import PATIENCE
from tests.transports.listener.harness import answers, echo, get, post, read_body, register_of, reply, statuses
from trio_mcp.transports.listener import (
    ASGIApp,
    ClientDisconnected,
    Limits,
    Receive,
    Scope,
    Send,
    open_listeners,
    serve,
)
from trio_mcp.transports.listener import server as server_module
from trio_mcp.transports.listener.connection import Connection, Shared
from trio_mcp.transports.listener.eviction import IdleConnections, Lingering
from trio_mcp.transports.listener.wire import Hangups, SocketWire, server_of

pytestmark = pytest.mark.sockets

epoll_only = pytest.mark.parametrize("way", ["epoll"], indirect=True)
"""A promise made for Linux alone."""


@pytest.fixture(params=["epoll", "streams"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to serve a socket, so that Linux tests what other systems use."""
    way: str = request.param
    if way == "epoll" and sys.platform != "linux":
        pytest.skip("no epoll here")
    monkeypatch.setattr("trio_mcp.transports.listener.server.HAS_EPOLL", way == "epoll")
    return way


class Server:
    def __init__(self, listeners: list[trio.SocketListener], stopping: trio.Event) -> None:
        self.listeners = listeners
        self.stopping = stopping
        self.stopped = trio.Event()

    async def connect(self) -> trio.SocketStream:
        return await open_stream_to_socket_listener(self.listeners[0])


@asynccontextmanager
async def serving(app: ASGIApp, limits: Limits | None = None, bind: str = "127.0.0.1:0") -> AsyncIterator[Server]:
    server = Server(await open_listeners([bind]), trio.Event())

    async def run(*, task_status: trio.TaskStatus[object]) -> None:
        await serve(app, server.listeners, limits=limits or Limits(), stopping=server.stopping, task_status=task_status)
        server.stopped.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield server
            nursery.cancel_scope.cancel("the test is over")


async def hear(client: trio.SocketStream, *, until: bytes = b"") -> bytes:
    """Everything until the end, or until `until` has come; a reset is an end."""
    heard = b""
    try:
        while not until or until not in heard:
            data = await client.receive_some()
            if not data:
                break
            heard += data
    except trio.BrokenResourceError:
        pass
    return heard


def reset(client: trio.SocketStream) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


async def test_a_request_over_tcp() -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    async with serving(app) as server:
        async with await server.connect() as client:
            await client.send_all(get() + post(b"abc", "Connection: close"))
            assert [answer.body for answer in answers(await hear(client))] == [b"GET / ", b"POST / abc"]
            assert scopes[0]["client"] == client.socket.getsockname()
            assert scopes[0]["server"] == client.socket.getpeername()


async def test_a_large_body_both_ways() -> None:
    body = bytes(range(256)) * 12000
    async with serving(echo) as server:
        async with await server.connect() as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, post(body, "Connection: close"))
            (answer,) = answers(await hear(client), ["POST"])
    assert answer.body == b"POST / " + body


async def test_what_an_app_sets_does_not_reach_the_next_request_of_the_connection() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        before = user.get()
        user.set("somebody")
        await reply(send, before.encode())

    async with serving(app) as server:
        async with await server.connect() as client:
            for _ in range(3):
                await client.send_all(get())
                assert (await hear(client, until=b"body")).endswith(b"nobody")


async def waits_for_its_client(scope: Scope, receive: Receive, send: Send) -> None:
    """Streams one piece; when the client goes, says so through the app's own state."""
    gone = trio.Event()
    register_of(scope)(gone.set)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await gone.wait()
    scope["state"].set()


@pytest.mark.parametrize("leave", ["close", "reset", "half-close", "close with unread bytes", "reset after pipelining"])
async def test_a_client_that_leaves_is_noticed_while_its_exchange_runs(leave: str) -> None:
    noticed = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = noticed
        await waits_for_its_client(scope, receive, send)

    async with serving(app) as server:
        client = await server.connect()
        await client.send_all(get())
        await hear(client, until=b"begun")
        if "pipelining" in leave or "unread" in leave:
            await client.send_all(get() * 10)
        if leave == "half-close":
            await client.send_eof()
        elif "reset" in leave:
            reset(client)
        else:
            await client.aclose()
        await noticed.wait()
        client.socket.close()


async def test_a_client_that_resets_amid_its_head_is_nobodys_error(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(echo) as server:
        client = await server.connect()
        await client.send_all(get()[:10])
        await wait_all_tasks_blocked()
        reset(client)
        server.stopping.set()
        await server.stopped.wait()
    assert caplog.records == []


async def test_a_client_that_resets_amid_its_body_is_a_disconnect(caplog: pytest.LogCaptureFixture) -> None:
    bodies: list[bytes | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bodies.append(await read_body(receive))

    async with serving(app) as server:
        client = await server.connect()
        await client.send_all(post(b"abc")[:-1])
        await wait_all_tasks_blocked()
        reset(client)
        server.stopping.set()
        await server.stopped.wait()
    assert bodies == [None]
    assert caplog.records == []


async def test_receive_tells_of_a_client_that_leaves() -> None:
    types: list[str] = []
    over = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        types.append((await receive())["type"])
        over.set()

    async with serving(app) as server:
        async with await server.connect() as client:
            await client.send_all(get())
        await over.wait()
    assert types == ["http.disconnect"]


async def test_send_raises_once_a_client_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    failed = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200})
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        except ClientDisconnected:
            failed.set()
            raise

    async with serving(app) as server:
        client = await server.connect()
        await client.send_all(get())
        await client.receive_some()
        reset(client)
        await failed.wait()
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


async def test_a_client_that_half_closes_at_once_still_gets_its_answer() -> None:
    async with serving(echo) as server:
        async with await server.connect() as client:
            await client.send_all(get())
            await client.send_eof()
            assert statuses(await hear(client)) == [200]


async def test_a_reader_that_stalls_loses_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    called, failed = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        register_of(scope)(called.set)
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        except ClientDisconnected:
            failed.set()

    async with serving(app, Limits(write_seconds=0.3)) as server:
        async with await server.connect() as client:
            await client.send_all(get())
            await failed.wait()
            assert called.is_set()
            assert not (await hear(client)).endswith(b"0\r\n\r\n")
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("INFO", None)


async def test_a_response_that_breaks_off_ends_in_a_reset() -> None:
    """HTTP/1.0 has no other sign of it: there the end of the connection is the end of the body."""
    fail = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await fail.wait()
        raise LookupError("half way")

    async with serving(app) as server, await server.connect() as client:
        await client.send_all(b"GET / HTTP/1.0\r\n\r\n")
        assert await client.receive_some()
        fail.set()
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()


async def test_a_streaming_app_lets_others_run() -> None:
    sent_when_it_ran: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sent = 0

        async def other() -> None:
            await trio.lowlevel.checkpoint()
            sent_when_it_ran.append(sent)

        await send({"type": "http.response.start", "status": 200})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for sent in range(100):  # noqa: B007  `other` looks at it
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body"})

    async with serving(app) as server, await server.connect() as client:
        await client.send_all(get("/", "Connection: close"))
        assert statuses(await hear(client)) == [200]
    assert sent_when_it_ran[0] < 10


async def test_a_sender_that_never_pauses_lets_others_run() -> None:
    all_sent = trio.Event()
    pieces_when_it_ran: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        pieces = 0

        async def other() -> None:
            pieces_when_it_ran.append(pieces)

        await all_sent.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            while (await receive())["more_body"]:
                pieces += 1
        await reply(send, b"%d" % pieces)

    async with serving(app, Limits(pipelined_bytes=4096)) as server, await server.connect() as client:
        request = post(b"x" * 65536, "Connection: close")
        await client.send_all(request[:-65536])
        await wait_all_tasks_blocked()
        await client.send_all(request[-65536:])
        all_sent.set()
        (answer,) = answers(await hear(client))
    assert int(answer.body) > 10
    assert pieces_when_it_ran[0] <= 1


async def test_a_slow_reader_gets_everything() -> None:
    body = b"x" * 8_000_000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, body)

    async with serving(app) as server:
        async with await server.connect() as client:
            await client.send_all(get("/", "Connection: close"))
            (answer,) = answers(await hear(client))
    assert answer.body == body


async def test_a_refusal_reaches_a_client_that_is_still_sending() -> None:
    async with serving(echo, Limits(body_bytes=10)) as server:
        async with await server.connect() as client:
            await client.send_all(post(b"x" * 500_000))
            assert statuses(await hear(client)) == [413]


async def test_an_idle_connection_ends() -> None:
    async with serving(echo, Limits(idle_seconds=0.1)) as server:
        async with await server.connect() as client:
            await client.send_all(get())
            assert statuses(await hear(client)) == [200]


async def test_stopping_ends_idle_connections_and_answers_what_runs() -> None:
    running, go = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        running.set()
        await go.wait()
        await reply(send, b"done")

    async with serving(app) as server:
        async with await server.connect() as idle, await server.connect() as busy:
            await busy.send_all(get())
            await running.wait()
            server.stopping.set()
            assert await hear(idle) == b""
            go.set()
            (answer,) = answers(await hear(busy))
            assert (answer.body, answer.headers[b"connection"]) == (b"done", b"close")
            await server.stopped.wait()


@epoll_only
async def test_a_request_that_has_come_when_an_idle_connection_is_dismissed_is_answered() -> None:
    disconnects: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        register_of(scope)(lambda: disconnects.append(scope["path"]))
        await wait_all_tasks_blocked()
        await echo(scope, receive, send)

    idle, hangups = IdleConnections(75), Hangups()
    shared = Shared(app, None, Limits(), idle, Lingering(lambda: None), lambda status, reason: None)

    async def connection(end: socket.socket) -> None:
        end.setblocking(False)
        await Connection(shared, SocketWire(end, hangups, read_size=4096, write_seconds=1)).run()

    ours, theirs = socket.socketpair()
    async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hangups.run)
            nursery.start_soon(connection, theirs)
            await wait_all_tasks_blocked()
            # Nothing runs between these three: the request is there and nobody has read it.
            ours.send(get())
            shared.stopping.set()
            idle.dismiss_all()
            assert statuses(await hear(client)) == [200]
            nursery.cancel_scope.cancel("the test is over")
    hangups.close()
    assert disconnects == []


@epoll_only
async def test_accepted_sockets_have_the_user_timeout() -> None:
    async with serving(echo, Limits(tcp_user_timeout_seconds=12)) as server:
        async with await server.connect() as client:
            await client.send_all(get())
            await hear(client, until=b"GET / ")
            (accepted,) = accepted_sockets(client.socket.getsockname())
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_000
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def accepted_sockets(peer: tuple[str, int]) -> list[socket.socket]:
    """This process's sockets that are connected to `peer`, as duplicates."""
    found = []
    for name in os.listdir("/dev/fd"):
        try:
            candidate = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        try:
            if candidate.getpeername() == peer:
                found.append(candidate)
                continue
        except OSError:
            pass
        candidate.close()
    return found


async def test_a_unix_socket_serves_its_own_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with serving(echo, bind=f"unix:{path}"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with await trio.open_unix_socket(path) as client:
            await client.send_all(get("/", "Connection: close"))
            assert statuses(await hear(client)) == [200]


def test_the_path_of_a_unix_socket_that_is_no_utf_8_can_be_told_to_others(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fsencode(tmp_path) + b"/\xff.sock")
        assert server_of(listening) == (f"{tmp_path}/?.sock", None)


async def test_a_unix_socket_left_by_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))
    async with serving(echo, bind=f"unix:{path}"), await trio.open_unix_socket(path) as client:
        await client.send_all(get("/", "Connection: close"))
        assert statuses(await hear(client)) == [200]


async def test_a_unix_socket_of_a_living_server_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with serving(echo, bind=f"unix:{path}"):
        with pytest.raises(OSError, match="in use"):
            await open_listeners([f"unix:{path}"])
        async with await trio.open_unix_socket(path) as client:
            await client.send_all(get("/", "Connection: close"))
            assert statuses(await hear(client)) == [200]


async def test_a_file_is_not_a_stale_socket(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        await open_listeners([f"unix:{path}"])
    assert path.read_text() == "precious"


async def test_an_inherited_descriptor() -> None:
    inherited = socket.create_server(("127.0.0.1", 0))
    address = inherited.getsockname()
    async with serving(echo, bind=f"fd://{inherited.detach()}"), await trio.open_tcp_stream(*address) as client:
        await client.send_all(get("/", "Connection: close"))
        assert statuses(await hear(client)) == [200]


async def test_ipv6_in_brackets() -> None:
    async with serving(echo, bind="[::1]:0") as server, await server.connect() as client:
        await client.send_all(get("/", "Connection: close"))
        assert statuses(await hear(client)) == [200]


@pytest.mark.parametrize("bind", ["", "8000", "localhost", "a:b", "a:70000", "::1:8000", "fd://x", "fd://"])
async def test_an_address_that_is_none_says_so(bind: str) -> None:
    with pytest.raises(ValueError, match=r"as in|is not host:port"):
        await open_listeners([bind])


async def test_an_address_that_cannot_be_had_leaves_no_other_open(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        path = tmp_path / "socket"
        with pytest.raises(OSError, match="in use"):
            await open_listeners([f"unix:{path}", f"127.0.0.1:{taken.getsockname()[1]}"])
    with pytest.raises(ConnectionRefusedError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(os.fspath(path))


def refused_accepts(monkeypatch: pytest.MonkeyPatch, listener: Any, count: int) -> trio.Event:
    """Set when so many calls of `accept` have failed."""
    tried, accept, failures = trio.Event(), type(listener).accept, 0

    async def counted(self: Any) -> Any:
        nonlocal failures
        try:
            return await accept(self)
        except OSError:
            failures += 1
            if failures == count:
                tried.set()
            raise

    monkeypatch.setattr(type(listener), "accept", counted)
    return tried


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
    hold = []
    try:
        while True:
            hold.append(os.dup(0))
    except OSError:
        pass
    try:
        yield
    finally:
        for descriptor in hold:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_running_out_of_descriptors_is_survived_and_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "SILENT_SECONDS", 3600)
    async with serving(echo) as server:
        for _ in range(2):
            tried = refused_accepts(monkeypatch, server.listeners[0], 3)
            client = socket.socket()
            client.setblocking(False)
            with no_descriptors_left():
                client.connect_ex(server.listeners[0].socket.getsockname())
                with trio.fail_after(PATIENCE):
                    await tried.wait()
            async with trio.SocketStream(trio.socket.from_stdlib_socket(client)) as stream:
                await stream.send_all(get("/", "Connection: close"))
                assert statuses(await hear(stream)) == [200]
    (record,) = caplog.records
    assert os.strerror(errno.EMFILE) in record.getMessage()


# A body that nobody reads.


def unread(url_port: int, *, half_close: bool = False) -> tuple[int, bytes]:
    """What `http.client` makes of the answer: it writes its whole body before it reads a byte."""
    client = http.client.HTTPConnection("127.0.0.1", url_port, timeout=20)
    try:
        client.request("POST", "/", b"x" * (5 << 20))
        if half_close:
            client.sock.shutdown(socket.SHUT_WR)
        response = client.getresponse()
        return response.status, response.read()
    finally:
        client.close()


@pytest.mark.parametrize("half_close", [False, True])
@pytest.mark.parametrize(
    ("body_bytes", "status"), [(4 << 20, 413), (8 << 20, 401)], ids=["the listener's own", "an app's"]
)
async def test_an_early_answer_reaches_a_client_that_writes_its_whole_body_first(
    body_bytes: int, status: int, half_close: bool
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"no", status=401)

    async with serving(app, Limits(body_bytes=body_bytes)) as server:
        port = server.listeners[0].socket.getsockname()[1]
        found, _ = await trio.to_thread.run_sync(partial(unread, port, half_close=half_close))
        assert found == status


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/3.0\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
    ],
    ids=["400", "505", "501", "400 in the body", "431"],
)
async def test_a_refusal_by_the_parser_reaches_a_client_that_goes_on_writing(head: bytes) -> None:
    async with serving(read_all) as server:
        async with await server.connect() as client:
            await client.send_all(head + b"x" * (5 << 20))
            await client.send_eof()
            heard = await hear(client)
        assert heard.startswith(b"HTTP/1.1 ")
        assert b"connection: close" in heard


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    await read_body(receive)
    await reply(send, b"ok")
