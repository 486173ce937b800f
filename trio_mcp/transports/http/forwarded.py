"""The address of a client behind proxies, as far as the proxies are ours."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from trio_mcp.transports.http.allowed import listed
from trio_mcp.transports.http.request import HttpExchange

__all__ = ["Proxies"]


class Proxies:
    """Addresses and networks (`10.0.0.0/8`) whose `X-Forwarded-For` is believed. Raises ValueError for anything else."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(each.strip(), strict=False) for each in listed(networks, "forwarded_allow")
        ]

    def client_of(self, exchange: HttpExchange) -> str | None:
        """The client that a named proxy passed on; None when none did: then the peer may be anybody's balancer.

        Proxies append the address they saw, so the last one that is no proxy of ours is the client.
        """
        peer = exchange.scope.get("client")
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


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Also `[::1]:80` and `192.0.2.1:80`, as some proxies write it; an IPv4-mapped IPv6 address is read as IPv4."""
    name, colon, port = text.rpartition(":")
    if colon and port.isdigit() and ("." in name or name.endswith("]")):
        text = name
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
