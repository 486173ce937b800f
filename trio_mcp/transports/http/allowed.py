"""Allow-lists of hosts, origins and proxies: what may be written in them, and what they match. No I/O.

| entry | matches |
|---|---|
| `mcp.example.com` | that name, with any port or none |
| `mcp.example.com:8000` | that name with that port |
| `mcp.example.com:*` | that name, with any port or none |
| `*.example.com` | every name below it, but not the name itself; a port may follow as above |
| `https://app.example.com` | that origin |
| `http://localhost:*` | that scheme and name, with any port or none |
| `https://*.example.com` | every name below it |
| `*` | everything |
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, TypeVar

from trio_mcp.transports.http.exchange import HttpExchange

__all__ = ["Hosts", "Origins", "Proxies", "is_address", "listed"]

T = TypeVar("T")

_SCHEME = r"([a-z][a-z0-9+.-]*)://"
_NAME = r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?\.?|\[[0-9a-f:.]+\]"
_HOST = re.compile(rf"({_NAME})(?::([0-9]{{1,5}}))?")
_ORIGIN = re.compile(rf"{_SCHEME}({_NAME})(?::([0-9]{{1,5}}))?")
_HOST_ENTRY = re.compile(rf"((?:\*\.)?(?:{_NAME}))(?::(\*|[0-9]{{1,5}}))?")
_ORIGIN_ENTRY = re.compile(rf"{_SCHEME}((?:\*\.)?(?:{_NAME}))(?::(\*|[0-9]{{1,5}}))?")
_PARTS = re.compile(r"(?:([a-zA-Z][a-zA-Z0-9+.-]*)://)?([^/?#]*)(.*)")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_EXAMPLES = {
    "host": "'mcp.example.com', 'mcp.example.com:8000', '*.example.com' or '*'",
    "origin": "'https://app.example.com', 'http://localhost:*', 'https://*.example.com' or '*'",
}


@dataclass(frozen=True, slots=True)
class _Place:
    """A name and a port; `port` is "" for none, "*" for any or none."""

    name: str
    port: str

    def matches(self, name: str, port: str) -> bool:
        if self.port not in ("*", port):
            return False
        if self.name.startswith("*."):
            return name.endswith(self.name[1:]) and len(name) > len(self.name) - 1
        return name == self.name


def listed(entries: Iterable[str], name: str) -> Iterable[str]:
    """The entries of the argument `name`; raises TypeError for a string, whose characters would be taken for entries."""
    if isinstance(entries, str):
        raise TypeError(f"{name}= is a list: write {name}=[{entries!r}]")
    return entries


class Hosts:
    """The Host headers that are served. Raises ValueError for an entry that no Host can match, with what to write instead."""

    def __init__(self, entries: Iterable[str]) -> None:
        entries = [entry.strip() for entry in listed(entries, "allowed_hosts")]
        self.everything: bool = "*" in entries
        self._places = [_or_complain("host", entry, _host(entry)) for entry in entries if entry != "*"]

    def __contains__(self, host: str) -> bool:
        """Whether the value of a Host header, in lower case, is served."""
        if self.everything:
            return True
        found = _HOST.fullmatch(host)
        return found is not None and any(each.matches(found[1], found[2] or "") for each in self._places)


class Origins:
    """The Origin headers that are served. Raises ValueError for an entry that no Origin can match, with what to write instead."""

    def __init__(self, entries: Iterable[str]) -> None:
        entries = [entry.strip() for entry in listed(entries, "allowed_origins")]
        self.everything: bool = "*" in entries
        self._null = "null" in entries
        places = [entry for entry in entries if entry not in ("*", "null")]
        self._places = [_or_complain("origin", entry, _origin(entry)) for entry in places]

    def __contains__(self, origin: str) -> bool:
        """Whether the value of an Origin header, in lower case, is served."""
        if self.everything or (self._null and origin == "null"):
            return True
        found = _ORIGIN.fullmatch(origin)
        if found is None:
            return False
        port = "" if _DEFAULT_PORTS.get(found[1]) == found[3] else found[3] or ""
        return any(scheme == found[1] and place.matches(found[2], port) for scheme, place in self._places)


class Proxies:
    """The proxies whose `X-Forwarded-For` is believed: addresses and networks (`10.0.0.0/8`). Raises ValueError for anything else."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(each.strip(), strict=False) for each in listed(networks, "forwarded_allow")
        ]

    def client_of(self, exchange: HttpExchange) -> str | None:
        """The address of the client, as the proxies here name it; None where no such proxy passed the request on.

        Each proxy appends the address that it saw, so the client is the last that is not itself a proxy here. Without a proxy
        that is believed, the peer may be a balancer with all its clients behind it.
        """
        peer = exchange.carrier.client
        if not self._networks or peer is None or not self._has(peer[0]):
            return None
        chain = ",".join(exchange.header_list(b"x-forwarded-for")).split(",")
        for place in reversed([each.strip() for each in chain]):
            if not self._has(place):
                found = _address(place)
                return None if found is None else str(found)
        return None

    def _has(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(
            address in network for network in self._networks if network.version == address.version
        )


def is_address(host: str) -> bool:
    """Whether the value of a Host header is an IP address, with or without a port: DNS cannot be rebound to it."""
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::[0-9]{0,5})?", host)
    try:
        return found is not None and bool(ip_address(found[1].strip("[]")))
    except ValueError:
        return False


