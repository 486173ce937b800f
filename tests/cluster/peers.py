"""Peers over real sockets: apps on our listener, and raw ones that misbehave; and a raw client."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import trio

from tests.cluster.in_memory import network
from trio_mcp.cluster.hop import Hops
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peer.client import PeerClient
from trio_mcp.cluster.peer.outcomes import Outcome, Relayed
from trio_mcp.cluster.peer.relaying import Patience
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.listener import ASGIApp, Limits, Receive, Scope, Send, serve

SESSION = "node2.abcdefghijklmnopqrstuvwx"
BOOT = "fedcba9876543210"
PATIENCE = 120.0
"""Nothing here waits so long unless it is broken."""

HOPS = Hops([b"secret"], node="node1", boot="0123456789abcdef")


def owner_at(url: str, boot: str = BOOT) -> Owner:
    return Owner("node2", boot, 0, url)


def url_of(listening: trio.SocketListener | socket.socket) -> str:
    bound = listening.socket if isinstance(listening, trio.SocketListener) else listening
    return f"http://127.0.0.1:{bound.getsockname()[1]}"


async def listening(port: int = 0) -> tuple[list[trio.abc.Listener[trio.SocketStream]], str]:
    """On that port, or a free one, of this test's network; and the URL."""
    memory = network()
    if memory is not None:
        listener, url = memory.listen(port)
        return [listener], url
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    return [*listeners], url_of(listeners[0])


def free_url() -> str:
    """Nobody listens there."""
    memory = network()
    if memory is not None:
        return f"http://127.0.0.1:{memory.free_port()}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return url_of(probe)


@asynccontextmanager
async def serving(app: ASGIApp, limits: Limits | None = None) -> AsyncIterator[str]:
    """`app` on our listener; its URL."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(lambda: serve(app, listeners, limits=limits or Limits()))
        yield url_of(listeners[0])
        nursery.cancel_scope.cancel("the test is over")


@asynccontextmanager
async def raw_peer(handle: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """`handle` has every connection, which is closed when it returns or its peer breaks it; the URL."""

    async def closing(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(trio.BrokenResourceError):
                await handle(stream)

    async with trio.open_nursery() as nursery:
        listeners, url = await listening()
        await nursery.start(trio.serve_listeners, closing, listeners)
        yield url
        nursery.cancel_scope.cancel("the test is over")


@contextmanager
def black_hole() -> Iterator[str]:
    """A port whose queue of connections is full: to connect there takes for ever."""
    memory = network()
    if memory is not None:
        yield memory.black_hole()
        return
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listening.getsockname())
        try:
            yield url_of(listening)
        finally:
            for each in waiting:
                each.close()


async def read_request(stream: trio.SocketStream) -> bytes:
    """One request with Content-Length; empty when the peer has ended."""
    heard = b""
    while b"\r\n\r\n" not in heard:
        data = await stream.receive_some()
        if not data:
            return b""
        heard += data
    head, _, body = heard.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += await stream.receive_some()
    return head + b"\r\n\r\n" + body


def livez(asked: bytes, boot: str = BOOT, secret: bytes = b"secret") -> bytes:
    """What a node with that boot and secret says, `asked` being the request."""
    challenge = re.search(rb"trio-mcp-challenge: (\S+)", asked)
    host = re.search(rb"host: (\S+)", asked)
    assert challenge is not None, asked
    assert host is not None, asked
    proof = Hops([secret], node="node2", boot=boot).prove(challenge[1], f"http://{host[1].decode()}")
    body = b'{"status":"ready","boot":"%b","proof":"%b"}' % (boot.encode(), proof.encode())
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Front:
    """A node's app that relays everything to `owner`, and notes how it went."""

    def __init__(self, relay: PeerClient, owner: Owner) -> None:
        self._relay = relay
        self.owner = owner
        self.outcomes: list[Outcome | str] = []
        self.ended = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = HttpExchange.over_asgi(scope, receive, send)
        content = await exchange.body(1 << 25)
        try:
            outcome = await self._relay.send(exchange, content, SESSION, self.owner)
        except trio.BrokenResourceError as cut:
            return self._note(str(cut))
        self._note(outcome)
        if not isinstance(outcome, Relayed):
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": type(outcome).__name__.encode()})

    def _note(self, outcome: Outcome | str) -> None:
        self.outcomes.append(outcome)
        self.ended.set()


@asynccontextmanager
async def relaying_to(
    url: str, limits: Limits | None = None, boot: str = BOOT, patience: Patience | None = None, **settings: float
) -> AsyncIterator[tuple[Front, str]]:
    """A node that relays to `url`, and its own URL."""
    relay = PeerClient(HOPS, node="node1", patience=patience, **settings)  # type: ignore[arg-type]
    front = Front(relay, owner_at(url, boot))
    async with relay.running(), serving(front, limits) as own:
        yield front, own


class RawClient:
    """A raw connection to a node."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._heard = b""

    async def say(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def until(self, mark: bytes) -> bytes:
        """What comes up to and with `mark`."""
        while mark not in self._heard:
            data = await self._stream.receive_some()
            assert data, f"the connection ended after {self._heard!r}"
            self._heard += data
        found, _, self._heard = self._heard.partition(mark)
        return found + mark

    async def rest(self) -> bytes:
        """Everything until the end; raises trio.BrokenResourceError for a connection that was reset."""
        heard, self._heard = bytearray(self._heard), b""
        while data := await self._stream.receive_some():
            heard += data
        return bytes(heard)

    async def hang_up(self) -> None:
        await self._stream.aclose()


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[RawClient]:
    with trio.fail_after(PATIENCE):
        stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
        async with stream:
            yield RawClient(stream)


def request(method: str = "POST", target: str = "/mcp", body: bytes = b"{}", *headers: str) -> bytes:
    framing = [f"Content-Length: {len(body)}"] if body else []
    lines = [f"{method} {target} HTTP/1.1", "Host: mcp.example.com", *framing, *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


async def ask(url: str, said: bytes) -> bytes:
    """The bytes of the answer to one request, which should ask for the connection's close."""
    async with client_of(url) as client:
        await client.say(said)
        return await client.rest()
