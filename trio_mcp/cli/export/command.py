"""`export`: print or write the files that put nodes behind Traefik."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter
from cyclopts.validators import Number

from trio_mcp.cli.arguments import UsageError
from trio_mcp.cli.export.files import compose_files, kubernetes_files, kubernetes_stream, traefik_files
from trio_mcp.protocol.errors import McpError

__all__ = ["export"]

Kind: TypeAlias = Literal["compose", "k8s", "traefik"]


def export(
    kind: Kind,
    /,
    *,
    nodes: Annotated[int, Parameter(validator=Number(gte=1, lte=99))] = 3,
    header_routes: Annotated[bool, Parameter(negative=())] = False,
    checkout: str | None = None,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    force: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Print the files that put nodes behind Traefik.

    `compose` prints compose.yaml, `k8s` the documents of the kustomize base, `traefik` the dynamic file. With
    `--output` all files of the kind are written: the image's, Traefik's, those for plain http, the overlays.

    Parameters
    ----------
    nodes
        How many nodes; in Kubernetes at least so many.
    header_routes
        A route to each node by the session id, for fixed nodes: it saves the hop from one node to another.
    checkout
        For `compose` in the folder `deploy` of a checkout of trio-mcp: the way from there to it, to build the image from it.
    output
        A folder to write to, instead of printing.
    force
        Overwrite files that differ.
    """
    if header_routes and kind == "k8s":
        raise UsageError(
            "--header-routes needs nodes with fixed names, which pods do not have. Leave it out: nodes relay to each other"
        )
    if header_routes and kind == "compose" and output is None:
        raise UsageError("--header-routes changes traefik/dynamic/mcp.yaml: write it with --output, or export traefik")
    if checkout is not None and kind != "compose":
        raise UsageError("--checkout says what an image is built from: it is for compose only")
    files = _files(kind, nodes, header_routes, checkout)
    if output is None:
        print(_printed(kind, files), end="")
        return 0
    try:
        _write(files, output, overwrite=force)
    except OSError as fault:
        raise McpError(f"cannot write {fault.filename}: {fault.strerror}") from fault
    return 0


def _files(kind: Kind, nodes: int, header_routes: bool, checkout: str | None) -> dict[str, str]:
    match kind:
        case "compose":
            return compose_files(nodes, header_routes=header_routes, checkout=checkout)
        case "k8s":
            return kubernetes_files(nodes)
        case "traefik":
            return traefik_files(nodes, header_routes=header_routes)


def _printed(kind: Kind, files: dict[str, str]) -> str:
    match kind:
        case "compose":
            return files["compose.yaml"]
        case "k8s":
            return kubernetes_stream(files)
        case "traefik":
            return files["dynamic/mcp.yaml"]


def _write(files: dict[str, str], folder: Path, *, overwrite: bool) -> None:
    """Write all files or none: raises McpError when one exists with other contents."""
    changed = [path for path, text in files.items() if _differs(folder / path, text)]
    if changed and not overwrite:
        raise McpError(f"{folder} holds files that differ: {', '.join(changed)}. Overwrite them with --force")
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        print(target)


def _differs(path: Path, text: str) -> bool:
    return path.exists() and path.read_bytes() != text.encode()
