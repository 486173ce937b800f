"""The three ways Traefik is told to route: as we ship it, as plainly as can be, and by the node in the session id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import yaml

from trio_mcp.cli.export import traefik_dynamic

__all__ = ["VARIANTS", "Variant", "header_routes", "patient", "plain", "shipped"]

Variant: TypeAlias = Callable[[Mapping[str, str]], str]
"""From each node's URL by its name to a dynamic configuration."""


def shipped(nodes: Mapping[str, str]) -> str:
    """What we ship, with the URLs of these servers, and nothing else changed."""
    return traefik_dynamic(list(nodes.values()), names=list(nodes))


def patient(variant: Variant) -> Variant:
    """The same, but a node that answers late is not taken for dead: on a machine that does ten other things any may."""

    def patiently(nodes: Mapping[str, str]) -> str:
        return variant(nodes).replace("interval: 1s", "interval: 31s").replace("timeout: 500ms", "timeout: 30s")

    return patiently


def plain(nodes: Mapping[str, str]) -> str:
    """Round robin over all nodes for every path; no cookie, no health check."""
    servers = [{"url": url} for url in nodes.values()]
    router = {"rule": "PathPrefix(`/`)", "entryPoints": ["websecure"], "tls": {}, "service": "all"}
    http = {"routers": {"all": router}, "services": {"all": {"loadBalancer": {"servers": servers}}}}
    text: str = yaml.safe_dump({"http": http})
    return text


def header_routes(nodes: Mapping[str, str]) -> str:
    """What `trio-mcp export traefik --header-routes` prints, with the URLs of these servers."""
    return traefik_dynamic(list(nodes.values()), names=list(nodes), header_routes=True)


VARIANTS: Mapping[str, Variant] = {"shipped": shipped, "plain round robin": plain, "header routes": header_routes}
