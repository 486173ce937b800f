"""Which proxy a URL is reached through, and the tunnel over real sockets."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.test_http_client import certificate, read_head, saying, serving
from trio_mcp.http_client import HttpClient, HttpClientError
from trio_mcp.http_proxy import Proxy, ProxyError, proxy_for

PROXY = {"HTTPS_PROXY": "http://proxy.example:3128"}
FOUND = Proxy("proxy.example", 3128)


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("https://login.example.com/keys", {}, None),
        ("https://login.example.com/keys", {"HTTPS_PROXY": ""}, None),
        ("https://login.example.com/keys", PROXY, FOUND),
        ("https://login.example.com/keys", {"https_proxy": "http://proxy.example:3128"}, FOUND),
        ("https://login.example.com/keys", {"HTTPS_PROXY": "proxy.example:3128"}, FOUND),
        ("https://login.example.com/keys", {"HTTPS_PROXY": "http://proxy.example"}, Proxy("proxy.example", 80)),
        ("https://login.example.com/keys", {"HTTP_PROXY": "http://proxy.example:3128"}, None),
        ("http://login.example.com/keys", PROXY, None),
        ("https://localhost:8443/keys", PROXY, None),
        ("https://127.0.0.1/keys", PROXY, None),
        ("https://[::1]/keys", PROXY, None),
    ],
)
def test_the_environment_names_the_proxy_for_https(url: str, environ: dict[str, str], proxy: Proxy | None) -> None:
    assert proxy_for(url, environ) == proxy


@pytest.mark.parametrize(
    ("host", "excepted", "direct"),
    [
        ("login.example.com", "*", True),
        ("login.example.com", "login.example.com", True),
        ("login.example.com", "LOGIN.example.com", True),
        ("login.example.com", "example.com", True),
        ("login.example.com", ".example.com", True),
        ("login.example.com", "*.example.com", True),
        ("login.example.com", "other.org, example.com", True),
        ("login.example.com", "example.com:443", True),
        ("login.example.com", "example.com:8443", False),
        ("login.example.com:8443", "example.com:8443", True),
        ("login.example.com", "ample.com", False),
        ("login.example.com", "login.example.co", False),
        ("login.example.com", "", False),
        ("login.example.com", " , ", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:443", True),
        ("10.1.2.3", "10.1.2.4", False),
        ("10.1.2.3", ".2.3", False),
        ("[fd00::1]", "fd00::/8", True),
        ("[fd00::1]", "[fd00::1]:443", True),
    ],
)
def test_no_proxy_excepts_names_addresses_and_networks(host: str, excepted: str, direct: bool) -> None:
    found = proxy_for(f"https://{host}/", {**PROXY, "NO_PROXY": excepted})
    assert (found is None) is direct


def test_credentials_of_a_proxy_are_sent_and_not_shown() -> None:
    found = proxy_for("https://a.example", {"HTTPS_PROXY": "http://me:s%40cret@proxy.example:3128"})
    assert found is not None
    assert found.authorization == "Basic " + base64.b64encode(b"me:s@cret").decode()
    assert "s@cret" not in repr(found)
    assert found.authorization not in repr(found)


@pytest.mark.parametrize("proxy", ["https://proxy.example", "socks5://proxy.example", "http://", "http://a:b:c"])
def test_another_kind_of_proxy_is_an_error(proxy: str) -> None:
    with pytest.raises(ProxyError, match="HTTPS_PROXY"):
        proxy_for("https://a.example", {"HTTPS_PROXY": proxy})


async def get(url: str, proxy: Proxy) -> bytes:
    async with HttpClient(url, proxy=proxy, insecure=True).exchange("GET", []) as exchange:
        await exchange.head()
        return await exchange.receive()


def address_of(place: str, **options: Any) -> Proxy:
    host, _, port = place.partition(":")
    return Proxy(host, int(port), **options)


@pytest.mark.sockets
async def test_the_tunnel_carries_tls_from_end_to_end(tmp_path: Path) -> None:
    heads: list[bytes] = []

    async def tunnel(client: trio.abc.Stream) -> None:
        head = await read_head(client)
        heads.append(head)
        host, _, port = head.split()[1].decode().partition(":")
        async with await trio.open_tcp_stream(host, int(port)) as server, trio.open_nursery() as nursery:
            await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            nursery.start_soon(copy, client, server)
            await copy(server, client)
            nursery.cancel_scope.cancel()

    async def copy(source: trio.abc.Stream, target: trio.abc.Stream) -> None:
        while data := await source.receive_some():
            await target.send_all(data)

    answer = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    async with serving(answer, certificate(tmp_path / "server.pem")) as server, serving(tunnel) as proxy:
        assert await get(f"https://{server}/", address_of(proxy, authorization="Basic eA==")) == b"hi"
        assert heads[0].split(b"\r\n")[:3] == [
            f"CONNECT {server} HTTP/1.1".encode(),
            f"Host: {server}".encode(),
            b"Proxy-Authorization: Basic eA==",
        ]


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "refused the tunnel: .*407"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "refused the tunnel"),
        (b"HTTP/1.1 200 OK\r\n\r\nearly", "before the tunnel was used"),
        (b"HTTP/1.1 200 OK\r\n", "does not answer as an http proxy"),
        (b"x" * 20_000, "does not answer as an http proxy"),
    ],
)
async def test_a_proxy_that_refuses_is_named(answer: bytes, complaint: str) -> None:
    async with serving(saying(answer)) as proxy:
        with pytest.raises(HttpClientError, match=complaint):
            await get("https://login.example.com/", address_of(proxy))


@pytest.mark.sockets
async def test_a_proxy_that_is_not_there_is_an_error() -> None:
    async with serving(saying(b"")) as proxy:
        pass
    with pytest.raises(HttpClientError, match="cannot reach"):
        await get("https://login.example.com/", address_of(proxy))
