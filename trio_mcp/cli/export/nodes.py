"""What the nodes of a fixed cluster are called, and where they listen."""

from __future__ import annotations

__all__ = ["names_of", "urls_of"]


def names_of(count: int) -> list[str]:
    """`node1`, `node2`, …: node ids, and host names in compose."""
    return [f"node{number}" for number in range(1, count + 1)]


def urls_of(count: int) -> list[str]:
    """Where they listen, written as Traefik's cookie has it."""
    return [f"http://{name}:8000" for name in names_of(count)]
