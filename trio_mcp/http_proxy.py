"""Proxies from the environment: which one a URL is reached through, and the tunnel to it (RFC 9110 §9.3.6).

Only for https: what goes through the tunnel is encrypted to its end, so the proxy sees the host and nothing else.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import trio

__all__ = ["Proxy", "ProxyError", "open_tunnel", "proxy_for"]

MAX_HEAD_BYTES = 16 * 1024
"""Of the proxy's answer."""

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


class ProxyError(OSError):
    """The proxy cannot be used, or did not open the tunnel; the text says why, without its password."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy is, and what it wants to hear."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)
    """The value of `Proxy-Authorization`; empty without credentials."""


def proxy_for(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that `HTTPS_PROXY` and `NO_PROXY` (or their names in lower case) want for a URL; None for a direct connection.

    http URLs and loopback are always reached directly. Raises ProxyError for a proxy that is not `http://host:port`.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    configured = environ.get("https_proxy") or environ.get("HTTPS_PROXY") or ""
    if parts.scheme != "https" or not configured or _is_loopback(host):
        return None
    excepted = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if any(_matches(host, parts.port or 443, entry.strip().lower()) for entry in excepted.split(",")):
        return None
    return _read(configured)


async def open_tunnel(proxy: Proxy, host: str, port: int) -> trio.abc.Stream:
    """A connection to host and port through the proxy. Deadlines are the caller's.

    Raises OSError when the proxy cannot be reached, ProxyError when it refuses.
    """
    stream = await trio.open_tcp_stream(proxy.host, proxy.port)
    try:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        await stream.send_all("\r\n".join([*lines, "", ""]).encode("ascii"))
        await _wait_until_open(stream, proxy)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _wait_until_open(stream: trio.abc.Stream, proxy: Proxy) -> None:
    place = f"the proxy {proxy.host}:{proxy.port}"
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some()
        head += data
        if not data or len(head) > MAX_HEAD_BYTES:
            raise ProxyError(f"{place} does not answer as an HTTP proxy does")
    status = _STATUS.match(head)
    if status is None or not status[1].startswith(b"2"):
        line = head.partition(b"\r\n")[0][:128].decode("latin-1")
        raise ProxyError(f"{place} refused the tunnel: {line!r}")
    if not head.endswith(b"\r\n\r\n"):
        # The other end waits for us to begin TLS: whatever comes before that is not from it.
        raise ProxyError(f"{place} sent something before the tunnel was used")


def _read(configured: str) -> Proxy:
    try:
        parts = urlsplit(configured if "://" in configured else f"http://{configured}")
        port = parts.port or 80
    except ValueError as error:
        raise ProxyError("HTTPS_PROXY is not a URL such as http://proxy.example:3128") from error
    if parts.scheme != "http" or not parts.hostname:
        raise ProxyError("HTTPS_PROXY must be a URL such as http://proxy.example:3128")
    credentials = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Proxy(parts.hostname, port, credentials)


def _matches(host: str, port: int, entry: str) -> bool:
    """Whether an entry of `NO_PROXY` names the host: `*`, a name and all below it, an address, a network, each with a port."""
    if not entry:
        return False
    if entry == "*":
        return True
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdigit() and not _is_address(entry):
        if int(wanted) != port:
            return False
        entry = name
    if _is_address(host):
        return _in_network(host, entry.strip("[]"))
    domain = entry.removeprefix("*").removeprefix(".")
    return host == domain or host.endswith("." + domain)


def _in_network(host: str, entry: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
