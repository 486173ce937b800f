"""The node's app behind Hypercorn, for TLS and HTTP/2. The only module that imports Hypercorn.

Listening, and the deadline of each write, are our own: Hypercorn writes under a shield without a deadline, so that a client which
stops reading could delay the end of the process for ever. There is no deadline for heads and bodies here.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import h2.events
import trio
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hypercorn import protocol
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ws_stream
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from wsproto.events import Message

from trio_mcp.observability.logs import leaf_lines
from trio_mcp.observability.refusals import Refusals
from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.settings import Settings
from trio_mcp.sessions.stop_times import CONNECTIONS_SECONDS
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.listener import Listener

__all__ = ["CertificateError", "HypercornFront"]

USER_TIMEOUT_MS = 30_000
"""As on our own listener: without it, the kernel would take keep-alives for a vanished peer for 15 minutes."""


class CertificateError(McpError):
    """The certificate or its key cannot be used; the text says why, and what they have to be."""


class HypercornFront:
    """Hypercorn's connections on our own listening sockets."""

    def __init__(self, urls: list[str], write_timeout: float) -> None:
        self.urls = urls
        self._writes = _Writes(write_timeout)
        self._context = WorkerContext(None)
        self._accepting = trio.CancelScope()
        self._stopped = trio.Event()

    @classmethod
    async def open(
        cls,
        nursery: trio.Nursery,
        app: HttpApp,
        settings: Settings,
        listeners: Sequence[Listener],
        sockets: Sequence[trio.socket.SocketType],
        urls: list[str],
    ) -> HypercornFront:
        """Serve `app` on `listeners`, which accept from `sockets`, in `nursery`; raises CertificateError."""
        _replace(_IN_HTTP2)
        if settings.websocket:
            _replace(_IN_WEBSOCKETS)
        _end_vanished(sockets)
        front = cls(urls, app.service.options.write_timeout)
        await nursery.start(front._run, app, _config(settings), listeners)
        return front

    async def stop(self) -> None:
        """Accept no more, close idle connections, end writes that their clients do not read; returns soon."""
        await self._context.terminated.set()
        self._accepting.cancel("the node stops")
        with trio.move_on_after(CONNECTIONS_SECONDS):
            await self._stopped.wait()

    async def _run(
        self,
        app: HttpApp,
        config: Config,
        listeners: Sequence[Listener],
        *,
        task_status: trio.TaskStatus[Any],
    ) -> None:
        app_for_hypercorn: Any = app
        wrapped = ASGIWrapper(app_for_hypercorn)
        own = self._writes, app.service.refusals
        serve = partial(_Connection, *own, wrapped, config, self._context, ConnectionState({}))
        try:
            async with trio.open_nursery() as connections:
                try:
                    with self._accepting:
                        await trio.serve_listeners(
                            serve, _listeners(config, listeners), handler_nursery=connections, task_status=task_status
                        )
                finally:
                    self._writes.end_within(CONNECTIONS_SECONDS / 2)
                    connections.cancel_scope.deadline = trio.current_time() + CONNECTIONS_SECONDS
        finally:
            self._stopped.set()


class _Writes:
    """The writes that run now. Hypercorn shields them, so that cancellation leaves no half frame; each has a deadline here."""

    def __init__(self, write_timeout: float) -> None:
        self._write_timeout = write_timeout
        self._latest = math.inf
        self._under_way: set[trio.CancelScope] = set()

    @contextmanager
    def one(self) -> Iterator[trio.CancelScope]:
        """The scope of one write."""
        deadline = min(trio.current_time() + self._write_timeout, self._latest)
        scope = trio.CancelScope(deadline=deadline, shield=True)
        self._under_way.add(scope)
        try:
            with scope:
                yield scope
        finally:
            self._under_way.discard(scope)

    def end_within(self, seconds: float) -> None:
        """No write, running or later, may end after `seconds`."""
        self._latest = trio.current_time() + seconds
        for scope in self._under_way:
            scope.deadline = min(scope.deadline, self._latest)


class _Connection(TCPServer):
    """Hypercorn's connection, with a deadline for each write; one that misses it closes the connection. So does a client that leaves:
    Hypercorn would keep it, and its descriptor, until a connection may be idle no longer.
    """

    def __init__(self, writes: _Writes, refusals: Refusals, *args: Any) -> None:
        super().__init__(*args)
        self._writes = writes
        self._refusals = refusals
        self._has_left = False

    async def run(self) -> None:
        """Serve until the connection is closed. What a client makes Hypercorn trip over ends this connection alone."""
        try:
            await super().run()
        except Exception as failure:  # the boundary of Hypercorn: what it raises would end all connections
            self._note(failure)
        except BaseExceptionGroup as group:
            cancelled, failures = group.split(trio.Cancelled)
            if cancelled is None or not isinstance(failures, ExceptionGroup):
                raise
            self._note(failures)
            raise cancelled from None

    def _note(self, failure: Exception) -> None:
        # As a refusal, for any client can cause it as often as it likes.
        self._refusals.note(400, "connection", name="connection failed", why="; ".join(leaf_lines(failure)))

    async def protocol_send(self, sent: Event) -> None:
        if not isinstance(sent, RawData):
            # After its client has left no connection gets idle, which is to wait for a request.
            return None if self._has_left and isinstance(sent, Updated) else await super().protocol_send(sent)
        if not await self._sent(sent.data):
            await trio.aclose_forcefully(self.stream)
            await self.protocol.handle(Closed())

    async def _read_data(self) -> None:
        await super()._read_data()
        self._has_left = True
        await self.idle_task.stop()

    async def _sent(self, data: bytes) -> bool:
        async with self.send_lock:
            try:
                with self._writes.one() as writing:
                    await self.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return False
        return not writing.cancelled_caught


