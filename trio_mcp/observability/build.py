"""The version of trio-mcp that runs."""

from __future__ import annotations

from functools import cache
from importlib import metadata

__all__ = ["version"]


@cache
def version() -> str:
    """The installed version, `0+unknown` when run from a tree that was never installed."""
    try:
        return metadata.version("trio-mcp")
    except metadata.PackageNotFoundError:
        return "0+unknown"
