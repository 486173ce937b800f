"""An HTTP/1.1 client on Trio: one request on a connection of its own, over TCP, TLS or a Unix socket.

    client = HttpClient("https://example.com/keys")
    head, body = await fetch(client, "GET", seconds=10)

It does what a short request needs and no more. Nothing is followed: a redirect is an answer with a `Location`. Nothing is
unbounded: connecting has a deadline, a body a limit, and `fetch` a deadline for the whole. Who reads an answer in pieces, as
event streams are read, gives `Exchange.head` and `Exchange.receive` deadlines of their own.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

import h11
import trio

from trio_mcp.http_proxy import Proxy, open_tunnel
from trio_mcp.observability.logs import leaves
from trio_mcp.protocol.errors import McpError

__all__ = [
    "AnswerCut",
    "CannotConnect",
    "Exchange",
    "Head",
    "Headers",
    "HttpClient",
    "HttpClientError",
    "HttpTransport",
    "InvalidUrl",
    "UntrustedCertificate",
    "fetch",
    "read_body",
]

_HTTP = b"HTTP/"
_TLS_ALERT = b"\x15\x03"
"""What a server that expects TLS answers to HTTP (RFC 8446 §5.1)."""

Headers = Sequence[tuple[str, str]]

CONNECT_SECONDS = 10.0
"""Enough for a slow TLS handshake with a distant server; short enough that a person who waits learns soon that nothing answers."""

MAX_BODY = 64 * 1024 * 1024
"""In bytes: sixteen times the largest answer of our own servers."""


class HttpClientError(McpError):
    """The request could not be sent, or its answer could not be read; the text says why."""

    def __init__(self, text: str, next_step: str = "") -> None:
        super().__init__(text)
        self.next_step: str = next_step
        """What to do about it, for who reads the text on the command line: a sentence behind it, that begins with ". "."""


class InvalidUrl(HttpClientError):
    """What was given is no URL of a server."""


class CannotConnect(HttpClientError):
    """No connection came about: nothing was sent."""


class AnswerCut(HttpClientError):
    """The connection ended before the answer did, or there is no reading on in it: what was asked may have been done."""


class UntrustedCertificate(CannotConnect):
    """No authority known here has signed the server's certificate."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer; header names are lower case, the last of several equal ones wins."""

    status: int
    headers: dict[str, str]
    cookies: tuple[str, ...] = ()
    """The values of all `Set-Cookie` headers: they cannot be joined by commas (RFC 6265 §3)."""


class Exchange(Protocol):
    """One request and its answer: call `head` once, then `receive` until it gives b""."""

    async def head(self) -> Head:
        """Send the request and wait for the head of its answer; raises HttpClientError."""

    async def receive(self) -> bytes:
        """The next bytes of the body, b"" at its end; raises AnswerCut when the connection ends before that."""


class HttpTransport(Protocol):
    """What takes an HTTP request and gives its answer: `HttpClient` over a connection, or an app in memory."""

    def exchange(self, method: str, headers: Headers, body: bytes = b"") -> AbstractAsyncContextManager[Exchange]:
        """A block for one exchange; leaving it early abandons the answer. Raises HttpClientError when no connection comes about."""


async def fetch(
    transport: HttpTransport,
    method: str,
    *,
    seconds: float,
    max_body: int = MAX_BODY,
    headers: Sequence[tuple[str, str]] = (),
) -> tuple[Head, bytes]:
    """Send a request without a body and read its whole answer, whatever its status.

    `seconds` bounds all of it, `max_body` is in bytes. Raises HttpClientError, and trio.TooSlowError when time is up.
    """
    with trio.fail_after(seconds):
        async with transport.exchange(method, headers) as exchange:
            return await exchange.head(), await read_body(exchange.receive, max_body)


