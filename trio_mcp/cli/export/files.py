"""The files of each kind of export, by path: Traefik's, those of `docker compose`, those of `kubectl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trio_mcp.cli.export.template import render, template
from trio_mcp.observability.build import version

__all__ = [
    "compose_files",
    "kubernetes_files",
    "kubernetes_stream",
    "names_of",
    "traefik_dynamic",
    "traefik_files",
    "traefik_static",
    "urls_of",
]

_BASE = ("namespace", "redis", "deployment", "service", "routes", "pdb", "hpa", "networkpolicy")
"""In the order they are applied in."""
_FILES = (
    "base/kustomization.yaml",
    *(f"base/{name}.yaml" for name in _BASE),
    "overlays/dev/kustomization.yaml",
    "overlays/dev/secret.yaml",
    "overlays/prod/kustomization.yaml",
)
_GROWTH = 4
"""How many times its size the autoscaler may make of the cluster."""


def names_of(count: int) -> list[str]:
    """`node1`, `node2`, …: the node ids, and the host names in compose."""
    return [f"node{number}" for number in range(1, count + 1)]


def urls_of(count: int) -> list[str]:
    """Their URLs, written as Traefik hashes them for its cookie."""
    return [f"http://{name}:8000" for name in names_of(count)]


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
    """Traefik's static file, for TLS if `secure`."""
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


def kubernetes_files(count: int) -> dict[str, str]:
    """The files by path."""
    values = {"count": count, "most": _GROWTH * count}
    return {path: render(template(f"k8s/{path}"), values) for path in _FILES}


def kubernetes_stream(files: Mapping[str, str]) -> str:
    """The base as one stream of documents, for `kubectl apply --namespace mcp --filename -`."""
    return "---\n".join(files[f"base/{name}.yaml"] for name in _BASE)
