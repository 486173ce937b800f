"""`kubectl kustomize`, for the fields our overlays use: resources, namespace, images, JSON patches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

__all__ = ["Object", "UnknownField", "build"]

Object: TypeAlias = dict[str, Any]

_KNOWN = {"apiVersion", "kind", "resources", "namespace", "images", "patches"}


class UnknownField(Exception):
    """A kustomization says something this loader would leave out."""


def build(folder: Path) -> list[Object]:
    """Every object of a kustomization, with its patches applied; raises UnknownField."""
    found = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := set(found) - _KNOWN:
        raise UnknownField(f"{folder}: {', '.join(sorted(unknown))}")
    objects = [each for resource in found["resources"] for each in _resource(folder / resource)]
    if "namespace" in found:
        _set_namespace(objects, found["namespace"])
    for patch in found.get("patches", ()):
        _patch(objects, patch)
    for image in found.get("images", ()):
        _set_image(objects, image)
    return objects


def _resource(path: Path) -> Iterator[Object]:
    if path.is_dir():
        yield from build(path)
    else:
        yield from yaml.safe_load_all(path.read_text())


def _set_namespace(objects: list[Object], namespace: str) -> None:
    for each in objects:
        if each["kind"] != "Namespace":
            each["metadata"]["namespace"] = namespace


def _patch(objects: list[Object], patch: Mapping[str, Any]) -> None:
    target = patch["target"]
    found = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (target["kind"], target["name"])]
    assert found, f"no object for {target}"
    for each in found:
        for operation in yaml.safe_load(patch["patch"]):
            _apply(each, operation)


def _apply(document: Object, operation: Mapping[str, Any]) -> None:
    """RFC 6902, but for `add` at the end of a list, `copy` and `move`."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    parent: Any = document
    for part in parents:
        parent = parent[int(part) if isinstance(parent, list) else part]
    key: Any = int(last) if isinstance(parent, list) else last
    match operation["op"]:
        case "test":
            assert parent[key] == operation["value"], operation
        case "replace":
            parent[key]  # it must be there
            parent[key] = operation["value"]
        case "add" if isinstance(parent, dict):
            parent[key] = operation["value"]
        case "remove":
            del parent[key]
        case other:
            raise UnknownField(f"patch operation {other}")


def _set_image(objects: list[Object], image: Mapping[str, str]) -> None:
    for each in objects:
        for container in each.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ()):
            name, _, tag = container["image"].partition(":")
            if name == image["name"]:
                container["image"] = ":".join(filter(None, (image.get("newName", name), image.get("newTag", tag))))
