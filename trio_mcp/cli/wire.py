"""One HTTP exchange at a time: the port the client speaks through, and its adapter for URLs (h11 on Trio)."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

import h11
import trio

from trio_mcp.observability.logs import leaves
from trio_mcp.protocol.errors import McpError

__all__ = ["Cut", "Exchange", "Head", "Headers", "HttpWire", "Untrusted", "Wire", "WireError", "fetch", "whole"]

Headers = Sequence[tuple[str, str]]

CONNECT_SECONDS = 10.0
"""Long enough for a slow TLS handshake far away, short enough to tell a person that nobody answers."""


MAX_BODY = 64 * 1024 * 1024
"""Sixteen times what our own servers say in one answer; a body without an end is cut off here."""


class WireError(McpError):
    """The server cannot be reached, or stopped talking in the middle; the text says which."""


class Cut(WireError):
    """The connection broke off in the middle of an answer."""


class Untrusted(WireError):
    """The server's certificate is vouched for by nobody we know."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a response; header names are lower case."""

    status: int
    headers: dict[str, str]
    cookies: tuple[str, ...] = ()
    """Every `Set-Cookie`, which cannot be joined into one as others can."""


class Exchange(Protocol):
    """One request and its answer: `head` once, then `receive` until it gives b""."""

    async def head(self) -> Head:
        """Send the request and wait for the head of its answer; raises WireError."""

    async def receive(self) -> bytes:
        """The next bytes of the body, b"" at its end; raises Cut when there should be more."""


class Wire(Protocol):
    """Whatever takes an HTTP request and gives its answer."""

    def exchange(self, method: str, headers: Headers, body: bytes = b"") -> AbstractAsyncContextManager[Exchange]:
        """Leaving the block gives the answer up. Raises WireError when nobody is there."""


async def fetch(wire: Wire, method: str) -> tuple[Head, bytes]:
    """The whole answer to a request without a body or headers of ours; raises WireError. Deadlines are the caller's."""
    async with wire.exchange(method, []) as exchange:
        return await exchange.head(), await whole(exchange.receive)


async def whole(receive: Callable[[], Awaitable[bytes]]) -> bytes:
    """A body to its end; raises WireError when it is longer than `MAX_BODY`, and what `receive` raises."""
    body = bytearray()
    while data := await receive():
        body += data
        if len(body) > MAX_BODY:
            raise WireError(f"the answer is longer than {MAX_BODY >> 20} MiB")
    return bytes(body)


class HttpWire:
    """A connection of its own for each exchange: no state to go stale, as a first-time client would.

    `socket` is the path of a Unix socket to connect to instead; `insecure` takes any certificate.
    """

    def __init__(self, url: str, headers: Headers = (), *, socket: str = "", insecure: bool = False) -> None:
        self.url = f"unix:{socket}" if socket else url
        self._parts = _checked(url)
        self._headers = headers
        self._socket = socket
        self._insecure = insecure

    @asynccontextmanager
    async def exchange(self, method: str, headers: Headers, body: bytes = b"") -> AsyncIterator[Exchange]:
        request = self._request(method, headers, body)
        stream = await self._connect()
        try:
            yield _HttpExchange(stream, self.url, request, body)
        finally:
            # Forcefully: the answer has been read, or is not wanted any more.
            await trio.aclose_forcefully(stream)

    def _request(self, method: str, headers: Headers, body: bytes) -> h11.Request:
        target = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        sent = [*self._headers, *headers, ("Connection", "close")]
        if not any(name.lower() == "host" for name, _ in sent):
            sent.append(("Host", self._parts.netloc))
        if body:
            sent.append(("Content-Length", str(len(body))))
        try:
            return h11.Request(method=method, target=target, headers=sent)
        except (h11.LocalProtocolError, UnicodeEncodeError) as error:
            raise WireError(f"this is no HTTP request: {error}") from error

    async def _connect(self) -> trio.abc.Stream:
        try:
            with trio.fail_after(CONNECT_SECONDS):
                return await self._open()
        except trio.TooSlowError as error:
            raise WireError(f"cannot reach {self.url}: no connection within {CONNECT_SECONDS:g} s") from error
        except (OSError, trio.BrokenResourceError) as error:
            untrusted = isinstance(next(leaves(error.__cause__ or error)), ssl.SSLCertVerificationError)
            raise (Untrusted if untrusted else WireError)(f"cannot reach {self.url}: {_reason(error)}") from error

    async def _open(self) -> trio.abc.Stream:
        if self._socket:
            return await trio.open_unix_socket(self._socket)
        host = self._parts.hostname or ""
        if self._parts.scheme == "https":
            return await _open_tls(host, self._parts.port or 443, insecure=self._insecure)
        return await trio.open_tcp_stream(host, self._parts.port or 80)


async def _open_tls(host: str, port: int, *, insecure: bool) -> trio.abc.Stream:
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    stream = await trio.open_ssl_over_tcp_stream(host, port, https_compatible=True, ssl_context=context)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises when it is not a port
    except ValueError as error:
        raise WireError(f"{url!r} is not a URL: {error}") from error
    if parts.username is not None:
        # Nothing would send them, and the URL is part of every error.
        raise WireError("a URL with credentials is not taken: send them with --header 'Authorization: …'")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WireError(f"{url!r} is not a URL of an MCP server, such as http://127.0.0.1:8000/mcp")
    return parts


def _reason(error: BaseException) -> str:
    """The operating system's own words, dug out of Trio's summary of all addresses tried."""
    leaf = next(leaves(error.__cause__ or error))
    if isinstance(leaf, ssl.SSLError):
        # Its errno is OpenSSL's, not the system's.
        return f"TLS: {getattr(leaf, 'verify_message', None) or leaf.reason or leaf}"
    if isinstance(leaf, OSError) and leaf.errno is not None and leaf.errno > 0:
        return os.strerror(leaf.errno).lower()
    return (getattr(leaf, "strerror", None) or str(leaf) or type(leaf).__name__).lower()


class _HttpExchange:
    """h11's client role over one stream."""

    def __init__(self, stream: trio.abc.Stream, url: str, request: h11.Request, body: bytes) -> None:
        self._stream = stream
        self._url = url
        self._http = h11.Connection(h11.CLIENT)
        self._request = [request, *([h11.Data(data=body)] if body else []), h11.EndOfMessage()]

    async def head(self) -> Head:
        # A server may refuse a request before it has read all of it: its answer is still there to read.
        with suppress(trio.BrokenResourceError):
            await self._stream.send_all(b"".join(self._http.send(event) or b"" for event in self._request))
        event = await self._next()
        while isinstance(event, h11.InformationalResponse):
            event = await self._next()
        if not isinstance(event, h11.Response):
            raise WireError(f"{self._url} closed the connection without an answer")
        fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
        return Head(event.status_code, dict(fields), tuple(value for name, value in fields if name == "set-cookie"))

    async def receive(self) -> bytes:
        event = await self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def _next(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(bytes(await self._stream.receive_some()))
        except h11.RemoteProtocolError as error:
            raise Cut(f"{self._url} broke off, or does not speak HTTP: {error}") from error
        except trio.BrokenResourceError as error:
            raise Cut(f"{self._url} broke off: {_reason(error)}") from error
        return event
