"""One HTTP connection with h11, plain or TLS without a check of the certificate; it is closed without TLS's or HTTP's end."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import h11
import trio

__all__ = ["Broken", "HttpConnection", "Response", "fetch"]

Headers: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]]
Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class Broken(Exception):
    """The connection ended before the response did."""


@dataclass(slots=True)
class Response:
    """Head and, when it was read, body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str:
        """The first value, "" without one; lower-case name."""
        return next((value for key, value in self.headers if key == name), "")

    @property
    def cookies(self) -> list[str]:
        """Every Set-Cookie."""
        return [value for key, value in self.headers if key == "set-cookie"]

    @property
    def is_stream(self) -> bool:
        """Whether the body is an event stream."""
        return self.header("content-type").startswith("text/event-stream")

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


@dataclass(slots=True)
class HttpConnection:
    """One connection; one request at a time."""

    stream: Stream
    host: str
    http: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))

    @property
    def reusable(self) -> bool:
        """Whether another request may follow; prepares it."""
        if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE:
            self.http.start_next_cycle()
        return self.http.our_state is h11.IDLE

    async def request(self, method: str, path: str, headers: Headers = (), content: bytes = b"") -> None:
        """Send a whole request, for the host of its own where `headers` name none; raises Broken."""
        given = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        if not any(name.lower() == "host" for name, _ in given):
            given = [("host", self.host), *given]
        if content or method == "POST":
            given.append(("content-length", str(len(content))))
        events = (h11.Request(method=method, target=path, headers=given), h11.Data(data=content), h11.EndOfMessage())
        try:
            await self.stream.send_all(b"".join(self.http.send(event) or b"" for event in events))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Broken("while sending") from error

    async def head(self) -> Response:
        """The response's head; raises Broken."""
        event = await self._event()
        if not isinstance(event, h11.Response):
            raise Broken(f"no head but {type(event).__name__}")
        return Response(event.status_code, [(name.decode(), value.decode("latin-1")) for name, value in event.headers])

    async def chunk(self) -> bytes:
        """The next bytes of the body, b"" at its clean end; raises Broken."""
        event = await self._event()
        match event:
            case h11.Data():
                return bytes(event.data)
            case h11.EndOfMessage():
                return b""
        raise Broken(f"no body but {type(event).__name__}")

    async def response(self) -> Response:
        """Head and whole body; raises Broken."""
        response = await self.head()
        parts = []
        while part := await self.chunk():
            parts.append(part)
        response.body = b"".join(parts)
        return response

    async def _event(self) -> Any:
        try:
            while (event := self.http.next_event()) is h11.NEED_DATA:
                self.http.receive_data(bytes(await self.stream.receive_some(65536)))
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError, ssl.SSLError) as error:
            raise Broken(str(error) or type(error).__name__) from error
        return event

    def close(self) -> None:
        """Close the socket at once, without waiting for the peer."""
        socket = self.stream if isinstance(self.stream, trio.SocketStream) else self.stream.transport_stream
        socket.socket.close()

    @staticmethod
    async def open(url: str) -> HttpConnection:
        """Connect to the host of `url`; raises OSError."""
        parts = urlsplit(url)
        host, port = parts.hostname or "127.0.0.1", parts.port or 80
        socket = await trio.open_tcp_stream(host, port)
        if parts.scheme != "https":
            return HttpConnection(socket, f"{host}:{port}")
        tls = trio.SSLStream(socket, _TLS, server_hostname=host, https_compatible=True)
        try:
            await tls.do_handshake()
        except trio.BrokenResourceError as error:
            socket.socket.close()
            raise Broken("while shaking hands") from error
        except trio.Cancelled:
            socket.socket.close()
            raise
        return HttpConnection(tls, f"{host}:{port}")


def _unverified() -> ssl.SSLContext:
    """Without checks: Traefik's certificate is self-signed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_TLS = _unverified()


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[HttpConnection]:
    connection = await HttpConnection.open(url)
    try:
        yield connection
    finally:
        connection.close()


async def fetch(
    url: str,
    method: str = "GET",
    headers: Headers = (),
    content: bytes = b"",
) -> Response:
    """One request on a connection of its own; raises OSError or Broken."""
    parts = urlsplit(url)
    async with _opened(url) as connection:
        await connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), headers, content)
        return await connection.response()
