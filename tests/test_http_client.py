"""HTTP and HTTPS to real sockets; the servers are a few lines that say exactly which bytes they send."""

import datetime
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from trio_mcp import http_client
from trio_mcp.http_client import (
    AnswerCut,
    CannotConnect,
    HttpClient,
    HttpClientError,
    InvalidUrl,
    UntrustedCertificate,
)

pytestmark = pytest.mark.sockets

Serve = Callable[[trio.abc.Stream], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The host:port of a server that gives each connection to `handler`."""
    async with trio.open_nursery() as nursery:
        open_listeners: Callable[..., Any] = partial(trio.serve_tcp, host="127.0.0.1")
        if context is not None:
            open_listeners = partial(trio.serve_ssl_over_tcp, host="127.0.0.1", ssl_context=context)
        (listener,) = await nursery.start(open_listeners, handler, 0)
        bound = getattr(listener, "transport_listener", listener).socket
        yield f"127.0.0.1:{bound.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def read_head(stream: trio.abc.Stream) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive_some()
    return data


def saying(answer: bytes, heard: list[bytes] | None = None) -> Serve:
    async def handler(stream: trio.abc.Stream) -> None:
        head = await read_head(stream)
        if heard is not None:
            heard.append(head)
        await stream.send_all(answer)
        await stream.aclose()

    return handler


async def fetch(url: str, **options: Any) -> tuple[int, dict[str, str], bytes]:
    async with HttpClient(url, **options).exchange("POST", [("Mcp-Method", "ping")], b"{}") as exchange:
        head, body = await exchange.head(), b""
        while data := await exchange.receive():
            body += data
    return head.status, head.headers, body


async def test_a_request_is_sent_and_its_answer_read() -> None:
    heard: list[bytes] = []
    answer = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    async with serving(saying(answer, heard)) as address:
        status, headers, body = await fetch(f"http://{address}/mcp?a=1", headers=[("Authorization", "Bearer t")])
    assert (status, headers["x-a"], body) == (200, "b", b"hi")
    assert heard[0].startswith(b"POST /mcp?a=1 HTTP/1.1\r\n")
    lines = heard[0].lower().split(b"\r\n")
    assert {b"host: " + address.encode(), b"content-length: 2", b"authorization: bearer t", b"mcp-method: ping"} < {
        *lines
    }


async def test_a_host_header_of_ones_own_replaces_ours() -> None:
    heard: list[bytes] = []
    async with serving(saying(b"HTTP/1.1 204 No Content\r\n\r\n", heard)) as address:
        await fetch(f"http://{address}/", headers=[("host", "public.example")])
    assert heard[0].lower().count(b"host:") == 1
    assert b"public.example" in heard[0]


@pytest.mark.parametrize("header", [("a b", "c"), ("mcp-session-id", "n\u00f6de.abc")])
async def test_a_header_that_is_none_is_refused_before_anything_is_sent(header: tuple[str, str]) -> None:
    with pytest.raises(HttpClientError, match="this is no HTTP request"):
        await fetch("http://127.0.0.1:1/", headers=[header])


async def test_an_answer_that_breaks_off_is_cut_not_ended() -> None:
    async with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi")) as address:
        with pytest.raises(AnswerCut):
            await fetch(f"http://{address}/")


async def test_an_answer_without_an_end_is_read_so_far_and_no_further() -> None:
    async def endless(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await stream.send_all(bytes(65536))

    async with serving(endless) as address:
        with pytest.raises(HttpClientError, match="longer than 1 MiB"):
            await http_client.fetch(HttpClient(f"http://{address}/"), "GET", seconds=60, max_body=1 << 20)


async def test_a_server_that_never_ends_its_answer_is_given_up(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = trio.testing.memory_stream_pair()

    async def connected(*args: object) -> trio.abc.Stream:
        return near

    monkeypatch.setattr(trio, "open_tcp_stream", connected)
    await far.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi")
    started = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await http_client.fetch(HttpClient("http://192.0.2.1/"), "GET", seconds=30)
    assert trio.current_time() - started == pytest.approx(30)


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    heard: list[bytes] = []
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with serving(saying(answer, heard)) as address:
        head, body = await http_client.fetch(HttpClient(f"http://{address}/"), "GET", seconds=60)
    assert (head.status, head.headers["location"], body, len(heard)) == (302, "http://127.0.0.1:1/", b"", 1)


@pytest.mark.parametrize(
    ("answer", "kind", "words", "step"),
    [
        (b"", AnswerCut, "closed the connection before it answered$", ""),
        (b"HT", AnswerCut, "closed the connection in the middle of its answer$", ""),
        (b"HTTP/1.1 200 OK\r\nConte", AnswerCut, "closed the connection in the middle of its answer$", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1", AnswerCut, "closed the connection in the middle of its answer$", ""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", AnswerCut, "in the middle of its answer$", ""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n", AnswerCut, "breaks the rules of HTTP: ", ""),
        (b"SSH-2.0-OpenSSH_9.6\r\n", HttpClientError, "does not speak HTTP$", ". Is this its address?"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", HttpClientError, "does not speak HTTP$", ". Is this its address?"),
        (b"\x15\x03\x01\x00\x02\x02\x46", HttpClientError, "does not speak HTTP$", ". If it speaks TLS, write https://"),
    ],
)  # fmt: skip
async def test_what_is_no_whole_answer_is_told_as_what_it_is(
    answer: bytes, kind: type[HttpClientError], words: str, step: str
) -> None:
    async with serving(saying(answer)) as address:
        with pytest.raises(HttpClientError, match=words) as caught:
            await fetch(f"http://{address}/")
    assert type(caught.value) is kind
    assert caught.value.next_step == step
    assert f"http://{address}/" in str(caught.value)


async def test_a_connection_that_is_reset_is_told_with_the_systems_word() -> None:
    async def resets(stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SocketStream)
        await read_head(stream)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()

    async with serving(resets) as address:
        with pytest.raises(AnswerCut, match="closed the connection before it answered: connection reset by peer"):
            await fetch(f"http://{address}/")


async def test_nobody_there_is_told_in_the_systems_own_words() -> None:
    async with serving(saying(b"")) as address:
        pass
    with pytest.raises(CannotConnect, match=f"cannot reach http://{address}/: connection refused") as caught:
        await fetch(f"http://{address}/")
    assert caught.value.next_step == ". Does the server run, and is this its address?"


async def test_one_that_does_not_speak_tls_is_told_so() -> None:
    async def refuses(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(refuses) as address:
        with pytest.raises(CannotConnect, match="TLS: ") as caught:
            await fetch(f"https://{address}/")
    assert caught.value.next_step == ". If it does not speak TLS, write http://"


async def test_a_host_that_is_no_name_is_no_url() -> None:
    with pytest.raises(InvalidUrl, match="its host is no name"):
        await fetch(f"http://{'a' * 70}.com/")


async def test_a_connection_that_takes_too_long_is_given_up(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    async def never(*args: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", never)
    with pytest.raises(HttpClientError, match=f"no connection within {http_client.CONNECT_SECONDS:g} s"):
        await fetch("http://192.0.2.1/")


def test_credentials_in_a_url_are_refused_and_not_shown() -> None:
    with pytest.raises(HttpClientError, match="--header") as refused:
        HttpClient("http://me:hunter2@127.0.0.1:1/mcp")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/",
        "http://",
        "http://a:port/",
        "a/b",
        "http://[::1/",
        "http://a/b c",
        " http://a/",
        "http://ä/",
        "http://a/ä",
    ],
)
def test_what_is_not_the_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidUrl, match="is not a URL"):
        HttpClient(url)


def test_the_url_of_a_websocket_is_refused_with_the_one_to_use() -> None:
    with pytest.raises(HttpClientError, match=r"is a WebSocket.* https://"):
        HttpClient("wss://mcp.example.com/mcp")


def certificate(path: Path) -> ssl.SSLContext:
    """A server's context with a certificate for 127.0.0.1 that vouches for itself, also written to `path`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trio-mcp test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = path.with_suffix(".key")
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path, secret)
    return context


