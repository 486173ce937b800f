"""What `docker compose` needs: its file, one for plain http over it, the settings it asks for, the image, and Traefik's."""

from __future__ import annotations

from trio_mcp.cli.export.nodes import names_of, urls_of
from trio_mcp.cli.export.template import render, template
from trio_mcp.cli.export.traefik import traefik_files
from trio_mcp.observability.build import version

__all__ = ["compose_files"]


def compose_files(count: int, *, header_routes: bool = False, checkout: str | None = None) -> dict[str, str]:
    """The files by path, for `count` nodes.

    The image is built from a checkout of trio-mcp, whose folder `deploy` the files are in, where `checkout` is the way from
    them to it; else from what pip installs.
    """
    nodes = [{"name": name, "url": url} for name, url in zip(names_of(count), urls_of(count), strict=True)]
    traefik = traefik_files(count, header_routes=header_routes)
    return {
        "compose.yaml": render(template("compose/compose.yaml"), {"node": nodes, "count": count, **_build(checkout)}),
        "compose.dev.yaml": template("compose/compose.dev.yaml"),
        ".env.example": template("compose/env.example"),
        **_image(checkout),
        **{f"traefik/{path}": text for path, text in traefik.items()},
    }


def _build(checkout: str | None) -> dict[str, str]:
    if checkout is None:
        return {"context": ".", "dockerfile": "Dockerfile"}
    return {"context": checkout, "dockerfile": "deploy/Dockerfile"}


def _image(checkout: str | None) -> dict[str, str]:
    values = {
        "checkout": checkout is not None,
        "server": "server.py" if checkout is None else "deploy/server.py",
        "version": version(),
    }
    names = ["Dockerfile", "Dockerfile.dockerignore", "server.py", *(["requirements.txt"] if checkout is None else [])]
    return {name: render(template(f"compose/{name}"), values) for name in names}