async def read_body(receive: Callable[[], Awaitable[bytes]], max_body: int = MAX_BODY) -> bytes:
    """Everything that `receive` gives up to b"". Raises HttpClientError beyond `max_body` bytes, and what `receive` raises."""
    body = bytearray()
    while data := await receive():
        body += data
        if len(body) > max_body:
            raise HttpClientError(f"the answer is longer than {max_body >> 20} MiB")
    return bytes(body)


class HttpClient:
    """Sends requests to one URL, each over a new connection.

    `headers` go with every request; one named Host replaces ours. With `socket`, the path of a Unix socket, the connection
    goes there and not to the URL's host. `insecure` accepts any TLS certificate; otherwise the system's authorities decide,
    or those in the file named by SSL_CERT_FILE. With `proxy`, an https URL is reached through a tunnel. Raises
    InvalidUrl for what is not an http or https URL, and for one with credentials in it.
    """

    def __init__(
        self, url: str, headers: Headers = (), *, socket: str = "", insecure: bool = False, proxy: Proxy | None = None
    ) -> None:
        self.url: str = f"unix:{socket}" if socket else url
        self._parts = _checked(url)
        self._headers = headers
        self._socket = socket
        self._insecure = insecure
        self._proxy = proxy

    @asynccontextmanager
    async def exchange(self, method: str, headers: Headers, body: bytes = b"") -> AsyncIterator[Exchange]:
        """Connect, and give an exchange for the length of the block; raises CannotConnect, and HttpClientError for a header that is none."""
        request = self._request(method, headers, body)
        stream = await self._connect()
        try:
            yield _HttpExchange(stream, self.url, request, body)
        finally:
            # No close_notify: the answer has been read, or the rest of it is not wanted.
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
            raise HttpClientError(f"this is no HTTP request: {error}") from error

    async def _connect(self) -> trio.abc.Stream:
        try:
            with trio.fail_after(CONNECT_SECONDS):
                return await self._open()
        except trio.TooSlowError as error:
            raise CannotConnect(f"cannot reach {self.url}: no connection within {CONNECT_SECONDS:g} s") from error
        except UnicodeError as error:
            raise InvalidUrl(f"{self.url!r} is not a URL of a server: its host is no name") from error
        except (OSError, trio.BrokenResourceError) as error:
            leaf = next(leaves(error.__cause__ or error))
            kind = UntrustedCertificate if isinstance(leaf, ssl.SSLCertVerificationError) else CannotConnect
            raise kind(f"cannot reach {self.url}: {_reason(error)}", _after_no_connection(leaf)) from error

    async def _open(self) -> trio.abc.Stream:
        if self._socket:
            return await trio.open_unix_socket(self._socket)
        host = self._parts.hostname or ""
        if self._parts.scheme == "https":
            return await _open_tls(host, self._parts.port or 443, insecure=self._insecure, proxy=self._proxy)
        return await trio.open_tcp_stream(host, self._parts.port or 80)


