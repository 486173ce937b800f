"""An ordered set of tools, resources or prompts, and the pages clients list it in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["Catalog", "Listed"]


class Listed(Protocol):
    """What a catalog holds."""

    def definition(self, version: str) -> dict[str, Any]:
        """The item on the wire of a protocol version."""
        ...


T = TypeVar("T", bound=Listed)


class Catalog(Generic[T]):
    """In order of registration, so that every node and every run lists the same; `version` counts changes.

    May be changed from any thread: whoever reads has a copy of the order, and what is derived carries its version.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.version = 0
        self._items: dict[str, T] = {}
        self._definitions: dict[str, tuple[int, list[dict[str, Any]]]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._items.values()))

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def get(self, key: str) -> T | None:
        """The item of that name or URI."""
        return self._items.get(key)

    def add(self, key: str, item: T) -> None:
        """Raises ValueError if the key is taken."""
        with self._lock:
            if key in self._items:
                raise ValueError(f"{self.kind} {key!r} is already registered; remove it first")
            self._items[key] = item
            self.version += 1

    def remove(self, key: str) -> T:
        """Raises KeyError if there is none."""
        with self._lock:
            if key not in self._items:
                raise KeyError(f"no {self.kind.lower()} {key!r} is registered")
            item = self._items.pop(key)
            self.version += 1
        return item

    def page(self, protocol_version: str, offset: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """Definitions from `offset` on and the next offset, None at the end. They are shared: do not change them."""
        version, definitions = self._definitions.get(protocol_version, (-1, []))
        if version != self.version:
            # The version first: what is added meanwhile may be in the list already, and is asked for again in any case.
            version = self.version
            definitions = [item.definition(protocol_version) for item in self]
            self._definitions[protocol_version] = version, definitions
        end = offset + limit
        return definitions[offset:end], end if end < len(definitions) else None
