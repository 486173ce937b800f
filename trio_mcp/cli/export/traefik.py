"""Traefik's own files: what it listens on (static), and what it does with a request (dynamic)."""

from __future__ import annotations

from collections.abc import Sequence

from trio_mcp.cli.export.template import render, template

__all__ = ["traefik_dynamic", "traefik_static"]


def traefik_dynamic(
    servers: Sequence[str], *, names: Sequence[str] = (), header_routes: bool = False, secure: bool = True
) -> str:
    """The dynamic file for nodes at these URLs; `names` are their node ids, which only header routes tell apart.

    Unless `secure` it is for plain http: the entry point `web`, and a cookie that is sent back there.
    """
    named = names or [f"node{number}" for number, _ in enumerate(servers, 1)]
    nodes = [{"name": name, "url": url} for name, url in zip(named, servers, strict=True)]
    values = {
        "node": nodes,
        "secure": secure,
        "header_routes": header_routes,
        "entry_point": "websecure" if secure else "web",
    }
    return render(template("traefik/dynamic/mcp.yaml"), values)


def traefik_static(*, secure: bool = True) -> str:
    """The static file that goes with it."""
    return render(template("traefik/traefik.yaml"), {"secure": secure})
