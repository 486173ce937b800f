"""The other workers of this node, as the supervisor tells of them: how each is reached, which are ready, which have ended.

To other nodes every worker is a node with a card, a boot and a beat of its own. All have the URL of their node, and say behind a `#` which
of its workers they are: `http://node1:8000#node1-w3`. Any worker accepts what is sent there; it passes on, inside the node, what is
meant for another. So a node has one address, and nodes that know nothing of workers can reach them, for they ignore what follows the `#`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import trio

from trio_mcp.cluster.owner_cache import Owner

__all__ = ["Ended", "Sibling", "Siblings", "node_of", "url_of_worker", "worker_in"]

NAMED_SECONDS = 0.5
"""How long a worker that is not known yet is waited for: others hear of it a moment after it has begun to listen."""

_WORKER = re.compile(r"(.+)-w[0-9]+")


class Sibling(msgspec.Struct, frozen=True):
    """Another worker that listens."""

    name: str
    """Its node id, as `node1-w3`."""
    boot: str
    url: str
    """`unix:/folder/boot.http`."""
    ready: bool
    """It serves, and is neither replaced nor stopping."""


class Ended(msgspec.Struct, frozen=True):
    """A worker whose process has ended."""

    name: str
    boot: str


class Siblings:
    """What the worker `name` knows of them; none before `heard`, and none in a node of one process.

    `everyone`: all processes of the cluster are workers of this node, and their URLs are of Unix sockets.
    """

    def __init__(self, name: str = "", *, everyone: bool = False) -> None:
        self._node = node_of(name)
        self._everyone = everyone
        self._by_name: dict[str, Sibling] = {}
        self._by_boot: dict[str, Sibling] = {}
        self._urls: frozenset[str] = frozenset()
        self.ended: Sequence[Ended] = ()
        """Workers of this node that have ended lately."""
        self._boots_ended: frozenset[str] = frozenset()
        self._names_ended: frozenset[str] = frozenset()
        self.changed: trio.Event = trio.Event()
        """Set with the next `heard`, and replaced."""
        self.node_stops: bool = False
        """All workers stop: none of them is a peer that could take anything over."""

    def heard(self, siblings: Sequence[Sibling], ended: Sequence[Ended]) -> None:
        """These are the others, and those have ended lately."""
        self._by_name = {each.name: each for each in siblings}
        self._by_boot = {each.boot: each for each in siblings}
        self._urls = frozenset(each.url for each in siblings)
        self.ended, self._boots_ended = ended, frozenset(each.boot for each in ended)
        self._names_ended = frozenset(each.name for each in ended)
        self.changed.set()
        self.changed = trio.Event()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self._everyone or bool(self._by_name)

    def has(self, owner: Owner) -> bool:
        """Whether that process is a worker of this node."""
        return self._everyone or owner.boot in self._by_boot

    def has_ended(self, boot: str) -> bool:
        """Whether that process was a worker of this node, and has ended: the supervisor knows."""
        return boot in self._boots_ended

    def is_worker(self, name: str) -> bool:
        """Whether a worker of this node has that name, or had it."""
        return self._everyone or (bool(self._node) and node_of(name) == self._node)

    def is_out(self, name: str) -> bool:
        """Whether nothing new may go to the worker of that name, for the whole node stops, or its process has ended."""
        return (self.node_stops and self.is_worker(name)) or name in self._names_ended

    def reached(self, owner: Owner) -> Owner:
        """The same process, at the URL where this one reaches it: that of its Unix socket, if it is a worker of this node."""
        url = self.url_of(owner)
        return owner if url == owner.url else replace(owner, url=url)

    def url_of(self, owner: Owner) -> str:
        """Where this process reaches it; empty when that is not known."""
        sibling = self._by_boot.get(owner.boot)
        return owner.url if sibling is None else sibling.url

    def is_local(self, url: str) -> bool:
        """Whether it is the URL of a worker's Unix socket. Others that name one, in a record or a response, are not followed."""
        return self._everyone or url in self._urls

    def named(self, name: str) -> Owner | None:
        """The worker of that name, without a URL (see `reached`); None when there is none."""
        found = self._by_name.get(name)
        return None if found is None else Owner(found.name, found.boot, -1, "")

    async def awaited(self, name: str) -> Owner | None:
        """As `named`; one that is not known is waited for, `NAMED_SECONDS` at most."""
        with trio.move_on_after(NAMED_SECONDS):
            while name not in self._by_name:
                await self.changed.wait()
        return self.named(name)

    def ready_urls(self) -> list[str]:
        """Where those are that serve."""
        return [each.url for each in self._by_name.values() if each.ready]


def url_of_worker(node_url: str, name: str) -> str:
    """Where peers reach the worker `name` of the node at `node_url`; empty when that is."""
    return f"{node_url}#{name}" if node_url else ""


def worker_in(url: str) -> str:
    """The worker that is meant by a URL; empty for a node of one process."""
    return url.partition("#")[2]


def node_of(name: str) -> str:
    """The node of the worker of that name; empty for a name that is not a worker's."""
    found = _WORKER.fullmatch(name)
    return "" if found is None else found[1]