class _Http2(H2Protocol):
    """Hypercorn's own leaves a stream open where a WebSocket has ended, or the app has failed within a response, and fails itself
    where a client goes on sending on a stream that was answered.
    """

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for each in events:
            if isinstance(each, h2.events.DataReceived) and each.stream_id not in self.streams:
                self._refuse(each)
            elif isinstance(each, h2.events.StreamEnded) and isinstance(
                self.streams.get(each.stream_id), ws_stream.WSStream
            ):
                # What the end of a TCP connection is to a WebSocket: RFC 8441, section 5.
                await self.stream_send(StreamClosed(stream_id=each.stream_id))
            else:
                await super()._handle_events([each])
        await self._flush()

    def _refuse(self, data: h2.events.DataReceived) -> None:
        """The answer was complete before the request: RFC 9113, section 8.1."""
        self.connection.acknowledge_received_data(data.flow_controlled_length, data.stream_id)
        self._reset(data.stream_id, ErrorCodes.NO_ERROR)

    def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        with suppress(ProtocolError):  # both sides have ended it
            self.connection.reset_stream(stream_id, code)

    async def stream_send(self, sent: StreamEvent) -> None:
        if isinstance(sent, StreamClosed):
            await self._end(sent.stream_id)
        await super().stream_send(sent)

    async def _end(self, stream_id: int) -> None:
        """Tell the client that nothing more comes on the stream, after what waits to be sent."""
        stream = self.streams.get(stream_id)
        if isinstance(stream, HTTPStream) and stream.state is ASGIHTTPState.RESPONSE:
            self._reset(stream_id, ErrorCodes.INTERNAL_ERROR)
        elif isinstance(stream, ws_stream.WSStream) and stream_id in self.stream_buffers:
            self.stream_buffers[stream_id].set_complete()
            self.priority.unblock(stream_id)
            await self.has_data.set()


class _MessageBuffer(ws_stream.WebsocketBuffer):
    """Hypercorn's own goes on collecting what a client sends after its message was refused with 1009."""

    def extend(self, event: Message[Any]) -> None:
        try:
            super().extend(event)
        except ws_stream.FrameTooLargeError:
            self.clear()
            raise


def _no_extension(requested: object, supported: object) -> None:
    """In place of wsproto's choice. A compressed message is inflated before its size is known: 64 KiB may become 64 MiB."""


_IN_HTTP2 = ((protocol, "H2Protocol", _Http2),)
_IN_WEBSOCKETS = (
    (ws_stream, "WebsocketBuffer", _MessageBuffer),
    (ws_stream, "server_extensions_handshake", _no_extension),
)
"""So that WebSockets hold no more of a client than they must."""


def _replace(parts: Sequence[tuple[object, str, object]]) -> None:
    """Put ours in the place of parts of Hypercorn that it has no settings for."""
    for module, name, ours in parts:
        assert hasattr(module, name), name
        setattr(module, name, ours)


def _end_vanished(sockets: Sequence[trio.socket.SocketType]) -> None:
    """Set TCP_USER_TIMEOUT, which accepted sockets inherit."""
    for each in sockets:
        if each.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def _listeners(config: Config, listeners: Sequence[Listener]) -> list[Any]:
    """`listeners`, with TLS where there is a certificate."""
    context = config.create_ssl_context()
    if context is None:
        return list(listeners)
    accepting: list[Any] = [*listeners]
    return [trio.SSLListener(each, context, https_compatible=True) for each in accepting]


def _config(settings: Settings) -> Config:
    config = Config()
    if settings.certfile is not None:
        # Hypercorn serves without TLS unless it has both names. The key may be in the certificate's file.
        config.certfile, config.keyfile = str(settings.certfile), str(settings.keyfile or settings.certfile)
        _check_certificate(config)
    config.h11_max_incomplete_size = config.h2_max_header_list_size = settings.max_head
    config.keep_alive_timeout = settings.connection_idle_timeout
    # In characters, which are at least as many bytes: the app counts those.
    config.websocket_max_message_size = settings.max_body
    config.websocket_ping_interval = settings.keepalive
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = None
    return config


def _check_certificate(config: Config) -> None:
    try:
        config.create_ssl_context()
    except (ssl.SSLError, OSError) as error:
        files = f"{config.certfile} and {config.keyfile}"
        step = "Give a PEM certificate chain, and the PEM key that belongs to it"
        raise CertificateError(f"cannot serve TLS with {files}: {error}. {step}") from error