async def test_https_is_spoken_to_servers_whose_certificate_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certificate(tmp_path / "server.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    async with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), context) as address:
        assert (await fetch(f"https://{address}/"))[2] == b"hi"


async def test_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async def ignore_the_alert(stream: trio.abc.Stream) -> None:
        with pytest.raises((trio.BrokenResourceError, ssl.SSLError)):
            await read_head(stream)

    context = certificate(tmp_path / "server.pem")
    async with serving(ignore_the_alert, context) as address:
        with pytest.raises(UntrustedCertificate, match=r"cannot reach https:.*: TLS: self.signed certificate"):
            await fetch(f"https://{address}/")


async def test_any_certificate_is_taken_where_that_was_asked_for(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    async with serving(saying(answer), certificate(tmp_path / "server.pem")) as address:
        assert (await fetch(f"https://{address}/", insecure=True))[2] == b"hi"


async def test_cookies_are_kept_apart() -> None:
    answer = b"HTTP/1.1 204 No Content\r\nSet-Cookie: a=1; Path=/\r\nX: y\r\nset-cookie: b=2, 3\r\n\r\n"
    async with serving(saying(answer)) as address, HttpClient(f"http://{address}/").exchange("GET", []) as exchange:
        assert (await exchange.head()).cookies == ("a=1; Path=/", "b=2, 3")


async def test_a_unix_socket_is_spoken_to_and_named_in_errors(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with pytest.raises(HttpClientError, match=f"cannot reach unix:{path}: no such file or directory"):
        await fetch("http://localhost/", socket=path)
    with trio.socket.socket(trio.socket.AF_UNIX) as listening:
        await listening.bind(path)
        listening.listen(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                trio.serve_listeners, saying(b"HTTP/1.1 204 No\r\n\r\n"), [trio.SocketListener(listening)]
            )
            assert (await fetch("http://localhost/", socket=path))[0] == 204
            nursery.cancel_scope.cancel()
