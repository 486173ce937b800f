"""Clients' scripts, run by the Python or the Node that has their packages."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from tools.clients import PYTHON_1_30
from tools.node import PACKAGES, MissingNode, environment, node, package_file

__all__ = ["MissingNode", "client_environment", "command"]


def command(script: Path) -> list[str]:
    """What runs a client's script; raises MissingNode, whose text names the command that installs what is missing."""
    if script.suffix == ".py":
        return [str(_python(script)), str(script)]
    package_file("@modelcontextprotocol/client/package.json")
    # Node looks for packages in the folders above a script.
    beside = PACKAGES / script.parent.name
    beside.mkdir(exist_ok=True)
    for each in script.parent.glob("*.mjs"):
        _copy(each, beside)
    return [str(node()), str(beside / script.name)]


def _copy(file: Path, folder: Path) -> None:
    """At once: a client that another test starts now must not read half of it."""
    with tempfile.TemporaryDirectory(dir=folder) as draft:
        shutil.copy(file, draft)
        os.replace(Path(draft) / file.name, folder / file.name)


def client_environment() -> dict[str, str]:
    """Traefik's certificate is its own: nobody can verify it, and Node would warn of that."""
    return {**environment(), "NODE_TLS_REJECT_UNAUTHORIZED": "0", "NODE_NO_WARNINGS": "1"}


def _python(script: Path) -> Path:
    if "1_30" not in script.stem:
        return Path(sys.executable)
    if not PYTHON_1_30.exists():
        raise MissingNode("mcp 1.30 is not installed. Install it with: make .cache/.python-1.30")
    return PYTHON_1_30
