"""What `docker compose` needs: its file, one for plain http over it, the settings it asks for, and Traefik's."""

from __future__ import annotations

from trio_mcp.cli.export.nodes import names_of, urls_of
from trio_mcp.cli.export.template import render, template
from trio_mcp.cli.export.traefik import traefik_files

__all__ = ["compose_files"]


def compose_files(count: int, *, header_routes: bool = False) -> dict[str, str]:
    """The files by path."""
    nodes = [{"name": name, "url": url} for name, url in zip(names_of(count), urls_of(count), strict=True)]
    traefik = traefik_files(count, header_routes=header_routes)
    return {
        "compose.yaml": render(template("compose/compose.yaml"), {"node": nodes, "count": count}),
        "compose.dev.yaml": template("compose/compose.dev.yaml"),
        ".env.example": template("compose/env.example"),
        **{f"traefik/{path}": text for path, text in traefik.items()},
    }
