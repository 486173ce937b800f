"""Traefik's own files: what it listens on (static), and what it does with a request (dynamic)."""

from __future__ import annotations

from collections.abc import Sequence

from trio_mcp.cli.export.nodes import names_of, urls_of
from trio_mcp.cli.export.template import render, template

__all__ = ["traefik_dynamic", "traefik_files", "traefik_static"]


def traefik_dynamic(
    servers: Sequence[str], *, names: Sequence[str] = (), header_routes: bool = False, secure: bool = True
) -> str:
    """The dynamic file for nodes at these URLs; `names` are their node ids, which only header routes tell apart.

    Unless `secure` it is for plain http: the entry point `web`, and a cookie that is sent back there.
    """
    named = names or names_of(len(servers))
    values = {
        "node": [{"name": name, "url": url} for name, url in zip(named, servers, strict=True)],
        "secure": secure,
        "header_routes": header_routes,
        "entry_point": "websecure" if secure else "web",
    }
    return render(template("traefik/dynamic/mcp.yaml"), values)


def traefik_static(*, secure: bool = True) -> str:
    """The static file that goes with it."""
    return render(template("traefik/traefik.yaml"), {"secure": secure})


def traefik_files(count: int, *, header_routes: bool = False) -> dict[str, str]:
    """Both files, by path, and under `dev/` the same for plain http."""
    return {
        f"{folder}{path}": text
        for folder, secure in (("", True), ("dev/", False))
        for path, text in (
            ("traefik.yaml", traefik_static(secure=secure)),
            ("dynamic/mcp.yaml", traefik_dynamic(urls_of(count), header_routes=header_routes, secure=secure)),
        )
    }