async def _open_tls(host: str, port: int, *, insecure: bool, proxy: Proxy | None) -> trio.abc.Stream:
    tcp: trio.abc.Stream
    if proxy is None:
        tcp = await trio.open_tcp_stream(host, port)
    else:
        tcp = await open_tunnel(proxy, host, port)
    context = _tls_context(insecure, os.environ.get("SSL_CERT_FILE", ""))
    stream = trio.SSLStream(tcp, context, server_hostname=host, https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


@cache
def _tls_context(insecure: bool, authorities: str) -> ssl.SSLContext:
    """The context for connections; `authorities` is the file that OpenSSL reads them from, empty for the system's.

    Kept, for reading the authorities takes 10 to 30 ms, and the event loop waits for it.
    """
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises when it is not a port
    except ValueError as error:
        raise InvalidUrl(f"{url!r} is not a URL: {error}") from error
    if parts.username is not None:
        # They would not be sent, and every error quotes the URL.
        raise InvalidUrl("a URL with credentials is not taken: send them with --header 'Authorization: …'")
    if parts.scheme in ("ws", "wss"):
        # "ws" becomes "http", "wss" becomes "https".
        over_http = f"http{parts.scheme[2:]}://"
        raise InvalidUrl(f"{url!r} is a WebSocket, which is not spoken here: call the same endpoint by {over_http}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidUrl(f"{url!r} is not a URL of a server, such as http://127.0.0.1:8000/mcp")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise InvalidUrl(
            f"{url!r} is not a URL: write what is no ASCII letter, digit or sign with % (a space is %20), a host's name in punycode (xn--…)"
        )
    return parts


def _after_no_connection(why: BaseException) -> str:
    """The next step where connecting failed so."""
    if isinstance(why, ConnectionRefusedError | FileNotFoundError):
        return ". Does the server run, and is this its address?"
    if isinstance(why, ssl.SSLCertVerificationError):
        return ". If it is one of your own, take it with --insecure, or name its authority in SSL_CERT_FILE"
    if isinstance(why, ssl.SSLError):
        return ". If it does not speak TLS, write http://"
    return ". Is the name right?" if isinstance(why, socket.gaierror) else ""


def _reason(error: BaseException) -> str:
    """What the operating system or OpenSSL said, out of Trio's summary of all addresses tried."""
    leaf = next(leaves(error.__cause__ or error))
    if isinstance(leaf, ssl.SSLError):
        # Its errno is OpenSSL's, not the system's.
        return f"TLS: {getattr(leaf, 'verify_message', None) or leaf.reason or leaf}"
    if isinstance(leaf, OSError) and leaf.errno is not None and leaf.errno > 0:
        return os.strerror(leaf.errno).lower()
    return (getattr(leaf, "strerror", None) or str(leaf) or type(leaf).__name__).lower()


class _HttpExchange:
    """h11 in the client role over one stream."""

    def __init__(self, stream: trio.abc.Stream, url: str, request: h11.Request, body: bytes) -> None:
        self._stream = stream
        self._url = url
        self._http = h11.Connection(h11.CLIENT)
        self._first = b""
        """The first bytes of what came: they tell whether it is HTTP."""
        self._ended = False
        self._request = [request, *([h11.Data(data=body)] if body else []), h11.EndOfMessage()]

    async def head(self) -> Head:
        # A server may answer and close before it has read the whole request: that answer can still be read.
        with suppress(trio.BrokenResourceError):
            await self._stream.send_all(b"".join(self._http.send(event) or b"" for event in self._request))
        event = await self._next()
        while isinstance(event, h11.InformationalResponse):
            event = await self._next()
        if not isinstance(event, h11.Response):
            raise self._cut()
        fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
        return Head(event.status_code, dict(fields), tuple(value for name, value in fields if name == "set-cookie"))

    async def receive(self) -> bytes:
        event = await self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def _next(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                data = bytes(await self._stream.receive_some())
                self._first, self._ended = (self._first + data)[: len(_HTTP)], not data
                self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise (self._cut() if self._ended else self._strange(error)) from error
        except trio.BrokenResourceError as error:
            raise self._cut(f": {_reason(error)}") from error
        return event

    def _cut(self, why: str = "") -> HttpClientError:
        """The error for a connection that has ended."""
        if self._first and not _HTTP.startswith(self._first):
            return self._strange(None)
        when = "in the middle of its answer" if self._first else "before it answered"
        return AnswerCut(f"{self._url} closed the connection {when}{why}")

    def _strange(self, why: h11.RemoteProtocolError | None) -> HttpClientError:
        """The error for bytes that are no HTTP."""
        if self._first == _HTTP:
            return AnswerCut(f"the answer of {self._url} breaks the rules of HTTP: {why}")
        step = "If it speaks TLS, write https://" if self._first.startswith(_TLS_ALERT) else "Is this its address?"
        return HttpClientError(f"{self._url} does not speak HTTP", f". {step}")
