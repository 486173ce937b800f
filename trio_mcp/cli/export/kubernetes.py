"""What `kubectl` needs: a kustomize base, and overlays of it."""

from __future__ import annotations

from collections.abc import Mapping

from trio_mcp.cli.export.template import render, template

__all__ = ["kubernetes_files", "kubernetes_stream"]

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


def kubernetes_files(count: int) -> dict[str, str]:
    """The files by path."""
    values = {"count": count, "most": _GROWTH * count}
    return {path: render(template(f"k8s/{path}"), values) for path in _FILES}


def kubernetes_stream(files: Mapping[str, str]) -> str:
    """The base as one stream of documents, for `kubectl apply --namespace mcp --filename -`."""
    return "---\n".join(files[f"base/{name}.yaml"] for name in _BASE)