def _host(entry: str) -> _Place | None:
    found = _HOST_ENTRY.fullmatch(entry.lower())
    if found is None or not _may_be(found[1], found[2]):
        return None
    return _Place(found[1], found[2] or "*")


def _origin(entry: str) -> tuple[str, _Place] | None:
    found = _ORIGIN_ENTRY.fullmatch(entry.lower())
    if found is None or not _may_be(found[2], found[3]):
        return None
    scheme, name, port = found.groups()
    return scheme, _Place(name, "" if port is None or _DEFAULT_PORTS.get(scheme) == port else port)


def _or_complain(kind: Literal["host", "origin"], entry: str, read: T | None) -> T:
    if read is not None:
        return read
    better = _better(kind, entry)
    advice = f"write {better!r}" if better else f"write {_EXAMPLES[kind]}"
    what = "Host header" if kind == "host" else "Origin header of a browser"
    raise ValueError(f"{entry!r} can match no {what}: {advice}")


def _may_be(name: str, port: str | None) -> bool:
    """Whether a client can send that name and port."""
    if port not in (None, "*") and not 0 < int(port) < 65536:
        return False
    if not name.startswith("["):
        return ".." not in name
    try:
        # Compared as text, so it has to be as short as clients write it.
        return f"[{IPv6Address(name[1:-1])}]" == name
    except ValueError:
        return False


def _better(kind: str, entry: str) -> str | None:
    """The entry that was probably meant, or None."""
    found = _PARTS.fullmatch(entry.strip())
    if found is None:
        return None
    scheme, place, _ = found.groups()
    place = _ascii(place.rpartition("@")[2].lower())
    if kind == "origin":
        place = f"{(scheme or 'https').lower()}://{place}"
    read = _host(place) if kind == "host" else _origin(place)
    return None if read is None else place


def _ascii(place: str) -> str:
    """A name as headers have it: in punycode, or a short IPv6 address in brackets."""
    try:
        return f"[{IPv6Address(place.strip('[]'))}]"
    except ValueError:
        pass
    try:
        return place if place.isascii() else place.encode("idna").decode()
    except UnicodeError:
        return place


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Also from `[::1]:80` and `192.0.2.1:80`, as some proxies write it. An IPv4-mapped IPv6 address is read as IPv4."""
    name, colon, port = text.rpartition(":")
    if colon and port.isdigit() and ("." in name or name.endswith("]")):
        text = name
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
