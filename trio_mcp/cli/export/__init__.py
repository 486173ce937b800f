"""`trio-mcp export`: the files that put nodes behind Traefik, in compose or in Kubernetes.

The templates here are the one source: what lies in `deploy/` and `k8s/` is what `export` makes for three nodes.
"""

from __future__ import annotations

from trio_mcp.cli.export.files import traefik_dynamic, traefik_static

__all__ = ["traefik_dynamic", "traefik_static"]
