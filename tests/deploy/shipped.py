"""What lies in `deploy/` and `k8s/`, parsed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.kustomize import Object, build
from trio_mcp.cli.export import traefik_dynamic
from trio_mcp.cli.export.files import urls_of

__all__ = ["DEPLOY", "K8S", "OVERLAYS", "ROOT", "container", "one", "parsed", "routing", "seconds", "walked"]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
K8S = ROOT / "k8s"
OVERLAYS = ("base", "overlays/dev", "overlays/prod")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def parsed(path: str) -> Any:
    """A YAML file of `deploy/`."""
    return yaml.safe_load((DEPLOY / path).read_text())


def routing(*, header_routes: bool = False) -> Any:
    """The dynamic file for three nodes, under `http`."""
    return yaml.safe_load(traefik_dynamic(urls_of(3), header_routes=header_routes))["http"]


def one(kind: str, name: str, folder: str = "base") -> Object:
    """The one object of that kind and name."""
    (found,) = (each for each in build(K8S / folder) if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def container(folder: str = "base") -> Object:
    """The node's container."""
    (found,) = one("Deployment", "mcp", folder)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def seconds(duration: str) -> float:
    """`500ms`, `45s`, `2m` in seconds."""
    number = duration.rstrip("ms")
    return float(number) * _UNITS[duration[len(number) :]]


def walked(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value in a tree of mappings and lists, with the keys that lead there; the tree itself comes first."""
    yield path, tree
    match tree:
        case Mapping():
            for key, value in tree.items():
                yield from walked(value, (*path, str(key)))
        case Sequence() if not isinstance(tree, str):
            for number, value in enumerate(tree):
                yield from walked(value, (*path, str(number)))
